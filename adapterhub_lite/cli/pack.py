"""`adapterhub-lite pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AdapterPath, NoProbe
from adapterhub_lite.names import human_size


def pack(
    adapter: AdapterPath,
    out: Annotated[str, typer.Argument(metavar="OUT.adapter.zip", help="File to write.")],
    no_probe: NoProbe = False,
) -> None:
    """Put an adapter into one file, for mail or an object store; the other verbs read it as it is."""
    from adapterhub_lite.storage.bundle import pack as write

    path = write(Path(adapter), Path(out), probe=not no_probe)
    typer.echo(f"{path} ({human_size(path.stat().st_size)})")
