"""`adapterhub-lite merge`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AdapterPath, AsJson, Loading
from adapterhub_lite.cli.output import print_result


def merge(
    adapter: AdapterPath,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Folder to make; must not exist.")],
    loading: Loading,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="What to store the weights in; by default as the base's files are.")
    ] = None,
    json_: AsJson = False,
) -> None:
    """Fold an adapter into the original weights of its base: a model folder that needs no adapter."""
    write_merged(adapter, out, loading, dtype, json_, alone=False)


def write_merged(adapter: str, out: str, loading: Loading, dtype: str | None, json_: bool, *, alone: bool) -> None:
    """Merge and say what was made; `alone` refuses a head that the folder itself cannot hold."""
    from adapterhub_lite.engine import Engine
    from adapterhub_lite.merging.merge import merge_adapter

    merged = merge_adapter(
        Engine(), Path(adapter), Path(out), dtype=dtype,
        base=loading.base, device=loading.device, force=loading.force, alone=alone,
    )  # fmt: skip
    result = {
        "path": str(merged.path),
        "head": str(merged.head) if merged.head else None,
        "opens_as": merged.opens_as,
        "shard_by_shard": merged.sharded,
        "forced": merged.forced,
        "report": asdict(merged.report),
    }
    lines = [f"merged into {merged.path}: {merged.report.line()}"]
    if merged.opens_as is not None:
        lines.append(f"transformers opens it as {merged.opens_as}, with its head and labels")
    if merged.no_class is not None:
        lines.append(f"note: without adapterhub-lite it is a base without a head: {merged.no_class}")
    if merged.head is not None:
        predict = f"adapterhub-lite predict {merged.head} --data FILE --out FILE"
        lines.append(f"the classifier's head is an adapter on it: {predict}")
    print_result(result, *lines, as_json=json_)
