"""Reading files and tables of series, with a class or a number each, into a checked dataset."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from adapterhub_lite.api import (
    ConfigError,
    DataError,
    Dataset,
    Labels,
    check_roles,
    existing,
    file_sha256,
    parse_reference,
    read_labels,
    read_table,
)
from adapterhub_series.data.arff_file import read_arff
from adapterhub_series.data.checks import check_series, pick_channels
from adapterhub_series.data.collected import Collected, Reading
from adapterhub_series.data.cut import cut_windows
from adapterhub_series.data.names import join_names, split_names
from adapterhub_series.data.npz_file import read_npz
from adapterhub_series.data.numbers import column_numbers
from adapterhub_series.data.tables import ROLES, read_series_table
from adapterhub_series.data.ts_file import read_ts
from adapterhub_series.data.ucr_file import has_no_header, read_ucr
from adapterhub_series.data.wide import families
from adapterhub_series.data.windows import Windows
from adapterhub_series.options import CLASSIFICATION, REGRESSION, SUFFIXES


def read_classification(
    source: Any,
    *,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    require_labels: bool = True,
    keep_unknown: bool = False,
    windows: Windows | None = None,
) -> Dataset:
    """Read and check series with one label each; see the package for what they are read from.

    Args:
        source: A .ts, .arff or .npz file, or what `read_table` takes, wide or long.
        columns: The columns of the roles "label", "series", "time", "group" and "channels" (several, with commas).
        labels: The classes of a trained adapter, whose order is kept.
        require_labels: False for prediction.
        keep_unknown: Keep labels that are not among `labels`, in `Dataset.unknown`.
        windows: Cut the series into windows.

    Returns:
        Inputs are float32 arrays (time, channels), NaN where a value is missing; with windows, views on whole series.

    Raises:
        DataError: naming file, row, line and column.
        ConfigError: a role or a window that cannot be.
    """
    collected = _collect(source, CLASSIFICATION, Reading("label", require_labels, windows), columns or {})
    if "label" in collected.used:
        read = read_labels(
            collected.table, collected.used["label"], known=labels, required=require_labels, declared=collected.declared,
            keep_unknown=keep_unknown,
        )  # fmt: skip
    else:
        read = Labels(None, tuple(labels or ()), ())
    return replace(_dataset(CLASSIFICATION, collected, read.targets, read.names, read.notes), unknown=read.unknown)


def read_regression(
    source: Any,
    *,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    require_labels: bool = True,
    windows: Windows | None = None,
) -> Dataset:
    """Read and check series with one number each to predict.

    Args, errors and inputs are those of `read_classification`, with the role "target" in place of "label". Targets are
    floats; there are no labels, so `labels` must be empty.
    """
    if labels:
        raise ConfigError(f"labels: {REGRESSION} predicts a number and has none; leave them out")
    collected = _collect(source, REGRESSION, Reading("target", require_labels, windows), columns or {})
    targets, notes = _targets(collected, require_labels) if "target" in collected.used else (None, ())
    return _dataset(REGRESSION, collected, targets, (), notes)


def channels_of(dataset: Dataset) -> tuple[str, ...]:
    """The names of the channels of a dataset of series, in the order of its inputs' last axis."""
    return split_names(dataset.columns["channels"])


def groups_of(dataset: Dataset) -> list[Hashable] | None:
    """The group of each row, whose rows `split` must keep together; None where rows have no groups."""
    name = dataset.columns.get("group")
    if name is None or dataset.table is None:
        return None
    return list(dataset.table.column(name))


def columns_there(recorded: Mapping[str, str], source: Any) -> dict[str, str]:
    """Choose, from the columns recorded in an adapter, those by which to read new data.

    From a table, these are the recorded columns that it has; from a file that is no table, none. If the table has at least
    one of the channels all of them are kept, so that reading fails where one is missing, instead of guessing.
    """
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        path = Path(parse_reference(name)[0])
        if path.suffix.lower() in SUFFIXES or (path.is_file() and has_no_header(path, name)):
            return {}
    table = read_table(source).copied_when_taken()
    used = {role: name for role, name in recorded.items() if role != "channels" and name in table.columns}
    there = {*table.columns, *families(table, table.columns)}
    if "channels" in recorded and there.intersection(split_names(recorded["channels"])):
        used["channels"] = recorded["channels"]
    return used


def _collect(source: Any, task: str, how: Reading, given: Mapping[str, str]) -> Collected:
    check_roles(given, (how.answer, *ROLES), task)
    channels = split_names(given["channels"]) if "channels" in given else None
    other = next((role for role, name in given.items() if role != "channels" and name in (channels or ())), None)
    if other is not None:
        raise ConfigError(f"columns: {given[other]!r} is given both as {other!r} and among the channels; choose one")
    collected = _from_file(source, how, given) if isinstance(source, (str, os.PathLike)) else None
    if collected is None:
        collected = read_series_table(read_table(source).copied_when_taken(), given, how)
    else:
        collected = pick_channels(collected, channels or collected.channels)
    collected = replace(
        collected, notes=(*collected.notes, *check_series(collected, 1 if how.windows is not None else 2))
    )
    return collected if how.windows is None else cut_windows(collected, how.windows, how.required)


def _from_file(source: str | os.PathLike[str], how: Reading, given: Mapping[str, str]) -> Collected | None:
    """Series from a file that is no table with a header; None for all other files."""
    name = os.fspath(source)
    if parse_reference(name)[0].lower().endswith(".npz"):
        _refuse_roles(given, (how.answer, "series", "group", "channels"), "an .npz file")
        return read_npz(name, given, how.answer, how.required)
    path = existing(parse_reference(name)[0])
    if path.is_dir():
        return None
    suffix = path.suffix.lower()
    if suffix == ".ts":
        _refuse_roles(given, ("channels",), "a .ts file", how.answer)
        return read_ts(path, name, file_sha256(path, name), how.answer, how.required)
    if suffix == ".arff":
        _refuse_roles(given, (how.answer, "channels"), "an .arff file")
        return read_arff(path, name, file_sha256(path, name), given.get(how.answer), how.answer, how.required)
    if suffix == ".txt":
        raise DataError(
            f"{name}: files of type .txt are not read, since their columns have no names; if each line is a class and then "
            "a series, write it with tabs or commas as .tsv or .csv; if it is a time step, name the columns in a first "
            "line and write it with commas as .csv"
        )
    if not given and has_no_header(path, name):
        return read_ucr(path, name, file_sha256(path, name), how.answer)
    return None


def _refuse_roles(given: Mapping[str, str], roles: Sequence[str], what: str, own: str | None = None) -> None:
    for role, name in given.items():
        if role not in roles and not (role == own == name):
            raise ConfigError(f"columns: {what} has no column for {role!r}; it has {', '.join(roles)}")


def _targets(collected: Collected, required: bool) -> tuple[tuple[float, ...] | None, tuple[str, ...]]:
    table, name = collected.table, collected.used["target"]
    try:
        numbers = column_numbers(table, name)
        absent = np.flatnonzero(np.isnan(numbers))
        if len(absent):
            raise DataError(f"{table.where(int(absent[0]), name)}: target is missing; fill it in or remove the row")
    except DataError as error:
        if required:
            raise
        return None, (f"column {name!r} is not used as targets: {error}",)
    notes: tuple[str, ...] = ()
    if required and len(numbers) > 1 and numbers.min() == numbers.max():
        notes = (f"column {name!r}: every target is {numbers[0]:g}; there is nothing to learn",)
    return tuple(numbers.tolist()), notes


def _dataset(task: str, collected: Collected, targets: Any, names: tuple[str, ...], notes: tuple[str, ...]) -> Dataset:
    table = collected.table
    used = {**collected.used, "channels": join_names(collected.channels)}
    return Dataset(
        task, collected.values, targets, names, used, table.source, table.sha256, table, (*collected.notes, *notes)
    )  # fmt: skip
