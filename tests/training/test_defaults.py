"""What a run does where nothing is said: rows held out, options chosen from the data, and all of it said and recorded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

import adapterhub_lite as ah
from adapterhub_lite.api import Situation, StrategyConfig, StrategySpec
from adapterhub_lite.cli.run_file import read_run
from adapterhub_lite.cli.train import run_training
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.progress import Silent
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.defaults import choose
from adapterhub_lite.training.held_out import held_out_of

HERE = Situation(
    "text-classification", "text", "classes", rows=240, classes=7, held_out=0, has_probe=True, convolutional=False
)
PLAIN = StrategySpec("plain", "A strategy.", StrategyConfig, load=object, learning_rate=3e-4)


class Said(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def rows(n: int) -> dict[str, list[str]]:
    return {
        "text": [f"{'good' if i % 2 else 'bad'} number {i}" for i in range(n)],
        "label": ["yes" if i % 2 else "no" for i in range(n)],
    }


@pytest.mark.parametrize(
    ("n", "groups", "share", "kept"),
    [(4, None, None, 0), (199, None, None, 0), (200, None, None, 20), (300, None, 0, 0), (40, None, 0.25, 10),
     (400, 9, None, 0), (400, 20, None, 40)],
)  # fmt: skip
def test_a_tenth_is_held_out_of_what_is_enough(n, groups, share, kept):
    data = ah.load_data(rows(n), "text-classification")
    if groups is not None:
        data = dataclasses.replace(data, groups=tuple(i // 2 % groups for i in range(n)))
    parts = held_out_of(data, share, TrainConfig())
    assert len(parts.held_out or ()) == kept
    assert len(parts.train) == n - kept
    assert not set(parts.train.inputs) & set(parts.held_out.inputs if parts.held_out else ())
    if groups is not None and parts.held_out is not None:
        assert not set(parts.train.groups) & set(parts.held_out.groups)
    if share is not None:
        assert parts.line is None
    elif kept:
        assert parts.line.startswith(f"{kept} of {n} rows are held out")
        assert "--hold-out 0" in parts.line
    else:
        assert parts.line.startswith(f"{n} rows")
        assert "cannot know how good this is" in parts.line


def test_no_more_is_held_out_than_narrows_the_interval():
    parts = held_out_of(ah.load_data(rows(50_000), "text-classification"), None, TrainConfig())
    assert len(parts.held_out) == 2000
    assert parts.share == 2000 / 50_000  # what the run file records makes the same parts again


@pytest.mark.parametrize("share", [True, -0.1, 1.0, "a tenth"])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(ConfigError, match="is no share"):
        held_out_of(ah.load_data(rows(8), "text-classification"), share, TrainConfig())


def test_scoring_as_it_goes_needs_rows_to_score_on():
    with pytest.raises(ConfigError, match="--eval-every needs held-out data"):
        held_out_of(ah.load_data(rows(8), "text-classification"), None, TrainConfig(eval_every=2))


def test_what_is_not_given_is_chosen_and_said_with_the_reason():
    settled, line = choose(TrainConfig(), HERE, PLAIN)
    assert (settled.batch_size, settled.start_head, settled.learning_rate) == (16, "probe", 3e-4)
    assert line.startswith("240 rows, 7 classes: ")
    assert all(option in line for option in ("--epochs", "--lr", "--batch-size", "--start-head"))
    assert f"{settled.epochs:g} epochs" in line


def test_fewer_rows_are_passed_over_more_often():
    epochs = [choose(TrainConfig(), dataclasses.replace(HERE, rows=n), PLAIN)[0].epochs for n in (10, 100, 1000, 10**5)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[-1] >= 3


def test_what_is_given_stands_and_is_not_said():
    given = TrainConfig(epochs=2, learning_rate=1e-5, batch_size=8, start_head="random")
    settled, line = choose(given, HERE, PLAIN)
    assert settled == given
    assert line is None
    settled, line = choose(TrainConfig(epochs=2), HERE, PLAIN)
    assert settled.epochs == 2
    assert "epochs" not in line


def test_who_counts_steps_chooses_the_rest_as_well():
    settled, line = choose(TrainConfig(steps=7), HERE, PLAIN)
    assert (settled.steps, settled.batch_size, settled.start_head, settled.learning_rate) == (7, 16, "random", None)
    assert line is None


def test_the_best_step_is_kept_where_rows_of_the_data_are_held_out():
    held = dataclasses.replace(HERE, held_out=24)
    assert choose(TrainConfig(steps=100), held, PLAIN)[0].eval_every == 20
    assert choose(TrainConfig(steps=100, eval_every=0), held, PLAIN)[0].eval_every == 0
    assert choose(TrainConfig(steps=100), HERE, PLAIN)[0].eval_every is None
    assert choose(TrainConfig(steps=100), held, PLAIN)[0].keep == "last-good"
    assert choose(TrainConfig(steps=100, keep="best"), held, PLAIN)[0].keep == "best"
    assert choose(TrainConfig(steps=100, eval_every=5), held, PLAIN)[0].keep is None


def test_a_strategy_suggests_what_suits_it():
    own = dataclasses.replace(PLAIN, suggest=lambda situation: {"epochs": 5.0, "weight_decay": 0.1})
    settled, line = choose(TrainConfig(), HERE, own)
    assert (settled.epochs, settled.weight_decay) == (5, 0.1)
    assert "--weight-decay" in line
    assert choose(TrainConfig(epochs=4), HERE, own)[0].epochs == 4
    with pytest.raises(ConfigError, match="'plain' suggests 'epoch'"):
        choose(TrainConfig(), HERE, dataclasses.replace(PLAIN, suggest=lambda situation: {"epoch": 5}))


def test_choosing_again_from_what_was_settled_changes_nothing():
    settled, _ = choose(TrainConfig(), dataclasses.replace(HERE, held_out=24), PLAIN)
    again, line = choose(settled, dataclasses.replace(HERE, rows=9, held_out=3), PLAIN)
    assert again == settled
    assert line is None


@pytest.fixture(scope="module")
def trained(references, tmp_path_factory):
    """A run on 200 rows of which nothing is said but a short length, from the command line."""
    folder: Path = tmp_path_factory.mktemp("defaults")
    table = rows(200)
    lines = [f"{text},{label}\n" for text, label in zip(table["text"], table["label"], strict=True)]
    (folder / "rows.csv").write_text("text,label\n" + "".join(lines))
    given = {"base": references("tiny-bert"), "data": str(folder / "rows.csv"), "task": "text-classification"}
    given |= {"dtype": "float32", "device": "cpu"}
    report = run_training(read_run(None, given | {"out": str(folder / "out"), "training": {"epochs": 1}}))
    return folder, given, report


def test_the_run_file_holds_what_was_settled_and_makes_the_same_adapter(trained):
    folder, _, report = trained
    recorded = yaml.safe_load((folder / "out" / "run.yaml").read_text())
    assert recorded["hold_out"] == 0.1
    assert recorded["training"]["start_head"] == "probe"
    assert recorded["training"]["learning_rate"] == 1e-3
    assert (report["rows"], report["metrics"]["n"]) == (180, 20)
    again = run_training(read_run(folder / "out" / "run.yaml", {"out": str(folder / "again")}))
    assert again["metrics"] == report["metrics"]
    weights = "adapter_model.safetensors"
    assert (folder / "again" / weights).read_bytes() == (folder / "out" / weights).read_bytes()


def test_a_run_file_of_an_earlier_version_holds_nothing_out(trained):
    folder, given, _ = trained
    old = {"epochs": 1.0, "batch_size": 16, "optimizer": "adamw", "schedule": "linear", "warmup": 0.06, "clip": 1.0}
    old |= {
        "weight_decay": 0.01,
        "seed": 0,
        "start_head": "random",
        "keep_checkpoints": 2,
        "average": False,
        "track": [],
    }
    (folder / "old.yaml").write_text(yaml.safe_dump(given | {"out": "old", "training": old}))
    run = read_run(folder / "old.yaml", {})
    assert run.hold_out == 0
    settled, line = choose(
        run.training, HERE, dataclasses.replace(PLAIN, suggest=lambda situation: {"learning_rate": 1})
    )
    assert (settled.start_head, settled.learning_rate, line) == ("random", None, None)
    (folder / "by_hand.yaml").write_text(yaml.safe_dump(given | {"out": "old", "training": {"epochs": 1}}))
    assert read_run(folder / "by_hand.yaml", {}).hold_out is None


def test_python_holds_out_as_the_command_line_does(trained, references):
    said = Said()
    engine = ah.Engine(progress=said)
    base = engine.load_base(references("tiny-bert"), dtype="float32", device="cpu")
    data = engine.load_data(rows(200), "text-classification")
    adapter = engine.train(base, data, config=TrainConfig(epochs=1))
    assert adapter.metrics == trained[2]["metrics"]
    assert sum("are held out to score on" in line for line in said.lines) == 1
    whole = engine.train(base, data, config=TrainConfig(epochs=1, start_head="random"), hold_out=0)
    assert whole.metrics == {}
    with pytest.raises(ConfigError, match="give one of them"):
        engine.train(base, data, eval_data=data, hold_out=0.5)
