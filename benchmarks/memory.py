"""What training language models of common sizes takes of a card's memory, as counted; writes benchmarks/MEMORY.md.

    python -m benchmarks.memory [--sizes 1B,3B,8B]

The models are Llama's shapes, made of a configuration alone: no weights are loaded or drawn, and nothing is computed. Each count
is a line in benchmarks/memory.jsonl as soon as it is there; a run that was ended goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from adapterhub_lite.base.foreign import foreign_bases
from adapterhub_lite.base.loading import Base
from adapterhub_lite.engine import Engine
from adapterhub_lite.plan.ask import longest_for_cards
from adapterhub_lite.plan.bases import imagined_base
from adapterhub_lite.plan.room import GIB, room_in
from adapterhub_lite.plan.rows import made_up_rows
from adapterhub_lite.plan.search import Search, Way, all_learnt, in_words, longest_of, stretched
from adapterhub_lite.progress import Silent
from adapterhub_lite.training.config import TrainConfig

HERE = Path(__file__).parent
LOG, REPORT = HERE / "memory.jsonl", HERE / "MEMORY.md"
COMMON = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128_256, "max_position_embeddings": 131_072,
    "rope_theta": 500_000.0, "rms_norm_eps": 1e-5, "num_key_value_heads": 8,
}  # fmt: skip
NAMES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "head_dim",
    "tie_word_embeddings",
)
SHAPES = {
    "1B": (2048, 8192, 16, 32, 64, True),
    "3B": (3072, 8192, 28, 24, 128, True),
    "8B": (4096, 14336, 32, 32, 128, False),
}
LORA, CHECKPOINTED, OFFLOADED = {"rank": 16, "targets": "all-linear"}, (True, False), (True, True)
MODES = {(False, False): "as it is", CHECKPOINTED: "checkpointing", OFFLOADED: "checkpointing, inputs on the CPU"}
LENGTH = 2048


@dataclass(frozen=True)
class Cell:
    """A count, a choice for a card, or the longest rows of a model."""

    model: str
    what: str
    """"step", "choice" or "longest"."""
    strategy: str
    rows: int = 1
    length: int = LENGTH
    mode: tuple[bool, bool] = (False, False)
    card: int = 0


def cells() -> Iterator[Cell]:
    """What is counted, small models first."""
    for model in SHAPES:
        for mode in reversed(MODES):
            yield from (Cell(model, "step", "lora", rows, mode=mode) for rows in (2, 1))
        yield from (Cell(model, "choice", "lora", 2, card=card) for card in (8, 24))
        yield Cell(model, "choice", "lora", 16, 1024, card=24)
        yield from (
            Cell(model, "step", strategy, 2, mode=CHECKPOINTED) for strategy in ("linear_probe", "prefix", "full")
        )
        yield Cell(model, "longest", "lora")


class Counting:
    """Counts cells; the bases of a model are made once."""

    def __init__(self, folder: Path):
        self.engine, self.folder = Engine(progress=Silent()), folder
        self.bases: dict[tuple[str, str], Base] = {}

    def base(self, model: str, quantization: str) -> Base:
        """A model of a size without weights."""
        key = model, quantization
        if key not in self.bases:
            self.bases.clear()
            folder = self.folder / model
            folder.mkdir(exist_ok=True)
            config = {**COMMON, **dict(zip(NAMES, SHAPES[model], strict=True))}
            (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
            foreign = foreign_bases(self.engine.plugins)
            self.bases[key] = imagined_base(str(folder), foreign, quantization, torch.bfloat16, chosen=True)
        return self.bases[key]

    def count(self, cell: Cell) -> dict[str, Any]:
        """A cell as a line of the log."""
        started = time.perf_counter()
        base = self.base(cell.model, "none" if cell.strategy == "full" else "nf4")
        data = made_up_rows(self.engine.plugins, "causal-lm", base)
        task = self.engine.task_for(base, data)
        example = stretched(all_learnt(task.encode(data, base).examples[0]), cell.length)
        provided = self.engine.strategy_shelf.resolve(cell.strategy)
        settings = self.engine.strategy_shelf.configure(provided, LORA if cell.strategy == "lora" else {})
        search = Search(base, task, provided, settings, TrainConfig(batch_size=cell.rows), True, longest_of([example]))
        if cell.what == "longest":
            found: dict[str, Any] = {"longest": longest_for_cards(search)}
        elif cell.what == "choice":
            best = search.choose(room_in(cell.card * GIB, on_card=True))
            found = {"way": None if best is None else in_words(best[0], cell.rows)}
            found |= {} if best is None else {"parts": asdict(best[1])}
        else:
            found = {"parts": asdict(search.count(Way(*cell.mode, cell.rows)))}
        return {**asdict(cell), **found, "seconds": round(time.perf_counter() - started, 1)}


def read_log() -> dict[Cell, dict[str, Any]]:
    """What was counted."""
    lines = LOG.read_text(encoding="utf-8").splitlines() if LOG.is_file() else []
    known = {}
    for record in map(json.loads, lines):
        fields = {name: record[name] for name in Cell.__dataclass_fields__}
        known[Cell(**{**fields, "mode": tuple(fields["mode"])})] = record
    return known


def gib(record: dict[str, Any] | None) -> str:
    """The peak of a record."""
    return "" if record is None or "parts" not in record else f"{sum(record['parts'].values()) / GIB:.2f}"


def report(known: dict[Cell, dict[str, Any]]) -> str:
    """The tables, with the goals beside them."""
    lines = [
        "# What training takes of a card's memory",
        "",
        "Made by `python -m benchmarks.memory`: storages alive at once in a step, counted on Llama's shapes without weights",
        "(vocabulary 128,256), GiB. bfloat16, NF4 with double quantization for all but `full`; LoRA of rank 16 on all linear",
        "layers, AdamW. Counted, not measured on a card: CUDA's context and what its allocator rounds up come on top, for",
        "which a plan leaves 512 MiB and 5 %.",
        "",
        "## LoRA",
        "",
        "| | 1 x 2048 | 2 x 2048 | weights |",
        "|---|--:|--:|--:|",
    ]
    for model in SHAPES:
        for mode, words in MODES.items():
            one, two = (known.get(Cell(model, "step", "lora", rows, mode=mode)) for rows in (1, 2))
            weights = f"{one['parts']['weights'] / GIB:.2f}" if one else ""
            lines.append(f"| {model}, {words} | {gib(one)} | {gib(two)} | {weights} |")
    lines += [
        "",
        "## Other strategies, 2 x 2048 with checkpointing",
        "",
        "| | linear_probe | prefix | full |",
        "|---|--:|--:|--:|",
    ]
    for model in SHAPES:
        own = [gib(known.get(Cell(model, "step", s, 2, mode=CHECKPOINTED))) for s in ("linear_probe", "prefix", "full")]
        lines.append(f"| {model} | {' | '.join(own)} |")
    lines += ["", "## What is chosen, LoRA", "", "| | rows | card | way | GiB |", "|---|---|--:|---|--:|"]
    for cell in cells():
        record = known.get(cell)
        if cell.what == "choice" and record is not None:
            way = record["way"] or "does not fit"
            lines.append(f"| {cell.model} | {cell.rows} x {cell.length} | {cell.card} GiB | {way} | {gib(record)} |")
    lines += [
        "",
        "## The longest row, LoRA, one at a time",
        "",
        "| | 6 | 8 | 12 | 16 | 24 | 40 | 80 GiB |",
        "|---|" + "--:|" * 7,
    ]
    for model in SHAPES:
        record = known.get(Cell(model, "longest", "lora"))
        if record is not None:
            lines.append(
                f"| {model} | " + " | ".join(f"{n:,}" if n else "none" for n in record["longest"].values()) + " |"
            )
    return "\n".join([*lines, "", *goals(known), ""])


def goals(known: dict[Cell, dict[str, Any]]) -> list[str]:
    """What was to be reached for 8B, and whether it is."""
    best = {rows: known.get(Cell("8B", "step", "lora", rows, mode=OFFLOADED)) for rows in (1, 2)}
    chosen = known.get(Cell("8B", "choice", "lora", 2, card=8))
    default = known.get(Cell("8B", "choice", "lora", 16, 1024, card=24))
    longest = (known.get(Cell("8B", "longest", "lora")) or {}).get("longest", {})
    lines = ["## Goals for 8B", "", "| goal | counted | |", "|---|--:|---|"]

    def line(goal: str, value: float | None, reached: bool) -> None:
        shown = "not counted yet" if value is None else f"{value:,.2f}".removesuffix(".00")
        lines.append(f"| {goal} | {shown} | {'' if value is None else 'reached' if reached else 'missed'} |")

    for goal, record, most in (
        ("2 x 2048, as chosen for 8 GiB: at most 7.0 GiB", chosen, 7.0),
        ("1 x 2048: at most 5.8 GiB", best[1], 5.8),
        ("16 x 1024 on 24 GiB: fits by itself", default, room_in(24 * GIB, on_card=True) / GIB),
    ):
        value = None if record is None or "parts" not in record else sum(record["parts"].values()) / GIB
        line(goal, value, value is not None and value <= most)
    for size, least in (("8", 3_000), ("24", 78_000)):
        value = longest.get(size)
        line(f"longest row in {size} GiB: at least {least:,}", value, (value or 0) >= least)
    return lines


def main() -> None:
    """Count what is missing, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(SHAPES))
    options = parser.parse_args()
    known = read_log()
    with tempfile.TemporaryDirectory() as folder:
        counting = Counting(Path(folder))
        for cell in [cell for cell in cells() if cell not in known and cell.model in options.sizes.split(",")]:
            record = counting.count(cell)
            with LOG.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            print(cell, gib(record), record.get("way", ""), record.get("longest", ""), record["seconds"], flush=True)
    REPORT.write_text(report(read_log()), encoding="utf-8")


if __name__ == "__main__":
    main()
