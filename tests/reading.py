"""Data for tests, read as the engine reads it, also without labels."""

from __future__ import annotations

from typing import Any

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.tasks.catalog import Catalog, read_data


def load_data(source: Any, task: str, **options: Any) -> Dataset:
    """Read data for a task of the installed plug-ins; the options are those of `read_data`."""
    return read_data(Catalog(Plugins()), source, task, **options)
