"""`generate` on a prompt and on files."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from adapterhub_lite.engine import Engine
from adapterhub_lite.progress import Silent
from adapterhub_lite.training.config import TrainConfig
from tests.conftest import TINY


@pytest.fixture(scope="session")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on a tiny model."""
    folder = tmp_path_factory.mktemp("speaker")
    TINY["tiny-llama"](folder / "base")
    engine = Engine(progress=Silent())
    rows = [{"prompt": "where is my card", "completion": "here"}, {"prompt": "help", "completion": "please wait"}]
    base = engine.load_base(folder / "base", dtype="float32", device="cpu")
    plain = {"template": "none"}
    data = engine.load_data(rows, "causal-lm", options=plain)
    adapter = engine.train(base, data, config=TrainConfig(steps=2, batch_size=2))
    adapter.save(folder / "adapter")
    return folder / "adapter"


def test_generate_answers_a_file(run, speaker, tmp_path):
    rows = [{"id": i, "question": text} for i, text in enumerate(["my card", "where", "the bank is here"])]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for suffix in ("jsonl", "csv"):
        out = tmp_path / f"out.{suffix}"
        given = ["--data", source, "--prompt-column", "question", "--out", out, "--max-new-tokens", 6]
        outcome = run("generate", speaker, *given, "--json")
        assert outcome.code == 0, outcome.err
        assert json.loads(outcome.out) == {"out": str(out), "rows": 3, "empty": 0}
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [{"id": row["id"], "question": row["question"]} for row in written] == rows
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["generated"] for row in csv.DictReader(file)] == [row["generated"] for row in written]
    for row in written:
        one = run("generate", speaker, "--prompt", row["question"], "--max-new-tokens", 6)
        assert one.out == row["generated"] + "\n"
    predicted = run(
        "predict", speaker, "--data", source, "--prompt-column", "question", "--out", out, "--max-new-tokens", 6
    )
    assert predicted.code == 0, predicted.err
    with out.open(newline="") as file:
        assert [row["generated"] for row in csv.DictReader(file)] == [row["generated"] for row in written]


def test_generate_counts_empty_answers(run, speaker, tmp_path):
    (tmp_path / "in.csv").write_text("prompt\nmy card\nwhere\n")
    whole = run("generate", speaker, "--prompt", "where", "--max-new-tokens", 4).out.strip()
    stop = ["--stop", whole[:1], "--max-new-tokens", 4]
    outcome = run("generate", speaker, "--data", tmp_path / "in.csv", "--out", tmp_path / "o.csv", *stop)
    written = list(csv.DictReader((tmp_path / "o.csv").read_text().splitlines()))
    empty = sum(not row["generated"] for row in written)
    assert written[1]["generated"] == ""
    assert outcome.out == f"2 rows written to {tmp_path / 'o.csv'}, {empty} answer{'s' * (empty > 1)} empty\n"
    one = run("generate", speaker, "--prompt", "where", *stop)
    assert (one.code, one.out) == (0, "\n")
    assert "note: the answer is empty: the model ended it at once" in one.err


def test_generate_names_the_row_whose_prompt_is_too_long(run, speaker, tmp_path):
    (tmp_path / "in.csv").write_text(f"prompt\nmy card\n{'card ' * 70}\n")
    out = tmp_path / "o.csv"
    outcome = run("generate", speaker, "--data", tmp_path / "in.csv", "--out", out)
    assert outcome.code == 1
    assert re.search(r"in\.csv, row 2.*: the prompt has 71 tokens, and .* reads 64 with the answer", outcome.err)
    assert not out.exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "give --prompt TEXT, or --data FILE and --out FILE"),
        (["--prompt", "x", "--data", "f", "--out", "o.csv"], "give --prompt TEXT, or --data FILE and --out FILE"),
        (["--data", "f"], "give --prompt TEXT, or --data FILE and --out FILE"),
        (["--prompt", "x", "--out", "o.csv"], "give --prompt TEXT, or --data FILE and --out FILE"),
        (["--data", "f", "--out", "o.txt"], "the name must end in one of .csv"),
        (["--prompt", "x", "--top-p", "1.5"], "top_p is 1.5"),
        (["--prompt", "x", "--temperature", "-1"], "temperature is -1.0"),
        (["--prompt", "x", "--stop", ""], "an empty text would end every answer at once"),
    ],
)
def test_generate_refuses(given, message, run, speaker):
    outcome = run("generate", speaker, *given)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
