"""The article's program with fastai, on small generated photos."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import labelsmooth as ls
from examples import load_example

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of the libraries that fastai imports
    pytest.importorskip("fastai")
    from fastai.vision.all import ClassificationInterpretation, Learner, MixUp, load_learner

BREEDS = ("Bengal", "great_dane", "pug")
EPSILON = 0.1


@pytest.fixture(scope="module")
def article() -> ModuleType:
    return load_example("article")


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three breeds of one colour each, ten photos a breed, laid out as the Oxford-IIIT Pets: six to train on."""
    folder = tmp_path_factory.mktemp("data")
    images, lists = folder / "oxford-iiit-pet" / "images", folder / "oxford-iiit-pet" / "annotations"
    images.mkdir(parents=True)
    lists.mkdir()
    rng = np.random.default_rng(0)
    lines: dict[str, list[str]] = {"trainval": [], "test": []}
    for colour, breed in enumerate(BREEDS):
        for number in range(10):
            pixels = rng.integers(0, 60, (36, 36, 3), dtype=np.uint8)
            pixels[..., colour] += 180
            Image.fromarray(pixels).save(images / f"{breed}_{number}.jpg")
            lines["trainval" if number < 6 else "test"].append(f"{breed}_{number} {colour + 1} 1 1")
    for name, listed in lines.items():
        (lists / f"{name}.txt").write_text("\n".join(listed) + "\n")
    return folder


@pytest.fixture(scope="module")
def learn(article: ModuleType, pets: Path) -> Learner:
    """The learner of the article's program, trained for three short epochs."""
    article.set_seed(0)  # before the loaders, which draw the seed of their order
    dls = article.make_dls(pets / "oxford-iiit-pet", "official", 32, 6, seed=0, workers=0)
    learner = article.make_learner(dls, "test_resnet", "none", EPSILON, pets / "out")
    learner.remove_cb(learner.progress)
    with learner.no_logging():
        learner.fit_one_cycle(3, 1e-2)
    return learner


def test_the_split_is_the_published_one_or_a_random_fifth(article: ModuleType, pets: Path) -> None:
    root = pets / "oxford-iiit-pet"
    official = article.make_dls(root, "official", 32, 6, seed=0, workers=0)
    held_out = {line.split()[0] for line in (root / "annotations" / "test.txt").read_text().splitlines()}
    assert {file.stem for file in official.valid_ds.items} == held_out
    assert (len(official.train_ds), list(official.vocab)) == (18, sorted(BREEDS))
    splits = [article.make_dls(root, "article", 32, 6, seed, workers=0) for seed in (0, 0, 1)]
    names = [[file.name for file in dls.valid_ds.items] for dls in splits]
    assert [len(held) for held in names] == [6, 6, 6]
    assert names[0] == names[1] != names[2]


def test_the_learner_has_our_loss_and_learns(learn: Learner) -> None:
    assert type(learn.loss_func) is ls.LabelSmoothingCrossEntropy
    assert float(learn.validate()[1]) < 0.4  # chance is 0.67


def test_get_preds_gives_probabilities_labels_and_smoothed_losses(learn: Learner) -> None:
    logits, _ = learn.get_preds(act=lambda x: x)
    probabilities, labels, decoded, losses = learn.get_preds(with_decoded=True, with_loss=True)
    torch.testing.assert_close(probabilities, logits.softmax(1))
    assert torch.equal(decoded, logits.argmax(1))
    expected = F.cross_entropy(logits, labels, label_smoothing=EPSILON, reduction="none")
    torch.testing.assert_close(torch.Tensor(losses), expected)
    assert learn.loss_func.reduction == "mean"


def test_predict_names_the_breed(learn: Learner) -> None:
    photo = learn.dls.valid_ds.items[0]
    breed, number, probabilities = learn.predict(photo)
    assert breed == learn.dls.vocab[int(number)]
    assert int(number) == int(probabilities.argmax())
    assert float(probabilities.sum()) == pytest.approx(1.0, abs=1e-6)


def test_interpretation(learn: Learner) -> None:
    interpretation = ClassificationInterpretation.from_learner(learn)
    matrix = interpretation.confusion_matrix()
    probabilities, labels = learn.get_preds()
    right = int((probabilities.argmax(1) == labels).sum())
    assert (matrix.sum(), matrix.trace()) == (12, right)
    losses, numbers = interpretation.top_losses(3)
    logs = probabilities.log()
    smoothed = (1 - EPSILON) * -logs.gather(1, labels[:, None])[:, 0] - EPSILON * logs.mean(1)
    torch.testing.assert_close(torch.Tensor(losses), smoothed[numbers])


def test_export_and_load_learner(learn: Learner) -> None:
    learn.export("learner.pkl")
    with pytest.warns(UserWarning, match="insecure pickle"):
        loaded = load_learner(learn.path / "learner.pkl")
    photo = learn.dls.valid_ds.items[-1]
    breed, _, probabilities = loaded.predict(photo)
    expected, _, expected_probabilities = learn.predict(photo)
    assert breed == expected
    assert torch.equal(probabilities, expected_probabilities)
    assert loaded.loss_func.epsilon == EPSILON


def test_an_exported_learner_loads_without_the_program(learn: Learner) -> None:
    learn.export("elsewhere.pkl")
    program = (
        "import sys, warnings\n"
        "import labelsmooth.cpu_torchvision\n"
        "from fastai.vision.all import load_learner\n"
        "warnings.simplefilter('ignore')\n"
        "print(load_learner(sys.argv[1]).predict(sys.argv[2])[0])\n"
    )
    photo = learn.dls.valid_ds.items[-1]
    command = [sys.executable, "-c", program, str(learn.path / "elsewhere.pkl"), str(photo)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(learn.predict(photo)[0])


def test_mixup_mixes_two_losses(article: ModuleType, pets: Path) -> None:
    dls = article.make_dls(pets / "oxford-iiit-pet", "official", 32, 6, seed=0, workers=0)
    learner = article.make_learner(dls, "test_resnet", "none", EPSILON, None)
    learner.remove_cb(learner.progress)
    with learner.no_logging():
        learner.fit_one_cycle(1, cbs=MixUp())  # labels mixed as numbers would be rejected
    assert isinstance(learner.loss_func, ls.LabelSmoothingCrossEntropy)
    assert np.isfinite(learner.recorder.values[0]).all()


def test_the_program_from_a_file_of_weights(
    article: ModuleType, pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import timm
    from safetensors.torch import save_file

    file = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), file)
    options = ["--data-dir", str(pets), "--split", "official", "--size", "32", "--batch-size", "6", "--workers", "0"]
    options += ["--backbone", "test_resnet", "--weights", str(file), "--epochs", "1", "--out", str(tmp_path / "out")]
    results = article.main(options)
    printed = capsys.readouterr().out
    assert f"error {results['error']:.1%}" in printed
    assert "18 photos to train on, 12 held out, 3 breeds" in printed
    assert (tmp_path / "out" / "article.pkl").exists()
    before, after = results["largest logit before"], results["largest logit after"]  # of random weights: of either sign
    assert np.isfinite([before, after]).all()
    assert before != after


def test_weights_of_another_backbone_raise(article: ModuleType, pets: Path, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    file = tmp_path / "weights.safetensors"
    state = timm.create_model("test_resnet").state_dict()
    del state["layer1.0.conv1.weight"]
    save_file(state, file)
    dls = article.make_dls(pets / "oxford-iiit-pet", "official", 32, 6, seed=0, workers=0)
    with pytest.raises(SystemExit, match=r"does not hold .* layer1\.0\.conv1\.weight"):
        article.make_learner(dls, "test_resnet", str(file), EPSILON, None)
