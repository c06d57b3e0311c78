"""Several column names in one text, as on a command line: "acc_x,acc_y"."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from adapterhub_lite.api import ConfigError


def join_names(names: Sequence[str]) -> str:
    """The names with commas between them; one that holds a comma or a quote is quoted as in a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return text.getvalue()


def split_names(text: str) -> tuple[str, ...]:
    """What `join_names` joined; white space around a name is left out.

    Raises ConfigError where a name is empty or is there twice.
    """
    names = tuple(name.strip() for name in next(csv.reader([text], skipinitialspace=True), []))
    if not names or not all(names):
        raise ConfigError(f"channels: {text!r} holds an empty name; give column names with commas between them")
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ConfigError(f"channels: {repeated!r} is named twice; give each channel once")
    return names
