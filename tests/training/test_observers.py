"""Watching plug-ins that look on: one thread for all of their calls, and a warning where one does not come back."""

from __future__ import annotations

import json
import os
import threading
import time
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterhub_lite.api import hookimpl
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.plugins import guard
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.observers import Observers
from adapterhub_lite.progress import Silent
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training import loop
from adapterhub_lite.training.attachment import attach
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.processes import Processes
from adapterhub_text.tiny import texts

from .conftest import contents
from .test_resume import Killed, killed_after


@pytest.fixture
def started(monkeypatch):
    """The names of the threads that were started."""
    started: list[str] = []
    start = threading.Thread.start

    def counted(thread):
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", counted)
    return started


def plugins_with(**step_ends):
    """Only plug-ins that are called after a step."""
    plugins = Plugins(enabled=False)
    for name, step_end in step_ends.items():
        module = types.ModuleType(name)
        module.adapterhub_step_end = hookimpl(step_end, specname="adapterhub_step_end")
        plugins.register(module)
    return plugins


def test_a_run_with_two_observers_starts_one_thread(train, monkeypatch, started):
    seen = []
    plugins = Plugins()
    for name in ("one", "two"):
        module = types.ModuleType(name)
        module.adapterhub_step_end = hookimpl(lambda step: seen.append(step), specname="adapterhub_step_end")
        plugins.register(module)
    started.clear()
    train(plugins=plugins, steps=50)
    assert len(seen) == 100
    assert started.count("adapterhub-watch") <= 1
    assert len(started) <= 1


def test_who_does_not_come_back_is_named_once_in_every_call(monkeypatch, caplog):
    monkeypatch.setattr(guard, "PATIENCE", 0.1)
    plugins = plugins_with(quick=lambda: None, slow=lambda: time.sleep(0.35))
    observers = Observers(plugins)
    for _ in range(2):
        observers.notify("adapterhub_step_end", {"run": None, "step": 1, "metrics": {}})
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert all("plug-in 'slow'" in line and "ADAPTERHUB_DISABLE=slow" in line for line in said)


def test_a_call_that_hangs_within_another_is_named_and_so_is_the_other(monkeypatch, caplog):
    monkeypatch.setattr(guard, "PATIENCE", 0.1)
    watch = guard.Watch()
    with watch.waiting_for("the outer one", "remove it"), watch.waiting_for("the inner one", "remove it"):
        time.sleep(0.3)
    assert sorted(record.args[0] for record in caplog.records) == ["the inner one", "the outer one"]


def test_the_thread_ends_when_nothing_is_called_and_comes_back(monkeypatch, caplog, started):
    monkeypatch.setattr(guard, "PATIENCE", 0.05)
    watch = guard.Watch()
    for _ in range(2):
        with watch.waiting_for("a call", "wait"):
            pass
        deadline = time.monotonic() + 10
        while any(thread.name == "adapterhub-watch" for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert len(started) == 2
    with watch.waiting_for("a slow call", "wait"):
        time.sleep(0.2)
    assert [record.args[0] for record in caplog.records] == ["a slow call"]


def test_an_interrupt_names_who_was_waited_for():
    def interrupted():
        raise KeyboardInterrupt

    observers = Observers(plugins_with(stuck=interrupted))
    with pytest.raises(KeyboardInterrupt) as stop:
        observers.notify("adapterhub_step_end", {"run": None, "step": 1, "metrics": {}})
    assert "plug-in 'stuck'" in stop.value.__notes__[0]
    assert "ADAPTERHUB_DISABLE=stuck" in stop.value.__notes__[0]


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
        return [sum(numbers) for numbers in zip(*self.exchange("add", values), strict=True)]

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
        data = texts()
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


class Follower:
    """Keeps the smallest loss in its slot, logs it, and remembers what it was told."""

    def __init__(self):
        self.ids, self.ended = [], []

    def adapterhub_train_start(self, run):
        self.ids.append(run.id)

    def adapterhub_step_end(self, metrics, run):
        run.state["best"] = min(metrics["loss"], run.state.get("best", 9e9))
        run.log("best", run.state["best"])

    def adapterhub_train_end(self, run, error, metrics):
        self.ended.append((run.id, error, metrics))


def follow(follower, folder, *, resume=False, held_out=True):
    base, data = tiny_base("encoder"), texts()
    config = TrainConfig(steps=6, batch_size=8, checkpoint_every=2, learning_rate=1e-2)
    return Engine(progress=Silent()).train(
        base, data, config=config, eval_data=data if held_out else None, run_folder=folder, resume=resume,
        callbacks=[follower],
    )  # fmt: skip


def test_an_object_given_by_hand_has_an_id_a_log_a_slot_and_the_final_metrics(tmp_path, monkeypatch):
    follower = Follower()
    adapter = follow(follower, tmp_path / "whole")
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    best = [line["Follower-0/best"] for line in lines if "Follower-0/best" in line]
    assert best == [min(losses[: i + 1]) for i in range(6)]
    ((run_id, error, metrics),) = follower.ended
    assert [run_id] == follower.ids
    assert error is None
    assert metrics == {"train_loss": adapter.training["train_loss"], **adapter.metrics}
    assert {"accuracy", "train_loss"} <= set(metrics)

    with monkeypatch.context() as patch:
        killed_after(patch, 5)
        cut = Follower()
        with pytest.raises(Killed):
            follow(cut, tmp_path / "cut")
    assert isinstance(cut.ended[0][1], Killed)
    assert cut.ended[0][2] == {}
    follow(cut, tmp_path / "cut", resume=True)
    assert cut.ids[0] == cut.ids[1] != run_id
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_callback_that_is_none_is_refused_before_anything_is_trained(tmp_path):
    class Typo:
        def adapterhub_steps_end(self, run):
            raise AssertionError

    for callback, message in ((Typo(), "'adapterhub_step_end'"), (print, "has no hook of a run; the hooks are")):
        with pytest.raises(ConfigError, match=message):
            follow(callback, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_slot_that_is_no_json_mutes_its_observer_alone(tmp_path):
    class Careless(Follower):
        def adapterhub_step_end(self, run):
            run.state["model"] = object()

    with pytest.warns(RuntimeWarning, match=r"callbacks\[0\] \(Careless\) failed in run.state"):
        adapter = follow(Careless(), tmp_path / "run", held_out=False)
    assert adapter.training["steps"] == 6


def test_observers_are_called_on_the_main_process_alone(monkeypatch):
    monkeypatch.setattr(Processes, "is_main", property(lambda self: False))
    follower = Follower()
    base, data = tiny_base("encoder"), texts()
    Engine(progress=Silent()).train(base, data, config=TrainConfig(steps=2, batch_size=8), callbacks=[follower])
    assert follower.ids == follower.ended == []


def test_what_an_observer_changes_for_the_whole_program_is_put_back(tmp_path):
    class Careless:
        def adapterhub_train_start(self, run):
            torch.set_default_dtype(torch.float64)
            os.chdir(tmp_path)

    before = Path.cwd()
    with pytest.warns(RuntimeWarning, match="in adapterhub_train_start changed .*; it was put back"):
        Engine(progress=Silent()).train(
            tiny_base("encoder"), texts(), config=TrainConfig(steps=1), callbacks=[Careless()]
        )
    assert torch.get_default_dtype() == torch.float32
    assert Path.cwd() == before
