"""The rows that a saved adapter is used on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adapterhub_lite.cli.options import Columns, columns_by_role
from adapterhub_lite.cli.output import say_columns
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.storage.bundle import manifest_of

if TYPE_CHECKING:
    from adapterhub_lite.data.dataset import Dataset

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def checked_data(
    adapter: str, source: str, columns: Columns, *, require_labels: bool, keep_unknown: bool = False
) -> Dataset:
    """Read data as the adapter's task does, before its base is loaded.

    With `keep_unknown`, labels that the adapter does not know are kept, and are no error.

    Raises:
        AdapterNotFoundError, AdapterCorruptError: no such adapter.
        ConfigError: a role of a column named twice.
        DataError: bad data, naming file, row and column.
    """
    from adapterhub_lite.adapter.read import read_for
    from adapterhub_lite.plugins.manager import Plugins

    named = columns_by_role(columns, columns.columns)
    task = manifest_of(Path(adapter)).task
    dataset = read_for(
        task, source, plugins=Plugins(), columns=named, require_labels=require_labels, keep_unknown=keep_unknown,
        files=columns.files,
    )  # fmt: skip
    say_columns(dataset.columns, source)
    return dataset


def check_target(out: str, option: str = "--out", suffixes: tuple[str, ...] = SUFFIXES) -> Path:
    """Refuse a file that rows, or a page, cannot be written to, before a model is loaded.

    Raises:
        ConfigError: a name of another type, a folder, or a place that is not there.
    """
    target = Path(out)
    if target.is_dir():
        raise ConfigError(f"{option} {out}: is a directory")
    if target.suffix not in suffixes:
        which = f"one of {', '.join(suffixes)}" if suffixes[1:] else suffixes[0]
        raise ConfigError(f"{option} {out}: the name must end in {which}")
    if not target.absolute().parent.is_dir():
        raise ConfigError(f"{option} {out}: its folder does not exist")
    return target
