"""`adapterhub-lite pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import Folder


def pull(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME[@REVISION]", help="Model repository.")],
    folder: Folder,
) -> None:
    """Download an adapter from a hub and verify it."""
    from adapterhub_lite.exchange.hub import pull as download

    manifest = download(repository, Path(folder))
    typer.echo(f"{folder}: {manifest.strategy.name} for {manifest.task.name} on {manifest.base.reference}")
