"""The verb `report`, and what `train` says and leaves of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.conftest import good_and_bad


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in good_and_bad(40, 7)), encoding="utf-8")
    return file


def test_train_leaves_a_report_and_names_it(run: Any, references: Any, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "words"
    done = run(
        "train", "--base", references("tiny-bert"), "--data", rows, "--task", "text-classification", "--strategy",
        "linear_probe", "--hold-out", "0.4", "--out", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    page = tmp_path / "words.run" / "report.html"
    assert f"report: {page}" in done.out.replace("\n", "")
    facts = json.loads((tmp_path / "words.run" / "report.json").read_text(encoding="utf-8"))
    assert facts["run"]["command"].startswith("adapterhub-lite train --base ")
    assert "strategy: linear_probe" in facts["run"]["run_file"]
    again = run("report", out, "--json")
    assert json.loads(again.out)["classes"] == facts["classes"]
    assert not (tmp_path / "report.html").exists()
    made = run("report", out, "--no-examples", "--out", tmp_path / "page.html")
    assert made.code == 0
    assert ">Most wrong</h2>" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_one_page_of_several_scored_on_one_file(run: Any, trained: Path, rows: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(trained, tmp_path / name)
    done = run("report", tmp_path / "one", tmp_path / "two", "--data", rows, "--out", tmp_path / "both.html")
    assert done.code == 0, done.err
    text = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "2 adapters compared" in text
    assert "+0.000 (+0.000 to +0.000)" in text  # the same adapter twice, row by row


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere"),
        (["nowhere", "--out", "no/such/folder/page.html"], "--out no/such/folder/page.html: its folder does not exist"),
        (["nowhere", "--out", "."], "--out .: is a directory"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    run: Any, tmp_path: Path, monkeypatch: Any, arguments: Any, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("report", *arguments)
    assert done.code != 0
    assert done.err.startswith("error: ")
    assert said in done.err
    assert list(tmp_path.iterdir()) == []
