"""`adapterhub-lite audit`: its files, its page, and what it says of data that it cannot use."""

from __future__ import annotations

import csv
import json
import sys

import pytest

from tests.auditing.conftest import labelled

HOSTILE = "<script>alert(1)</script> \u202e =cmd|'/c calc'!A0 " + "x" * 10_000


@pytest.fixture
def files(tmp_path):
    """Data and rows to score on, of which two are in the data; one of them is hostile."""
    rows, held_out = labelled(120), labelled(110, seed=1)
    rows[5]["text"] = held_out[5]["text"] = HOSTILE
    held_out[6] = dict(rows[6])
    for name, table in (("data.csv", rows), ("eval.csv", held_out)):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["text", "label", "who"])
            writer.writeheader()
            writer.writerows(table)
    return tmp_path / "data.csv", tmp_path / "eval.csv"


def test_the_page_is_one_file_that_escapes_what_the_data_says(run, files, tmp_path):
    data, held_out = files
    page = tmp_path / "<b>audit.html"
    outcome = run(
        "audit", "--data", data, "--eval-data", held_out, "--task", "text-classification", "--slices", "label", "--out", page,
        "--fix", tmp_path / "fixed.csv", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert (told["rows"], told["held_out_rows"], told["left_out"]) == (120, 110, 2)
    levels = {finding["name"]: finding["level"] for finding in told["findings"]}
    assert (levels["rows in both splits"], levels["label errors"]) == ("alarm", "unknown")
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "src=" not in html
    assert "http" not in html
    assert "Rows in both splits" in html
    assert "&lt;b&gt;audit.rows.csv, beside this page" in html
    with (tmp_path / "<b>audit.rows.csv").open(encoding="utf-8", newline="") as file:
        named = [(row["finding"], row["side"], row["row"], row["other row"]) for row in csv.DictReader(file)]
    assert ("rows in both splits", "eval-data", "6", "6") in named
    assert ("rows in both splits", "eval-data", "7", "7") in named
    with (tmp_path / "fixed.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 118


def test_labels_that_the_base_contradicts_are_named_first(run, references, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path / "cache"))
    rows = labelled(240, words=16)
    for place in (30, 61, 92, 123, 154, 185, 216, 227, 238):
        rows[place]["label"] = "card" if rows[place]["label"] != "card" else "rate"
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    outcome = run(
        "audit", "--data", data, "--base", references("tiny-bert"), "--json", "--slices", "who", "--seed", "1"
    )
    assert outcome.code == 0, outcome.err
    findings = {finding["name"]: finding for finding in json.loads(outcome.out)["findings"]}
    assert findings["label errors"]["level"] in ("alarm", "note")
    assert findings["label errors"]["points"] is not None
    assert "too small to say" in findings["gaps between slices"]["says"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--slices", "whose"], "did you mean 'who'?"),
        (["--out", "page.txt"], "must end in .html"),
        (["--out", "nowhere/page.html"], "its folder does not exist"),
        (["--fix", "page.txt"], "must end in one of .csv"),
        (["--label-column", "kind"], "has no column 'kind'"),
        (["--eval-data", "none.csv"], "no such file"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(run, files, tmp_path, monkeypatch, more, said):
    monkeypatch.chdir(tmp_path)
    outcome = run("audit", "--data", "data.csv", "--task", "text-classification", *more)
    assert outcome.code in (1, 2)
    assert said in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--fix", "./data.csv"], "is the data itself"),
        (["--fix", "~/data.csv"], "is the data itself"),
        (["--fix", "linked.csv"], "is the data itself"),
        (["--fix", "eval.rows.csv"], "is the data itself"),
        (["--out", "eval.html"], "is the data itself"),
        (["--out", "page.html", "--fix", "page.rows.csv"], "is to write that file too"),
        (["--fix", "nowhere/fixed.csv"], "its folder does not exist"),
    ],
)
def test_what_was_read_is_never_written(run, files, tmp_path, monkeypatch, more, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    held_out = files[1].rename(tmp_path / "eval.rows.csv")
    (tmp_path / "linked.csv").hardlink_to(files[0])
    before = files[0].read_bytes(), held_out.read_bytes()
    outcome = run("audit", "--data", "data.csv", "--eval-data", "eval.rows.csv", "--task", "text-classification", *more)
    assert (outcome.code, (files[0].read_bytes(), held_out.read_bytes())) == (2, before)
    assert said in outcome.err
    assert not (tmp_path / "page.html").exists()


def test_a_save_that_fails_loses_no_finding_and_leaves_nothing_behind(run, files, tmp_path, monkeypatch):
    from adapterhub_lite.auditing import outcome as auditing_outcome

    def full(self, target):
        raise OSError(28, "No space left on device")

    before = set(tmp_path.iterdir())
    monkeypatch.setattr(auditing_outcome.Path, "replace", full)
    outcome = run("audit", "--data", files[0], "--task", "text-classification", "--out", tmp_path / "page.html")
    assert outcome.code == 1
    assert "label errors" in outcome.out
    assert "No space left" in outcome.err
    assert set(tmp_path.iterdir()) == before


def test_a_library_that_is_missing_names_the_extra(run, files, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    outcome = run("audit", "--data", files[0], "--task", "text-classification")
    assert outcome.code == 2
    assert "pip install 'adapterhub-lite[audit]'" in outcome.err


@pytest.mark.parametrize("kinds", ["all the same", "many classes"])
def test_odd_tables_are_audited(looked, kinds):
    rows = [{"text": "the same", "label": "ab"[row % 2]} for row in range(60)]
    if kinds == "many classes":
        rows = [{"text": f"text number {row}", "label": f"class {row % 200}"} for row in range(600)]
    audit = looked(rows)
    found = "conflicting labels" if kinds == "all the same" else "rare classes"
    assert found in {finding.name for finding in audit.alarms}
