"""`adapterhub-lite merge`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AdapterPath, AsJson, Loading, print_json


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
    from adapterhub_lite.cli.loading import open_engine
    from adapterhub_lite.merging.merge import merge_adapter

    merged = merge_adapter(
        open_engine(), Path(adapter), Path(out), dtype=dtype,
        base=loading.base, device=loading.device, force=loading.force,
    )  # fmt: skip
    if json_:
        print_json(
            {
                "path": str(merged.path),
                "head": str(merged.head) if merged.head else None,
                "shard_by_shard": merged.sharded,
                "forced": merged.forced,
                "report": asdict(merged.report),
            }
        )
        return
    typer.echo(f"merged into {merged.path}: {merged.report.line()}")
    if merged.head is not None:
        typer.echo(
            f"the classifier's head is an adapter on it: adapterhub-lite predict {merged.head} --data FILE --out FILE"
        )
