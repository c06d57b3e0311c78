"""How a task's data is to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapterhub_lite.data.files.options import DEFAULT, FileOptions

SEVERAL = "several"
"""The form of data whose rows have any number of labels."""


@dataclass(frozen=True)
class Request:
    """How a task's data is to be read."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Which column plays which role; roles left out are guessed."""
    labels: Sequence[str] | None = None
    """Classes of a trained adapter, in the order of its outputs; None to take them from the data."""
    require_labels: bool = True
    """False for prediction, where what is to be predicted may be missing."""
    keep_unknown: bool = False
    """In evaluation: a label that is not among `labels` becomes a class behind them (`Dataset.unknown`) and is no error."""
    form: str | None = None
    """`Dataset.form` of the data the adapter was trained on; None to find it out."""
    options: Any = None
    """An instance of the spec's options class."""
    files: FileOptions = DEFAULT
    """What is said of the file beside its name; a table has been read by it already."""
