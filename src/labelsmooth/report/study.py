"""The page of a study: the verdict, then every number with its interval, then the pictures."""

from __future__ import annotations

import dataclasses
import json

from labelsmooth.files import StrPath
from labelsmooth.metrics.numbers import change, estimate, p_value, title, value, with_half
from labelsmooth.report import study_figures as figures
from labelsmooth.report.page import render, write
from labelsmooth.report.study_figures import CALIBRATOR_TITLES
from labelsmooth.report.tables import MARKS, Card, Cell, Row, Table, Tone
from labelsmooth.study.planned import HEADLINES, main_method
from labelsmooth.study.records import METRICS, Comparison, StudyRecord, Summary


def write_study(study: StudyRecord, path: StrPath) -> None:
    """Write the page of a study to a file, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    write(render_study(study), path)


def render_study(study: StudyRecord) -> str:
    """The page as a string.  Everything that came from outside, class names and paths, is escaped."""
    lead, rule, *findings = study.verdict
    main = next((method.title for method in study.methods if method.name == _main(study)), "")
    return render(
        "study.html.j2",
        title=f"Does {main.lower()} help on {study.data.name}?" if main else f"What helps on {study.data.name}?",
        main=main,
        lead=lead,
        tone="",
        rule=rule,
        findings=findings,
        study=study,
        metrics=list(METRICS.values()),
        primary=_cards([row for row in study.comparisons if row.family == "primary"], study),
        alone=_cards(_alone(study), study),
        candidates=_candidates_table(study),
        results=results_table(study, tuple(METRICS)),
        calibrators=calibrators_table(study),
        comparisons=_comparisons_table(study),
        differences=[figures.differences(study, metric) for metric in HEADLINES] if len(study.methods) > 1 else [],
        strengths=figures.strengths(study),
        distillation=figures.distillation(study),
        students=_cards(_of_students(study), study),
        distilled=distillation_table(study),
        reliability=figures.reliability(study),
        confidence=figures.confidence(study),
        training=figures.training(study),
        logits=figures.largest_logits(study),
        settings=_settings(study),
        config=json.dumps(dataclasses.asdict(study.config), indent=1),
        command=study.command,
    )


def results_table(study: StudyRecord, metrics: tuple[str, ...]) -> Table:
    """A row for each method, without a calibrator; the last column is the seconds of a training."""
    times, main = {row.method: row.mean for row in study.seconds}, _main(study)

    def row(name: str) -> list[Cell]:
        cells = [_cell(study.number(name, metric)) for metric in metrics]
        return [*cells, Cell(f"{times[name]:.1f}")]

    sources = "test examples (there is one seed)" if study.config.seeds == 1 else "seeds and test examples"
    return Table(
        ["Method", *(METRICS[metric].title for metric in metrics), "Seconds"],
        [Row(m.title, row(m.name), main=m.name == main) for m in study.methods],
        f"Mean over the seeds, ± half of the 95% interval over {sources}; the interval itself where ± would reach "
        f"below 0. {_floor(study)}",
    )


def calibrators_table(study: StudyRecord, metrics: tuple[str, ...] = ("ece", "nll")) -> Table:
    """A row for each method, a column for each metric under each calibrator."""
    calibrators, main = study.config.calibrators, _main(study)

    def row(name: str) -> list[Cell]:
        cells = []
        for metric in metrics:
            summaries = [study.number(name, metric, calibrator) for calibrator in calibrators]
            best = min(summary.mean for summary in summaries)
            cells += [_cell(summary, best=summary.mean == best) for summary in summaries]
        return cells

    metric_titles = [f"{title(metric)}, " for metric in metrics] if len(metrics) > 1 else [""]
    return Table(
        ["Method", *(f"{before}{CALIBRATOR_TITLES[name]}" for before in metric_titles for name in calibrators)],
        [Row(m.title, row(m.name), main=m.name == main) for m in study.methods],
        "Each calibrator is fitted on the validation part alone. The lowest number of a row is bold.",
    )


def distillation_table(study: StudyRecord) -> Table | None:
    """A row for each teacher, each student, and the students' network alone; None without students."""
    if (distillation := study.distillation) is None:
        return None
    kept = [name for name in ("none", "temperature") if name in study.config.calibrators]
    shown = [("error", "none"), *((metric, name) for name in kept for metric in ("nll", "ece"))]
    alone = [distillation.alone.name] if distillation.alone.name not in distillation.teachers else []
    names = [*distillation.teachers, *(student.name for student in distillation.students), *alone]
    titles = {name: f"Teacher: {study.titles[name].lower()}" for name in distillation.teachers}
    return Table(
        ["Model", *(_with_calibrator(metric, name) for metric, name in shown)],
        [
            Row(titles.get(name, study.titles[name]), [_cell(study.number(name, metric, c)) for metric, c in shown])
            for name in names
        ],
        "Mean over the seeds, ± half of the 95% interval over seeds and test examples.",
    )


def _with_calibrator(metric: str, calibrator: str) -> str:
    return METRICS[metric].title + ("" if metric == "error" else f", {CALIBRATOR_TITLES[calibrator]}")


def _of_students(study: StudyRecord) -> list[Comparison]:
    """The student of the smoothed teacher against that of the plain one."""
    if study.distillation is None:
        return []
    plain, smoothed = (student.name for student in study.distillation.students)
    return [study.comparison(smoothed, metric, reference=plain) for metric in ("error", "ece", "nll")]


def _floor(study: StudyRecord) -> str:
    """What the ECE is to be read against."""
    floors = sorted(row.floor for row in study.summary if row.calibrator == "none" and row.floor is not None)
    low, high = value("ece", floors[0]), value("ece", floors[-1])
    return f"ECE is debiased; before that a perfect model would show {low if low == high else f'{low} to {high}'} here."


def outcome(comparison: Comparison) -> tuple[str, Tone]:
    """A word for a comparison; of a confidence gap, which side it is on."""
    if not comparison.significant:
        return "identical" if comparison.identical else comparison.verdict, ""
    if comparison.metric == "confidence_gap":
        return "over-confident" if comparison.difference > 0 else "under-confident", ""
    return ("better", "better") if comparison.difference < 0 else ("worse", "worse")


def _cell(row: Summary, *, best: bool = False) -> Cell:
    """A mean with ± half of its interval, or the interval itself where ± would reach below a least value of 0."""
    metric = METRICS[row.metric]
    reaches_below = metric.better == "lower" and row.mean < (row.high - row.low) / 2
    written = estimate if reaches_below else with_half
    return Cell(*written(metric, row.mean, row.low, row.high), best)


def _alone(study: StudyRecord) -> list[Comparison]:
    """The main method against plain training, without a calibrator, in the headline metrics that are not primary."""
    main = _main(study)
    rows = [study.comparison(main, metric) for metric in HEADLINES] if main else []
    return [row for row in rows if row.family == "secondary"]


def _main(study: StudyRecord) -> str:
    return main_method([method.name for method in study.methods])


def _cards(comparisons: list[Comparison], study: StudyRecord) -> list[Card]:
    """A card for each comparison: the reference's value, the method's, and the difference."""
    cards = []
    for c in comparisons:
        word, tone = outcome(c)
        before = value(METRICS[c.metric], study.number(c.reference_method, c.metric, c.reference_calibrator).mean)
        after = value(METRICS[c.metric], study.number(c.method, c.metric, c.calibrator).mean)
        difference, ends = change(METRICS[c.metric], c.difference, c.low, c.high)
        mark = MARKS.get(word, "")
        cards.append(Card(METRICS[c.metric].title, f"{before} → {after}", f"{difference} ({ends})", mark + word, tone))
    return cards


def _candidates_table(study: StudyRecord) -> Table:
    """Each method under each calibrator, the lowest NLL first; the recommended one is marked."""
    titles = {method.name: method.title for method in study.methods}
    rows = []
    for c in sorted(study.candidates, key=lambda c: c.nll):
        above, ends = change("nll", c.above_lowest, c.above_lowest - c.half_width, c.above_lowest + c.half_width)
        word = (
            "error significantly higher"
            if not c.admitted
            else "not significantly higher"
            if c.tied
            else "significantly higher"
        )
        cells = [
            Cell(value("error", c.error)),
            Cell(value("nll", c.nll)),
            Cell(f"{above} ({ends})" if c.above_lowest else "the lowest"),
            Cell(word),
        ]
        main = (c.method, c.calibrator) == (study.recommendation.method, study.recommendation.calibrator)
        rows.append(Row(f"{titles[c.method]}, {CALIBRATOR_TITLES[c.calibrator]}", cells, main=main))
    return Table(["Model", title("error"), title("nll"), "NLL above the lowest", ""], rows)


def _comparisons_table(study: StudyRecord) -> Table:
    titles = study.titles
    rows = []
    for c in study.comparisons:
        word, tone = outcome(c)
        difference, ends = change(METRICS[c.metric], c.difference, c.low, c.high)
        reference = "zero"
        if c.reference_method:
            reference = f"{titles[c.reference_method]}, {CALIBRATOR_TITLES[c.reference_calibrator]}"
        cells = [
            Cell(c.family),
            Cell(reference),
            Cell(METRICS[c.metric].title),
            Cell(difference, ends),
            Cell(p_value(c.p_value)),
            Cell(MARKS.get(word, "") + word, tone=tone),
        ]
        rows.append(Row(f"{titles[c.method]}, {CALIBRATOR_TITLES[c.calibrator]}", cells))
    return Table(["Method", "Family", "Reference", "Metric", "Difference", "p", "Outcome"], rows)


def _settings(study: StudyRecord) -> list[tuple[str, str]]:
    """What differs from the baseline, for each method, and the versions."""
    pairs = []
    for method in study.methods:
        changes = [f"{key.replace('_', ' ')} {number}" for key, number in method.settings.items()]
        pairs.append((method.title, ", ".join(changes) or "the baseline"))
    return pairs + list(study.versions.items())
