"""Labels of a table as class indices: numbers, names of classes, or yes and no."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from labelsmooth.errors import UserError
from labelsmooth.predictions.columns import Roles

TRUE, FALSE = ("true", "yes", "1"), ("false", "no", "0", "-1")


class LabelReader:
    """Reads the labels, or the correctness, of each batch in the way that the labels of the first rows decide."""

    def __init__(self, name: str, roles: Roles, head: list[object]) -> None:
        self._name, self._roles = name, roles
        self._index = {text: k for k, text in enumerate(roles.classes)}
        self._negative: str | None = None
        self.remark = ""
        self._way: Literal["position", "name", "positive"] = "position"
        if roles.positive is not None:
            self._way = "positive"
        elif roles.classes and all(_key(value) in self._index for value in head):
            self._way = "name"
        elif roles.classes and not all(name.isdigit() for name in roles.classes):
            self.remark = "labels are the positions of the classes, from 0"

    def labels(self, batch: Any, first: int) -> npt.NDArray[np.int64] | None:
        """Class indices [n], or None where the table has no labels or is of the most probable class only."""
        if self._roles.label is None or self._roles.top_label:
            return None
        values = batch.column(self._roles.label).to_pylist()
        read = {"position": self._position, "name": self._by_name, "positive": self._is_positive}[self._way]
        return np.array([read(value, first + i) for i, value in enumerate(values)], dtype=np.int64)

    def correct(self, batch: Any, first: int) -> npt.NDArray[np.float64] | None:
        """Whether the predicted class is right, [n], where the table is of the most probable class only."""
        if not self._roles.top_label:
            return None
        if self._roles.correct is not None:
            values = batch.column(self._roles.correct).to_pylist()
            return np.array([self._truth(value, first + i) for i, value in enumerate(values)], dtype=np.float64)
        pair = [batch.column(column).to_pylist() for column in (self._roles.label, self._roles.prediction)]
        return np.array([_key(label) == _key(guess) for label, guess in zip(*pair, strict=True)], dtype=np.float64)

    def _by_name(self, value: object, row: int) -> int:
        index = self._index.get(_key(value))
        if index is None:
            shown = ", ".join(self._roles.classes[:6]) + (", ..." if len(self._roles.classes) > 6 else "")
            raise UserError(f"{self._name}: row {row}: the label {value!r} is none of the classes {shown}.")
        return index

    def _position(self, value: object, row: int) -> int:
        key = {"true": "1", "false": "0"}.get(_key(value), _key(value))
        digits = key.removeprefix("-")
        if not digits.isascii() or not digits.isdigit():
            raise UserError(f"{self._name}: row {row}: the label {value!r} is not a whole number.")
        if len(digits) > 18:
            raise UserError(f"{self._name}: row {row}: the label {value!r} is too large to be the number of a class.")
        return int(key)

    def _is_positive(self, value: object, row: int) -> int:
        key = _key(value)
        if key == _key(self._roles.positive):
            return 1
        if self._negative is None:
            self._negative = key
        if key != self._negative:
            raise UserError(
                f"{self._name}: row {row}: the label {value!r} is a third one beside {self._roles.positive!r} and "
                f"{self._negative!r}; one column of scores is for two classes."
            )
        return 0

    def _truth(self, value: object, row: int) -> bool:
        key = _key(value).casefold()
        if key in TRUE or key in FALSE[:3]:
            return key in TRUE
        raise UserError(
            f"{self._name}: row {row}, column {self._roles.correct}: {value!r} is neither true nor false (1 or 0)."
        )


def _key(value: object) -> str:
    """A label as text: whole floating-point numbers and booleans are the integers that they equal."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    if text.casefold() in ("true", "false"):
        return text.casefold()
    head, _, tail = text.partition(".")
    if tail and not tail.strip("0") and head.removeprefix("-").isdigit():
        text = head
    return str(int(text)) if text.isascii() and text.isdigit() and len(text) < 19 else text
