"""Trackers: what they are told, that a run does not depend on them, and that they go on where it goes on."""

from __future__ import annotations

import json
import shutil
import sys
import types
import warnings

import pytest
import torch
from accelerate import PartialState
from accelerate.logging import get_logger

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.training.config import TrainConfig
from adapterhub_text.tiny import texts
from tests.training.conftest import contents, equal

OPTIONS = {"steps": 4, "eval_every": 2, "checkpoint_every": 2}


class Fake:
    """A tracker that remembers, and fails where it is told to."""

    fails_at: str | None = None

    def __init__(self, *given, **options):
        self.given, self.options = given, options
        self.told: list[tuple] = []
        made.append(self)

    def start(self):
        get_logger(__name__).debug("started")  # which fails unless accelerate knows what process this is
        self._do("start")

    def store_init_configuration(self, values):
        self._do("configuration", values)

    def log(self, values, step):
        torch.rand(1)  # as a tracker may
        self._do("log", values, step)

    def finish(self):
        self._do("finish")

    def _do(self, what, *arguments):
        self.told.append((what, *arguments))
        if what == self.fails_at:
            raise SystemExit("no route to host")


made: list[Fake] = []


@pytest.fixture
def fake(monkeypatch):
    """Put the fake in the place of W&B."""
    from accelerate import tracking

    made.clear()
    PartialState._reset_state()
    module = types.ModuleType("wandb")
    module.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Fake)
    monkeypatch.setattr(Fake, "fails_at", None)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    return made


def test_a_tracker_is_told_what_is_in_the_log_and_changes_nothing(train, fake, tmp_path):
    plain = train(tmp_path / "plain.run", held_out=texts(), **OPTIONS)
    ran = train(tmp_path / "tracked.run", held_out=texts(), track="wandb", **OPTIONS)
    assert equal(plain.tensors, ran.tensors)
    assert (tmp_path / "plain.run" / "metrics.jsonl").read_bytes() == (
        tmp_path / "tracked.run" / "metrics.jsonl"
    ).read_bytes()
    (tracker,) = fake
    assert tracker.options["mode"] == "offline"  # there is no account
    assert [what for what, *_ in tracker.told] == ["start", "configuration", *["log"] * 6, "finish"]
    configuration = tracker.told[1][1]
    assert configuration["settings.rank"] == 2
    assert configuration["training.learning_rate"] == 1e-2
    assert configuration["strategy"] == "lora"
    assert all(isinstance(value, (bool, int, float, str)) for value in configuration.values())
    lines = [json.loads(line) for line in (tmp_path / "tracked.run" / "metrics.jsonl").read_text().splitlines()]
    for (_, values, step), line in zip(tracker.told[2:-1], lines, strict=True):
        assert step == line["step"]
        if "eval_loss" in line:
            assert values == {f"eval/{k.removeprefix('eval_')}": v for k, v in line.items() if k != "step"}
        else:
            assert values == {f"train/{k}": line[k] for k in ("loss", "learning_rate", "grad_norm")}


@pytest.mark.parametrize("fails_at", ["start", "configuration", "log", "finish"])
def test_a_tracker_that_fails_is_warned_about_once_and_muted(fails_at, train, fake, tmp_path, monkeypatch):
    monkeypatch.setattr(Fake, "fails_at", fails_at)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ran = train(tmp_path / "a.run", track=["wandb"], steps=4)
    assert ran.facts["steps"] == 4
    said = [str(warning.message) for warning in caught if issubclass(warning.category, RuntimeWarning)]
    assert len(said) == 1
    assert "tracker 'wandb' failed (SystemExit: no route to host)" in said[0]
    assert [what for what, *_ in fake[0].told].count(fails_at) == 1


def test_a_resumed_run_goes_on_in_the_same_experiment(train, fake, tmp_path):
    folder = tmp_path / "a.run"
    train(folder, track="wandb", **OPTIONS, held_out=texts())
    expected = contents(folder)
    shutil.rmtree(folder / "checkpoints" / "step-00000004")  # as if it had been killed after step 2
    train(folder, resume=True, track="wandb", **OPTIONS, held_out=texts())
    assert contents(folder) == expected
    first, second = fake
    assert first.options["id"] == second.options["id"]
    assert second.options["resume"] == "allow"
    assert [step for what, *rest in second.told if what == "log" for step in rest[1:]] == [3, 4, 4]
    assert "configuration" not in [what for what, *_ in second.told]
    train(folder.with_name("b.run"), track="wandb", steps=1)
    assert fake[2].options["id"] != first.options["id"]
    # Whether a run is tracked is nothing that has to stay the same.
    shutil.rmtree(folder / "checkpoints" / "step-00000004")
    train(folder, resume=True, **OPTIONS, held_out=texts())
    assert contents(folder) == expected


def test_a_tracker_that_is_not_there_is_refused_first():
    with pytest.raises(ConfigError, match=r"trackio is not installed; pip install trackio"):
        TrainConfig(track="trackio").check(held_out=False)
    with pytest.raises(ConfigError, match="tensorboard"):
        TrainConfig(track="tensorbord")
    assert TrainConfig(track="tensorboard, wandb").track == ["tensorboard", "wandb"]


def test_tracking_needs_a_folder(train, fake):
    with pytest.raises(ConfigError, match="needs a run folder"):
        train(track="wandb")


def test_tensorboard_has_every_step_once(train, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the extra 'track'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "a.run"
    train(folder, track="tensorboard", **OPTIONS, held_out=texts())
    shutil.rmtree(folder / "checkpoints" / "step-00000004")
    train(folder, resume=True, track="tensorboard", **OPTIONS, held_out=texts())
    events = EventAccumulator(str(folder / "tensorboard" / "a"))
    events.Reload()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for tag, key in (("train/loss", "loss"), ("train/grad_norm", "grad_norm"), ("eval/accuracy", "eval_accuracy")):
        logged = [(event.step, event.value) for event in events.Scalars(tag)]
        assert logged == [(line["step"], pytest.approx(line[key], rel=1e-6)) for line in lines if key in line]
    (parameters,) = folder.glob("tensorboard/a/*/hparams.yml")
    assert "settings.rank: 2" in parameters.read_text()
