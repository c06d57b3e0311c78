"""`adapterhub-lite export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.merge import write_merged
from adapterhub_lite.cli.options import AdapterPath, AsJson, Loading
from adapterhub_lite.cli.output import print_result
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import check_choice

FORMATS = ("peft", "merged", "gguf")


def export(
    adapter: AdapterPath,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="peft, merged or gguf.")],
    out: Annotated[str, typer.Option("--out", metavar="PATH", help="Folder (peft, merged) or file (gguf) to make.")],
    loading: Loading,
    dtype: Annotated[
        str,
        typer.Option("--dtype", help="For merged, of a GGUF base: what to unpack it as, float32, bfloat16 or float16."),
    ] = "float32",
    json_: AsJson = False,
) -> None:
    """Write an adapter for other tools: PEFT, a merged model, or a LoRA for llama.cpp."""
    check_choice("format", to, FORMATS)
    if to == "merged":
        write_merged(adapter, out, loading, dtype, json_, alone=True)
        return
    from adapterhub_lite.engine import Engine
    from adapterhub_lite.merging.export import export_gguf, export_peft

    if to == "gguf":
        if loading.force:
            raise ConfigError("--force accepts another base, and --to gguf loads none; leave it out")
        notes = [f"{export_gguf(Path(adapter), Path(out), Engine(), base=loading.base)} weights adapted"]
    else:
        notes = export_peft(Path(adapter), Path(out), Engine(), base=loading.base, force=loading.force)
    print_result(
        {"path": out, "format": to, "notes": notes},
        f"{adapter} exported to {out}",
        *(f"note: {note}" for note in notes),
        as_json=json_,
    )
