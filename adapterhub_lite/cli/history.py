"""`adapterhub-lite history` and `adapterhub-lite rollback`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AdapterPath, AsJson, print_json
from adapterhub_lite.names import human_size

VersionId = Annotated[
    str | None,
    typer.Argument(metavar="[VERSION]", help="Beginning of an id that `history` shows; the last one by default."),
]


def history(
    adapter: AdapterPath,
    keep: Annotated[
        int | None, typer.Option(min=0, help="Delete all earlier versions but the newest of this many.")
    ] = None,
    json_: AsJson = False,
) -> None:
    """List the versions of an adapter: those that a save replaced, and last the one in use."""
    from adapterhub_lite.storage.find import find_adapter
    from adapterhub_lite.storage.history import list_versions
    from adapterhub_lite.storage.versions import trim

    path = Path(adapter)
    if keep is not None:
        trim(path, keep)
    versions = list_versions(path)
    if not versions:
        find_adapter(path)  # says what is there instead
    if json_:
        print_json(
            {
                "adapter": adapter,
                "versions": [
                    {
                        "id": version.id,
                        "current": version.current,
                        "created": version.manifest.created,
                        "strategy": version.manifest.strategy.name,
                        "metrics": version.manifest.metrics,
                        "size_bytes": version.size,
                    }
                    for version in versions
                ],
            }
        )
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ("version", "saved", "strategy", "held-out scores", "size", ""):
        table.add_column(column)
    for version in versions:
        manifest = version.manifest
        scores = ", ".join(f"{k} {v:.4f}" for k, v in manifest.metrics.items() if v is not None and k != "n")
        mark = "in use" if version.current else ""
        table.add_row(version.id, manifest.created, manifest.strategy.name, scores, human_size(version.size), mark)
    Console().print(table)


def rollback(adapter: AdapterPath, version: VersionId = None, json_: AsJson = False) -> None:
    """Put an earlier version of an adapter back; the one in use is kept, and a second rollback returns to it."""
    from adapterhub_lite.storage.versions import rollback as put_back

    chosen = put_back(Path(adapter), version)
    if json_:
        print_json({"adapter": adapter, "version": chosen.id, "created": chosen.manifest.created})
    else:
        typer.echo(f"{adapter} is version {chosen.id} again, saved {chosen.manifest.created}")
