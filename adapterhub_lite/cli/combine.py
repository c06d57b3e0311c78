"""`adapterhub-lite combine`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AsJson, Loading
from adapterhub_lite.cli.output import print_result
from adapterhub_lite.errors import ConfigError


def combine(
    adapters: Annotated[
        list[str], typer.Argument(metavar="ADAPTER...", help="Directories of LoRA adapters of one base.")
    ],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Directory of the adapter to make.")],
    loading: Loading,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="W,W", help="One number for each adapter; 1 each if not given.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help="linear, cat, ties, dare_linear or dare_ties.")] = "linear",
    density: Annotated[
        float, typer.Option("--density", help="ties, dare_*: share of each update's entries kept.")
    ] = 0.5,
    rank: Annotated[
        int | None, typer.Option("--rank", help="Cut the result down to this rank; by default ranks add up.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="dare_*: of what is dropped.")] = 0,
    json_: AsJson = False,
) -> None:
    """Make one LoRA adapter of several."""
    try:
        numbers = [float(part) for part in weights.split(",")] if weights is not None else None
    except ValueError:
        raise ConfigError(f"--weights {weights}: write numbers separated by commas, as in 0.7,0.3") from None
    from adapterhub_lite.engine import Engine
    from adapterhub_lite.merging.combine import combine_adapters

    made = combine_adapters(
        Engine(), [Path(path) for path in adapters], Path(out), weights=numbers, method=method, density=density,
        rank=rank, seed=seed, base=loading.base, device=loading.device, force=loading.force,
    )  # fmt: skip
    cut = f"; the rank left out up to {made.lost:.1%} of a layer's update" if made.lost else ""
    made_rank = f", rank {made.rank}" if made.rank is not None else ""
    print_result(
        {"path": out, "rank": made.rank, "lost": made.lost, "notes": list(made.notes)},
        f"{len(adapters)} adapters combined into {out}{made_rank}{cut}",
        *(f"note: {note}" for note in made.notes),
        as_json=json_,
    )
