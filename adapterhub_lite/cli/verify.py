"""`adapterhub-lite verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from adapterhub_lite.cli.options import AdapterPath, AsJson, Place
from adapterhub_lite.cli.output import plain_console, print_json


def verify(
    adapter: AdapterPath,
    place: Place,
    files_only: Annotated[
        bool, typer.Option("--files-only", metavar="", help="Check the files alone; loads no model.")
    ] = False,
    key: Annotated[
        str | None, typer.Option(metavar="FILE", help="Check the signature with this public key (PEM), too.")
    ] = None,
    json_: AsJson = False,
) -> None:
    """Check that an adapter is what was saved: its files, its base, and the outputs seen when it was saved.

    Exit code 0: everything holds. 1: something does not, and the last line says what.
    """
    from adapterhub_lite.storage.bundle import as_folder
    from adapterhub_lite.storage.verify import verify_files

    with as_folder(Path(adapter)) as path:
        _, report = verify_files(path, key=Path(key) if key is not None else None)
        if report.ok and not files_only:  # a damaged adapter is told without importing anything heavy
            from adapterhub_lite.adapter.replay import verify_adapter
            from adapterhub_lite.engine import Engine

            report = verify_adapter(Engine(), path, base=place.base, device=place.device, files=report)
    report.path = adapter
    if json_:
        print_json(report.to_json())
    else:
        colour = {"passed": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}
        table = Table(show_header=False, title=f"{adapter}: {'verified' if report.ok else 'NOT as saved'}")
        for check in report.checks:
            table.add_row(check.name, Text(check.state, colour[check.state]), check.detail)
        plain_console().print(table)
    if report.error is not None:
        raise report.error
