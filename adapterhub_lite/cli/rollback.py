"""`adapterhub-lite rollback`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AdapterPath, AsJson
from adapterhub_lite.cli.output import print_result


def rollback(
    adapter: AdapterPath,
    version: Annotated[
        str | None,
        typer.Argument(metavar="[VERSION]", help="Beginning of an id that `history` shows; the last one by default."),
    ] = None,
    json_: AsJson = False,
) -> None:
    """Put an earlier version of an adapter back; the one in use is kept, and a second rollback returns to it."""
    from adapterhub_lite.storage.versions import rollback as put_back

    chosen = put_back(Path(adapter), version)
    created = chosen.manifest.created
    words = f"{adapter} is version {chosen.id} again, saved {created}"
    print_result({"adapter": adapter, "version": chosen.id, "created": created}, words, as_json=json_)
