"""The verbs that make a model or an adapter of saved adapters: `merge`, `combine`, `import-peft` and `export`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AdapterPath, AsJson, Loading, Place
from adapterhub_lite.cli.output import print_result
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import check_choice

FORMATS = ("peft", "merged", "gguf")


def merge(
    adapter: AdapterPath,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Folder to make; must not exist.")],
    loading: Loading,
    dtype: Annotated[
        str, typer.Option("--dtype", help="For a GGUF base: what to unpack it as, float32, bfloat16 or float16.")
    ] = "float32",
    json_: AsJson = False,
) -> None:
    """Fold an adapter into the original weights of its base: a model folder that needs no adapter."""
    from adapterhub_lite.engine import Engine
    from adapterhub_lite.merging.merge import merge_adapter

    merged = merge_adapter(
        Engine(), Path(adapter), Path(out), dtype=dtype,
        base=loading.base, device=loading.device, force=loading.force,
    )  # fmt: skip
    result = {
        "path": str(merged.path),
        "head": str(merged.head) if merged.head else None,
        "shard_by_shard": merged.sharded,
        "forced": merged.forced,
        "report": asdict(merged.report),
    }
    lines = [f"merged into {merged.path}: {merged.report.line()}"]
    if merged.head is not None:
        predict = f"adapterhub-lite predict {merged.head} --data FILE --out FILE"
        lines.append(f"the classifier's head is an adapter on it: {predict}")
    print_result(result, *lines, as_json=json_)


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


def import_peft(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="What PEFT's save_pretrained wrote.")],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Directory of the adapter to make.")],
    place: Place,
    task: Annotated[str | None, typer.Option("--task", help="causal-lm or text-classification.")] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="A,B", help="A classifier's labels, in order.")
    ] = None,
    quantize: Annotated[str, typer.Option("--quantize", help="none, nf4, fp4 or int8: how to load the base.")] = "none",
    json_: AsJson = False,
) -> None:
    """Make an adapter of one that PEFT trained."""
    from adapterhub_lite.engine import Engine
    from adapterhub_lite.merging.from_peft import import_peft

    names = [name.strip() for name in labels.split(",")] if labels else None
    made = import_peft(
        Engine(), Path(folder), Path(out), task=task, labels=names, quantization=quantize,
        base=place.base, device=place.device,
    )  # fmt: skip
    print_result(
        {"path": out, "strategy": made.strategy, "task": made.task, "tensors": made.tensors},
        f"{folder} imported into {out}: strategy {made.strategy}, task {made.task}, {made.tensors} tensors",
        as_json=json_,
    )


def export(
    adapter: AdapterPath,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="peft, merged or gguf.")],
    out: Annotated[str, typer.Option("--out", metavar="PATH", help="Folder (peft, merged) or file (gguf) to make.")],
    loading: Loading,
    json_: AsJson = False,
) -> None:
    """Write an adapter for other tools: PEFT, a merged model, or a LoRA for llama.cpp."""
    check_choice("format", to, FORMATS)
    if to == "merged":
        merge(adapter, out, loading, json_=json_)
        return
    from adapterhub_lite.engine import Engine
    from adapterhub_lite.merging.export import export_gguf, export_peft

    if to == "gguf":
        notes = [f"{export_gguf(Path(adapter), Path(out), Engine(), base=loading.base)} weights adapted"]
    else:
        notes = export_peft(Path(adapter), Path(out), Engine(), base=loading.base)
    print_result(
        {"path": out, "format": to, "notes": notes},
        f"{adapter} exported to {out}",
        *(f"note: {note}" for note in notes),
        as_json=json_,
    )
