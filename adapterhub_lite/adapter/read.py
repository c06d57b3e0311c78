"""Data for a trained adapter: read by the task, labels and columns it was trained with. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.files.options import FileOptions
from adapterhub_lite.data.files.read import read_table
from adapterhub_lite.data.table import Table
from adapterhub_lite.errors import DataError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.spec import imported
from adapterhub_lite.progress import Progress
from adapterhub_lite.storage import TaskRecord
from adapterhub_lite.tasks.catalog import Catalog, read_data
from adapterhub_lite.training.config import TrainConfig
from adapterhub_lite.training.held_out import held_out_of


def read_for(
    task: TaskRecord,
    source: Any,
    *,
    plugins: Plugins,
    columns: Mapping[str, str] | None = None,
    require_labels: bool,
    keep_unknown: bool = False,
    files: FileOptions | Mapping[str, Any] | None = None,
) -> Dataset:
    """Read and check data for an adapter.

    Args:
        task: What the adapter was trained for.
        source: What `load_data` takes.
        plugins: Those that may provide the task.
        columns: Which column plays which role; by default as in training where the data has those, else guessed.
        require_labels: False for prediction.
        keep_unknown: Keep labels the adapter was not trained on, named in the dataset's `unknown`.
        files: What is said of the file beside its name; the rest as in training, where it says something of this file.

    Raises:
        DataError: bad data, or a label the adapter was not trained on; names file, row and column.
        ConfigError: a task that is not installed.
    """
    catalog, preprocessing = Catalog(plugins), cast(dict[str, Any], task.preprocessing)
    source, columns, files = as_before(catalog, task, source, columns, files)
    return read_data(
        catalog,
        source,
        task.name,
        columns=columns,
        labels=task.labels or None,
        require_labels=require_labels,
        keep_unknown=keep_unknown,
        form=preprocessing.get("form"),
        options=preprocessing.get("options", {}),
        files=files,
    )


def as_before(
    catalog: Catalog,
    task: TaskRecord,
    source: Any,
    columns: Mapping[str, str] | None,
    files: FileOptions | Mapping[str, Any] | None,
) -> tuple[Any, dict[str, str], FileOptions]:
    """How to read new data for an adapter: the source, read if it is a table, its columns by role, and what its file is.

    What is given goes first; the rest is as in training, where it fits the new data.
    """
    options = FileOptions.of(files).over(task.files, source)
    source, known = _columns_as_before(catalog, task.name, task.columns, source, options)
    return source, {**known, **(columns or {})}, options


def parts_of(
    data: Dataset,
    eval_data: Any,
    share: float | None,
    config: TrainConfig,
    catalog: Catalog,
    progress: Progress,
    *,
    like: Dataset | None = None,
) -> tuple[Dataset, Dataset | None]:
    """Rows to learn from, and rows to score on, if any.

    Args:
        data: All rows, where none are given to score on.
        eval_data: Those, as a dataset or anything that is read like `like`, or else `data`.
        share: As of `held_out_of`.
        config: Its seed draws the rows.
        catalog: The tasks.
        progress: Is told of rows that were held out without being asked for.

    Raises:
        ConfigError, DataError: as `read_like` and `held_out_of`.
    """
    if isinstance(eval_data, Dataset):
        return data, eval_data
    if eval_data is not None:
        return data, read_like(catalog, data if like is None else like, eval_data)
    data, held_out, _, line = held_out_of(data, share, config)
    if line is not None:
        progress.say(line)
    return data, held_out


def read_like(
    catalog: Catalog,
    data: Dataset,
    source: Any,
    given: Mapping[str, str] | None = None,
    *,
    require_labels: bool = True,
) -> Dataset:
    """Read and check data to score on, as the data that is learnt from was read.

    Columns in `given`, by role, go before those of that data. Labels may be absent where they are not required.

    Raises:
        DataError: bad data, or a label that is not learnt; names file, row and column.
    """
    files = FileOptions().over(data.files, source)
    source, columns = _columns_as_before(catalog, data.task, data.columns, source, files)
    # Groups are for splitting, and this is not split: they may be missing.
    columns |= {role: name for role, name in (given or {}).items() if role != "group"}
    return read_data(
        catalog,
        source, data.task, columns=columns, labels=data.labels or None, require_labels=require_labels, form=data.form,
        options=data.options, files=files
    )  # fmt: skip


def _columns_as_before(
    catalog: Catalog, task: str, columns: Mapping[str, str], source: Any, files: FileOptions
) -> tuple[Any, dict[str, str]]:
    """Give columns of a new source the roles that columns of these names had in training; roles left out are guessed.

    Returns the source, read if it is a table, and the columns by role: none where the inputs' column is not there.
    """
    spec = catalog.resolve(task).spec
    source = catalog.opened(source, spec, files)
    if spec.columns_again is not None:
        return source, dict(imported(spec.columns_again)(columns, source))
    # Not a table: a folder of images, an .npz; or a bad one, about which the task's reader will say the same.
    with suppress(DataError):
        source = read_table(source)
    there = source.columns if isinstance(source, Table) else ()
    # A role may have several columns, their names separated by commas.
    known = {role: names for role, names in columns.items() if all(name in there for name in names.split(","))}
    inputs = next((role for role in spec.roles if role in columns), None)
    return source, known if inputs is None or inputs in known else {}
