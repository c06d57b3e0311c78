"""`adapterhub-lite pack` and `adapterhub-lite unpack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AdapterPath
from adapterhub_lite.names import human_size


def pack(
    adapter: AdapterPath,
    out: Annotated[str, typer.Argument(metavar="OUT.adapter.zip", help="File to write.")],
) -> None:
    """Put an adapter into one file, for mail or an object store; the other verbs read it as it is."""
    from adapterhub_lite.storage.bundle import pack as write

    path = write(Path(adapter), Path(out))
    typer.echo(f"{path} ({human_size(path.stat().st_size)})")


def unpack(
    bundle: Annotated[str, typer.Argument(metavar="FILE", help="A bundle made by `pack`.")],
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where the adapter goes.")],
) -> None:
    """Check a bundle and write the adapter in it to a folder."""
    from adapterhub_lite.storage.bundle import unpack as read

    manifest = read(Path(bundle), Path(folder))
    typer.echo(f"{folder}: {manifest.strategy.name} for {manifest.task.name} on {manifest.base.reference}")
