"""The one way in: a source and a task give a checked dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapterhub_lite.data import causal_lm, image_classification, text_classification
from adapterhub_lite.data.columns import suggestion
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import ConfigError

TASKS = (text_classification.TASK, causal_lm.TASK, image_classification.TASK)


def load_data(
    source: Any,
    task: str,
    *,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    require_labels: bool = True,
) -> Dataset:
    """Read and check the data for a task, every row of it, before any model is loaded.

    `source` is what `read_table` takes, or for images also a folder of class folders or an .npz. `columns` says which
    column plays a role ({"text": "clause", "label": "kind"}); roles left out are guessed from the names, and the
    result's `columns` says how. `labels` are the classes of a trained adapter: their order is kept, and a label outside
    them is an error. With `require_labels=False` (prediction) labels may be absent; targets are None unless all rows
    have a usable one.

    Raises DataError, which names the file, row and column, and ConfigError for an unknown task or role.
    """
    if task == text_classification.TASK:
        return text_classification.read(source, columns=columns, labels=labels, require_labels=require_labels)
    if task == causal_lm.TASK:
        return causal_lm.read(source, columns=columns, require_labels=require_labels)
    if task == image_classification.TASK:
        return image_classification.read(source, columns=columns, labels=labels, require_labels=require_labels)
    raise ConfigError(f"task {task!r} is not known{suggestion(task, TASKS)}; use one of {', '.join(TASKS)}")
