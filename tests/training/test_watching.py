"""What one sees of a run: loss, rate in the true unit, time left, memory; and a warning where libraries changed."""

from __future__ import annotations

import json
import re
import shutil

import pytest

import adapterhub_lite as ah
from adapterhub_causal_lm.tiny import completions
from adapterhub_lite import progress
from adapterhub_lite.names import human_size
from adapterhub_lite.progress import Lines
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.out_of_memory import used
from tests.listening import Listening


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def lines(caplog):
    """What goes to the log, each line as it is there."""
    caplog.set_level("INFO", "adapterhub_lite")
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_line_tells_rate_time_left_and_note(clock, lines):
    with Lines().bar("training", 40, "steps", rate="tokens") as bar:
        for _ in range(40):
            clock.now += 3
            bar.advance(1, "loss 0.5, 1.0 GB", 600)
    said = lines()
    # Every fourth step is 12 s after the last line; 600 tokens in 3 s are 200 a second.
    assert said[0] == "training: 4/40 steps, 200 tokens/s, 12.0 s, 108 s left  loss 0.5, 1.0 GB"
    assert said[-1] == "training: 40/40 steps, 200 tokens/s, 120.0 s  loss 0.5, 1.0 GB"
    assert len(said) == 10


def test_without_a_unit_of_its_own_the_rate_counts_what_is_done(clock, lines):
    with Lines().bar("encoding", 8, "examples") as bar:
        clock.now += 4
        bar.advance(8)
    assert lines() == ["encoding: 8/8 examples, 2.0 examples/s, 4.0 s"]


def test_a_terminal_shows_the_same(monkeypatch, capfd):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Lines().bar("training", 4, "steps", rate="examples") as bar:
        for _ in range(4):
            bar.advance(1, "loss 0.25, 1.5 GB", 16)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capfd.readouterr().err)
    assert re.search(r"4/4 steps [\d.]+ examples/s .*loss 0\.25, 1\.5 GB", shown), shown


@pytest.mark.parametrize(("model", "unit"), [("encoder", "examples"), ("decoder", "tokens")])
def test_a_run_counts_examples_or_tokens(model, unit, train, monkeypatch):
    seen = []

    class Recorded(progress._NoBar):
        def advance(self, amount, note="", work=None):
            seen.append((amount, note, work))

    bars = []

    def bar(self, name, total, unit, rate=""):
        from contextlib import nullcontext

        bars.append((name, total, unit, rate))
        return nullcontext(Recorded())

    monkeypatch.setattr(progress.Silent, "bar", bar)
    train(model=model, steps=4, batch_size=8)  # 4 batches of 8: twice the 16 rows
    assert bars == [("training", 4, "steps", unit)]
    assert all(re.fullmatch(r"loss \d\.\d{3}, [\d.]+ [MG]B held", note) for _, note, _ in seen)
    if model == "encoder":
        assert [work for *_, work in seen] == [8] * 4
        return
    tokenizer = tiny_base("decoder").processor
    tokens = sum(
        len(tokenizer(f"{item.prompt}")["input_ids"])
        + len(tokenizer(item.completion, add_special_tokens=False)["input_ids"])
        + 1
        for item in completions().inputs
    )
    end = sum(tokenizer(item.prompt)["input_ids"][-1] == tokenizer.eos_token_id for item in completions().inputs)
    assert sum(work for *_, work in seen) == 2 * (tokens - end)


def test_memory_on_the_cpu_is_that_of_the_process():
    import psutil
    import torch

    said = used(torch.device("cpu"))
    now = psutil.Process().memory_info().rss
    number, unit, held = said.split()
    assert held == "held"
    assert float(number) * {"MB": 1e6, "GB": 1e9}[unit] == pytest.approx(now, rel=0.1)
    assert human_size(1_500_000_000) == "1.5 GB"


def test_a_run_that_goes_on_with_other_versions_says_so(train, tmp_path):
    folder = tmp_path / "a.run"
    train(folder, steps=4, checkpoint_every=2)
    shutil.rmtree(folder / "checkpoints" / "step-00000004")
    record = json.loads((folder / "run.json").read_text())
    same = train(folder, steps=4, checkpoint_every=2, resume=True)
    assert not any("was started with" in line for line in same.said)

    shutil.rmtree(folder / "checkpoints" / "step-00000004")
    now = record["versions"]["torch"]
    record["versions"] |= {"torch": "2.6.0", "peft": None}
    (folder / "run.json").write_text(json.dumps(record))
    other = train(folder, steps=4, checkpoint_every=2, resume=True)
    warned = [line for line in other.said if "was started with" in line]
    assert len(warned) == 2
    assert f"started with torch 2.6.0 and goes on with {now};" in warned[0]
    assert "started with peft (not installed) and" in warned[1]
    assert all(line in (folder / "events.log").read_text() for line in warned)
    assert other.facts["steps"] == 4


def test_a_picture_that_cannot_be_drawn_costs_no_adapter(train, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def broken(*_, **__):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(Figure, "savefig", broken)
    ran = train(tmp_path / "a.run", steps=2)
    assert "warning: the loss curve could not be drawn (RuntimeError: no fonts)" in ran.said


def test_options_of_steps_are_told_to_say_nothing_to_a_probe(references):
    engine = ah.Engine(progress=Listening())
    base = engine.load_base(references("tiny-bert"))
    data = engine.load_data({"text": ["good", "bad"] * 4, "label": ["yes", "no"] * 4}, "text-classification")
    config = ah.TrainConfig(learning_rate=1e-3, epochs=2, seed=4)
    engine.train(base, data, strategy="linear_probe", config=config)
    assert "note: linear_probe has no steps: epochs, learning_rate say nothing to it" in engine.progress.lines
