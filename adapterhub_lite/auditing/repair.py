"""A new file without the rows that findings leave out, and a log of every change; nothing else changes data."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from adapterhub_lite.auditing.finding import DATA
from adapterhub_lite.auditing.outcome import Audit, leaves_out, write_text
from adapterhub_lite.auditing.targets import check_files, fix_files
from adapterhub_lite.data.write import WRITERS, write_rows
from adapterhub_lite.errors import ConfigError

LOG = ("row", "change", "finding", "why")


def check_repair(path: str | Path, sources: Sequence[str]) -> None:
    """Refuse a file that a repaired table cannot be written to, before anything is looked at.

    Raises:
        ConfigError: a name of another type, a folder that is missing, or what the data or the rows to score on were read from.
    """
    files = fix_files(path)
    if files[0].suffix.lower() not in WRITERS:
        raise ConfigError(f"--fix {path}: the name must end in one of {', '.join(WRITERS)}")
    check_files(f"--fix {path}", files, sources)


def repaired(audit: Audit, path: str | Path) -> int:
    """Write the data without the rows to be left out, and PATH.log.csv beside it.

    Returns:
        How many rows were left out.

    Raises:
        ConfigError: the data is no table with a row for each input, or `path` is not one it can be written to.
        StorageError: it cannot be written.
    """
    check_repair(path, audit.sources)
    data = audit.datasets[DATA]
    if data.table is None or len(data.table) != len(data):
        raise ConfigError(
            f"{audit.source}: is no table with a row for each input, so that it cannot be written anew; leave the rows out "
            "that the CSV beside the page names"
        )
    out = leaves_out(audit.findings)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(LOG)
    for place, reasons in sorted(out.items()):
        writer.writerows((audit.row_number(DATA, place), "left out", name, why) for name, why in reasons)
    target, log = fix_files(path)
    write_rows(target, data.table.take([row for row in range(len(data)) if row not in out]), {})
    write_text(log, text.getvalue())
    return len(out)
