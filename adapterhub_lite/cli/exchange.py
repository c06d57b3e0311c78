"""`adapterhub-lite import-peft` and `adapterhub-lite export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AdapterPath, AsJson, Loading, Place, print_json
from adapterhub_lite.names import check_choice

FORMATS = ("peft", "merged", "gguf")


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
    from adapterhub_lite.cli.loading import open_engine
    from adapterhub_lite.merging.from_peft import import_peft

    names = [name.strip() for name in labels.split(",")] if labels else None
    made = import_peft(
        open_engine(), Path(folder), Path(out), task=task, labels=names, quantization=quantize,
        base=place.base, device=place.device,
    )  # fmt: skip
    if json_:
        print_json({"path": out, "strategy": made.strategy, "task": made.task, "tensors": made.tensors})
        return
    typer.echo(f"{folder} imported into {out}: strategy {made.strategy}, task {made.task}, {made.tensors} tensors")


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
        from adapterhub_lite.cli.merge import merge

        merge(adapter, out, loading, json_=json_)
        return
    from adapterhub_lite.cli.loading import open_engine
    from adapterhub_lite.merging.export import export_gguf, export_peft

    if to == "gguf":
        notes = [f"{export_gguf(Path(adapter), Path(out), open_engine(), base=loading.base)} weights adapted"]
    else:
        notes = export_peft(Path(adapter), Path(out), open_engine(), base=loading.base)
    if json_:
        print_json({"path": out, "format": to, "notes": notes})
        return
    typer.echo(f"{adapter} exported to {out}")
    for note in notes:
        typer.echo(f"note: {note}")
