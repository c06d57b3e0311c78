"""SIGINT and SIGTERM: end in order with 130 or 143 wherever they come, nothing half-written, and go on from there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import safetensors.torch

from adapterhub_lite.base import loading
from adapterhub_lite.cli import main
from adapterhub_lite.errors import StorageError
from adapterhub_lite.interrupt import Interrupt, Stopped, listener, safe_point
from adapterhub_lite.progress import Silent
from adapterhub_lite.storage import commit, read_adapter
from adapterhub_lite.training import loop
from adapterhub_lite.training.processes import Processes

from .conftest import contents

ROOT = Path(__file__).parents[2]
TEXTS = ["one two three", "good day", "bad day and cold room", "my card is in the bank", "seven", "warm fish"] * 2


@pytest.fixture
def command(tmp_path: Path, references: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run `adapterhub-lite train` on a tiny model in this process: its exit status."""
    data = tmp_path / "data.csv"
    data.write_text("text,label\n" + "".join(f"{text},{'xy'[i % 2]}\n" for i, text in enumerate(TEXTS)))
    given = ["--base", references("tiny-bert"), "--data", data, "--eval-data", data, "--task", "text-classification"]
    given += ["--steps", "5", "--batch-size", "4", "--micro-batch-size", "2", "--set", "rank=2", "--set", "dropout=0.2"]
    given += ["--eval-every", "2", "--lr", "0.01", "--dtype", "float32"]

    def run(out: Path, *more: str, everything: bool = True) -> int:
        arguments = [*(given if everything else []), "--out", out, *more]
        monkeypatch.setattr(sys, "argv", ["adapterhub-lite", "train", *map(str, arguments)])
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        return status

    return run


def send_at(patch: pytest.MonkeyPatch, owner: object, name: str, number: int, call: int, times: int = 1) -> None:
    """Send this process a signal when a function is called for the `call`th time, before it does anything."""
    original, seen = getattr(owner, name), []

    def wrapped(*args, **kwargs):
        seen.append(1)
        if len(seen) == call:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    patch.setattr(owner, name, wrapped)


PLACES = {
    "while loading": (loading, "model_from", 1),
    "in a step": (loop, "accumulate", 3),
    "in the update": (loop, "apply", 2),
    "in an evaluation": (loop, "score", 1),
    "in the last evaluation": ("adapterhub_lite.adapter.adapter", "evaluate_rows", 1),
    "in a commit of a checkpoint": (commit, "sync_tree", 2),
    "in the commit of the adapter": ("adapterhub_lite.adapter.save", "write_adapter", 1),
}


@pytest.mark.parametrize(
    ("number", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)], ids=["one SIGINT", "two SIGTERM"]
)
@pytest.mark.parametrize("place", PLACES)
def test_a_signal_ends_a_run_in_order_and_it_goes_on(place, number, times, command, tmp_path, monkeypatch):
    owner, name, call = PLACES[place]
    owner = sys.modules[owner] if isinstance(owner, str) else owner
    with monkeypatch.context() as patch:
        send_at(patch, owner, name, number, call, times)
        assert command(tmp_path / "cut") == 128 + number
    assert not [path for path in tmp_path.rglob(".*") if "staging" in path.name]
    saved = (tmp_path / "cut").exists()
    assert saved == (place == "in the commit of the adapter")
    if not saved:
        assert command(tmp_path / "cut", "--resume") == 0
    whole = tmp_path.parent / "whole" / "adapter"  # made once, by the first of these tests
    if not whole.exists():
        assert command(whole) == 0
    tensors = [(path / "adapter_model.safetensors").read_bytes() for path in (whole, tmp_path / "cut")]
    assert tensors[0] == tensors[1]
    logs = [(path.with_name(f"{path.name}.run") / "metrics.jsonl").read_bytes() for path in (whole, tmp_path / "cut")]
    assert logs[0] == logs[1]
    read_adapter(tmp_path / "cut")


def test_resume_needs_nothing_but_the_name_and_says_so(command, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        send_at(patch, loop, "accumulate", signal.SIGTERM, 3)
        assert command(tmp_path / "cut") == 143
    assert "stopped by SIGTERM after step 3 of 5; go on with --resume" in capsys.readouterr().err
    assert command(tmp_path / "cut") == 2
    assert "interrupted after step 3; go on with --resume" in capsys.readouterr().err
    assert command(tmp_path / "cut", "--resume", everything=False) == 0
    assert json.loads((tmp_path / "cut.run" / "finished.json").read_text())["training"]["steps"] == 5


@pytest.mark.parametrize("signals", [5, pytest.param(500, marks=pytest.mark.slow)], ids=["a few", "as in SIGNALS.md"])
def test_signals_at_random_moments_of_every_verb(signals):
    arguments = [sys.executable, "-m", "benchmarks.signals", "--signals", str(signals), "--seed", "2"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"| all | {signals} |" in done.stdout


def becomes_another_error(original: Callable[..., object]) -> Callable[..., object]:
    """A library's function that a signal comes to, and that turns whatever a handler raises into an error of its own."""

    def call(*args: object, **options: object) -> object:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            return original(*args, **options)
        except BaseException as error:
            raise ValueError("could not determine the shape of an object") from error

    return call


def test_a_signal_while_a_checkpoint_is_read_is_still_that_signal(command, tmp_path, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        send_at(patch, loop, "accumulate", signal.SIGTERM, 3)
        assert command(tmp_path / "cut") == 143
    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "load_file", becomes_another_error(safetensors.torch.load_file))
        assert command(tmp_path / "cut", "--resume") == 143
    assert "Traceback" not in capfd.readouterr().err
    assert command(tmp_path / "cut", "--resume") == 0


@pytest.mark.parametrize(
    "error", [ValueError("of a library"), StorageError("the disk is full"), SystemExit(3), OSError()]
)
def test_whatever_is_raised_after_a_signal_ends_as_that_signal(error, command, tmp_path, monkeypatch, capfd):
    def fails(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)
        raise error

    monkeypatch.setattr(loading, "model_from", fails)
    assert command(tmp_path / "cut") == 130
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "stopped by SIGINT" in said.splitlines()
    assert isinstance(error, SystemExit) or str(error) in said.splitlines()[-1], "nothing is hidden"


def test_signals_are_handled_only_while_listening_and_in_the_main_thread():
    before = signal.getsignal(signal.SIGTERM)
    interrupt = Interrupt()
    assert signal.getsignal(signal.SIGTERM) is before
    with interrupt.listening():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before

    def elsewhere() -> None:
        with Interrupt().listening():
            seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[object] = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_delayed_signal_is_heeded_at_the_end_of_the_block_and_once():
    reached = []

    def work(interrupt: Interrupt) -> None:
        with interrupt.delayed():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("after the first")
            with interrupt.delayed():
                os.kill(os.getpid(), signal.SIGTERM)
            reached.append("after the second")
        reached.append("never")

    def listen() -> None:
        with Interrupt().listening() as interrupt:
            with pytest.raises(Stopped):
                work(interrupt)
            os.kill(os.getpid(), signal.SIGINT)  # changes nothing: ending is under way
            interrupt.check()
            reached.append("the way out")

    with pytest.raises(Stopped) as stop:
        listen()
    assert stop.value.exit_code == 130
    assert reached == ["after the first", "after the second", "the way out"]


def test_a_program_that_is_no_command_line_keeps_its_handlers(train, tmp_path):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        train(tmp_path / "run", steps=2)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [1]
    assert contents(tmp_path / "run")


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
    interrupt._handle(signal.SIGINT, None)
    with pytest.raises(Stopped):
        interrupt.check()  # as in a finaliser, where an exception is printed and forgotten
    with pytest.raises(Stopped) as stop:
        train(steps=20, interrupt=interrupt)
    assert stop.value.exit_code == 130


def test_the_handler_raises_nothing_and_the_next_safe_point_does():
    reached = []

    def work() -> None:
        with Interrupt().listening():
            # The comparison is called from C, as a library calls back.
            reached.append(max([1, 2], key=lambda value: os.kill(os.getpid(), signal.SIGTERM) or value))
            Silent().say("a batch is done")
            reached.append("never")

    with pytest.raises(Stopped) as stop:
        work()
    assert stop.value.exit_code == 143
    assert reached == [2]


def test_where_nobody_listens_a_safe_point_does_nothing():
    assert listener().received is None
    safe_point()


@pytest.mark.parametrize(("seconds", "held", "ends"), [(0.1, False, False), (5, False, True), (5, True, False)])
def test_a_second_signal_ends_at_once_only_where_nothing_is_being_saved(seconds, held, ends, monkeypatch):
    class Exited(BaseException):
        """Stands for the end of this process."""

    def leave(status: int) -> None:
        raise Exited(status)

    now = [100.0]
    monkeypatch.setattr("adapterhub_lite.interrupt.time.monotonic", lambda: now[0])
    monkeypatch.setattr("adapterhub_lite.interrupt.os._exit", leave)
    interrupt = Interrupt()
    with interrupt.delayed() if held else nullcontext():
        interrupt._handle(signal.SIGINT, None)
        now[0] += seconds
        if ends:
            with pytest.raises(Exited, match="130"):
                interrupt._handle(signal.SIGTERM, None)
        else:
            interrupt._handle(signal.SIGTERM, None)
        interrupt._raised = True  # what follows is not about the end of the block
