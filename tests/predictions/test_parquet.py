"""Parquet files, where pyarrow is installed: the same record as the arrays, and errors with the row."""

import numpy as np
import pytest

from labelsmooth import metrics
from labelsmooth.errors import UserError
from labelsmooth.metrics import Interval
from labelsmooth.predictions import ColumnOptions, evaluate

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def test_a_parquet_file_in_row_groups(tmp_path):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3000, 3))
    y = (z + rng.gumbel(size=z.shape)).argmax(1)
    columns = {f"z{k}": z[:, k] for k in range(3)} | {"label": y, "where": np.where(y == 0, "a", "b")}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=700)
    settings = Interval(resamples=100)
    evaluation = evaluate(tmp_path / "a.parquet", columns=ColumnOptions(by="where"), interval=settings)
    assert evaluation.scores == "logits"
    in_memory = metrics.summary(logits=z, labels=y, interval=settings)
    assert evaluation.metrics == in_memory | {
        "failure_auroc": metrics.failure_auroc(logits=z, labels=y, interval=settings)
    }
    assert {name: rows for name, (rows, _) in evaluation.groups.items()} == {"a": (y == 0).sum(), "b": (y != 0).sum()}


def test_bad_parquet_files_are_refused(tmp_path):
    pq.write_table(pa.table({"p0": [0.5, None], "p1": [0.5, 0.5], "label": [0, 1]}), tmp_path / "null.parquet")
    with pytest.raises(UserError, match="row 1, column p0 is empty"):
        evaluate(tmp_path / "null.parquet")
    pq.write_table(pa.table({"prediction": pa.nulls(2, pa.float64()), "label": [0, 1]}), tmp_path / "empty.parquet")
    with pytest.raises(UserError, match="there are no columns of p0"):
        evaluate(tmp_path / "empty.parquet")
    whole = (tmp_path / "null.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a whole Parquet file"):
        evaluate(tmp_path / "cut.parquet")
