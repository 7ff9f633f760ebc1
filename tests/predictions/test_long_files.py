"""Files too long to keep every row: what the sums say is what the rows say, and memory stays where it is."""

import tracemalloc

import numpy as np
import pytest

from labelsmooth import metrics
from labelsmooth.calibrate import TemperatureScaling, save
from labelsmooth.errors import UserError
from labelsmooth.metrics import Interval
from labelsmooth.metrics.cells import Cells
from labelsmooth.metrics.rows import Reduced
from labelsmooth.metrics.summary import summarise
from labelsmooth.predictions import ColumnOptions, apply_file, evaluate

SETTINGS = Interval(resamples=400)


def make(folder, name, rows, scale=1.3, seed=0, **more):
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(rows, 4)).astype(np.float32)
    y = (z + rng.gumbel(size=z.shape)).argmax(1)
    np.savez(folder / name, logits=scale * z, labels=y, **more)
    return folder / name


def close(sums, exact):
    """Values within the width of a cell, intervals within the noise of their draws."""
    for name, estimate in sums.items():
        width = exact[name].high - exact[name].low
        assert estimate.value == pytest.approx(exact[name].value, abs=3e-4), name
        assert estimate.low == pytest.approx(exact[name].low, abs=0.2 * width + 1e-12), name
        assert estimate.high == pytest.approx(exact[name].high, abs=0.2 * width + 1e-12), name


def test_sums_say_what_rows_say(tmp_path):
    path = make(tmp_path, "p.npz", 40_000, site=np.arange(40_000) % 2)
    exact = evaluate(path, interval=SETTINGS, columns=ColumnOptions(by="site"), curves=True)
    sums = evaluate(path, interval=SETTINGS, columns=ColumnOptions(by="site"), curves=True, limit=1000)
    assert (exact.kept, sums.kept, sums.rows) == ("rows", "sums", 40_000)
    close(sums.metrics, exact.metrics)
    assert "kept as sums in" in sums.metrics["ece"].method
    for name, (rows, estimates) in exact.groups.items():
        assert sums.groups[name][0] == rows == 20_000
        close(sums.groups[name][1], estimates)
    np.testing.assert_allclose(sums.curves.reliability.accuracy, exact.curves.reliability.accuracy, atol=2e-3)
    np.testing.assert_allclose(sums.curves.risk.risk[20:], exact.curves.risk.risk[20:], atol=1e-3)
    assert sums.curves.histogram.right.sum() == exact.curves.histogram.right.sum()


def test_differences_of_sums_are_those_of_rows(tmp_path):
    path, other = make(tmp_path, "a.npz", 30_000), make(tmp_path, "b.npz", 30_000, scale=1.1)
    exact = evaluate(path, compare=other, interval=SETTINGS, curves=True)
    sums = evaluate(path, compare=other, interval=SETTINGS, curves=True, limit=1000)
    assert sums.curves.other_reliability.ece == pytest.approx(exact.curves.other_reliability.ece, abs=3e-4)
    for name, difference in exact.differences.items():
        width = difference.high - difference.low
        assert sums.differences[name].value == pytest.approx(difference.value, abs=3e-4), name
        assert sums.differences[name].high - sums.differences[name].low == pytest.approx(width, rel=0.35, abs=2e-4)
        assert (sums.differences[name].p_value < 0.05) == (difference.p_value < 0.05), name


def test_resamples_of_cells_keep_the_variance_of_what_is_in_them():
    """Two hundred rows of one confidence but of very different losses are one cell."""
    rng = np.random.default_rng(0)
    nll = rng.exponential(size=200)
    rows = Reduced(np.full(200, 0.7), np.zeros(200), nll, nll**2)
    cells = Cells()
    cells.add(rows)
    summed, exact = summarise(cells.rows(), Interval(resamples=4000)), summarise(rows, Interval(resamples=4000))
    for name in ("nll", "brier"):
        assert summed[name].value == pytest.approx(exact[name].value, rel=1e-12)
        width = exact[name].high - exact[name].low
        assert summed[name].high - summed[name].low == pytest.approx(width, rel=0.08)


def test_infinite_losses_stay_infinite():
    cells = Cells()
    cells.add(Reduced(np.array([0.9, 0.8]), np.array([0.0, 1.0]), np.array([np.inf, 0.2]), np.array([1.6, 0.1])))
    estimates = summarise(cells.rows(), Interval(resamples=100))
    assert estimates["nll"].value == np.inf
    assert estimates["brier"].value == pytest.approx(0.85)


def test_memory_does_not_grow_with_the_file(tmp_path):
    peaks = []
    for rows in (150_000, 600_000):
        path = make(tmp_path, f"{rows}.npz", rows)
        tracemalloc.start()
        evaluate(path, interval=Interval(resamples=100), limit=1000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 60e6  # 600,000 rows take 19 MB at 32 bytes each, and resamples of them several times that


def test_applying_a_calibrator_streams(tmp_path):
    path = make(tmp_path, "val.npz", 2000)
    with np.load(path) as file:
        fitted = TemperatureScaling().fit(file["logits"], file["labels"])
    save(fitted, tmp_path / "cal.json")
    peaks = []
    for rows in (40_000, 320_000):
        path = make(tmp_path, f"{rows}.npz", rows)
        tracemalloc.start()
        apply_file(tmp_path / "cal.json", path, tmp_path / f"out{rows}.npz")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        with np.load(path) as given, np.load(tmp_path / f"out{rows}.npz") as out:
            np.testing.assert_array_equal(out["labels"], given["labels"])
            np.testing.assert_allclose(out["probabilities"], fitted.predict_proba(given["logits"]), atol=1e-6)
    assert peaks[1] < peaks[0] + 2e6  # the probabilities of the longer file alone take 5 MB
    assert sorted(f.name for f in tmp_path.iterdir() if "partial" in f.name) == []


def test_a_mistake_late_in_the_file_names_its_row_and_writes_nothing(tmp_path):
    path = make(tmp_path, "p.npz", 40_000)
    with np.load(path) as file:
        z, y = file["logits"].copy(), file["labels"].copy()
    save(TemperatureScaling().fit(z, y), tmp_path / "cal.json")
    z[35_123, 2] = np.nan
    np.savez(path, logits=z, labels=y)
    with pytest.raises(UserError, match="row 35123 "):
        evaluate(path)
    with pytest.raises(UserError, match="row 35123 "):
        apply_file(tmp_path / "cal.json", path, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_files_of_other_chunks_and_lengths_are_compared_row_by_row(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = make(tmp_path, "p.npz", 20_000)
    with np.load(path) as file:
        z, y = file["logits"], file["labels"]
    table = pa.table({"label": y} | {f"z{k}": z[:, k] for k in range(4)})
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=777)
    evaluation = evaluate(path, compare=tmp_path / "p.parquet", interval=Interval(resamples=100))
    assert evaluation.differences["nll"].value == pytest.approx(0.0, abs=1e-9)
    pq.write_table(table.slice(0, 18_000), tmp_path / "short.parquet", row_group_size=777)
    with pytest.raises(UserError, match=r"has 20000 rows and .* 18000"):
        evaluate(path, compare=tmp_path / "short.parquet")
    changed = y.copy()
    changed[17_001] = (y[17_001] + 1) % 4
    pq.write_table(table.set_column(0, "label", pa.array(changed)), tmp_path / "q.parquet", row_group_size=777)
    with pytest.raises(UserError, match=f"row 17001 has the label {y[17_001]}"):
        evaluate(path, compare=tmp_path / "q.parquet")


def test_columns_of_names_are_no_groups(tmp_path):
    path = make(tmp_path, "p.npz", 3000, person=np.arange(3000))
    with pytest.raises(UserError, match="more than 1000 values"):
        evaluate(path, columns=ColumnOptions(by="person"))


def test_aurc_of_ten_million_rows_needs_no_table():
    """H_n by its series, where a table of every rank would take 160 MB."""
    from labelsmooth.metrics.ties import _harmonic

    n = np.array([0, 1, 2, 999, 1000, 1001, 123_456, 10**7])
    exact = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, 10**7 + 1))])[n]
    np.testing.assert_allclose(_harmonic(n), exact, rtol=1e-12)
    assert metrics.aurc(np.array([0.9, 0.4]), np.array([1, 1])) == pytest.approx(0.25)
