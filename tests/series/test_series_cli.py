"""Series on the command line: train, evaluate, predict and verify, and what goes wrong said in one line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Bases = Callable[[str], str]
Files = Callable[[str, str], Path]


def test_from_file_to_predictions(run: Any, series_base: Bases, ucr: Files, tmp_path: Path) -> None:
    adapter, out = tmp_path / "adapter", tmp_path / "predicted.csv"
    train, test = ucr("GunPoint", "TRAIN"), ucr("GunPoint", "TEST")
    done = run(
        "train", "--base", series_base("plain"), "--task", "series-classification", "--data", train, "--eval-data", test,
        "--strategy", "linear_probe", "--out", adapter, "--task-set", "patch_pooling=flatten", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["metrics"]["accuracy"] > 0.8
    assert "150 steps resampled, as the base takes 32" in done.err
    scored = run("evaluate", adapter, "--data", test, "--json")
    assert json.loads(scored.out)["metrics"]["accuracy"] == report["metrics"]["accuracy"]
    assert run("predict", adapter, "--data", test, "--out", out).code == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 150
    right = sum(row["prediction"] == row["label"] for row in rows)
    assert right / 150 == pytest.approx(report["metrics"]["accuracy"])
    verified = run("verify", adapter, "--json")
    assert verified.code == 0
    assert "3 inputs, largest difference 0.0e+00" in verified.out


def test_windows_say_where_they_end(run: Any, series_base: Bases, engines: Path, ucr: Files, tmp_path: Path) -> None:
    adapter, out = tmp_path / "adapter", tmp_path / "predicted.jsonl"
    done = run(
        "train", "--base", series_base("plain"), "--task", "series-regression", "--data", engines, "--eval-data", engines,
        "--strategy", "linear_probe", "--out", adapter, "--window", 10, "--stride", 5, "--task-set", "target_cap=30",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "note: 6 targets above 30 counted as 30 (target_cap)" in done.err  # one of each engine, 35 before its end
    assert run("predict", adapter, "--data", engines, "--out", out).code == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 48  # 40 cycles in steps of 5, of six engines
    assert [row["RUL"] for row in rows[:8]] == ["35", "30", "25", "20", "15", "10", "5", "0"]
    assert all({"unit", "cycle", "RUL", "prediction"} == set(row) for row in rows)
    assert "sensor_2" not in rows[0]
    other = tmp_path / "motions"
    done = run(
        "train", "--base", series_base("plain"), "--task", "series-classification", "--data", ucr("BasicMotions", "TRAIN"),
        "--strategy", "linear_probe", "--out", other, "--window", 40, "--stride", 30, "--eval-data", ucr("BasicMotions", "TEST"),
    )  # fmt: skip
    assert done.code == 0, done.err
    assert run("predict", other, "--data", ucr("BasicMotions", "TEST"), "--out", tmp_path / "m.csv").code == 0
    rows = list(csv.DictReader((tmp_path / "m.csv").read_text().splitlines()))
    assert [(row["series"], row["window_end"]) for row in rows[:4]] == [
        ("1", "10"),
        ("1", "40"),
        ("1", "70"),
        ("1", "100"),
    ]


def test_held_out_by_engine(run: Any, series_base: Bases, engines: Path, tmp_path: Path) -> None:
    done = run(
        "train", "--base", series_base("plain"), "--task", "series-regression", "--data", engines, "--hold-out", 0.34,
        "--strategy", "linear_probe", "--out", tmp_path / "adapter", "--window", 10, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert json.loads(done.out)["metrics"]["n"] == 80  # two engines of forty windows each


TASK = {"c": "series-classification", "r": "series-regression"}


@pytest.mark.parametrize(
    ("task", "base", "data", "more", "code", "message"),
    [
        ("c", "together", "GunPoint", "", 1, "made for 3 channels and treats them together, so it cannot take 1"),
        ("c", "mixer", "GunPoint", "--strategy prefix", 1, "PatchTSMixerModel has no attention that can be extended"),
        ("r", "apart", "GunPoint", "", 1, "its header declares classes, not a target"),
        ("c", "apart", "one.csv", "--column series=id", 1, "its series has 1 step, and needs 2"),
        ("r", "apart", "engines.csv", "", 1, "or cut windows that end at each row with --window LENGTH"),
        ("r", "apart", "engines.csv", "--window 5 --task-set target_cap=-1", 1, "every target is -1"),
        ("r", "apart", "engines.csv", "--window 5 --column channels=sensor_9", 1, "has no column 'sensor_9'"),
        ("r", "apart", "nothing.ts", "", 1, "nothing.ts"),
        ("r", "apart", "engines.csv", "--window 1", 2, "window=1: input should be greater than or equal to 2"),
        (
            "r",
            "apart",
            "engines.csv",
            "--pooling mean",
            2,
            "(did you mean 'patch_pooling'?); its options are: window,",
        ),
        ("r", "apart", "engines.csv", "--window 5 --task-set patch_pooling=cls", 2, "has no such token"),
    ],
)
def test_mistakes(
    run: Any, series_base: Bases, ucr: Files, engines: Path, tmp_path: Path,
    task: str, base: str, data: str, more: str, code: int, message: str,
) -> None:  # fmt: skip
    """Bad data and bases end in 1, options that cannot be in 2; nothing is written."""
    (tmp_path / "one.csv").write_text("id,time,x,label\n1,1,0.5,a\n2,1,0.7,b\n")
    source = {"GunPoint": ucr("GunPoint", "TRAIN"), "engines.csv": engines}.get(data, tmp_path / data)
    strategy = [] if "--strategy" in more else ["--strategy", "linear_probe"]
    done = run(
        "train", "--base", series_base(base), "--task", TASK[task], "--data", source, "--out", tmp_path / "x", *strategy,
        *more.split(),
    )  # fmt: skip
    assert (done.code, message in done.err) == (code, True), done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "x").exists()


def test_a_base_for_texts(
    run: Any, references: Callable[[str], str], ucr: Files, tmp_path: Path, series_base: Bases
) -> None:
    done = run(
        "train", "--base", references("tiny-bert"), "--task", "series-classification", "--data", ucr("GunPoint", "TRAIN"),
        "--out", tmp_path / "x",
    )  # fmt: skip
    assert (done.code, "needs a base for series" in done.err) == (1, True)


def test_other_channels_at_prediction(run: Any, series_base: Bases, ucr: Files, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    done = run(
        "train", "--base", series_base("plain"), "--task", "series-classification", "--data", ucr("GunPoint", "TRAIN"),
        "--strategy", "linear_probe", "--out", adapter,
    )  # fmt: skip
    assert done.code == 0, done.err
    done = run("predict", adapter, "--data", ucr("BasicMotions", "TEST"), "--out", tmp_path / "out.csv")
    assert done.code == 1
    assert "BasicMotions_TEST.ts, row 1" in done.err
    assert "has 6 channels where the training data had 1 (channel_1)" in done.err
    assert not (tmp_path / "out.csv").exists()
