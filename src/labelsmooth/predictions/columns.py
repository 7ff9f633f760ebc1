"""Which columns of a table hold the scores and the labels: given by name, or found by the usual names and reported."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from labelsmooth.errors import UserError

Kind = Literal["probabilities", "logits"]

NUMBERED: dict[Kind, str] = {
    "probabilities": r"(?:y_)?(?:p|prob|probs|proba|probability|softmax|class)[ _.\-]?(\d+)",
    "logits": r"(?:z|logit|logits)[ _.\-]?(\d+)",
}
NAMED: dict[Kind, str] = {
    "probabilities": r"(?:p|prob|probs|proba|probability)[ _.:\-](.+)",
    "logits": r"(?:z|logit|logits)[ _.:\-](.+)",
}
POSITIVE: dict[Kind, tuple[str, ...]] = {
    "probabilities": (
        *("y_prob", "y_proba", "y_score", "prob", "proba", "probs", "probability", "p", "p_hat", "pred_proba"),
        *("y_pred_proba", "y_pred_prob", "pred_prob", "predicted_probability", "predicted_proba", "score"),
    ),
    "logits": ("logit", "logits", "margin", "decision_function"),
}
LISTS: dict[Kind, tuple[str, ...]] = {
    "probabilities": ("probabilities", "probs", "probas", "prob", "scores", "softmax"),
    "logits": ("logits", "logit"),
}
LABELS = (
    *("label", "labels", "y_true", "true_label", "truth", "ground_truth", "gold", "gold_label", "target", "targets"),
    *("y", "class", "actual", "true", "reference"),
)
CONFIDENCES = ("confidence", "conf", "max_prob", "max_probability", "top1_prob", "msp", "score")
CORRECT = ("correct", "is_correct", "acc", "hit")
PREDICTIONS = ("prediction", "predicted", "pred", "y_pred", "predicted_label", "pred_label", "predicted_class", "label")


@dataclass(frozen=True)
class ColumnOptions:
    """The columns that the caller names.

    Args:
        label: the true labels.
        probabilities: one column of probabilities for each class, or one for the positive class.
        logits: the same, of logits.
        prediction: the predicted class, of predictions that keep the most probable class only.
        confidence: the probability of the predicted class.
        positive: the class that a single column of scores belongs to.
        by: the values to group the rows by.
        percent: the probabilities are percentages, 0 to 100.
    """

    label: str | None = None
    probabilities: tuple[str, ...] = ()
    logits: tuple[str, ...] = ()
    prediction: str | None = None
    confidence: str | None = None
    positive: str | None = None
    by: str | None = None
    percent: bool = False

    def named(self) -> dict[str, str]:
        """The given columns, by the option that gives them."""
        single = {"label": self.label, "prediction": self.prediction, "confidence": self.confidence, "by": self.by}
        named = {name: option for option, name in single.items() if name is not None}
        return named | dict.fromkeys(self.probabilities, "probability") | dict.fromkeys(self.logits, "logit")


@dataclass(frozen=True)
class Roles:
    """The columns of a table by what they hold.

    ``scores`` has one column for each of ``classes``, in their order; or one column, of the positive class or of lists
    of K numbers; or, with ``top_label``, the confidence in the predicted class.
    """

    kind: Kind
    scores: tuple[str, ...]
    classes: tuple[str, ...] = ()
    label: str | None = None
    by: str | None = None
    lists: bool = False
    top_label: bool = False
    correct: str | None = None
    prediction: str | None = None
    positive: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        others = (self.label, self.by, self.correct, self.prediction)
        return (*self.scores, *dict.fromkeys(name for name in others if name is not None))


@dataclass(frozen=True)
class Table:
    """What is known of a table before it is read: its columns, and the values of its first rows."""

    name: str
    columns: tuple[str, ...]
    numeric: Callable[[str], bool]
    lists: Callable[[str], bool]
    values: Callable[[str], list[object]]

    def first(self, candidates: Sequence[str], but: Sequence[str | None] = ()) -> str | None:
        """The first of the candidates, in their order, that is a column; case does not matter."""
        folded = {column.casefold(): column for column in reversed(self.columns)}
        return next((folded[c] for c in candidates if c in folded and folded[c] not in but), None)

    def refuse(self, problem: str) -> UserError:
        """The error that names the table and its columns."""
        shown = ", ".join(self.columns[:12]) + (", ..." if len(self.columns) > 12 else "")
        return UserError(f"{self.name}: {problem} Its columns are {shown}.")


def find_roles(table: Table, kind: Kind | None, options: ColumnOptions, labels: bool) -> Roles:
    """Find the columns that hold scores and labels.

    Args:
        table: the columns and first rows.
        kind: which scores, where the table holds both.
        options: the columns that the caller names; they come before any guess.
        labels: whether labels must be there.

    Raises:
        UserError: nothing fits, or more than one thing does; the message names the option that decides.
    """
    _check(table, options)
    named = options.confidence is not None and options.prediction is not None
    roles = (
        _given(table, options)
        or (_top_label(table, options, kind) if named else None)
        or _top_label_with_correctness(table, options, kind)
        or _families(table, options, kind)
        or _lists(table, options, kind)
        or _classes(table, options, kind)
        or _top_label(table, options, kind)
        or _one_column(table, options, kind)
    )
    if roles is None:
        wanted = "p0, p1, ... (probabilities) or z0, z1, ... (logits)" if kind is None else kind
        raise table.refuse(
            f"there are no columns of {wanted}, none named after the classes, and no column of the positive class or "
            "of a confidence. Name them with --probability-columns, --logit-columns or --confidence-column; for one "
            "column of a probability give --probability-columns COLUMN --positive-class CLASS."
        )
    if labels and roles.label is None and roles.correct is None:
        raise table.refuse("there is no column of labels. Name it with --label-column.")
    return roles


def _check(table: Table, options: ColumnOptions) -> None:
    twice = [name for name, count in Counter(table.columns).items() if count > 1]
    if twice:
        raise UserError(f"{table.name}: column {twice[0]!r} is there twice; rename or remove one.")
    for name, option in options.named().items():
        if name not in table.columns:
            purpose = "to group by" if option == "by" else f"(--{option}-column{'s' * (option in _SEVERAL)})"
            raise table.refuse(f"there is no column {name!r} {purpose}.")
    if options.probabilities and options.logits:
        raise UserError("Give --probability-columns or --logit-columns, not both.")
    if options.confidence and (options.probabilities or options.logits):
        raise UserError("--confidence-column is for predictions without other scores; leave out the other columns.")


_SEVERAL = ("probability", "logit")


def _label(table: Table, options: ColumnOptions, *taken: str | None) -> str | None:
    if options.label is not None:
        return options.label
    return table.first(LABELS, (*taken, options.by, options.prediction, options.confidence))


def _given(table: Table, options: ColumnOptions) -> Roles | None:
    """The score columns that the caller names."""
    named: dict[Kind, tuple[str, ...]] = {"probabilities": options.probabilities, "logits": options.logits}
    for kind, scores in named.items():
        if scores:
            label = _label(table, options, *scores)
            if len(scores) == 1:
                lists = table.lists(scores[0])
                positive = None if lists else _positive(table, options, label, scores[0])
                return Roles(kind, scores, (), label, options.by, lists=lists, positive=positive)
            return Roles(kind, scores, _class_names(kind, scores), label, options.by)
    return None


def _class_names(kind: Kind, columns: Sequence[str]) -> tuple[str, ...]:
    """The classes that the columns are named after, without a common prefix such as "prob_"."""
    for pattern in (NUMBERED[kind], NAMED[kind]):
        matches = [re.fullmatch(pattern, column, re.IGNORECASE) for column in columns]
        if all(matches):
            names = [match[1] for match in matches if match]
            return tuple(str(int(name)) if name.isdigit() else name for name in names)
    return tuple(columns)


def _families(table: Table, options: ColumnOptions, kind: Kind | None) -> Roles | None:
    """Columns such as p0, p1, ... or prob_cat, prob_dog."""
    families: dict[Kind, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    taken = {options.label, options.by, options.prediction, options.confidence}
    for family, pattern in NUMBERED.items():
        numbers: dict[int, str] = {}
        for column in table.columns:
            match = re.fullmatch(pattern, column, re.IGNORECASE)
            if match and column not in taken:
                if int(match[1]) in numbers:
                    raise UserError(
                        f"{table.name}: columns {numbers[int(match[1])]!r} and {column!r} are both of class "
                        f"{int(match[1])}; name the columns with --{_SINGULAR[family]}-columns."
                    )
                numbers[int(match[1])] = column
        if numbers and set(numbers) != {1}:
            families[family] = _numbered(table, family, numbers)
    for family, pattern in NAMED.items():
        columns = [
            column
            for column in table.columns
            if re.fullmatch(pattern, column, re.IGNORECASE) and column not in taken and table.numeric(column)
        ]
        if family not in families and len(columns) > 1:
            families[family] = (tuple(columns), _class_names(family, columns))
    if kind is None and len(families) == 2:
        raise UserError(f"{table.name} holds both p0 ... and z0 ...: give --probabilities or --logits.")
    chosen = kind or next(iter(families), None)
    if chosen is None or chosen not in families:
        return None
    scores, classes = families[chosen]
    return Roles(chosen, scores, classes, _label(table, options, *scores), options.by)


_SINGULAR: dict[Kind, str] = {"probabilities": "probability", "logits": "logit"}


def _numbered(table: Table, family: Kind, numbers: dict[int, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    start, last = min(numbers), max(numbers)
    missing = next((k for k in range(min(start, 1), last + 1) if k not in numbers), None)
    if missing is not None:
        stem = re.sub(r"\d+$", "", numbers[start])
        raise UserError(
            f"{table.name}: column {stem}{missing} is missing among {numbers[start]} ... {numbers[last]}. Name the "
            f"columns with --{_SINGULAR[family]}-columns if they are all there."
        )
    order = sorted(numbers)
    if order == [0]:
        raise UserError(
            f"{table.name}: {numbers[0]} is the only column of scores; of one column the positive class must be known. "
            f"Give --{_SINGULAR[family]}-columns {numbers[0]} --positive-class CLASS."
        )
    return tuple(numbers[k] for k in order), tuple(str(k) for k in order)


def _lists(table: Table, options: ColumnOptions, kind: Kind | None) -> Roles | None:
    """A column that holds a list of K numbers in each row."""
    for family, names in LISTS.items():
        column = table.first(names)
        if column is not None and table.lists(column) and kind in (None, family):
            return Roles(family, (column,), (), _label(table, options, column), options.by, lists=True)
    return None


def _classes(table: Table, options: ColumnOptions, kind: Kind | None) -> Roles | None:
    """Columns named after the classes that the labels name."""
    taken = {options.by, options.prediction, options.confidence, *CONFIDENCES, *CORRECT, *PREDICTIONS}
    scores = [name for name in table.columns if name not in taken | {options.label} and table.numeric(name)]
    named = options.label or table.first(LABELS)
    label = next(
        (
            column
            for column in ([named] if named else [name for name in table.columns if not table.numeric(name)])
            if {str(value).strip() for value in table.values(column)} <= set(scores) and table.values(column)
        ),
        None,
    )
    if label is None:
        return None
    if kind != "logits":  # an identifier or a measurement is no probability
        scores = [name for name in scores if all(0 <= _number(value) <= 100 for value in table.values(name))]
        fractions = [name for name in scores if all(_number(value) <= 1 for value in table.values(name))]
        scores = fractions if _sums(table, fractions, 1) else scores
        if not _sums(table, scores, 1) and not _sums(table, scores, 100):
            raise table.refuse(
                f"column {label!r} names classes, but the columns of numbers do not sum to 1, so they may not be the "
                "probabilities of all classes. Name them with --probability-columns or --logit-columns."
            )
    if len(scores) < 2:
        return None
    return Roles(kind or "probabilities", tuple(scores), tuple(scores), label, options.by)


def _number(value: object) -> float:
    return float(str(value).rstrip("%").replace(",", "."))


def _sums(table: Table, columns: Sequence[str], total: float) -> bool:
    """Whether the columns of the first rows sum to a total, but for rounding."""
    rows = zip(*[table.values(name) for name in columns], strict=True)
    return len(columns) > 1 and all(abs(sum(map(_number, row)) - total) < 0.02 * total for row in rows)


def _top_label_with_correctness(table: Table, options: ColumnOptions, kind: Kind | None) -> Roles | None:
    correct = table.first(CORRECT, (options.label, options.by))
    confidence = options.confidence or table.first(CONFIDENCES, (options.by,))
    if correct is None or confidence is None or options.prediction or kind == "logits" or options.label:
        return None
    if any(re.fullmatch(NUMBERED["probabilities"], c, re.IGNORECASE) for c in table.columns):
        return None
    return Roles("probabilities", (confidence,), (), None, options.by, top_label=True, correct=correct)


def _top_label(table: Table, options: ColumnOptions, kind: Kind | None) -> Roles | None:
    """The true label, the predicted label and the confidence in it."""
    if kind == "logits":
        return None
    explicit = options.confidence is not None or options.prediction is not None
    label = _label(table, options)
    if options.label is None and options.prediction is None and table.first(PREDICTIONS[:-1]) is None:
        # "label" and "score" are the predicted class and its confidence where the truth has a column of its own.
        label = table.first(LABELS[2:], (options.by,)) if table.first(LABELS[2:]) and table.first(("label",)) else label
    prediction = options.prediction or table.first(PREDICTIONS, (label, options.by, options.confidence))
    confidence = options.confidence or table.first(CONFIDENCES, (label, options.by, prediction))
    if prediction is None or confidence is None or label is None or not table.numeric(confidence):
        if explicit:
            raise table.refuse(
                "predictions of the most probable class need the true label, the prediction and its confidence. Name "
                "them with --label-column, --prediction-column and --confidence-column."
            )
        return None
    if len({label, prediction, confidence}) < 3:
        raise table.refuse(
            f"the true label is read from {label!r}, the prediction from {prediction!r} and its confidence from "
            f"{confidence!r}: these are three columns. Name them with --label-column, --prediction-column and "
            "--confidence-column."
        )
    return Roles("probabilities", (confidence,), (), label, options.by, top_label=True, prediction=prediction)


def _one_column(table: Table, options: ColumnOptions, kind: Kind | None) -> Roles | None:
    """One column of scores of the positive class."""
    for family, names in POSITIVE.items():
        if kind not in (None, family):
            continue
        numbered = [c for c in table.columns if re.fullmatch(NUMBERED[family], c, re.IGNORECASE)]
        column = numbered[0] if len(numbered) == 1 else table.first(names, (options.label, options.by))
        if column is None and family == "probabilities":
            column = _fractions(table, table.first(PREDICTIONS[:4], (options.label, options.by)))
        if column is None or not table.numeric(column):
            continue
        label = _label(table, options, column)
        positive = _positive(table, options, label, column)
        return Roles(family, (column,), (), label, options.by, positive=positive)
    return None


def _fractions(table: Table, column: str | None) -> str | None:
    """The column if it holds numbers between 0 and 1: a prediction that is a probability, and no class."""
    if column is None or not table.numeric(column):
        return None
    values = [_number(value) for value in table.values(column)]
    return column if all(value <= 1 for value in values) and any(0 < value < 1 for value in values) else None


def _positive(table: Table, options: ColumnOptions, label: str | None, column: str) -> str:
    """The class that a single column of scores belongs to."""
    if options.positive is not None:
        return options.positive
    if label is None:
        return "1"
    values = {str(value).strip() for value in table.values(label)}
    folded = {value.casefold().removesuffix(".0") for value in values}
    for negative, positive in (("0", "1"), ("false", "true"), ("-1", "1"), ("no", "yes")):
        if folded <= {negative, positive}:
            return next((value for value in values if value.casefold().removesuffix(".0") == positive), positive)
    named = [value for value in values if column.casefold().endswith(value.casefold())]
    if len(named) == 1:
        return named[0]
    raise UserError(
        f"{table.name}: column {column!r} holds the scores of one class, and the labels are "
        f"{', '.join(sorted(values)[:6])}. Say which class the scores are of with --positive-class."
    )
