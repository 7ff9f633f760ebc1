"""What to use: a rule on the study's numbers, its choice as data, and the sentence that says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from labelsmooth.calibrate import CATALOGUE, check_name
from labelsmooth.metrics.numbers import lowered, percent, value
from labelsmooth.metrics.verdict import no_better_than_guessing
from labelsmooth.study.compare import LEVEL, MIN_UNITS, has_few_errors
from labelsmooth.study.components import Design, stacked
from labelsmooth.study.planned import ZERO, Pair, Table
from labelsmooth.study.records import Candidate, Comparison, MethodRecord, Recommendation, StudyRecord
from labelsmooth.study.spreads import Spreads

RULE = (
    "The rule: the lowest test NLL after a calibrator, among the methods that are not significantly worse in error; of "
    "those whose NLL is not significantly higher than the lowest (corrected for their number) and lower than that of "
    "every one as simple or simpler, the simplest. Plain cross-entropy with a temperature is the simplest of all."
)
NONE_YET = Recommendation("", "", "", RULE)


def candidates(
    table: Table, comparisons: Sequence[Comparison], design: Design, wrong: Mapping[str, float] | None = None
) -> list[Candidate]:
    """Every method under every calibrator, with the difference of its NLL from the lowest of those admitted.

    A method is admitted unless a comparison in error shows that it is significantly worse than another.  The lowest NLL
    is chosen among all that are admitted, so each difference from it is tested at 0.05 divided by the number of the
    others (Bonferroni): with models that are alike, the NLL speaks against the simplest in at most 5% of studies.
    With fewer than three seeds nothing is known of the difference of two methods, and all count as ties; so do methods
    that hardly misclassify a test example, by `wrong` as in :func:`labelsmooth.study.compare.compare`.
    """
    worse = {c.method if c.difference > 0 else c.reference_method for c in comparisons if _is_error(c)}
    nll = {(method, calibrator): v for (method, calibrator, metric), v in table.items() if metric == "nll"}
    means = {key: float(values.mean()) for key, values in nll.items()}
    admitted = [key for key in means if key[0] not in worse]
    best = min(admitted, key=lambda key: means[key])
    spreads = Spreads(table, design)
    rows = []
    for (method, calibrator), values in nll.items():
        row, _ = spreads.row(Pair(method, calibrator, *best, "nll"), values - nll[best])
        half = float(stacked([row]).half_width(LEVEL / max(len(admitted) - 1, 1))[0])
        unknown = has_few_errors(wrong or {}, method, best[0]) or (method != best[0] and spreads.units < MIN_UNITS)
        rows.append(
            Candidate(
                method,
                calibrator,
                error=float(table[method, calibrator, "error"].mean()),
                nll=means[method, calibrator],
                above_lowest=row[0],
                half_width=half,
                admitted=method not in worse,
                tied=method not in worse and (unknown or row[0] <= half),
            )
        )
    return rows


def _is_error(comparison: Comparison) -> bool:
    return comparison.metric == "error" and comparison.significant and comparison.reference_method != ZERO


def recommend(study: StudyRecord) -> Recommendation:
    """What to use, by :data:`RULE`, from the record's candidates."""
    methods = {method.name: method for method in study.methods}
    admitted = [row for row in study.candidates if row.admitted]
    guessing = [row for row in study.methods if is_guessing(study, row.name)]
    if len(guessing) == len(methods):
        error = study.number("plain", "error").mean
        return Recommendation(
            "",
            "",
            "Use none of these models: they are not significantly better than guessing. The plain model is wrong in "
            f"{percent(error)}, always naming the most frequent class in {percent(study.guess_error)}. Train longer, "
            "with another learning rate, more data or more seeds before comparing.",
            RULE,
        )
    num_classes = len(study.data.classes)

    def complexity(row: Candidate) -> tuple[int, bool, float]:
        """Changes to the training first: a calibrator costs no training, and a temperature a single number."""
        fitted = 0.0 if row.calibrator == "none" else CATALOGUE[check_name(row.calibrator)].parameters(num_classes)
        return len(methods[row.method].settings), row.calibrator != "temperature", fitted

    named = {method.name for method in guessing}
    rows = sorted(admitted, key=lambda row: (complexity(row), row.nll))
    lowest_so_far = list(accumulate((row.nll for row in rows), min))
    choice = next(row for row, nll in zip(rows, lowest_so_far, strict=True) if row.tied and row.nll == nll)
    if choice.method in named:
        choice = min((row for row in admitted if row.method not in named), key=lambda row: row.nll, default=choice)
    return Recommendation(choice.method, choice.calibrator, _sentence(study, choice, methods[choice.method]), RULE)


def is_guessing(study: StudyRecord, method: str) -> bool:
    """Whether a method's error may be that of always naming the most frequent class."""
    return no_better_than_guessing(study.number(method, "error").high, study.guess_error)


def _sentence(study: StudyRecord, choice: Candidate, method: MethodRecord) -> str:
    strength = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in method.settings.items())
    name = lowered(method.title) + (f" ({strength})" if strength else "")
    if choice.calibrator != "none":
        name += f" with {CATALOGUE[check_name(choice.calibrator)].title}"
    else:
        name += ", without a calibrator"
    ece = study.number(choice.method, "ece", choice.calibrator)
    floor = f" (a perfect model would show {percent(ece.floor)} here)" if ece.floor is not None else ""
    return f"Use {name}: error {percent(choice.error)}, NLL {value('nll', choice.nll)}, ECE {percent(ece.mean)}{floor}."
