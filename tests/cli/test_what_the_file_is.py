"""What is said of a file beside its name: on every verb that reads data, and remembered by the adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

HEADLESS = (
    "".join(
        f"{label},{text} {number}\n"
        for number in range(6)
        for label, text in (("good", "the new card arrived, here it is"), ("bad", "my old card is lost, please help"))
    )
    .replace("arrived, here", "arrived here")
    .replace("lost, please", "lost please")
)


@pytest.fixture
def headless(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_bytes(HEADLESS.replace("card", "cärd").encode("latin-1"))
    return path


def test_train_evaluate_and_predict(run, references, headless, tmp_path):
    out = tmp_path / "adapter"
    given = ["--base", references("tiny-bert"), "--data", headless, "--task", "text-classification", "--strategy"]
    given += ["linear_probe", "--out", out, "--hold-out", "0.5"]
    refused = run("train", *given)
    assert refused.code != 0
    assert "--encoding cp1252" in refused.err
    refused = run("train", *given, "--encoding", "latin-1")
    assert "give --no-header" in refused.err
    assert run("train", *given, "--encoding", "latin-1", "--no-header").code == 0
    recorded = json.loads((out / "adapterhub.json").read_text())["task"]
    assert recorded["columns"] == {"text": "column_2", "label": "column_1"}
    assert recorded["files"] == {"no_header": True, "encoding": "latin-1"}
    scored = run("evaluate", out, "--data", headless, "--json")
    assert scored.code == 0, scored.err
    assert json.loads(scored.out)["n"] == 12
    assert run("predict", out, "--data", headless, "--out", tmp_path / "p.csv").code == 0
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 13
    # What is said now goes before what is remembered.
    named = tmp_path / "named.txt"
    named.write_text(HEADLESS.replace("card", "cärd"))
    again = run("evaluate", out, "--data", named, "--format", "csv", "--encoding", "utf-8", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["metrics"] == json.loads(scored.out)["metrics"]


def test_the_run_file_that_is_saved_says_it(run, references, headless, tmp_path):
    out, second = tmp_path / "adapter", tmp_path / "second"
    given = ["--base", references("tiny-bert"), "--data", headless, "--task", "text-classification", "--steps", "1"]
    assert run("train", *given, "--out", out, "--encoding", "latin-1", "--no-header").code == 0
    again = run("train", "--config", out / "run.yaml", "--out", second)
    assert again.code == 0, again.err
    first, same = ((folder / "adapter_model.safetensors").read_bytes() for folder in (out, second))
    assert first == same


def test_columns_that_are_not_used_are_told(run, references, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"day": number, "text": f"the card {number}", "label": "ab"[number % 2]} for number in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["--base", references("tiny-bert"), "--data", path, "--task", "text-classification", "--steps", "1"]
    outcome = run("train", *given, "--out", tmp_path / "adapter")
    assert "columns that are not used: day" in outcome.err
