"""Kill a training run with SIGKILL again and again, resume it each time, and compare it with one never interrupted.

    python -m benchmarks.crash_test --kills 200 --write

A process that has everything imported and a tiny model built forks a child for each attempt, so that a kill costs a
fraction of a second. Dropout, shuffling, micro-batches, evaluation, early best checkpoints are on. Half of the kills come
at a random time, the others at a chosen place: inside a backward pass between two micro-batches, inside the update,
inside an evaluation, and at a random file operation of a commit (write, fsync, rename). Once an attempt ends by itself
the adapter, the log and every file of every checkpoint are compared byte for byte, and a new chain of attempts begins.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PLACES = ("any time", "mid-accumulation", "mid-update", "mid-evaluation", "mid-checkpoint")


@dataclass
class Result:
    """What a crash test found."""

    kills: Counter[str] = field(default_factory=Counter)
    chains: int = 0
    """Runs that came to their end, each killed and resumed on the way."""
    unequal: list[str] = field(default_factory=list)
    """Runs whose end is not that of the uninterrupted one."""
    failures: list[str] = field(default_factory=list)
    """Attempts that ended with an error: lost or corrupt state."""
    damaged: int = 0
    """Checkpoints found damaged."""
    seconds: float = 0.0


def one_run(out: Path) -> None:
    """Train, save, and exit: what is killed."""
    import adapterhub_lite as ah
    from adapterhub_lite.testing.models import tiny_base
    from adapterhub_text.tiny import texts

    if (out.with_name(f"{out.name}.run") / "finished.json").exists():
        return  # killed after all was done
    config = ah.TrainConfig(
        steps=12, batch_size=6, micro_batch_size=2, learning_rate=1e-2, eval_every=3, checkpoint_every=2,
        keep_checkpoints=2, seed=3,
    )  # fmt: skip
    adapter = _engine().train(
        tiny_base("encoder"), texts(), strategy="lora", settings={"rank": 2, "dropout": 0.2}, config=config,
        eval_data=texts(), run_folder=out.with_name(f"{out.name}.run"), resume=True,
    )  # fmt: skip
    adapter.save(out)


@functools.cache
def _engine() -> Any:
    import adapterhub_lite as ah
    from adapterhub_lite.progress import Silent

    return ah.Engine(progress=Silent())


def contents(out: Path) -> dict[str, bytes]:
    """Every byte that must not depend on interruptions."""
    run = out.with_name(f"{out.name}.run")
    files = [out / "adapter_model.safetensors", run / "metrics.jsonl", *sorted((run / "checkpoints").glob("step-*/*"))]
    return {str(path.relative_to(out.parent)): path.read_bytes() for path in files}


def crash_test(kills: int, folder: Path, seed: int = 0, say: Callable[[str], None] = lambda line: None) -> Result:
    """Kill until there were `kills` kills and the last chain has come to its end. Call in a process with one thread."""
    chance, result, began = random.Random(seed), Result(), time.monotonic()
    reference = folder / "reference" / "adapter"
    # In this process, so that everything is imported before the first fork.
    one_run(reference)
    status, took = _attempt(folder / "timed" / "adapter", None)
    expected = contents(reference)
    if status != 0 or contents(folder / "timed" / "adapter") != expected:
        raise RuntimeError(f"two uninterrupted runs are not equal (status {status})")
    while sum(result.kills.values()) < kills:
        out = folder / f"chain-{result.chains}" / "adapter"
        for attempt in range(1000):
            place = chance.choice(PLACES[1:]) if chance.random() < 0.5 else PLACES[0]
            # The last attempts of a chain must be able to end; so must the whole test.
            kill = None if sum(result.kills.values()) >= kills or attempt > 40 else (place, chance.random())
            status, _ = _attempt(out, kill, took)
            if status == 0:
                break
            if kill is not None and status == -signal.SIGKILL:
                result.kills[place] += 1
                continue
            result.failures.append(f"chain {result.chains}, attempt {attempt}: status {status}")
            break
        result.chains += 1
        if not status:
            saved = contents(out)
            differing = sorted(name for name in {*expected, *saved} if expected.get(name) != saved.get(name))
            if differing:
                result.unequal.append(f"chain {result.chains - 1}: {', '.join(differing[:4])}")
            result.damaged += len(list(out.parent.glob("*.run/checkpoints/damaged-*")))
            shutil.rmtree(out.parent)
        say(f"{sum(result.kills.values())} kills, {result.chains} chains, {len(result.unequal)} unequal")
    result.seconds = time.monotonic() - began
    return result


def _attempt(out: Path, kill: tuple[str, float] | None, took: float = 0.0) -> tuple[int, float]:
    """Run once in a forked child that may be killed: its exit status, negative for a signal, and the seconds it took."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 1
        try:
            if kill is not None and kill[0] in PLACES[1:]:
                _arm(*kill)
            one_run(out)
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    if kill is not None and kill[0] not in PLACES[1:]:
        time.sleep(kill[1] * took * 1.1)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - started


def _arm(place: str, share: float) -> None:
    """Let this process kill itself at a place, after as many passes of it as `share` says."""
    import torch

    from adapterhub_lite.training import loop

    def after(passes: int) -> Callable[[], None]:
        left = [max(1, round(share * passes))]

        def count() -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        return count

    def wrapped(owner: Any, name: str, count: Callable[[], None]) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            count()
            return original(*args, **kwargs)

        setattr(owner, name, call)

    if place == "mid-accumulation":
        wrapped(torch.Tensor, "backward", after(24))
    elif place == "mid-update":
        wrapped(loop, "apply", after(10))
    elif place == "mid-evaluation":
        wrapped(loop, "score", after(3))
    else:
        count = after(60)
        wrapped(os, "fsync", count)
        wrapped(os, "rename", count)
        wrapped(Path, "rename", count)
        wrapped(Path, "write_bytes", count)
        wrapped(Path, "mkdir", count)
        wrapped(shutil, "rmtree", count)


def one_thread() -> None:
    """Keep torch to one thread: others do not survive a fork, so that there must be none before it. Torch is not imported yet.

    `torch.set_num_threads` would not do: every thread that a child starts, as transformers does to read weights, sets the
    number again, on a pool that is not there after a fork.
    """
    assert "torch" not in sys.modules
    os.environ["OMP_NUM_THREADS"] = "1"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write the summary to benchmarks/CRASH.md")
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        result = crash_test(options.kills, Path(folder), options.seed, _say)
    text = summary(result, options.seed)
    print(text)
    if options.write:
        Path(__file__).with_name("CRASH.md").write_text(text, encoding="utf-8")
    if result.unequal or result.failures:
        sys.exit(1)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def summary(result: Result, seed: int) -> str:
    """The result as Markdown."""
    import torch

    rows = "".join(f"| {place} | {result.kills[place]} |\n" for place in PLACES if result.kills[place])
    return (
        "# Crash test\n\n"
        f"`python -m benchmarks.crash_test --kills {sum(result.kills.values())} --seed {seed}`, torch {torch.__version__}, "
        f"{platform.system()} {platform.machine()}, {result.seconds:.0f} s.\n\n"
        "A LoRA run of 12 steps on a tiny encoder (dropout, shuffling, 3 micro-batches a step, an evaluation every 3\n"
        "steps, a checkpoint every 2), killed with kill -9 and resumed until it ends; then the adapter, the log and every\n"
        "file of every checkpoint are compared byte for byte with those of a run that was never interrupted.\n\n"
        f"| killed | times |\n| --- | ---: |\n{rows}| all | {sum(result.kills.values())} |\n\n"
        f"- runs that came to their end: {result.chains}\n"
        f"- not equal to the uninterrupted run: {len(result.unequal)}\n"
        f"- resumes that failed: {len(result.failures)}\n"
        f"- checkpoints found damaged: {result.damaged}\n"
        + "".join(f"- {line}\n" for line in (*result.unequal, *result.failures))
    )


if __name__ == "__main__":
    main()
