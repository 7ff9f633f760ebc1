"""The verdict: what to use and why, in sentences made from the record's numbers alone, and the details behind it."""

from __future__ import annotations

from collections.abc import Sequence

from labelsmooth.calibrate import CATALOGUE, check_name
from labelsmooth.errors import plural
from labelsmooth.metrics.numbers import capitalized, change, joined, lowered, percent, size, value
from labelsmooth.study.compare import FEW_ERRORS, MIN_UNITS
from labelsmooth.study.planned import main_method
from labelsmooth.study.recommend import is_guessing
from labelsmooth.study.records import METRICS, Comparison, StudyRecord
from labelsmooth.study.students import student_comparisons

MOST = 5  # sentences beside what to use and the rule


def verdict(study: StudyRecord) -> list[str]:
    """What to use, the rule, and at most five sentences; one more on students by distillation."""
    main = _main(study)
    reasons = [*_guessing(study), *_too_few(study), *_few_errors(study)]
    if main:
        reasons += [_primary(study, main), _alone(study, main)]
    reasons += _others(study, main, "error")
    shown = [*reasons[: MOST - 1], *_distillation(study), _splits(study)]
    return [study.recommendation.text, study.recommendation.rule, *shown]


def details(study: StudyRecord) -> list[str]:
    """What else the comparisons say; all of it is secondary."""
    main = _main(study)
    sentences = [_confidence(study), *_underfit(study, main)]
    if main:
        sentences += [*_against_temperature(study, main), _ranking(study, main), _restraint(study, main)]
    return [*sentences, *_calibrators(study), *_others(study, main, "ece")]


def _metric(name: str) -> str:
    return lowered(METRICS[name].title)


def _main(study: StudyRecord) -> str:
    return main_method([method.name for method in study.methods])


def _title(study: StudyRecord, name: str) -> str:
    return lowered(study.titles[name])


def _guessing(study: StudyRecord) -> list[str]:
    """Which methods may have learned nothing; where that is so of all, the recommendation says it."""
    names = [_title(study, m.name) for m in study.methods if is_guessing(study, m.name)]
    if not names or not study.recommendation.method:
        return []
    share = f"always naming the most frequent class is wrong in {percent(study.guess_error)}"
    return [f"Not significantly better than guessing, where {share}: {joined(names)}."]


def _too_few(study: StudyRecord) -> list[str]:
    splits, seeds = study.config.splits, study.config.seeds
    if (splits if splits > 1 else seeds) >= MIN_UNITS:
        return []
    luck = "too little is known of the luck of the initial weights"
    if seeds == 1:
        luck = "nothing is known of the luck of the initial weights, and the intervals are of the test examples alone"
    return [f"With {plural(seeds, 'seed')} no difference is significant: {luck}. Run at least 3 (--seeds 5)."]


def _few_errors(study: StudyRecord) -> list[str]:
    """What the differences of NLL, ECE and AURC are worth where hardly a test example is misclassified."""
    most = max(study.number(method.name, "error").mean for method in study.methods) * study.data.test
    if most >= FEW_ERRORS:
        return []
    return [
        f"Too few errors: no method misclassifies more than {most:.1f} of {study.data.test:,} test examples. The "
        "differences of NLL, ECE and AURC are not judged: what an error costs is not known from these examples."
    ]


def _primary(study: StudyRecord, main: str) -> str:
    """The primary family: the main method against plain training, with a temperature on both."""
    rows = [row for row in study.comparisons if row.family == "primary"]
    scaled = ", with a temperature on both" if any(row.calibrator != "none" for row in rows) else ""
    title = capitalized(_title(study, main))
    return f"{title} against plain training{scaled} (primary): {_findings(study, rows)}."


def _alone(study: StudyRecord, main: str) -> str:
    """The main method without a calibrator."""
    rows = [study.comparison(main, metric) for metric in ("ece", "nll")]
    title = _title(study, main)
    sides = f"the plain model is {_side(study, 'plain')}, with {title} it is {_side(study, main)}"
    return f"With {title} and no calibrator (secondary): {_findings(study, rows)}; {sides}."


def _side(study: StudyRecord, method: str) -> str:
    """Over- or under-confident, and by how much."""
    gap = study.comparison(method, "confidence_gap", reference="")
    points, _ = change("confidence_gap", gap.difference, gap.low, gap.high)
    side = f"{'over' if gap.difference > 0 else 'under'}-confident by {points[1:]}"
    return side if gap.significant else f"{side} (not significant)"


def _distillation(study: StudyRecord) -> list[str]:
    """What smoothing does to a teacher and to its student."""
    if study.distillation is None:
        return []
    teachers, students = student_comparisons(study)
    return [
        f"A smoothed teacher is better and its student worse (Müller et al. 2019): {study.distillation.verdict}. "
        f"From plain training to {_title(study, study.distillation.teachers[1])}, teachers: "
        f"{_finding(study, teachers)}; their students: {_finding(study, students)}."
    ]


def _splits(study: StudyRecord) -> str:
    if study.config.splits > 1:
        return f"The intervals cover the choice of the split: the seeds are spread over {study.config.splits} of them."
    return "All of this speaks of one split of the data; --splits spreads the seeds over several."


def _others(study: StudyRecord, main: str, metric: str) -> list[str]:
    """The other methods against plain training."""
    names = [method.name for method in study.methods if method.name not in ("plain", main)]
    rows = {_title(study, name): study.comparison(name, metric) for name in names}
    before = value(METRICS[metric], study.number("plain", metric).mean)
    return _by_outcome(study, f"Other methods (secondary), {_metric(metric)} {before} without them", rows)


def _confidence(study: StudyRecord) -> str:
    """What over- or under-confident means in numbers."""
    gap = study.number("plain", "confidence_gap").mean
    accuracy = 1 - study.number("plain", "error").mean
    return (
        f"The plain model is {_side(study, 'plain')}: mean confidence {percent(accuracy + gap)}, accuracy "
        f"{percent(accuracy)}."
    )


def _underfit(study: StudyRecord, main: str) -> list[str]:
    """A plain model that is under-confident already was trained too briefly to over-fit."""
    gap = study.comparison("plain", "confidence_gap", reference="")
    if not gap.significant or gap.difference > 0:
        return []
    sentence = (
        "That is the sign of a training too short to over-fit "
        f"({study.config.epochs} epochs; train minus test NLL {study.number('plain', 'nll_gap').mean:+.3f})."
    )
    if main:
        worse = study.comparison(main, "ece")
        if worse.significant and worse.difference > 0:
            sentence += (
                f" {capitalized(_title(study, main))} lowers its confidence further, and calibration gets worse: train "
                "longer, smooth less, or scale the temperature afterwards."
            )
    return [sentence]


def _against_temperature(study: StudyRecord, main: str) -> list[str]:
    """A temperature on the plain model against the main method without one."""
    rows = [row for row in study.comparisons if (row.method, row.reference_method) == ("plain", main)]
    if not rows:
        return []
    return [f"From {_title(study, main)} alone to plain training with a temperature: {_findings(study, rows)}."]


def _ranking(study: StudyRecord, main: str) -> str:
    """Does confidence still tell right from wrong?"""
    row = study.comparison(main, "aurc")
    said = f"Ranking by confidence, with {_title(study, main)}: {_findings(study, [row])}"
    if not row.significant:
        return f"{said}."
    return f"{said}: confidence tells errors from right answers {'less well' if row.difference > 0 else 'better'}."


def _restraint(study: StudyRecord, main: str) -> str:
    """What the main method does to the logits and to the distance between training and test."""
    numbers = []
    for name, metric, digits in (
        ("the mean largest logit", "largest_logit", 1),
        ("its distance from the other logits", "logit_gap", 1),
        ("train minus test NLL", "nll_gap", 3),
    ):
        before, after = study.number("plain", metric).mean, study.number(main, metric).mean
        numbers.append(f"{name} goes from {before:.{digits}f} to {after:.{digits}f}")
    return f"With {_title(study, main)}, {joined(numbers)}."


def _calibrators(study: StudyRecord) -> list[str]:
    """What each calibrator does for the plain model."""
    names = [name for name in study.config.calibrators if name != "none"]
    rows = {CATALOGUE[check_name(name)].title: study.comparison("plain", "ece", name) for name in names}
    before = value("ece", study.number("plain", "ece").mean)
    return _by_outcome(study, f"Calibrators on the plain model, ECE {before} before", rows)


def _by_outcome(study: StudyRecord, head: str, rows: dict[str, Comparison]) -> list[str]:
    """Items by what their comparison with the reference says."""
    named: dict[str, list[str]] = {}
    for name, row in rows.items():
        number = value(METRICS[row.metric], study.number(row.method, row.metric, row.calibrator).mean)
        named.setdefault(_outcome(row), []).append(f"{name} ({number})")
    order = ("lower", "higher", "identical", "equivalent", "inconclusive")
    parts = [f"{word} with {joined(named[word])}" for word in order if word in named]
    return [f"{head}: {'; '.join(parts)}."] if parts else []


def _outcome(row: Comparison) -> str:
    """What a comparison says of the method, in a word: lower, higher, identical, equivalent or inconclusive."""
    if row.significant:
        return "lower" if row.difference < 0 else "higher"
    return "identical" if row.identical else row.verdict


def _findings(study: StudyRecord, rows: Sequence[Comparison]) -> str:
    """Comparisons of the same two models: "error lower (3.0% to 2.0%, -1.0 points, ...); NLL equivalent (...)"."""
    return "; ".join(_finding(study, row) for row in rows)


def _finding(study: StudyRecord, row: Comparison) -> str:
    metric = METRICS[row.metric]
    title = _metric(row.metric)
    before = value(metric, study.number(row.reference_method, row.metric, row.reference_calibrator).mean)
    after = value(metric, study.number(row.method, row.metric, row.calibrator).mean)
    if row.note:
        return f"{title} {row.note}" + (f" ({after})" if row.identical else "")
    margin = f"the margin of {size(metric, row.margin or 0.0)}"
    if row.verdict == "equivalent":
        difference, ends = change(metric, row.difference, row.low90, row.high90)
        said = f"{difference}, 90% interval {ends}, within {margin}"
    else:
        difference, ends = change(metric, row.difference, row.low, row.high)
        said = f"{difference}, corrected interval {ends}"
        if row.significant and row.small:
            said += f", less than {margin}"
        if row.seeds_needed:
            said += f"; about {row.seeds_needed} seeds would settle it"
        elif row.seeds_needed is None and study.config.seeds > 1:
            said += f"; over 200 seeds would be needed with {study.data.test:,} test examples"
    return f"{title} {_outcome(row)} ({before} to {after}, {said})"
