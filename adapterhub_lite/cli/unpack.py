"""`adapterhub-lite unpack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import Folder


def unpack(
    bundle: Annotated[str, typer.Argument(metavar="FILE", help="A bundle made by `pack`.")], folder: Folder
) -> None:
    """Check a bundle and write the adapter in it to a folder."""
    from adapterhub_lite.storage.bundle import unpack as read

    manifest = read(Path(bundle), Path(folder))
    typer.echo(f"{folder}: {manifest.strategy.name} for {manifest.task.name} on {manifest.base.reference}")
