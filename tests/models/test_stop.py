"""A training that is stopped says what it leaves, and leaves that."""

from __future__ import annotations

from pathlib import Path

import pytest

from labelsmooth import models
from labelsmooth.progress import Progress


class Stop(Progress):
    """Interrupts at the n-th call of one of its methods."""

    def __init__(self, method: str, call: int = 1) -> None:
        self.left = call

        def count(*_: object, **__: object) -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

        setattr(self, method, count)


def stopped(stop: Progress, out: Path, data: Path, **options: object) -> str:
    with pytest.raises(KeyboardInterrupt) as caught:
        models.train(progress=stop, data=data, out=out, epochs=3, **options)
    return str(caught.value)


NOTHING = "No epoch was finished, so nothing is kept. The same command starts again."


@pytest.mark.parametrize("method", ["data", "run", "batch"])
def test_before_the_first_epoch_nothing_is_kept(method: str, tiny_npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    assert stopped(Stop(method), out, tiny_npz) == NOTHING
    assert not out.exists()
    assert models.train(data=tiny_npz, out=out, epochs=1).epochs == 1


def test_while_images_are_read(tiny_npz: Path, tmp_path: Path) -> None:
    assert stopped(Stop("photos"), tmp_path / "m", tiny_npz, size=16) == NOTHING


def test_within_the_third_epoch_two_are_kept(tiny_npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    sentence = stopped(Stop("batch", 2 * 2 + 1), out, tiny_npz)
    assert sentence == f"2 finished epochs are kept in {out}; the same command with --resume continues."
    # once more before a new epoch is finished: the two are still kept
    assert stopped(Stop("batch"), out, tiny_npz, resume=True) == sentence
    assert models.train(data=tiny_npz, out=out, epochs=3, resume=True).epochs == 3


def test_in_the_calibration_every_epoch_is_kept(tiny_npz: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "m"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(models.train.__globals__, "best", interrupt)
        assert stopped(Progress(), out, tiny_npz).startswith(f"3 finished epochs are kept in {out}")
    assert models.train(data=tiny_npz, out=out, epochs=3, resume=True).epochs == 3


def test_a_model_that_was_there_is_as_it_was(tiny_npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    models.train(data=tiny_npz, out=out, epochs=1)
    before = (out / "model.safetensors").read_bytes()
    assert f"The model in {out} is as it was." in stopped(Stop("batch"), out, tiny_npz, overwrite=True)
    assert (out / "model.safetensors").read_bytes() == before


def test_after_the_model_is_written(tiny_npz: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "m"
    save = models.train.__globals__["save_model"]

    def save_and_interrupt(*arguments: object, **options: object) -> None:
        save(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setitem(models.train.__globals__, "save_model", save_and_interrupt)
    assert stopped(Progress(), out, tiny_npz) == f"The training is finished: the model in {out} is whole."
    assert models.load(out).classes[0] == "zero"
