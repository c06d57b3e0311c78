"""What an adapter is given in Python: lists, columns of frames, datasets read before, and prompts."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from adapterhub_lite.base.loading import Base
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.files.references import parse_reference
from adapterhub_lite.data.request import SEVERAL
from adapterhub_lite.errors import ConfigError, DataError
from adapterhub_lite.tasks.task import Task


def listed(inputs: Any) -> Any:
    """An array, or a column of a frame, as the list of its entries; anything else as it is."""
    if isinstance(inputs, np.ndarray) and inputs.ndim:
        return inputs.tolist() if inputs.dtype.kind in "OU" else list(inputs)
    return inputs.to_list() if hasattr(inputs, "to_list") and not hasattr(inputs, "columns") else inputs


def require_alike(task: Task, data: Dataset) -> None:
    """Refuse rows that were read for another task, which would be taken for what they are not.

    Raises:
        ConfigError: naming both tasks.
    """
    read, own = data.task.rpartition(":")[2], task.name.rpartition(":")[2]
    if read != own or (SEVERAL in (data.form, task.preprocessing.form) and data.form != task.preprocessing.form):
        forms = [
            f"{name} ({form})" if form else name for name, form in ((read, data.form), (own, task.preprocessing.form))
        ]
        raise ConfigError(
            f"{data.source} was read for {forms[0]}, and this adapter is for {forms[1]}; read it with "
            "adapter.load_data(source)"
        )


def prompts_of(task: Task, base: Base, given: Any) -> tuple[list[list[int]], Callable[[int], str]]:
    """The token ids of a prompt, or of each prompt of a list or a dataset; and how a prompt is called in errors.

    Raises:
        NotSupportedError: the task does not continue text.
        ConfigError, DataError: something that is no prompt, or none for this base, or rows of another task; names the row.
    """
    table, alone = None, not isinstance(given, (list, tuple, Dataset))
    if isinstance(given, Dataset):
        require_alike(task, given)
        given, table = given.inputs, given.table

    def where(row: int) -> str:
        return (
            "the prompt" if alone else f"{table.where(row)}: the prompt" if table is not None else f"prompt {row + 1}"
        )

    ids = []
    for row, prompt in enumerate([given] if alone else given):
        try:
            ids.append(task.prompt_ids(prompt, base))
        except (ConfigError, DataError) as error:
            raise error if alone else type(error)(f"{where(row)}: {error}") from error
    return ids, where


def rows_to_predict(task: Task, inputs: Any, read: Callable[[Any], Dataset]) -> Dataset:
    """The rows of what `predict` is given: the entries of a list, array or column, or what `read` reads.

    Raises:
        DataError: a text that is no file, or an entry that is no input of the task.
    """
    inputs = listed(inputs)
    if isinstance(inputs, (list, tuple)) and not (inputs and isinstance(inputs[0], dict)):
        items = tuple(task.item(value, row) for row, value in enumerate(inputs))
        return Dataset(task.name, items, None, (), {}, "<list>", "", None, form=task.preprocessing.form)
    if isinstance(inputs, str) and task.modality == "text" and not os.path.exists(parse_reference(inputs)[0]):  # noqa: PTH110  (never raises)
        raise DataError(f"there is no file {inputs[:80]!r}; to predict for a text give a list of it: predict([text])")
    return read(inputs)  # a file, a frame, rows as dictionaries, ...
