"""A smoothed teacher is better and its student worse, except under label noise."""

import torch
from claim import Claim, Result, Statement, difference_by_seed
from images import Images
from mlp import epochs_of, error, labels_of, network, pixels

import labelsmooth as ls

EPSILON, TEMPERATURE, EPOCHS = 0.4, 2.0, 30


def run(images: Images) -> Result:
    errors: dict[str, list[float]] = {}
    for seed in range(images.seeds):
        for noise in (0.0, 0.4):
            for name, epsilon in (("plain", 0.0), ("smoothed", EPSILON)):
                teacher, student = teacher_and_student(images, seed, noise, epsilon)
                errors.setdefault(f"{name} teacher, {noise:.0%} wrong labels", []).append(teacher)
                errors.setdefault(f"student of the {name} teacher, {noise:.0%} wrong labels", []).append(student)

    def difference(who: str, noise: str) -> list[float]:
        pair = (errors[f"{who.format(name)}, {noise} wrong labels"] for name in ("smoothed", "plain"))
        return difference_by_seed(*pair)

    quantity = "error, smoothed teacher minus plain teacher, points"
    students = "student of the {} teacher"
    return [
        Statement("A smoothed teacher has a lower error", quantity, difference("{} teacher", "0%"), "below"),
        Statement("Its student has a higher error", f"student's {quantity}", difference(students, "0%"), "above"),
        Statement(
            "With 40% of wrong labels its student has a lower error",
            f"student's {quantity}",
            difference(students, "40%"),
            "below",
        ),
    ], {f"error in %, {name}": values for name, values in errors.items()}


def teacher_and_student(images: Images, seed: int, noise: float, epsilon: float) -> tuple[float, float]:
    """The test errors of a teacher and of a small student that is trained on the teacher's outputs alone."""
    split, data = images.split(seed), images.noisy(noise, seed)
    rows, labels = pixels(images, split.train), labels_of(data, split.train)
    test, truth = pixels(images, split.test), labels_of(images.data, split.test)
    epochs, classes = 2 if images.toy else EPOCHS, len(data.classes)
    teacher = network(rows.shape[1], (400, 400), classes, seed, dropout=0.5)
    for _ in epochs_of(
        teacher, rows, lambda z, batch, _: ls.cross_entropy(z, labels[batch], label_smoothing=epsilon), epochs
    ):
        pass
    with torch.no_grad():
        outputs = teacher(rows)
    student = network(rows.shape[1], (64,), classes, 1_000 + seed)

    def distilled(z: torch.Tensor, batch: torch.Tensor, _: int) -> torch.Tensor:
        policy = ls.smoothing.Teacher(1.0, logits=outputs[batch], temperature=TEMPERATURE)
        return ls.cross_entropy(z, labels[batch], label_smoothing=policy)

    for _ in epochs_of(student, rows, distilled, epochs):
        pass
    return error(teacher, test, truth), error(student, test, truth)


CLAIM = Claim(
    "distillation",
    "A smoothed teacher is better and its student worse; under label noise its student is better.",
    "Müller et al. 2019; Lukasik et al. 2020 (label noise)",
    "fully connected networks on MNIST, ResNets on CIFAR; ResNets on noisy CIFAR-100",
    "teacher 400-400 with dropout, student 64, 1,000 images, 30 epochs each, ε = 0.4, the student learns the teacher's "
    "outputs at temperature 2",
    "at this size the student of the smoothed teacher is a little better, not worse. Under label noise it is "
    "clearly better, as is its teacher.",
    run,
)
