"""Series-classification and series-regression from files to saved adapters and back, with every strategy."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapterhub_lite import load_data
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import DataError, NotSupportedError
from adapterhub_lite.training.config import TrainConfig

Bases = Callable[[str], str]
Files = Callable[[str, str], Path]
STRATEGIES = ("lora", "prefix", "linear_probe", "full")
FAST = TrainConfig(steps=4, batch_size=8, learning_rate=1e-2)


def _values(outputs: Any) -> list[float]:
    return [output.value if hasattr(output, "value") else output.probability for output in outputs]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_classification(
    engine: Engine, series_base: Bases, ucr: Files, tmp_path: Path, strategy: str, bits: Callable[[Any], Any]
) -> None:
    """Six channels on a base made for one; saved, loaded onto a fresh base, and predicting the same."""
    base = engine.load_base(series_base("apart"), dtype="float32", device="cpu")
    before = bits(base.model)
    data = engine.load_data(ucr("BasicMotions", "TRAIN"), "series-classification")
    test = ucr("BasicMotions", "TEST")
    adapter = engine.train(base, data, strategy=strategy, config=FAST, eval_data=str(test))
    assert adapter.metrics["n"] == 40
    expected = adapter.predict(str(test))
    assert [row.label for row in adapter.predict(list(adapter.load_data(test).inputs))] == [e.label for e in expected]
    adapter.save(tmp_path / "adapter")
    adapter.detach()
    assert bits(base.model) == before
    loaded = engine.load_adapter(tmp_path / "adapter", device="cpu")
    assert _values(loaded.predict(str(test))) == _values(expected)
    scores = loaded.evaluate(str(test))
    assert scores.metrics["accuracy"] == adapter.metrics["accuracy"]
    if strategy == "linear_probe":
        assert scores.metrics["accuracy"] > 0.8  # a quarter would be chance
    loaded.detach()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_regression_in_windows(
    engine: Engine, series_base: Bases, engines: Path, tmp_path: Path, strategy: str
) -> None:
    base = engine.load_base(series_base("plain"), dtype="float32", device="cpu")
    options = {"window": 12, "stride": 4, "target_cap": 30}
    data = engine.load_data(engines, "series-regression", options=options)
    assert len(data) == 60
    assert set(data.groups) == set("123456")
    adapter = engine.train(base, data, strategy=strategy, config=FAST, eval_data=str(engines))
    adapter.save(tmp_path / "adapter")
    expected = adapter.predict(str(engines))
    adapter.detach()
    loaded = engine.load_adapter(tmp_path / "adapter", device="cpu")
    assert len(loaded.load_data(engines, require_labels=False)) == 60  # the same windows
    assert _values(loaded.predict(str(engines))) == _values(expected)
    scores = loaded.evaluate(str(engines))
    above = sum(target > 30 for target in data.targets)
    assert f"{above} targets above 30 counted as 30 (target_cap)" in scores.notes
    wanted = np.minimum(np.array(data.targets), 30)
    predicted = np.array(_values(expected))
    assert predicted.max() <= 30
    assert math.isclose(scores.metrics["rmse"], np.sqrt(np.mean((predicted - wanted) ** 2)), rel_tol=1e-5)
    if strategy == "linear_probe":
        assert scores.metrics["rmse"] < 0.8 * wanted.std()
    loaded.detach()


def test_targets_are_learnt_as_capped(engine: Engine, series_base: Bases, engines: Path) -> None:
    base = engine.load_base(series_base("plain"), dtype="float32", device="cpu")
    data = engine.load_data(engines, "series-regression", options={"window": 12, "target_cap": 30})
    task = engine.task_for(base, data)
    capped = np.minimum(data.targets, 30)
    learnt = task.collate(task.encode(data, base).examples, base)["targets"][:, 0]
    np.testing.assert_allclose(learnt, (capped - capped.mean()) / capped.std(), atol=1e-5)


def test_a_long_series_given_in_python_is_predicted_from_its_last_window(
    engine: Engine, series_base: Bases, engines: Path
) -> None:
    base = engine.load_base(series_base("plain"), dtype="float32", device="cpu")
    data = engine.load_data(engines, "series-regression", options={"window": 12, "last_only": True})
    adapter = engine.train(base, data, strategy="linear_probe")
    last = adapter.predict(str(engines))
    assert len(data) == 240
    assert len(last) == 6  # what is evaluated and predicted is the last window of each
    rows = list(csv.DictReader(engines.read_text().splitlines()))
    sensors = ("sensor_2", "sensor_4", "sensor_7", "sensor_11")
    series = [
        np.array([[float(row[s]) for s in sensors] for row in rows if row["unit"] == str(u)]) for u in range(1, 7)
    ]
    np.testing.assert_allclose(_values(adapter.predict(series)), _values(last), rtol=1e-6)
    adapter.detach()


def test_held_out_windows_are_of_other_engines(engine: Engine, engines: Path) -> None:
    from adapterhub_lite.data.splits import split

    data = engine.load_data(engines, "series-regression", options={"window": 12})
    train, held = split(data, 0.3, groups=data.groups)
    assert not set(train.groups) & set(held.groups)
    assert set(train.table.column("unit")) | set(held.table.column("unit")) == set("123456")


def test_a_mixer_has_no_attention(engine: Engine, series_base: Bases, ucr: Files) -> None:
    base = engine.load_base(series_base("mixer"), dtype="float32", device="cpu")
    data = engine.load_data(ucr("GunPoint", "TRAIN"), "series-classification")
    with pytest.raises(
        NotSupportedError, match=r"PatchTSMixerModel has no attention .* use lora, linear_probe or full"
    ):
        engine.train(base, data, strategy="prefix")
    for strategy in ("lora", "full", "linear_probe"):
        adapter = engine.train(base, data, strategy=strategy, config=FAST)
        assert len(adapter.predict(list(data.inputs[:2]))) == 2
        adapter.detach()


def test_series_of_many_lengths_with_holes(engine: Engine, series_base: Bases, ucr: Files, tmp_path: Path) -> None:
    """Speakers of 7 to 26 frames, a tenth of the values gone."""
    random = np.random.default_rng(0)
    full = load_data(ucr("JapaneseVowels", "TRAIN"), "series-classification")
    rows = []
    for values, target in zip(full.inputs[::3], full.targets[::3], strict=True):
        holed = [[None if random.random() < 0.1 else float(v) for v in channel] for channel in values.T]
        rows.append({"speaker": full.labels[target], **{f"lpc{i}": channel for i, channel in enumerate(holed)}})
    path = tmp_path / "vowels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = engine.load_data(path, "series-classification", columns={"label": "speaker"})
    assert len({len(values) for values in data.inputs}) > 5
    base = engine.load_base(series_base("plain"), dtype="float32", device="cpu")
    adapter = engine.train(base, data, strategy="linear_probe")
    scores = adapter.evaluate(full.select(range(1, 270, 3)))
    assert scores.metrics["accuracy"] > 0.8  # nine speakers: chance is a ninth
    adapter.detach()


def test_merged_it_is_the_same(engine: Engine, series_base: Bases, ucr: Files, tmp_path: Path, run: Any) -> None:
    base = engine.load_base(series_base("three"), dtype="float32", device="cpu")
    data = engine.load_data(ucr("GunPoint", "TRAIN"), "series-classification")
    adapter = engine.train(base, data, strategy="lora", config=FAST)
    expected = adapter.predict(list(data.inputs[:9]))
    adapter.save(tmp_path / "adapter")
    adapter.detach()
    assert run("merge", tmp_path / "adapter", "--out", tmp_path / "merged").code == 0
    merged = engine.load_adapter(tmp_path / "merged" / "head", device="cpu")
    np.testing.assert_allclose(_values(merged.predict(list(data.inputs[:9]))), _values(expected), atol=1e-5)
    merged.detach()


def test_a_base_saved_in_pretraining_predicts_the_same_twice(engine: Engine, series_base: Bases, ucr: Files) -> None:
    base = engine.load_base(series_base("pretraining"), dtype="float32", device="cpu")
    data = engine.load_data(ucr("GunPoint", "TRAIN"), "series-classification")
    adapter = engine.train(base, data, strategy="lora", config=FAST)
    first = _values(adapter.predict(list(data.inputs)))
    torch.manual_seed(99)
    assert _values(adapter.predict(list(data.inputs))) == first
    adapter.detach()


def test_statistics_of_a_batch_normalised_base_stay(engine: Engine, series_base: Bases, ucr: Files) -> None:
    """PatchTST normalises by batch unless told: loaded in fp32 whatever is chosen for others, and its statistics stay."""
    base = engine.load_base(series_base("apart"), device="cpu")
    assert base.dtype == torch.float32
    buffers = {name: buffer.clone() for name, buffer in base.model.named_buffers()}
    assert any("running_mean" in name for name in buffers)
    data = engine.load_data(ucr("GunPoint", "TRAIN"), "series-classification")
    engine.train(base, data, strategy="full", config=FAST).detach()
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in base.model.named_buffers())


def test_other_data_than_that_of_training(engine: Engine, series_base: Bases, engines: Path, tmp_path: Path) -> None:
    """Columns in another order are found by name; one that is gone is an error, and not another column."""
    base = engine.load_base(series_base("plain"), dtype="float32", device="cpu")
    data = engine.load_data(engines, "series-regression", options={"window": 12})
    adapter = engine.train(base, data, strategy="linear_probe")
    rows = list(csv.DictReader(engines.read_text().splitlines()))
    mixed, gone = tmp_path / "mixed.csv", tmp_path / "gone.csv"
    with mixed.open("w", newline="") as file:
        names = ["sensor_11", "RUL", "sensor_2", "extra", "cycle", "sensor_7", "unit", "sensor_4"]
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows({**row, "extra": 1} for row in rows)
    with gone.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["unit", "cycle", "sensor_2", "sensor_4", "extra", "sensor_11"])
        writer.writeheader()
        writer.writerows(
            {key: value for key, value in {**row, "extra": 1}.items() if key in writer.fieldnames} for row in rows
        )
    assert _values(adapter.predict(str(mixed))) == _values(adapter.predict(str(engines)))
    with pytest.raises(DataError, match=r"gone\.csv: has no column 'sensor_7'"):
        adapter.predict(str(gone))
    adapter.detach()
