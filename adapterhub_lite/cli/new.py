"""`adapterhub-lite plugins new`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def new(
    name: Annotated[str, typer.Argument(help="Name of the strategy: lower case letters, digits and '_'.")],
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder to make [default: adapterhub-lite-NAME].")
    ] = None,
) -> None:
    """Write a distribution with a working strategy, its tests and README, to begin from."""
    from adapterhub_lite.plugins.manager import Plugins
    from adapterhub_lite.scaffold import check_name, write_distribution

    check_name(name, Plugins())
    target = Path(out if out is not None else f"adapterhub-lite-{name.replace('_', '-')}")
    files = write_distribution(name, target)
    typer.echo(f"wrote {target}:")
    for file in files:
        typer.echo(f"    {file}")
    typer.echo(
        f"next: cd {shlex.quote(str(target))} && pip install -e '.[test]' && adapterhub-lite plugins check {name} && pytest"
    )
