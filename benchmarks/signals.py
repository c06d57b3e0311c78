"""Send SIGINT and SIGTERM to every long verb of the command line, at random moments of every phase of it.

    python -m benchmarks.signals --signals 500 --write

A process that has run every verb once, and so has everything imported, forks a child for each attempt, which runs the
command line as anyone does. Half of the signals come at a random time. The others come at a random call of a random
module among those that the verb runs, ours, safetensors and the trained strategy's, so that short phases such as reading
a checkpoint get as many as long ones; a third of all come twice. Afterwards the exit status is 0, if the verb had come to
its end, or that of the signal; no traceback was written; nothing half-written lies about; what the verb makes is whole
and has the bytes it always has, or is not there. A training run that was stopped is resumed, and stopped again, until it
ends with the bytes of a run that never was.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.crash_test import one_thread

CAUGHT = (signal.SIGINT, signal.SIGTERM)
WATCHED = ("adapterhub", "safetensors")
"""Packages whose calls are counted; with what follows, as `adapterhub_lora`."""


@dataclass
class Verb:
    """A verb as it is run here."""

    name: str
    arguments: list[str]
    out: str | None = None
    """What it makes, in the folder it is run in."""
    seconds: float = 0.0
    calls: dict[str, int] = field(default_factory=dict)
    """How often functions of each module are called."""
    made: dict[str, bytes] = field(default_factory=dict)
    """What it makes when nothing disturbs it."""


@dataclass
class Result:
    """What the signals found."""

    sent: Counter[str] = field(default_factory=Counter)
    """Signals by verb."""
    heeded: Counter[str] = field(default_factory=Counter)
    """Attempts that ended as the signal, by verb; the others had come to their end."""
    places: Counter[str] = field(default_factory=Counter)
    """Module that was running when the first signal came."""
    chains: int = 0
    """Training runs that came to their end, stopped and resumed on the way."""
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def prepare(folder: Path) -> list[Verb]:
    """Write two tiny bases and their data, run every verb once in this process, and return the verbs."""
    from adapterhub_causal_lm.tiny import completions
    from adapterhub_lite.data.write import write_rows  # noqa: F401  (imported before the first fork)
    from adapterhub_lite.testing.models import tiny_base
    from adapterhub_text.tiny import texts

    for name in ("encoder", "decoder"):
        base = tiny_base(name)
        base.model.save_pretrained(folder / name)
        base.processor.save_pretrained(folder / name)
    sentences, counts = texts(), completions()
    assert sentences.targets is not None
    rows = [
        f"{text},{sentences.labels[target]}\n" for text, target in zip(sentences.inputs, sentences.targets, strict=True)
    ]
    (folder / "texts.csv").write_text("text,label\n" + "".join(rows))
    lines = [json.dumps({"prompt": item.prompt, "completion": item.completion}) for item in counts.inputs]
    (folder / "counts.jsonl").write_text("\n".join(lines) + "\n")
    common = "--micro-batch-size 2 --lr 0.01 --dtype float32 --device cpu --set rank=2 --set dropout=0.2"
    classify = "train --base encoder --data texts.csv --eval-data texts.csv --task text-classification"
    lines = {
        "train": (f"{classify} --steps 12 --batch-size 6 --eval-every 3 --checkpoint-every 2 {common}", "adapter"),
        "train, a solver": (f"{classify} --strategy linear_probe --dtype float32 --device cpu", "probe"),
        "train, causal-lm": (
            f"train --base decoder --data counts.jsonl --task causal-lm --steps 3 --batch-size 4 {common}", "chat"
        ),
        "evaluate": ("evaluate adapter --data texts.csv", None),
        "predict": ("predict adapter --data texts.csv", "predicted.csv"),
        "predict, causal-lm": ("predict chat --data counts.jsonl --max-new-tokens 3", "said.jsonl"),
        "verify": ("verify adapter", None),
        "merge": ("merge adapter", "merged"),
        "export merged": ("export chat --to merged", "folded"),
        "export peft": ("export chat --to peft", "peft"),
        "export gguf": ("export chat --to gguf", "lora.gguf"),
        "import-peft": ("import-peft peft --base decoder", "imported"),
        "combine": ("combine chat chat", "combined"),
        "pack": ("pack adapter packed.adapter.zip", None),
        "unpack": ("unpack packed.adapter.zip unpacked", None),
    }  # fmt: skip
    verbs = []
    os.chdir(folder)
    for name, (line, out) in lines.items():
        verbs.append(Verb(name, line.split() + (["--out", out] if out is not None else []), out))
        if name in ("pack", "unpack"):
            verbs[-1].out = line.split()[2]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            status = run_verb(verbs[-1].arguments)
        if status:
            raise RuntimeError(f"{line}: exit status {status}: {said.getvalue()[-500:]}")
    for verb in verbs:
        measure(verb, folder)
    return verbs


def run_verb(arguments: list[str]) -> int:
    """Run the command line in this process: its exit status."""
    from adapterhub_lite.cli import main

    sys.argv = ["adapterhub-lite", *arguments]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def measure(verb: Verb, folder: Path) -> None:
    """Learn how long a verb takes, what it calls, and what it makes."""
    for counted in (False, True):
        place = fresh(folder, verb)
        report, log = place / "calls.json", place / "log"
        started = time.monotonic()
        child = fork(verb, place, log, partial(write_calls_to, report) if counted else None)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            raise RuntimeError(f"{' '.join(verb.arguments)}: status {status}: {log.read_text()[-2000:]}")
        if counted:
            verb.calls = json.loads(report.read_text())
            verb.made = contents(verb, place)
        else:
            verb.seconds = time.monotonic() - started
        shutil.rmtree(place)


def fresh(folder: Path, verb: Verb) -> Path:
    """A folder in which a verb finds what it needs, as links, and nothing else."""
    place = Path(tempfile.mkdtemp(dir=folder.parent))
    for entry in folder.iterdir():
        if not entry.name.startswith(".") and entry.name not in (verb.out, f"{verb.out}.run"):
            (place / entry.name).symlink_to(entry)
    return place


def contents(verb: Verb, place: Path) -> dict[str, bytes]:
    """What a verb made: every byte that does not depend on the time of day."""
    if verb.out is None or not (place / verb.out).exists():
        return {}
    out = place / verb.out
    files = [out] if out.is_file() else sorted(path for path in out.rglob("*") if path.is_file())
    made = {
        str(path.relative_to(place)): path.read_bytes()
        for path in files
        if path.suffix not in (".json", ".md", ".yaml", ".zip")
    }
    log = place / f"{verb.out}.run" / "metrics.jsonl"
    return made | ({"metrics.jsonl": log.read_bytes()} if log.is_file() else {})


def fork(verb: Verb, place: Path, log: Path, arm: Callable[[], None] | None) -> int:
    """Run a verb in a forked child, and return its process id. Signals get through while the command line listens."""
    signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
        return child
    status = 99
    try:
        from adapterhub_lite import cli
        from adapterhub_lite.interrupt import Interrupt

        os.chdir(place)
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        app, note = cli.app, Interrupt._handle

        def noted(self: Interrupt, number: int, frame: FrameType | None) -> None:
            if self.received is None:
                os.write(2, f"\nwhere: {running(frame)}\n".encode())
            note(self, number, frame)

        def listened() -> None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
            if arm is not None:
                arm()
            try:
                app()
            finally:
                signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)

        Interrupt._handle, cli.app = noted, listened  # type: ignore[assignment, method-assign]
        status = run_verb(verb.arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def module_of(frame: FrameType) -> str | None:
    """The module a function belongs to, if it is one of those that are watched."""
    name = str(frame.f_globals.get("__name__"))
    return name if name.startswith(WATCHED) else None


def running(frame: FrameType | None) -> str:
    """The innermost module that is watched, of those that are running."""
    while frame is not None:
        name = module_of(frame)
        if name is not None:
            return name
        frame = frame.f_back
    return "others"


def write_calls_to(report: Path) -> None:
    """Count calls by module from now on, and write them down at every end of a call of the command line's."""
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        name = module_of(frame)
        if name is not None and event == "call":
            calls[name] += 1
            if name.startswith("adapterhub_lite.interrupt"):
                report.write_text(json.dumps(calls))

    sys.setprofile(count)


def send_at_call(module: str, call: int, numbers: list[int]) -> None:
    """Send this process signals when a function of a module is called for the `call`th time."""
    seen = 0

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal seen
        if event == "call" and module_of(frame) == module:
            seen += 1
            if seen == call:
                sys.setprofile(None)
                for number in numbers:
                    os.kill(os.getpid(), number)

    sys.setprofile(count)


def attempt(verb: Verb, place: Path, chance: random.Random, result: Result) -> bool:
    """Run a verb once with a signal: whether it ended as that signal."""
    numbers = [int(chance.choice(CAUGHT))]
    if chance.random() < 1 / 3:
        numbers.append(int(chance.choice(CAUGHT)))
    log = place / "log"
    log.unlink(missing_ok=True)
    described = f"{' '.join(verb.arguments[:2])} ({'+'.join(signal.Signals(n).name for n in numbers)}"
    if chance.random() < 0.5:
        module = chance.choice(sorted(verb.calls))
        call = chance.randint(1, verb.calls[module])
        described += f" at call {call} of {module})"
        child = fork(verb, place, log, lambda: send_at_call(module, call, numbers))
    else:
        seconds = chance.random() * verb.seconds
        described += f" after {seconds:.3f} s)"
        child = fork(verb, place, log, None)
        time.sleep(seconds)
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = log.read_text(errors="replace")
    result.sent[verb.name] += 1
    result.places.update([line.removeprefix("where: ") for line in said.splitlines() if line.startswith("where: ")])
    # Of two that are there at once the system may give either first.
    if status not in (0, *(128 + number for number in numbers)):
        result.failures.append(f"{described}: exit status {status}: {said.strip().splitlines()[-1:]}")
    if "where: " in said and not status:
        result.failures.append(f"{described}: it came, and the exit status is 0")
    if "Traceback" in said:
        result.failures.append(f"{described}: a traceback: {said.strip().splitlines()[-1:]}")
    left = [path.name for path in place.rglob(".*") if path.suffix != ".history"]
    left += [path.name for path in place.iterdir() if path.suffix == ".tmp" or ".part" in path.name]
    if left:
        result.failures.append(f"{described}: left over: {left}")
    made = contents(verb, place)
    outside = {name: data for name, data in made.items() if name != "metrics.jsonl"}
    if (outside or not status) and made != verb.made:
        result.failures.append(f"{described}: what it made is not what it makes undisturbed")
    result.heeded[verb.name] += status != 0
    return status != 0


def send_signals(signals: int, folder: Path, seed: int, say: Callable[[str], None] = lambda line: None) -> Result:
    """Send so many signals. Call in a process with one thread."""
    chance, result, began = random.Random(seed), Result(), time.monotonic()
    verbs = prepare(folder)
    turn, told = 0, 0
    while sum(result.sent.values()) < signals:
        # Every third turn is a run with checkpoints, which takes several signals.
        verb = verbs[0] if turn % 3 == 0 else verbs[1 + (turn - turn // 3 - 1) % (len(verbs) - 1)]
        turn += 1
        place = fresh(folder, verb)
        resumable = verb.arguments[0] == "train"
        for _ in range(6 if resumable else 1):
            if sum(result.sent.values()) == signals or not attempt(verb, place, chance, result):
                break
            if resumable and not (place / str(verb.out)).exists() and "--resume" not in verb.arguments:
                verb = Verb(verb.name, [*verb.arguments, "--resume"], verb.out, verb.seconds, verb.calls, verb.made)
            elif (place / str(verb.out)).exists():
                break
        if resumable and not (place / str(verb.out)).exists():
            log = place / "log"
            status = os.waitstatus_to_exitcode(os.waitpid(fork(verb, place, log, None), 0)[1])
            if status or contents(verb, place) != verb.made:
                result.failures.append(f"{verb.name}: the end is not that of a run never stopped (status {status})")
        result.chains += resumable
        shutil.rmtree(place)
        say(
            "\n".join(
                [f"{sum(result.sent.values())} signals, {len(result.failures)} failures", *result.failures[told:]]
            )
        )
        told = len(result.failures)
    result.seconds = time.monotonic() - began
    return result


def summary(result: Result, seed: int) -> str:
    """The result as Markdown."""
    import torch

    sent, heeded = sum(result.sent.values()), sum(result.heeded.values())
    verbs = "".join(f"| {name} | {n} | {result.heeded[name]} |\n" for name, n in sorted(result.sent.items()))
    places = "".join(f"| `{name}` | {n} |\n" for name, n in result.places.most_common())
    return (
        "# Signals\n\n"
        f"`python -m benchmarks.signals --signals {sent} --seed {seed}`, {date.today()}, torch {torch.__version__}, "
        f"{platform.system()} {platform.machine()}, {result.seconds:.0f} s.\n\n"
        f"{' '.join((__doc__ or '').split('    python')[0].split())} See the module for what is looked at afterwards.\n\n"
        f"| verb | signals | ended as the signal |\n| --- | ---: | ---: |\n{verbs}| all | {sent} | {heeded} |\n\n"
        f"- training runs that came to their end, stopped and resumed on the way: {result.chains}\n"
        f"- failures: {len(result.failures)}\n"
        + "".join(f"  - {line}\n" for line in result.failures)
        + f"\nWhat was running when the signal came:\n\n| module | signals |\n| --- | ---: |\n{places}"
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--signals", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write the summary to benchmarks/SIGNALS.md")
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    target = Path(__file__).resolve().with_name("SIGNALS.md")
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ADAPTERHUB_CACHE"] = f"{folder}/cache"
        (Path(folder) / "reference").mkdir()
        result = send_signals(options.signals, Path(folder) / "reference", options.seed, _say)
        os.chdir(target.parent)
    text = summary(result, options.seed)
    print(text)
    if options.write:
        target.write_text(text, encoding="utf-8")
    if result.failures:
        sys.exit(1)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
