"""Checkpoints and resuming: the same bytes as a run that was never interrupted, or a refusal that says why."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adapterhub_causal_lm.items import Completion
from adapterhub_lite.errors import ConfigError, StorageError, TrainingError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.training import loop
from adapterhub_lite.training.run.checkpoint import read_checkpoint
from adapterhub_lite.training.run.folder import RunFolder
from adapterhub_text.tiny import texts
from tests.reading import load_data

from .conftest import contents, equal

ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """Stands for a kill: nothing of the run gets to do anything after it."""


def killed_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let a run end in the middle of the step after `steps`."""
    original, done = loop.apply, []

    def apply(*arguments):
        if len(done) == steps:
            raise Killed
        done.append(1)
        original(*arguments)

    monkeypatch.setattr(loop, "apply", apply)


RUNS = {
    "lora on an encoder": {"strategy": "lora"},
    "lora on a decoder": {"strategy": "lora", "model": "decoder", "settings": {"rank": 2, "dropout": 0.2}},
    "prefix": {"strategy": "prefix", "settings": {"length": 4}},
    "full": {"strategy": "full"},
    "vera, which has frozen random weights": {"strategy": "peft:vera", "settings": {"r": 4}},
    "lora on a 4-bit base": {"strategy": "lora", "model": "decoder", "quantization": "nf4"},
    "lora in bf16": {"strategy": "lora", "dtype": torch.bfloat16},
    "averaged": {"strategy": "lora", "average": True},
    "8 bits of bitsandbytes": {"strategy": "full", "optimizer": "adamw_8bit"},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_run_ends_in_the_same_bytes(name, train, tmp_path, monkeypatch):
    options = {**RUNS[name], "checkpoint_every": 2, "schedule": "cosine"}
    whole = train(tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        killed_after(patch, 5)
        with pytest.raises(Killed):
            train(tmp_path / "cut", **options)
    assert len((tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()) == 5
    torch.rand(3)
    resumed = train(tmp_path / "cut", resume=True, **options)
    assert equal(resumed.tensors, whole.tensors)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert any("resuming after step 4" in line for line in resumed.said)
    plain = train(**{key: value for key, value in options.items() if key != "checkpoint_every"})
    assert equal(plain.tensors, whole.tensors), "checkpoints change nothing"


def test_evaluations_the_best_adapter_and_early_stopping_go_on_where_they_were(train, tmp_path, monkeypatch):
    options = {"held_out": texts(), "steps": 30, "eval_every": 2, "patience": 3, "learning_rate": 0.1}
    options |= {"checkpoint_every": 5, "keep_checkpoints": 2}
    whole = train(tmp_path / "whole", **options)
    assert whole.facts["stopped"] == "no better accuracy in 3 evaluations"
    best, last = whole.facts["best_step"], whole.facts["steps"]
    assert last == best + 6
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["eval_accuracy"] for line in lines if "eval_accuracy" in line}
    assert max(scores.values()) == scores[best] == whole.metrics["accuracy"]
    held = sorted(path.name for path in (tmp_path / "whole" / "checkpoints").glob("step-*"))
    assert f"step-{best:08}" in held
    assert f"step-{last:08}" in held
    assert len(held) <= 3
    kept = read_checkpoint(tmp_path / "whole" / "checkpoints" / f"step-{best:08}").tensors
    assert all(torch.equal(kept[f"adapter/{name}"], tensor) for name, tensor in whole.tensors.items())
    for cut in (3, last - 1):
        with monkeypatch.context() as patch:
            killed_after(patch, cut)
            with pytest.raises(Killed):
                train(tmp_path / f"cut-{cut}", **options)
        resumed = train(tmp_path / f"cut-{cut}", resume=True, **options)
        assert equal(resumed.tensors, whole.tensors)
        assert contents(tmp_path / f"cut-{cut}") == contents(tmp_path / "whole")


@pytest.mark.parametrize("seed", range(3))
def test_the_last_step_that_is_not_surely_worse_is_kept(seed, train, tmp_path, monkeypatch):
    options = {
        "held_out": texts(),
        "steps": 12,
        "eval_every": 1,
        "learning_rate": 3e-2,
        "keep": "last-good",
        "seed": seed,
    }
    options |= {"checkpoint_every": 5}
    whole = train(tmp_path / "whole", **options)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    scores = {line["step"]: line["eval_accuracy"] for line in lines if "eval_accuracy" in line}
    kept, rows = 0, len(texts())
    for step, score in scores.items():  # of a binomial, around the best score until then
        best = max(value for other, value in scores.items() if other <= step)
        share = (best * rows + 1) / (rows + 2)
        if score >= best - (share * (1 - share) / rows) ** 0.5:
            kept = step
    assert whole.facts["best_step"] == kept
    assert whole.metrics["accuracy"] == scores[kept]
    with monkeypatch.context() as patch:
        killed_after(patch, 8)
        with pytest.raises(Killed):
            train(tmp_path / "cut", **options)
    assert equal(train(tmp_path / "cut", resume=True, **options).tensors, whole.tensors)


@pytest.fixture
def interrupted(train, tmp_path, monkeypatch):
    """A run folder with checkpoints after steps 2 and 4, of a run that was killed."""
    with monkeypatch.context() as patch:
        killed_after(patch, 5)
        with pytest.raises(Killed):
            train(tmp_path / "run", checkpoint_every=2)
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*")) == [
        "step-00000002", "step-00000004",
    ]  # fmt: skip
    return tmp_path / "run"


def flip(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "a bit of a tensor": lambda folder: flip(folder / "state.safetensors", 0.9),
    "a bit of the header": lambda folder: flip(folder / "state.safetensors", 0.001),
    "a bit of the state": lambda folder: flip(folder / "state.json", 0.4),
    "a bit of the log": lambda folder: flip(folder / "metrics.jsonl", 0.5),
    "tensors cut off": lambda folder: (folder / "state.safetensors").write_bytes(b"x" * 8),
    "tensors gone": lambda folder: (folder / "state.safetensors").unlink(),
    "state gone": lambda folder: (folder / "state.json").unlink(),
    "state empty": lambda folder: (folder / "state.json").write_bytes(b""),
    "state of another kind": lambda folder: (folder / "state.json").write_text("[]"),
    "everything gone": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_skipped_loudly(damage, train, interrupted, tmp_path):
    DAMAGES[damage](interrupted / "checkpoints" / "step-00000004")
    whole = train(tmp_path / "whole", checkpoint_every=2)
    resumed = train(interrupted, resume=True, checkpoint_every=2)
    assert equal(resumed.tensors, whole.tensors)
    assert contents(interrupted) == contents(tmp_path / "whole")
    assert any(re.match(r"warning: checkpoint step-00000004 is skipped \(.+\); it is kept as", s) for s in resumed.said)
    assert (interrupted / "checkpoints" / "damaged-step-00000004").is_dir()
    assert "is skipped" in (interrupted / "events.log").read_text()


def test_when_all_are_damaged_the_run_begins_anew_loudly(train, interrupted, tmp_path):
    for path in (interrupted / "checkpoints").glob("step-*"):
        flip(path / "state.safetensors", 0.5)
    resumed = train(interrupted, resume=True, checkpoint_every=2)
    assert any("no checkpoint" in line and "beginning again" in line for line in resumed.said)
    assert equal(resumed.tensors, train().tensors)


OTHERS = {
    "learning rate": ({"learning_rate": 2e-2}, r"training.learning_rate was 0\.01 and is now 0\.02"),
    "seed": ({"seed": 1}, r"training.seed was 0 and is now 1"),
    "steps": ({"steps": 7}, r"training.steps was 6 and is now 7"),
    "batch size": ({"batch_size": 4}, r"training.batch_size was 8 and is now 4"),
    "setting of the strategy": (
        {"settings": {"rank": 2, "dropout": 0.1}},
        r"settings.dropout was 0\.2 and is now 0\.1",
    ),
    "strategy": ({"strategy": "prefix"}, r"strategy.name was \"lora\" and is now \"prefix\""),
    "base": ({"seed_of_base": 1}, r"base.fingerprint.weights was \"\w+"),
    "data": ({"data": texts().select(range(15))}, r"data.rows was 16 and is now 15; data.sha256 was"),
    "order of the data": ({"data": texts().select([1, 0, *range(2, 16)])}, r"data.sha256 was"),
    "task": ({"model": "decoder", "settings": {"rank": 2, "dropout": 0.2}}, r"task.name was"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_run_is_not_resumed(other, train, interrupted):
    options, message = OTHERS[other]
    before = contents(interrupted)
    with pytest.raises(ConfigError, match=message):
        train(interrupted, resume=True, **{"checkpoint_every": 2, **options})
    assert contents(interrupted) == before


def test_how_often_checkpoints_are_made_may_change(train, interrupted):
    resumed = train(interrupted, resume=True, checkpoint_every=1, keep_checkpoints=5)
    assert equal(resumed.tensors, train().tensors)


def test_a_run_that_did_not_end_is_not_overwritten_and_one_that_did_is(train, interrupted, tmp_path):
    with pytest.raises(ConfigError, match=r"interrupted after step 4; go on with --resume"):
        train(interrupted)
    train(interrupted, resume=True, checkpoint_every=2, save=tmp_path / "adapter")
    assert json.loads((interrupted / "finished.json").read_text())["training"]["steps"] == 6
    assert (interrupted / "checkpoints").is_dir(), "they were asked for"
    with pytest.raises(ConfigError, match="is finished, its adapter saved"):
        train(interrupted, resume=True)
    train(interrupted, save=tmp_path / "adapter")
    assert not (interrupted / "checkpoints").exists(), "they were not"


def test_a_folder_of_somebody_else_is_left_alone(train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years")
    for resume in (False, True):
        with pytest.raises(StorageError, match="in the way"):
            train(tmp_path / "run", resume=resume)
    assert (tmp_path / "run" / "thesis.txt").read_text() == "years"


def test_one_process_at_a_time(train, tmp_path):
    held = RunFolder(tmp_path / "run", {})
    with pytest.raises(ConfigError, match="another process is training"):
        train(tmp_path / "run")
    held.close()
    train(tmp_path / "run")


def test_nothing_to_resume_is_a_fresh_run(train, tmp_path):
    ran = train(tmp_path / "run", resume=True)
    assert equal(ran.tensors, train().tensors)


def test_weights_that_are_not_finite_are_never_committed(train, tmp_path, monkeypatch):
    original = loop.apply

    def apply(optimizer, updates, device):
        original(optimizer, updates, device)
        if updates == 3:
            with torch.no_grad():
                optimizer.param_groups[0]["params"][0].fill_(float("inf"))

    monkeypatch.setattr(loop, "apply", apply)
    with pytest.raises(TrainingError, match="not finite"):
        train(tmp_path / "run", checkpoint_every=1)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*"))
    assert names == ["step-00000002", "step-00000003"]


def test_the_run_folder_says_what_was_run(train, tmp_path):
    ran = train(tmp_path / "run", held_out=texts(), eval_every=3)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["identity"]["training"]["steps"] == 6
    assert record["identity"]["data"]["rows"] == 16
    assert record["versions"]["torch"] == torch.__version__
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?", record["git_commit"])
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 3, 4, 5, 6, 6]
    assert {"loss", "grad_norm", "learning_rate", "targets", "applied"} <= set(lines[0])
    assert "eval_accuracy" in lines[3]
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert ran.metrics["n"] == 16


def test_without_matplotlib_there_is_a_note_instead_of_a_picture(train, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    ran = train(tmp_path / "run")
    assert any("matplotlib is not installed" in line for line in ran.said)
    assert not (tmp_path / "run" / "loss.png").exists()


def test_no_pickle_in_a_run_folder(interrupted):
    suffixes = {path.suffix for path in interrupted.rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert suffixes == {".json", ".jsonl", ".safetensors", ".log"}


def test_a_plugin_may_stop_a_run_that_is_then_not_trained_further(train, tmp_path):
    import types

    from adapterhub_lite.api import hookimpl

    def adapterhub_step_end(run, step):
        if step == 3:
            run.stop("enough")

    plugins = Plugins()
    module = types.ModuleType("stopper")
    module.adapterhub_step_end = hookimpl(adapterhub_step_end)
    plugins.register(module)
    stopped = train(tmp_path / "run", plugins=plugins)
    again = train(tmp_path / "run", resume=True)
    assert again.facts["steps"] == 3
    assert equal(again.tensors, stopped.tensors)


def test_twenty_five_kills_lose_nothing(tmp_path):
    command = [sys.executable, "-m", "benchmarks.crash_test", "--kills", "25", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| all | 25 |" in done.stdout
    assert "not equal to the uninterrupted run: 0" in done.stdout


def test_rows_of_a_language_model_are_part_of_what_a_run_is(train, tmp_path):
    rows = [{"prompt": "one two", "completion": "three"}, {"prompt": "two three", "completion": "four"}] * 4
    data = load_data(rows, "causal-lm")
    assert isinstance(data.inputs[0], Completion)
    train(tmp_path / "run", model="decoder", data=data, checkpoint_every=2, settings={"rank": 2})
    changed = load_data([*rows[:-1], {"prompt": "two three", "completion": "five"}], "causal-lm")
    with pytest.raises(ConfigError, match=r"data\.sha256"):
        train(tmp_path / "run", resume=True, model="decoder", data=changed, settings={"rank": 2})


def test_nothing_hidden_lies_beside_a_run_once_it_is_over(train, tmp_path):
    import types

    from adapterhub_lite.api import hookimpl

    hidden = []

    def adapterhub_step_end(run):
        hidden.extend(path.name for path in tmp_path.iterdir() if path.name.startswith("."))

    plugins = Plugins()
    module = types.ModuleType("looker")
    module.adapterhub_step_end = hookimpl(adapterhub_step_end)
    plugins.register(module)
    train(tmp_path / "adapter.run", plugins=plugins, checkpoint_every=2, save=tmp_path / "adapter", steps=4)
    assert set(hidden) == {".adapter.locks"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "adapter.run"]
    assert list((tmp_path / "adapter.run").rglob(".*")) == []
