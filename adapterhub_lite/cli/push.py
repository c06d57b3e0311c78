"""`adapterhub-lite push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AdapterPath, NoProbe


def push(
    adapter: AdapterPath,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Model repository; made if need be.")],
    private: Annotated[bool, typer.Option("--private", metavar="", help="Make it private, if it is made.")] = False,
    card: Annotated[bool, typer.Option("--card", metavar="", help="Replace the model card that is there.")] = False,
    no_probe: NoProbe = False,
) -> None:
    """Upload an adapter to a hub, with a model card. Log in first: `hf auth login`, or set HF_TOKEN."""
    from adapterhub_lite.exchange.hub import push as upload

    typer.echo(upload(Path(adapter), repository, private=private, card=card, probe=not no_probe))
