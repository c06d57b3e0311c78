"""What could go wrong between the parts: signals and stops at bad moments, memory, caches, and what is said."""

from __future__ import annotations

import json
import pickle
import signal
import threading
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import f1_score, mean_absolute_error, r2_score, root_mean_squared_error

import adapterhub_lite as ah
from adapterhub_lite.adapter.read import read_like
from adapterhub_lite.cli.run_file import read_run
from adapterhub_lite.cli.train import read_rows
from adapterhub_lite.data.splits import split
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError, DataError, TrainingError
from adapterhub_lite.progress import Silent
from adapterhub_lite.tasks import metrics
from adapterhub_lite.tasks.catalog import load_data, task_shelf
from adapterhub_lite.testing import problems
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training import evaluate, loop
from adapterhub_lite.training.attachment import attach
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.features import encode_features
from adapterhub_lite.training.interrupt import Interrupt, Stopped
from adapterhub_lite.training.processes import Processes

from .conftest import Told

TEXTS = ["good day", "bad day", "my card", "one two"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("text,label\n" + "".join(f"{text} {i},{'xy'[i % 2]}\n" for i, text in enumerate(TEXTS * 4)))
    return str(path)


# Stopping.


def test_a_signal_that_comes_while_the_processes_ask_each_other_is_not_lost(train, monkeypatch):
    interrupt = Interrupt()

    class SignalledMeanwhile(Processes):
        def largest(self, value, device):
            if not self.seen:
                interrupt._handle(signal.SIGTERM, None)
            self.seen.append(value)
            return value

        seen: list[int] = []  # noqa: RUF012  (one list for the one instance)

    monkeypatch.setattr(loop, "Processes", SignalledMeanwhile)
    with pytest.raises(Stopped) as stop:
        train(steps=20, interrupt=interrupt)
    assert stop.value.exit_code == 143
    assert len(SignalledMeanwhile.seen) < 8, "it stops within a step or two"


def test_a_signal_whose_exception_was_swallowed_still_stops_the_run(train):
    interrupt = Interrupt()
    with pytest.raises(Stopped):
        interrupt._handle(signal.SIGINT, None)  # as in a finaliser, where an exception is printed and forgotten
    with pytest.raises(Stopped) as stop:
        train(steps=20, interrupt=interrupt)
    assert stop.value.exit_code == 130


class Meeting:
    """Where threads that play processes exchange what they hold; fails where they want different things."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=20)
        self.held: list[Any] = [None, None]


class Played(Processes):
    """One of two processes, played by a thread."""

    def __init__(self, rank: int, meeting: Meeting):
        self.count, self.rank, self.meeting = 2, rank, meeting

    def exchange(self, what: str, value: Any) -> list[Any]:
        self.meeting.held[self.rank] = (what, value)
        self.meeting.barrier.wait()
        held = list(self.meeting.held)
        self.meeting.barrier.wait()
        assert held[0][0] == held[1][0], f"one is in {held[0][0]}, the other in {held[1][0]}"
        return [value for _, value in held]

    def start_equal(self, tensors):
        self.exchange("start_equal", None)

    def add(self, *values, device):
        return [sum(each) for each in zip(*self.exchange("add", values), strict=True)]

    def largest(self, value, device):
        return max(self.exchange("largest", value))

    def add_gradients(self, parameters):
        self.exchange("add_gradients", None)

    def wait(self):
        self.exchange("wait", None)


@pytest.mark.parametrize("asked", [0, 1])
def test_an_observer_that_stops_one_process_stops_all_of_them(asked):
    meeting, ended = Meeting(), {}

    class Impatient:
        def __init__(self, rank):
            self.rank = rank

        def notify(self, hook, arguments):
            if hook == "adapterhub_step_end" and arguments["step"] == 2 and self.rank == asked:
                arguments["run"].stop("time is up")

    def play(rank):
        engine, base = Engine(progress=Silent()), tiny_base("encoder")
        data = problems.texts()
        task, provided = engine.task_for(base, data), engine.strategy_shelf.resolve("lora")
        attachment = attach(
            base, task, provided, engine.strategy_shelf.load(provided), engine.strategy_shelf.configure(provided, {})
        )
        config = TrainConfig(steps=6, batch_size=8)
        training = loop.Training(
            attachment, task.encode(data, base), config, Silent(), Impatient(rank), processes=Played(rank, meeting)
        )
        try:
            ended[rank] = training.run().state
        except BaseException:
            meeting.barrier.abort()
            raise

    threads = [threading.Thread(target=play, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [ended[rank].step for rank in (0, 1)] == [2, 2]
    assert ended[asked].stopped == "time is up"
    assert ended[1 - asked].stopped == "asked to in another process"


# Features and outputs.


def test_features_of_several_labels_are_kept_apart_by_how_many_there_are(train):
    engine, base = Engine(progress=Silent()), tiny_base("encoder")

    def probe(*labels):
        rows = [{"text": text, "label": label} for text, label in zip(TEXTS * 4, labels * 4, strict=True)]
        data = engine.load_data(rows, "text-classification")
        return engine.train(base, data, strategy="linear_probe")

    test = [{"text": "good bank", "label": ["a", "b"]}, {"text": "bad bank", "label": ["a"]}]
    for adapter in (probe(["a", "b"], ["a"], ["b"], ["a"]), probe(["a", "b"], ["a"], ["b"], ["c"])):
        found = adapter.evaluate(adapter.load_data(test))  # the same test data in two columns, then in three
        assert found.n == 2


@pytest.mark.parametrize("fits", [4, 0])
def test_encoding_that_runs_out_of_memory_goes_on_with_less_at_once(fits, monkeypatch):
    engine, base, data = Engine(progress=Silent()), tiny_base("encoder"), problems.texts()
    task = engine.task_for(base, data)
    encoded = task.encode(data, base)
    wanted, targets = encode_features(base, task, encoded, Silent(), keep=False)
    features = type(task).features

    def small(self, base, batch):
        if len(batch["input_ids"]) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return features(self, base, batch)

    monkeypatch.setattr(type(task), "features", small)
    if not fits:
        with pytest.raises(TrainingError, match=r"encoding a single example of length .*--max-length"):
            encode_features(base, task, encoded, Silent(), keep=False)
        return
    found, same = encode_features(base, task, encoded, Silent(), keep=False)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(same, targets)


def test_processes_send_each_other_no_more_than_the_outputs(monkeypatch):
    engine, base, data = Engine(progress=Silent()), tiny_base("encoder"), problems.texts()
    adapter = engine.train(base, data, config=TrainConfig(steps=1))
    encoded = adapter.attachment.task.encode(data, base)
    wanted = torch.cat(
        [evaluate.predict_logits(adapter.attachment, one(encoded, i), Silent()) for i in range(len(data))]
    )
    sent = []

    class Sending(Processes):
        def collect(self, parts):
            sent.append(len(pickle.dumps(parts)))
            return parts[::-1]  # whatever the order in which they come

    monkeypatch.setattr(evaluate, "EXAMPLES_AT_ONCE", 4)
    logits, targets = evaluate._outputs(adapter.attachment, encoded, Silent(), Sending())
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-5)
    assert targets.tolist() == list(data.targets)
    batches = len(data) // 4
    assert sent[0] < logits.nbytes + targets.nbytes + 2000 * batches


def one(encoded, row):
    return type(encoded)([encoded.examples[row]])


def test_nothing_to_evaluate_is_said():
    data = problems.texts()
    adapter = Engine(progress=Silent()).train(tiny_base("encoder"), data, config=TrainConfig(steps=1))
    with pytest.raises(DataError, match="nothing to evaluate"):
        adapter.evaluate(data.select([]))


def test_intervals_of_several_labels_are_those_of_rows_drawn_and_scored(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 40)
    random = np.random.default_rng(0)
    true = random.random((60, 4)) < 0.4
    predicted = true ^ (random.random((60, 4)) < 0.2)
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(60, (60,), generator=generator).numpy() for _ in range(40)]
    found = metrics.labels_intervals(torch.tensor(predicted) * 2.0 - 1, torch.tensor(true).float())
    for average in ("macro", "micro"):
        scores = [f1_score(true[rows], predicted[rows], average=average) for rows in drawn]
        assert found[f"{average}_f1"] == pytest.approx(tuple(np.quantile(scores, [0.025, 0.975])), abs=1e-9)
    right = (true == predicted).all(axis=1)
    wilson = binomtest(int(right.sum()), 60).proportion_ci(method="wilson")
    assert found["exact_match"] == pytest.approx((wilson.low, wilson.high), abs=1e-12)


def test_intervals_of_values_are_those_of_rows_drawn_and_scored(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 40)
    random = np.random.default_rng(0)
    true = random.normal(50, 9, 60)
    predicted = true + random.normal(1, 5, 60)
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(60, (60,), generator=generator).numpy() for _ in range(40)]
    found = metrics.values_intervals(torch.tensor(predicted), torch.tensor(true))
    references = {"rmse": root_mean_squared_error, "mae": mean_absolute_error, "r2": r2_score}
    assert found.keys() == references.keys()
    for name, reference in references.items():
        scores = [reference(true[rows], predicted[rows]) for rows in drawn]
        assert found[name] == pytest.approx(tuple(np.quantile(scores, [0.025, 0.975])), abs=1e-9)


# What is said.


def test_evaluation_rows_that_were_trained_on_are_counted(train, file):
    data = load_data(file, "text-classification")
    ran = train(data=data.select(range(6)), held_out=data, steps=1)
    assert len([line for line in ran.said if line.startswith("warning: the evaluation data") and "6 rows" in line]) == 1
    ran = train(data=data.select(range(6)), held_out=data.select(range(6, 16)), steps=1)
    assert not [line for line in ran.said if line.startswith("warning")]


def test_the_file_to_score_on_is_read_by_the_columns_of_the_training_data(tmp_path):
    (tmp_path / "train.csv").write_text("sentence,label\ngood day,x\nbad day,y\nmy card,x\none two,y\n")
    (tmp_path / "dev.csv").write_text("text,sentence,label\nid 1,good card,x\nid 2,bad card,y\n")
    given = {"base": "any", "task": "text-classification", "out": "any"}
    given |= {"data": str(tmp_path / "train.csv"), "eval_data": str(tmp_path / "dev.csv")}
    _, held_out = read_rows(read_run(None, given), task_shelf())
    assert list(held_out.inputs) == ["good card", "bad card"]


@pytest.mark.parametrize("way", ["command line", "Python"])
def test_the_file_to_score_on_needs_no_groups(way, tmp_path):
    (tmp_path / "train.csv").write_text("text,label,who\ngood day,x,1\nbad day,y,1\nmy card,x,2\none two,y,2\n")
    (tmp_path / "dev.csv").write_text("text,label\ngood card,x\nbad card,y\n")
    train, dev, columns = str(tmp_path / "train.csv"), str(tmp_path / "dev.csv"), {"group": "who"}
    if way == "Python":
        engine = Engine(progress=Silent())
        data = engine.load_data(train, "text-classification", columns=columns)
        held_out = read_like(engine.task_shelf, data, dev)
    else:
        given = {"base": "any", "task": "text-classification", "out": "any", "columns": columns}
        _, held_out = read_rows(read_run(None, given | {"data": train, "eval_data": dev}), task_shelf())
    assert len(held_out) == 2


@pytest.mark.parametrize("names", [False, True])
def test_the_rows_of_a_bad_step_are_counted_as_in_the_file(names, file, monkeypatch):
    engine = Engine(progress=Told())
    data = engine.load_data(file, "text-classification", options={"learn_names": names})
    part, _ = split(data, 0.5, seed=0)
    task = type(engine.task_for(tiny_base("encoder"), data))
    losses = task.losses
    monkeypatch.setattr(task, "losses", lambda self, logits, targets: losses(self, logits, targets) * float("nan"))
    config = TrainConfig(steps=2, batch_size=32)
    with pytest.raises(TrainingError):
        engine.train(tiny_base("encoder"), part, config=config)
    (first, *_) = [line for line in engine.progress.lines if "not applied" in line]
    told = first.partition("rows ")[2].split(", ")
    rows = {str(row + 1) for row in part.table.rows}
    assert set(told) - {"(name of a class)"} <= rows
    assert names or set(told) == rows


def test_a_picture_that_cannot_be_drawn_costs_no_adapter(train, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def broken(*_, **__):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(Figure, "savefig", broken)
    ran = train(tmp_path / "a.run", steps=2)
    assert "warning: the loss curve could not be drawn (RuntimeError: no fonts)" in ran.said


def test_a_penalty_for_a_probe_that_is_not_asked_for_is_refused(train):
    with pytest.raises(ConfigError, match="--start-head probe"):
        train(start_penalty=0.1)


def test_the_last_step_is_scored_whatever_the_steps(references, tmp_path):
    """With 5 steps and a score every 3, the adapter of step 5 may be the best one, and has to be scored to be kept."""
    engine = ah.Engine(progress=Silent())
    base = engine.load_base(references("tiny-bert"))
    rows = {"text": ["a good day", "one bad day"] * 8, "label": ["yes", "no"] * 8}
    data = engine.load_data(rows, "text-classification")
    config = ah.TrainConfig(steps=5, eval_every=3, batch_size=4)
    engine.train(base, data, strategy="lora", eval_data=data, config=config, run_folder=tmp_path / "run")
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert [line["step"] for line in lines if "eval_accuracy" in line] == [3, 5]


def test_options_of_steps_are_told_to_say_nothing_to_a_probe(references):
    said: list[str] = []

    class Telling(Silent):
        def say(self, line: str) -> None:
            said.append(line)

    engine = ah.Engine(progress=Telling())
    base = engine.load_base(references("tiny-bert"))
    data = engine.load_data({"text": ["good", "bad"] * 4, "label": ["yes", "no"] * 4}, "text-classification")
    config = ah.TrainConfig(learning_rate=1e-3, epochs=2, seed=4)
    engine.train(base, data, strategy="linear_probe", config=config)
    assert "note: linear_probe has no steps: epochs, learning_rate say nothing to it" in said
