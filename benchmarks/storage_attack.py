"""Damaged and forged adapters by the thousand: none may load, raise anything untyped, take long or much memory.

    python -m benchmarks.storage_attack --damaged 100000 --forged 10000 --out benchmarks/STORAGE.md

*Damaged* adapters are changed without their hashes, as by a bad disk or a bad copy. *Forged* ones come from an attacker
who recomputes every hash; some of these are legal adapters, which load, and the test of the test is that they do.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapterhub_lite.errors import AdapterHubError
from benchmarks.damage import Files, damage

LIMIT_SECONDS, LIMIT_BYTES = 1.0, 200 << 20


@dataclass
class Summary:
    """What became of a number of mutants."""

    mutants: int = 0
    loaded: list[str] = field(default_factory=list)
    """Those that loaded and should not have."""
    refused: list[str] = field(default_factory=list)
    """Legal ones that did not load."""
    untyped: list[str] = field(default_factory=list)
    """Those that raised anything but an AdapterHubError, or one of several lines."""
    slow: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    seconds_cpu: float = 0.0
    slowest_seconds: float = 0.0
    """CPU time of the slowest mutant."""
    slowest: str = ""
    memory_bytes: int = 0
    """Growth of the peak resident memory over all of them; no single one can have taken more."""
    canary: bool = False
    """Whether code from a file ran."""

    @property
    def ok(self) -> bool:
        """Nothing that must not happen has happened."""
        bad = self.loaded or self.refused or self.untyped or self.slow or self.canary
        return not bad and self.memory_bytes < LIMIT_BYTES

    def judge(self, how: str, legal: bool, attempt: Any) -> None:
        """Try to load one mutant and record what became of it."""
        self.mutants += 1
        self.kinds[how.split(":")[0]] += 1
        start = time.process_time()
        try:
            attempt()
        except AdapterHubError as error:
            self.errors[type(error).__name__] += 1
            if legal:
                self.refused.append(f"{how}: {error}")
            if "\n" in str(error):
                self.untyped.append(f"{how}: several lines")
        except Exception as error:
            self.untyped.append(f"{how}: {type(error).__name__}: {error}"[:300])
        else:
            if not legal:
                self.loaded.append(how)
        took = time.process_time() - start
        self.seconds_cpu += took
        if took > self.slowest_seconds:
            self.slowest_seconds, self.slowest = took, how
        if took > LIMIT_SECONDS:
            self.slow.append(f"{how}: {took:.2f} s")


def peak() -> int:
    """Peak resident memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def attack_files(folder: Path, other: Path, count: int, seed: int, work: Path) -> Summary:
    """Damage a copy of the adapter in `folder` in `count` ways; `other` is what files are spliced with."""
    from adapterhub_lite.storage import open_adapter

    rng = random.Random(seed)
    good, foreign = Files.read(folder), Files.read(other)
    good.write(work)
    open_adapter(work)
    before, summary = peak(), Summary()
    for _ in range(count):
        how, mutant = damage(good, foreign, rng)
        mutant.write(work)
        summary.judge(how, False, lambda: open_adapter(work))
        mutant.restore(work, good)
    open_adapter(work)  # and the undamaged one still does
    summary.memory_bytes = peak() - before
    return summary


def attack_engine(count: int, seed: int, work: Path) -> Summary:
    """Forge adapters of three strategies in `count` ways and load them on a tiny base."""
    from adapterhub_lite.engine import Engine
    from adapterhub_lite.progress import Silent
    from adapterhub_lite.testing.models import tiny_base
    from benchmarks.forgery import Forgery, forge

    engine, base = Engine(progress=Silent()), tiny_base("encoder")
    originals = [Forgery.read(path) for path in train_samples(engine, base, work / "originals")]
    canary = work / "canary"
    for original in originals:
        original.write(work / "mutant")
        engine.load_adapter(work / "mutant", base=base).detach()
        shutil.rmtree(work / "mutant")
    state = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    rng = random.Random(seed)
    before, summary = peak(), Summary()
    for _ in range(count):
        mutant = rng.choice(originals).copy()
        how, legal = forge(mutant, rng, canary)
        mutant.write(work / "mutant")
        summary.judge(how, legal, lambda: engine.load_adapter(work / "mutant", base=base).detach())
        shutil.rmtree(work / "mutant")
    summary.memory_bytes = peak() - before
    summary.canary = canary.exists()
    after = base.model.state_dict()
    if set(state) != set(after) or any(not (state[name] == after[name]).all() for name in state):
        summary.untyped.append("the base was changed")
    return summary


def train_samples(engine: Any, base: Any, folder: Path) -> list[Path]:
    """Adapters to forge: LoRA with PEFT's configuration, a linear probe, and changed weights of the base."""
    from adapterhub_lite.training.config import TrainConfig
    from adapterhub_text.tiny import texts

    paths = []
    for strategy, settings in (("lora", {"rank": 4}), ("linear_probe", {}), ("full", {"top_layers": 1})):
        adapter = engine.train(
            base, texts(), strategy=strategy, settings=settings, config=TrainConfig(steps=1, batch_size=4)
        )
        paths.append(folder / strategy)
        adapter.save(paths[-1])
        adapter.detach()
    return paths


def run(damaged: int, forged: int, seed: int) -> dict[str, Summary]:
    """Both attacks; files are written to memory where the system offers that."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        work = Path(name)
        summaries = {}
        if damaged:
            from benchmarks.damage import sample

            summaries["damaged"] = attack_files(
                sample(work / "one", 1), sample(work / "two", 2), damaged, seed, work / "mutant"
            )
            shutil.rmtree(work / "mutant")
        if forged:
            summaries["forged"] = attack_engine(forged, seed, work)
        return summaries


def report(summaries: dict[str, Summary], seed: int) -> str:
    """The summary as Markdown."""
    lines = ["# Damaged and forged adapters", "", f"`python -m benchmarks.storage_attack`, seed {seed}.", ""]
    for name, s in summaries.items():
        lines += [
            f"## {name.capitalize()}",
            "",
            f"- {s.mutants:,} mutants in {s.seconds_cpu:.0f} s of CPU; {sum(s.errors.values()):,} refused, "
            f"{s.mutants - sum(s.errors.values()) - len(s.untyped):,} loaded, "
            f"{len(s.loaded)} of them wrongly; {len(s.refused)} legal ones refused",
            f"- other exceptions than ours: {len(s.untyped)}; code from a file ran: {'yes' if s.canary else 'no'}",
            f"- slowest: {s.slowest_seconds:.3f} s of CPU ({s.slowest}), limit {LIMIT_SECONDS:.0f} s; "
            f"memory: {s.memory_bytes / 1e6:.0f} MB over all, limit 200 MB",
            "",
            "| kind | mutants |",
            "|---|---:|",
            *(f"| {kind} | {count:,} |" for kind, count in sorted(s.kinds.items())),
            "",
        ]
    return "\n".join(lines)


def main() -> int:
    """Run from the command line; exit code 1 when anything happened that must not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--damaged", type=int, default=100_000)
    parser.add_argument("--forged", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=20250131)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    summaries = run(options.damaged, options.forged, options.seed)
    if options.json:
        print(json.dumps({name: {**vars(s), "ok": s.ok} for name, s in summaries.items()}))
    else:
        text = report(summaries, options.seed)
        if options.out:
            options.out.write_text(text, encoding="utf-8")
        print(text)
        for s in summaries.values():
            for line in [*s.loaded, *s.refused, *s.untyped, *s.slow][:40]:
                print("BAD:", line)
    return 0 if all(s.ok for s in summaries.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
