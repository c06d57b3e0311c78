"""Reading series as the options of a task say, whole or cut into windows. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from adapterhub_lite.api import Dataset, Request
from adapterhub_series.data import (
    Windows,
    columns_there,
    groups_of,
    read_classification as classified,
    read_regression as measured,
)
from adapterhub_series.options import WHOLE, WINDOWS, SeriesOptions


def read_classification(source: Any, request: Request) -> Dataset:
    """Read and check series with one label each; see `adapterhub_series.data`."""
    return _read(partial(classified, keep_unknown=request.keep_unknown), source, request)


def read_regression(source: Any, request: Request) -> Dataset:
    """Read and check series with one number each; see `adapterhub_series.data`."""
    return _read(measured, source, request)


def columns_again(recorded: Mapping[str, str], source: Any) -> Mapping[str, str]:
    """The columns of the training data, by role, by which to read a new source."""
    columns = columns_there(recorded, source)
    # Windows are grouped by their series where there is no other group; that is found again, and not given.
    return {role: name for role, name in columns.items() if role != "group" or name != columns.get("series")}


def _read(reader: Any, source: Any, request: Request) -> Dataset:
    options = request.options
    assert isinstance(options, SeriesOptions)
    # Data of a known form is not learnt from: an adapter, or training data, came before it.
    last = options.last_only and request.form is not None
    windows = Windows(options.window, options.stride, last_only=last) if options.window is not None else None
    dataset: Dataset = reader(
        source, columns=request.columns, labels=request.labels, require_labels=request.require_labels, windows=windows
    )
    return replace(dataset, form=WHOLE if windows is None else WINDOWS, groups=groups_of(dataset))
