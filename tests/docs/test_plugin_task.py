"""docs/write-a-task.md: its example, installed as it stands there, is trained, saved, loaded and used."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapterhub_lite.api import Encoded, Example, Task

DOCUMENT = Path(__file__).parents[2] / "docs" / "write-a-task.md"
BLOCK = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```\n", re.DOTALL)
ROWS = [
    (text, stars)
    for text, stars in (("bad bank", 1), ("bad bill please help", 2), ("the card is here", 3), ("good app", 5))
    for _ in range(6)
]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example on sys.path, with the metadata that pip would make of its pyproject.toml."""
    folder = tmp_path / "site"
    for name, content in BLOCK.findall(DOCUMENT.read_text(encoding="utf-8")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / "text_rating-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"{key} = {value}" for key, value in project["entry-points"]["adapterhub_lite"].items()]
    (info / "entry_points.txt").write_text("[adapterhub_lite]\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "text_rating"]:
        del sys.modules[name]


def write(path: Path, rows: list[tuple[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "stars"])
        writer.writerows(rows)
    return path


def test_from_training_to_prediction(
    installed: Path, run: Any, references: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, adapter = write(tmp_path / "train.csv", ROWS), tmp_path / "adapter"
    assert "text-rating" in run("tasks").out
    for strategy, options in (("lora", ("--lr", "2e-2", "--epochs", "10")), ("linear_probe", ())):
        done = run(
            "train", "--base", references("tiny-bert"), "--task", "text-rating", "--data", train, "--eval-data", train,
            "--strategy", strategy, "--out", adapter, "--dtype", "float32", "--json", *options,
        )  # fmt: skip
        assert done.code == 0, done.err
        metrics = json.loads(done.out)["metrics"]
        assert metrics["accuracy"] == 1.0
        assert metrics["stars_off"] == 0.0
        recorded = json.loads((adapter / "adapterhub.json").read_text())["task"]
        assert recorded["name"] == "text-rating:text-rating"
        assert recorded["labels"] == ["1", "2", "3", "4", "5"]
    scored = json.loads(run("evaluate", adapter, "--data", train, "--json").out)
    assert scored["metrics"]["stars_off"] == 0.0
    done = run("predict", adapter, "--data", train, "--out", tmp_path / "rated.csv")
    assert done.code == 0, done.err
    with (tmp_path / "rated.csv").open(encoding="utf-8", newline="") as file:
        assert all(row["prediction"] == row["stars"] for row in csv.DictReader(file))
    assert run("verify", adapter).code == 0

    bad = write(tmp_path / "bad.csv", [("fine", 3), ("odd", 7)])
    refused = run("evaluate", adapter, "--data", bad)
    assert refused.code == 1
    assert "row 2 (line 3), column 'stars': '7' is not a number of stars" in refused.err

    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder != str(installed)])
    gone = run("predict", adapter, "--data", train, "--out", tmp_path / "again.csv")
    assert gone.code == 2
    assert "task 'text-rating:text-rating' is not installed; pip install text-rating" in gone.err
    assert "Traceback" not in gone.err


def test_it_explains_all_that_a_task_has_to_say() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    methods = {name for name in Task.__abstractmethods__ if f"`{name}(" not in text}
    assert methods == set()
    fields = {field.name for kind in (Example, Encoded) for field in dataclasses.fields(kind)}
    assert {name for name in fields if f"`{name}`" not in text} == set()
    written = (DOCUMENT.parents[1] / "examples" / "text-masked" / "src" / "text_masked" / "task.py").read_text()
    (said,) = re.findall(r"`examples/text-masked`.* in (\d+) lines", text.replace("\n", " "))
    assert len(written.splitlines()) == int(said)
