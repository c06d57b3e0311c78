"""Files whose lines are a label and, after the first space or tab, a text; fastText's `__label__` is taken off."""

from __future__ import annotations

import os
from array import array
from typing import Any

from adapterhub_lite.api import (
    DataError,
    FileOptions,
    RowBuilder,
    Table,
    existing,
    file_sha256,
    open_text,
    place,
    undecodable,
)
from adapterhub_text.options import LABEL_TEXT

FASTTEXT = "__label__"


def read_label_text(source: Any, files: FileOptions) -> Table:
    """Read a file with a label and a text on each line; blank lines are skipped.

    Raises:
        DataError: a line without a text or with several labels, by its place.
        ConfigError: options that are for other files.
    """
    name = os.fspath(source)
    path = existing(name)
    files.check(name, LABEL_TEXT)
    sha256 = file_sha256(path, name)
    rows, lines = RowBuilder(name), array("q")
    try:
        with open_text(path, name, files.encoding) as file:
            for number, line in enumerate(file, start=1):
                if line.isspace():
                    continue
                label, *rest = line.split(maxsplit=1)
                text = rest[0].rstrip() if rest else ""
                if not text:
                    where = place(name, len(lines), number)
                    raise DataError(f"{where}: is {label[:60]!r} alone; write a label, a space, and a text")
                if label.startswith(FASTTEXT) and text.startswith(FASTTEXT):
                    where = place(name, len(lines), number)
                    raise DataError(
                        f'{where}: has several labels; write all rows as JSON lines, {{"text": ..., "labels": ["..."]}}'
                    )
                lines.append(number)
                rows.add({"label": label.removeprefix(FASTTEXT), "text": text}, len(line))
    except UnicodeDecodeError as error:
        raise undecodable(path, name, files.encoding) from error
    if not lines:
        raise DataError(f"{name}: is empty; each line must hold a label, a space, and a text")
    return Table(name, rows.finish(), sha256, lines, mapped=rows.mapped)
