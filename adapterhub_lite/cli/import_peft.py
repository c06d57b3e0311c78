"""`adapterhub-lite import-peft`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AsJson, Place
from adapterhub_lite.cli.output import print_result


def import_peft(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="What PEFT's save_pretrained wrote.")],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Directory of the adapter to make.")],
    place: Place,
    task: Annotated[str | None, typer.Option("--task", help="causal-lm or text-classification.")] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="A,B", help="A classifier's labels, in order.")
    ] = None,
    quantize: Annotated[str, typer.Option("--quantize", help="none, nf4, fp4 or int8: how to load the base.")] = "none",
    dtype: Annotated[
        str, typer.Option("--dtype", help="What the base computes in: auto, float32, bfloat16 or float16.")
    ] = "auto",
    json_: AsJson = False,
) -> None:
    """Make an adapter of one that PEFT trained."""
    from adapterhub_lite.engine import Engine
    from adapterhub_lite.merging.from_peft import import_peft

    names = [name.strip() for name in labels.split(",")] if labels else None
    made = import_peft(
        Engine(), Path(folder), Path(out), task=task, labels=names, quantization=quantize,
        dtype=dtype, base=place.base, device=place.device,
    )  # fmt: skip
    print_result(
        {"path": out, "strategy": made.strategy, "task": made.task, "tensors": made.tensors},
        f"{folder} imported into {out}: strategy {made.strategy}, task {made.task}, {made.tensors} tensors",
        as_json=json_,
    )
