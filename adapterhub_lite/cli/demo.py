"""`adapterhub-lite demo`."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    out: Annotated[str, typer.Option(metavar="DIR", help="Where the adapters go.")] = "demo-output",
) -> None:
    """Adapt two real bases in a few minutes on a CPU: a chat model in 4 bits, and a text classifier."""
    from adapterhub_lite.cli.demonstration import run_demo

    run_demo(out)
