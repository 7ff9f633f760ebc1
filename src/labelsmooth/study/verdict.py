"""The verdict: what helped, by how much and how sure that is, in sentences made from the numbers alone."""

from __future__ import annotations

from labelsmooth.calibrate import CATALOGUE, check_name
from labelsmooth.study.methods import METHODS
from labelsmooth.study.records import METRICS, Comparison, StudyRecord

__all__ = ["verdict"]

SMOOTHING = "label-smoothing"
HEADLINES = ("error", "ece", "nll", "aurc")


def verdict(study: StudyRecord) -> list[str]:
    """Plain sentences, the most important first, from the study's summary and comparisons."""
    methods = [method.name for method in study.methods]
    smoothed = SMOOTHING in methods
    sentences = [_headline(study)] if smoothed else []
    if study.number("plain", "error").seeds == 1:
        sentences.append(
            "One seed cannot tell a method from the luck of its initial weights, so no difference between trainings is "
            "called below; intervals speak of the test examples alone. Run at least 3 seeds (--seeds 5)."
        )
    if smoothed:
        sentences += [_effect(study, "error"), _effect(study, "ece"), _effect(study, "nll")]
    sentences.append(_confidence(study, methods))
    sentences += _underfit(study, methods)
    if smoothed:
        sentences += _against_temperature(study)
        sentences.append(_ranking(study))
        sentences.append(_restraint(study))
    sentences += _calibrators(study)
    sentences += [_rivals(study, methods, metric) for metric in ("error", "ece") if set(methods) - {"plain", SMOOTHING}]
    return sentences


def _value(metric: str, value: float) -> str:
    return f"{100 * value:.1f}%" if METRICS[metric].percent else f"{value:.3f}"


def _change(metric: str, difference: Comparison) -> str:
    """A signed difference with its interval: "-0.4 points (95% interval -0.7 to -0.1)"."""
    numbers = (difference.difference, difference.low, difference.high)
    if METRICS[metric].percent:
        mean, low, high = (f"{100 * number:+.1f}" for number in numbers)
        return f"{mean} points (corrected interval {low} to {high})"
    mean, low, high = (f"{number:+.3f}" for number in numbers)
    return f"{mean} (corrected interval {low} to {high})"


def _untold(difference: Comparison, seeds: int) -> str:
    """What it would take to tell."""
    if seeds == 1:
        return ""
    if difference.difference == 0:
        return " The two came out the same."
    if difference.seeds_needed is None:
        return " More seeds alone would not settle it: it takes more test examples."
    return f" About {max(difference.seeds_needed, seeds + 1)} seeds might settle it."


def _headline(study: StudyRecord) -> str:
    """The answer in one line."""
    outcomes: dict[str, list[str]] = {"improves": [], "worsens": [], "leaves undecided": []}
    for metric in HEADLINES:
        difference = study.comparison(SMOOTHING, metric)
        word = "leaves undecided" if not difference.called else "improves" if difference.difference < 0 else "worsens"
        outcomes[word].append(METRICS[metric].phrase)
    parts = [f"{word} {_list(names)}" for word, names in outcomes.items() if names]
    return f"In short: on {study.data.name}, label smoothing alone {_list(parts)}."


def _list(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _effect(study: StudyRecord, metric: str) -> str:
    """What smoothing does to one metric, on its own."""
    plain, smoothed = study.number("plain", metric), study.number(SMOOTHING, metric)
    difference = study.comparison(SMOOTHING, metric)
    epsilon = next(m.settings["epsilon"] for m in study.methods if m.name == SMOOTHING)
    numbers = f"from {_value(metric, plain.mean)} to {_value(metric, smoothed.mean)}, {_change(metric, difference)}"
    name = f"Label smoothing (epsilon {epsilon:g})"
    if not difference.called:
        untold = _untold(difference, plain.seeds)
        return f"{name}: cannot tell whether it changes {METRICS[metric].phrase}: {numbers}.{untold}"
    verb = "lowers" if difference.difference < 0 else "raises"
    return f"{name} {verb} {METRICS[metric].phrase} {numbers}."


def _side(study: StudyRecord, method: str) -> str:
    """Over- or under-confident, and by how much, if that can be told."""
    gap = study.comparison(method, "confidence_gap", reference="")
    if not gap.called:
        return "neither over- nor under-confident as far as this test part can tell"
    return f"{'over' if gap.difference > 0 else 'under'}-confident by {100 * abs(gap.difference):.1f} points"


def _confidence(study: StudyRecord, methods: list[str]) -> str:
    """Over- or under-confident, without and with smoothing."""
    gap = study.number("plain", "confidence_gap").mean
    accuracy = 1 - study.number("plain", "error").mean
    confidence = accuracy + gap
    numbers = f"gap {100 * gap:+.1f} points: mean confidence {100 * confidence:.1f}%, accuracy {100 * accuracy:.1f}%"
    sentence = f"Trained plainly, the model is {_side(study, 'plain')} ({numbers})"
    if SMOOTHING in methods:
        sentence += f"; with label smoothing it is {_side(study, SMOOTHING)}"
    return f"{sentence}."


def _underfit(study: StudyRecord, methods: list[str]) -> list[str]:
    """Plain training that ends under-confident has not over-fitted, and smoothing can only take confidence away."""
    gap = study.comparison("plain", "confidence_gap", reference="")
    if not (gap.called and gap.difference < 0):
        return []
    sentence = (
        "The plain model is under-confident already, the sign of a training too short to over-fit "
        f"({study.config.epochs} epochs; train minus test NLL {study.number('plain', 'nll_gap').mean:+.3f})."
    )
    if SMOOTHING in methods:
        worse = study.comparison(SMOOTHING, "ece")
        if worse.called and worse.difference > 0:
            sentence += (
                " Smoothing lowers its confidence further, and calibration gets worse for it: train longer, smooth "
                "less, or scale the temperature afterwards."
            )
    return [sentence]


def _against_temperature(study: StudyRecord) -> list[str]:
    """Does a temperature on the plain model do as well, and does smoothing still help under a temperature?"""
    parts = []
    for metric in ("ece", "nll"):
        scaled, smoothed = study.number("plain", metric, "temperature"), study.number(SMOOTHING, metric)
        difference = study.comparison("plain", metric, "temperature", reference=SMOOTHING)
        numbers = f"{_value(metric, scaled.mean)} against {_value(metric, smoothed.mean)}"
        if not difference.called:
            word = "cannot be told from smoothing in"
        else:
            word = "does better than smoothing in" if difference.difference < 0 else "does worse than smoothing in"
        parts.append(f"{word} {METRICS[metric].title} ({numbers})")
    first = f"Temperature scaling of the plain model {parts[0]}, and {parts[1]}."
    parts = []
    for metric in ("ece", "nll"):
        difference = study.comparison(SMOOTHING, metric, "temperature")
        plain, smoothed = (study.number(m, metric, "temperature") for m in ("plain", SMOOTHING))
        numbers = f"{_value(metric, plain.mean)} to {_value(metric, smoothed.mean)}"
        if difference.called:
            parts.append(f"{'lowers' if difference.difference < 0 else 'raises'} {METRICS[metric].title} ({numbers})")
        else:
            parts.append(f"makes no difference that can be told in {METRICS[metric].title} ({numbers})")
    return [first, f"With a temperature on both models, smoothing {parts[0]}, and {parts[1]}."]


def _ranking(study: StudyRecord) -> str:
    """The price in ranking: does confidence still tell right from wrong?"""
    plain, smoothed = study.number("plain", "aurc"), study.number(SMOOTHING, "aurc")
    difference = study.comparison(SMOOTHING, "aurc")
    numbers = f"AURC {plain.mean:.4f} without, {smoothed.mean:.4f} with"
    if not difference.called:
        return f"Ranking by confidence: no cost of smoothing can be told ({numbers}).{_untold(difference, plain.seeds)}"
    if difference.difference > 0:
        return f"Smoothing costs ranking: confidence tells errors from right answers less well ({numbers})."
    return f"Smoothing helps ranking too: confidence tells errors from right answers better ({numbers})."


def _restraint(study: StudyRecord) -> str:
    """What smoothing does to the logits and to the distance between training and test."""
    numbers = []
    for name, metric, digits in (
        ("the mean largest logit", "largest_logit", 1),
        ("its distance from the other logits", "logit_gap", 1),
        ("train minus test NLL", "nll_gap", 3),
    ):
        before, after = study.number("plain", metric).mean, study.number(SMOOTHING, metric).mean
        numbers.append(f"{name} goes from {before:.{digits}f} to {after:.{digits}f}")
    return f"Under smoothing {numbers[0]}, {numbers[1]}, and {numbers[2]}."


def _calibrators(study: StudyRecord) -> list[str]:
    """What each calibrator does for the plain model."""
    helped: list[str] = []
    hurt: list[str] = []
    untold: list[str] = []
    for name in study.config.calibrators:
        if name == "none":
            continue
        difference = study.comparison("plain", "ece", name)
        text = f"{CATALOGUE[check_name(name)].title} ({_value('ece', study.number('plain', 'ece', name).mean)})"
        (untold if not difference.called else helped if difference.difference < 0 else hurt).append(text)
    before = _value("ece", study.number("plain", "ece").mean)
    return _sorted_out(f"Calibrators on the plain model, ECE {before} before", helped, hurt, untold)


def _rivals(study: StudyRecord, methods: list[str], metric: str) -> str:
    """What the other methods do."""
    helped: list[str] = []
    hurt: list[str] = []
    untold: list[str] = []
    for name in methods:
        if name in ("plain", SMOOTHING):
            continue
        difference = study.comparison(name, metric)
        text = f"{METHODS[name].title.lower()} ({_value(metric, study.number(name, metric).mean)})"
        (untold if not difference.called else helped if difference.difference < 0 else hurt).append(text)
    before = _value(metric, study.number("plain", metric).mean)
    return _sorted_out(f"The rivals, {METRICS[metric].title} {before} without them", helped, hurt, untold)[0]


def _sorted_out(head: str, helped: list[str], hurt: list[str], untold: list[str]) -> list[str]:
    named = (("better with", helped), ("worse with", hurt), ("no difference can be told with", untold))
    parts = [f"{word} {', '.join(items)}" for word, items in named if items]
    return [f"{head}: {'; '.join(parts)}."] if parts else []
