"""A claim from the literature, the statements that it makes about our runs, and the verdict on each."""

from __future__ import annotations

import json
import math
import platform
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from scipy.stats import t as student

import labelsmooth

if TYPE_CHECKING:
    from images import Images

__all__ = ["Claim", "Result", "Statement", "Values", "difference_by_seed", "measure"]

Values = Sequence[float]  # one for each seed
LEVEL = 0.95


def difference_by_seed(one: Values, other: Values) -> list[float]:
    """One minus the other, for each seed."""
    return [a - b for a, b in zip(one, other, strict=True)]


@dataclass(frozen=True)
class Statement:
    """Something that the claim says of a quantity that has one value for each seed.

    The verdict is from Student's interval for the mean over the seeds, whose images are disjoint: *agrees* if the whole
    interval is on the claimed side of the bound, *does not* if it is all on the other side, else *undecided*.

    Args:
        text: what is claimed.
        quantity: of what the values are, with its unit.
        values: one for each seed.
        claimed: on which side of the bound the mean is.
        bound: 0 for the sign of a difference; a margin for "no worse than".
    """

    text: str
    quantity: str
    values: Values
    claimed: Literal["below", "above"]
    bound: float = 0.0

    def interval(self) -> tuple[float, float, float]:
        """The mean over the seeds and the ends of its 95% interval."""
        mean, count = float(np.mean(self.values)), len(self.values)
        half = float(student.ppf((1 + LEVEL) / 2, count - 1) * np.std(self.values, ddof=1) / math.sqrt(count))
        return mean, mean - half, mean + half

    def verdict(self) -> str:
        _, low, high = self.interval()
        if low <= self.bound <= high:
            return "undecided"
        return "agrees" if (high < self.bound) == (self.claimed == "below") else "does not"

    def __str__(self) -> str:
        """The mean and its interval: "−1.2 (−1.9 to −0.5)"."""
        digits = 4 if "nats" in self.quantity else 2 if "ε" in self.quantity or "classes" in self.quantity else 1
        ends = self.interval()[1:]
        while digits < 4 and any(abs(end - self.bound) < 0.5 * 10**-digits for end in ends):
            digits += 1  # an end that would be rounded to the bound shows on which side it is
        mean, low, high = (f"{value:+.{digits}f}".replace("-", "−") for value in self.interval())
        margin = f"; margin {self.bound:+g}" if self.bound else ""
        return f"{mean} ({low} to {high}{margin})"

    def record(self) -> dict[str, Any]:
        """Its fields and its verdict."""
        values = [float(value) for value in self.values]
        return {**asdict(self), "values": values, "interval": list(self.interval()), "verdict": self.verdict()}

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Statement:
        """A statement of a record, whose verdict must follow from its values."""
        statement = cls(**{field.name: record[field.name] for field in fields(cls)})
        if statement.verdict() != record["verdict"]:
            raise ValueError(
                f"{statement.text}: the record says {record['verdict']}, its values {statement.verdict()}."
            )
        return statement


Result = tuple[list[Statement], Mapping[str, Values]]


@dataclass(frozen=True)
class Claim:
    """A claim and how it is run again.

    Args:
        name: of the command and of the record.
        sentence: the claim.
        source: author and year.
        original: the paper's own setting, and its result where it can be quoted.
        setting: ours.
        reading: what the result means, in one or two sentences.
        run: from the images to the statements, and to everything that was measured by name, one value for each seed.
    """

    name: str
    sentence: str
    source: str
    original: str
    setting: str
    reading: str
    run: Callable[[Images], Result]


def measure(claim: Claim, images: Images, out: Path) -> dict[str, Any]:
    """Run a claim and write its record, ``out / NAME.json``."""
    start = time.perf_counter()
    statements, measured = claim.run(images)
    record = {
        "claim": claim.name,
        "command": shlex.join(["python", "bench/evidence", claim.name, "--seeds", str(images.seeds)]),
        "seeds": len(statements[0].values),
        "statements": [statement.record() for statement in statements],
        "measured": {name: [float(value) for value in values] for name, values in measured.items()},
        "seconds": round(time.perf_counter() - start),  # without trainings that other claims had finished
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "labelsmooth": labelsmooth.__version__,
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f"{claim.name}.tmp"
    partial.write_text(json.dumps(record, indent=1) + "\n")
    partial.replace(out / f"{claim.name}.json")
    return record
