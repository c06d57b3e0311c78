"""`adapterhub-lite history`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from adapterhub_lite.cli.options import AdapterPath, AsJson
from adapterhub_lite.cli.output import plain_console, print_json, scores_in_words
from adapterhub_lite.names import human_size


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
        described = [
            {
                "id": version.id,
                "current": version.current,
                "created": version.manifest.created,
                "strategy": version.manifest.strategy.name,
                "metrics": version.manifest.metrics,
                "size_bytes": version.size,
            }
            for version in versions
        ]
        print_json({"adapter": adapter, "versions": described})
        return
    table = Table("version", Column("saved (UTC)", no_wrap=True), "strategy", "held-out scores", "size", "")
    for version in versions:
        manifest, mark = version.manifest, "in use" if version.current else ""
        scores, size = scores_in_words(manifest.metrics), human_size(version.size)
        saved = manifest.created[:16].replace("T", " ")  # to the minute, in UTC
        table.add_row(version.id, saved, manifest.strategy.name, scores, size, mark)
    plain_console().print(table)
