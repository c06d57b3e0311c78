"""`adapterhub-lite export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.merge import merge
from adapterhub_lite.cli.options import AdapterPath, AsJson, Loading
from adapterhub_lite.cli.output import print_result
from adapterhub_lite.names import check_choice

FORMATS = ("peft", "merged", "gguf")


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
