"""`train --from-adapter`: what is not given is taken from the adapter."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapterhub_lite.storage import read_adapter
from tests.conftest import TINY

OLD = [("good money", "good"), ("a good card", "good"), ("my bad bank", "bad"), ("bad one", "bad")] * 2
NEW = [("where is it", "asks"), ("how can i pay", "asks"), ("good card", "good"), ("the old bank is bad", "bad")] * 2


def table(path: Path, rows: list[tuple[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    TINY["tiny-bert"](folder)
    return folder


@pytest.fixture
def first(run: Any, base: Path, tmp_path: Path) -> Path:
    given = ["--base", base, "--task", "text-classification", "--dtype", "float32", "--set", "rank=2", "--steps", 3]
    outcome = run("train", *given, "--data", table(tmp_path / "old.csv", OLD), "--out", tmp_path / "first")
    assert outcome.code == 0, outcome.err
    return tmp_path / "first"


def test_new_labels_and_the_same_run_again(run: Any, first: Path, tmp_path: Path) -> None:
    data, held_out = table(tmp_path / "new.csv", NEW), table(tmp_path / "eval.csv", OLD[:4])
    given = ["--from-adapter", first, "--data", data, "--eval-data", held_out, "--steps", 2]
    outcome = run("train", *given, "--out", tmp_path / "second", "--json")
    assert outcome.code == 0, outcome.err
    manifest = read_adapter(tmp_path / "second").manifest
    assert manifest.task.labels == ["bad", "good", "asks"]
    assert manifest.strategy.config["rank"] == 2
    assert manifest.metrics["n"] == 4
    assert len(json.loads(outcome.out)["training"]["went_on_from"]) == 1
    again = run("train", "--config", tmp_path / "second" / "run.yaml", "--out", tmp_path / "third")
    assert again.code == 0, again.err
    same = [
        read_adapter(tmp_path / name).manifest.files["adapter_model.safetensors"].sha256 for name in ("second", "third")
    ]
    assert same[0] == same[1]
    shown = run("inspect", tmp_path / "second")
    assert "went on from" in shown.out
    version = json.loads(run("history", first, "--json").out)["versions"][-1]["id"]
    assert version in shown.out
    assert str(tmp_path) not in (tmp_path / "second" / "run.yaml").read_text()


def test_it_may_take_the_place_of_its_parent(run: Any, first: Path, tmp_path: Path) -> None:
    data = table(tmp_path / "one_class.csv", [("good card", "good"), ("good bank", "good")])
    outcome = run("train", "--from-adapter", first, "--data", data, "--steps", 1, "--out", first)
    assert outcome.code == 0, outcome.err
    versions = json.loads(run("history", first, "--json").out)["versions"]
    (parent,) = read_adapter(first).manifest.training["went_on_from"]  # type: ignore[misc]
    assert isinstance(parent, dict)
    assert str(parent["manifest_sha256"]).startswith(versions[0]["id"])
    assert read_adapter(first).manifest.task.labels == ["bad", "good"]


def test_the_run_file_wins_over_the_adapter_and_is_refused_where_it_differs(
    run: Any, first: Path, tmp_path: Path
) -> None:
    data = table(tmp_path / "new.csv", NEW)
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"strategy": "prefix", "from_adapter": str(first), "data": str(data)}))
    outcome = run("train", "--config", file, "--out", tmp_path / "x")
    assert outcome.code == 2
    assert "its strategy is lora, and prefix is asked for" in outcome.err
    for given, message in (
        (["--set", "rank=4"], "its option rank is 2, and 4 is asked for"),
        (["--task", "text-regression"], "its task is text-classification, and text-regression is asked for"),
        (["--from-scratch", "--strategy", "full"], "its strategy is lora, and full is asked for"),
    ):
        outcome = run("train", "--from-adapter", first, "--data", data, "--out", tmp_path / "x", *given)
        assert (outcome.code, message in outcome.err) == (2, True), outcome.err
    outcome = run("train", "--from-adapter", tmp_path / "none", "--data", data, "--out", tmp_path / "x")
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "x").exists()
