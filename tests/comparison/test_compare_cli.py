"""`compare` and `train --strategy auto` on the command line."""

from __future__ import annotations

import csv
import json
import os
import signal

import pytest
import yaml

from tests.comparison.conftest import labelled


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label", "who"])
        writer.writeheader()
        writer.writerows(labelled(40))
    return path


@pytest.fixture
def given(rows, references):
    return ["--base", references("tiny-bert"), "--data", rows, "--task", "text-classification", "--dtype", "float32"]


STEPS = ["--steps", "4", "--lr", "5e-3", "--batch-size", "8"]


def test_compare_prints_json_with_everything_and_saves_an_adapter_that_its_run_file_makes_again(
    run, given, own_cache, tmp_path
):
    out = tmp_path / "best"
    outcome = run("compare", *given, *STEPS, "--strategies", "lora", "--no-baselines", "--out", out, "--json")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert told["winner"] == told["best_adapter"] == "lora"
    assert (told["learnt_from"], told["held_out"], told["metric"]) == (32, 8, "accuracy")
    (lora,) = told["contenders"]
    assert lora["interval"][0] <= lora["score"] <= lora["interval"][1]
    assert told["steps"] == 4 * 5
    written = yaml.safe_load((out / "run.yaml").read_text())
    assert (written["strategy"], written["hold_out"], written["training"]["steps"]) == ("lora", 0.2, 4)
    again = run("train", "--config", out / "run.yaml", "--out", tmp_path / "again", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["metrics"]["accuracy"] == lora["score"]
    tensors = [(folder / "adapter_model.safetensors").read_bytes() for folder in (out, tmp_path / "again")]
    assert tensors[0] == tensors[1]


def test_compare_shows_a_table_within_80_columns(run, given, own_cache, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    outcome = run(
        "compare", *given, "--strategies", "linear_probe", "--set", "linear_probe.penalty=0.01", "--column", "group=who"
    )
    assert outcome.code == 0, outcome.err
    table = outcome.out.split("learnt from")[0]
    assert {"held-out", "accuracy", "winner"} <= {*table.split()}
    assert "TF-IDF" in table
    assert "…" not in table
    assert max(map(len, table.splitlines())) <= 80


def test_train_auto_saves_the_best_and_what_it_was_compared_with(run, given, own_cache, tmp_path):
    out = tmp_path / "auto"
    outcome = run("train", *given, *STEPS, "--strategy", "auto", "--hold-out", "0.2", "--out", out, "--json")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert told["adapter"] == str(out)
    assert {"most frequent", "linear_probe", "lora", "full"} <= {row["name"] for row in told["contenders"]}
    manifest = json.loads(run("inspect", out, "--json").out)
    assert manifest["training"]["comparison"]["best_adapter"] == told["best_adapter"]
    assert yaml.safe_load((out / "run.yaml").read_text())["strategy"] != "auto"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["train", "--strategy", "auto", "--resume"], "run the same command without it"),
        (["train", "--strategy", "auto", "--from-scratch"], "--from-scratch goes with one strategy"),
        (["compare", "--strategies", "lorra"], "did you mean 'lora'?"),
        (["compare", "--choose-on", "train"], "choose one of: validation, held-out"),
        (["compare", "--set", "rank=4"], "--set lora.rank=4"),
        (["compare", "--minutes", "0"], "minutes"),
        (["compare", "--patience", "2", "--eval-every", "2"], "does not go with a comparison"),
    ],
)
def test_mistakes_are_one_line_before_any_model_is_loaded(run, given, own_cache, tmp_path, monkeypatch, more, said):
    monkeypatch.setattr("adapterhub_lite.engine.load_base", lambda *_, **__: pytest.fail("a model was loaded"))
    verb, *options = more
    outcome = run(verb, *given, *options, "--out", tmp_path / "out")
    assert outcome.code != 0
    assert said in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_signal_ends_it_in_good_order_and_says_how_to_go_on(run, given, own_cache, tmp_path, monkeypatch):
    from adapterhub_lite.comparison.workshop import Workshop

    fitted, before = [], Workshop._fitted

    def signalled(self, contender, *more):
        fitted.append(contender.name)
        if len(fitted) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return before(self, contender, *more)

    monkeypatch.setattr(Workshop, "_fitted", signalled)
    options = [*STEPS, "--strategies", "lora", "--no-baselines", "--out", tmp_path / "out"]
    stopped = run("compare", *given, *options)
    assert stopped.code == 128 + signal.SIGTERM
    assert "the same command goes on from there" in stopped.err
    assert not (tmp_path / "out").exists()
    outcome = run("compare", *given, *options)
    assert outcome.code == 0, outcome.err
    assert len(fitted) == 3 + 3  # of five runs two were finished; the third began anew
    assert (tmp_path / "out").is_dir()
