"""`evaluate` with its files, charts and choices, and what the command line says where something cannot be."""

from __future__ import annotations

import csv
import importlib.util
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from adapterhub_lite.scoring import charts
from adapterhub_lite.storage import read_adapter

KINDS = ("good", "bad")
WORDS = ("day", "bank", "card", "bill", "rate", "app", "money", "transfer")


def write(path: Path, n: int, seed: int, wrong: float = 0.25, **labels: str) -> Path:
    """Texts whose first word is their class, but for a share of them; `labels` are those of rows by their numbers."""
    drawn = random.Random(seed)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "text", "label", "p_good"])
        for row in range(1, n + 1):
            kind = drawn.choice(KINDS)
            label = kind if drawn.random() > wrong else drawn.choice(KINDS)
            text = f"{kind} {drawn.choice(WORDS)} {drawn.choice(WORDS)}"
            table.writerow([row, text, labels.get(f"row_{row}", label), "x"])
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    write(folder / "train.csv", 80, 0)
    write(folder / "held.csv", 100, 1)
    write(folder / "test.csv", 60, 2, row_4="new", row_9="new")
    return folder


@pytest.fixture
def train(run: Callable[..., Any], references: Callable[[str], str], files: Path) -> Callable[..., Any]:
    """From the name of a folder and options to the outcome of training."""

    def train(name: str, *options: Any) -> Any:
        return run(
            "train", "--base", references("tiny-bert"), "--data", files / "train.csv", "--eval-data", files / "held.csv",
            "--task", "text-classification", "--text-column", "text", "--strategy", "linear_probe", "--set",
            "penalty=0.01", "--device", "cpu", "--dtype", "float32", "--out", files / name, *options,
        )  # fmt: skip

    return train


@pytest.fixture
def adapter(train: Callable[..., Any], files: Path) -> Path:
    """Trained once."""
    assert (files / "adapter").exists() or train("adapter").code == 0
    return files / "adapter"


def evaluated(run: Callable[..., Any], adapter: Path, data: Path, *options: Any) -> Any:
    return run("evaluate", adapter, "--data", data, "--device", "cpu", *options)


def test_everything_is_shown_and_in_the_json(run: Any, adapter: Path, files: Path, tmp_path: Path) -> None:
    out, drawn = tmp_path / "rows.csv", tmp_path / "charts"
    given = ("--predictions", out, "--probabilities", "all", "--charts", drawn)
    outcome = evaluated(run, adapter, files / "test.csv", *given, "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["n"] == 60
    assert [(u["label"], u["n"], u["rows"]) for u in result["unknown_labels"]] == [("new", 2, [4, 9])]
    assert {own["label"] for own in result["detail"]["classes"]} == {"good", "bad", "new"}
    assert result["detail"]["calibration"]["ece"] >= 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("id", "text", "label", "p_good", "wanted", "prediction", "probability", "p_bad", "predicted_p_good")
    ]
    assert [row["wanted"] for row in rows] == [row["label"] for row in rows]
    right = [row["prediction"] == row["wanted"] for row in rows]
    assert sum(right) / 60 == pytest.approx(result["metrics"]["accuracy"])
    assert result["charts"] == [
        str(drawn / f"{name}.png") for name in ("by_class", "calibration", "confusions", "coverage")
    ]
    for path in result["charts"]:
        with Image.open(path) as image:
            assert min(image.size) > 200
    shown = evaluated(run, adapter, files / "test.csv").out
    for words in ("by class", "confusion matrix", "calibration: expected calibration error", "only the surest"):
        assert words in shown
    assert "new (unknown)" in shown


def test_a_threshold_chosen_by_train_is_followed(run: Any, train: Any, files: Path, tmp_path: Path) -> None:
    outcome = train("sure", "--abstain", "coverage=0.7")
    assert outcome.code == 0, outcome.err
    assert (
        "on, and nothing below it (coverage=0.7); of 100 held-out rows, each with a threshold chosen on others, "
        in (outcome.err)
    )
    assert "(coverage=0.7); of 100 held-out rows" in " ".join(
        run("inspect", files / "sure").out.replace("│", " ").split()
    )
    out = tmp_path / "out.csv"
    assert run("predict", files / "sure", "--data", files / "test.csv", "--out", out, "--device", "cpu").code == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    threshold = read_adapter(files / "sure").manifest.task.decision.abstention.threshold  # type: ignore[union-attr]
    assert any(row["prediction"] == "" for row in rows)
    assert all((row["prediction"] == "") == (float(row["probability"]) < threshold) for row in rows)
    scores = json.loads(evaluated(run, files / "sure", files / "test.csv", "--json").out)
    assert scores["metrics"]["coverage"] == pytest.approx(sum(row["prediction"] != "" for row in rows) / 60)
    assert scores["detail"]["answered"]["threshold"] == threshold
    assert scores["decision"]["abstention"]["rule"] == "coverage=0.7"


def test_what_train_cannot_reach_is_an_error_and_the_adapter_is_saved(train: Any, files: Path) -> None:
    outcome = train("unsure", "--abstain", "precision=0.99")
    assert outcome.code != 0
    assert "is saved and answers every row: precision=0.99 is not reached" in outcome.err
    assert read_adapter(files / "unsure").manifest.task.decision.abstention is None


def test_a_threshold_is_chosen_afterwards_and_saved(run: Any, adapter: Path, files: Path) -> None:
    before = read_adapter(adapter)
    kept = (adapter / "run.yaml").read_bytes(), (adapter / "adapter_model.safetensors").read_bytes()
    tried = evaluated(run, adapter, files / "held.csv", "--abstain", "coverage=0.5", "--json")
    assert json.loads(tried.out)["metrics"]["coverage"] >= 0.5
    assert read_adapter(adapter).manifest == before.manifest  # it was not saved
    outcome = evaluated(run, adapter, files / "held.csv", "--abstain", "coverage=0.5", "--save")
    assert outcome.code == 0, outcome.err
    after = read_adapter(adapter).manifest
    assert after.task.decision.abstention is not None
    assert after.model_copy(update={"task": before.manifest.task, "files": before.manifest.files}) == before.manifest
    assert kept == ((adapter / "run.yaml").read_bytes(), (adapter / "adapter_model.safetensors").read_bytes())
    assert evaluated(run, adapter, files / "held.csv", "--abstain", "off", "--save").code == 0
    assert read_adapter(adapter).manifest.task == before.manifest.task


def test_mistakes_are_said_before_anything_is_loaded(
    run: Any, adapter: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for options, said in (
        (("--predictions", tmp_path / "no" / "rows.csv"), "its folder does not exist"),
        (("--predictions", tmp_path / "rows.xlsx"), "--predictions"),
        (("--charts", tmp_path / "no" / "charts"), "the folder it would be in does not exist"),
        (("--charts", tmp_path / "file"), "is a file; name a folder"),
        (("--probabilities", "most"), "none, all, or top:N"),
        (("--abstain", "coverage=2"), "between 0 and 1"),
        (("--abstain", "cover=0.5"), "did you mean 'coverage'?"),
        (("--label-thresholds", "f2"), "no rule 'f2'"),
        (("--save",), "--save keeps what is chosen"),
        (("--label-thresholds", "f1"), "use --abstain"),
        (("--abstain", "precision=0.999"), "1000 answers at least"),
    ):
        outcome = evaluated(run, adapter, files / "held.csv", *options)
        assert outcome.code != 0
        assert said in outcome.err, options
    there = importlib.util.find_spec
    monkeypatch.setattr(charts, "find_spec", lambda name: None if name == "matplotlib" else there(name))
    outcome = evaluated(run, adapter, files / "test.csv", "--charts", tmp_path / "charts")
    assert "pip install 'adapterhub-lite[plots]'" in outcome.err
    assert not (tmp_path / "charts").exists()
