"""The tasks of the plug-ins by name, and data read for one of them. No torch here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.files.options import FileOptions
from adapterhub_lite.data.files.read import SUFFIXES, read_foreign, read_table
from adapterhub_lite.data.files.references import parse_reference
from adapterhub_lite.data.request import Request
from adapterhub_lite.data.roles.columns import shortened
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.shelf import Shelf
from adapterhub_lite.plugins.spec import OURS, ReaderSpec, imported
from adapterhub_lite.tasks.spec import TaskOptions, TaskSpec


class Catalog(Shelf[TaskSpec]):
    """The tasks by name, those of our own plug-ins first; and the readers of plug-ins.

    Args:
        plugins: Those to use.
    """

    def __init__(self, plugins: Plugins):
        offered = partial(sorted, plugins.tasks, key=lambda offer: offer.dist != OURS)
        super().__init__("task", offered, lambda: plugins.records)
        self._readers = partial(plugins.gathered, "adapterhub_readers", ReaderSpec)

    def opened(self, source: Any, spec: TaskSpec, files: FileOptions) -> Any:
        """The source as a table where something is said of it beside its name, or a plug-in alone reads it; or as it is.

        Raises:
            DataError: a bad file.
            ConfigError: two plug-ins read files of its suffix, or an option does not go with the source.
        """
        path = Path(source) if isinstance(source, (str, os.PathLike)) else None
        suffix = path.suffix.lower() if path is not None else ""
        readers = {plugin: reader for plugin, reader in self._readers() if suffix in reader.suffixes}
        if files.given():
            if (files.format or ("folder" if path is not None and path.is_dir() else "")) in spec.formats:
                return source
            if not files.format and (suffix in spec.suffixes or readers):
                files.check(str(source), "arrow")  # which the task or a plug-in reads as they are
            return read_table(source, files)
        if not suffix or suffix in SUFFIXES or suffix in spec.suffixes:
            return source
        if len(readers) > 1:
            raise ConfigError(
                f"{source}: files of type {suffix} are read by the plug-ins {' and '.join(readers)}; leave all but one out "
                "with ADAPTERHUB_DISABLE"
            )
        return read_foreign(source, readers.popitem()[1].read) if readers else source


def read_data(
    catalog: Catalog,
    source: Any,
    task: str,
    *,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    require_labels: bool = True,
    keep_unknown: bool = False,
    form: str | None = None,
    options: Mapping[str, Any] | TaskOptions | None = None,
    files: FileOptions | None = None,
) -> Dataset:
    """Read and check the data for a task, every row of it, before any model is loaded.

    `source` is what `read_table` takes, and what else the task reads. `columns` says which
    column plays a role ({"text": "clause", "label": "kind"}); roles left out are guessed from the names, and the
    result's `columns` says how. `labels` are the classes of a trained adapter: their order is kept, and a label outside
    them is an error; `form` is that of the data it was trained on. With `require_labels=False` (prediction) labels may be
    absent; targets are None unless all rows have a usable one. With `keep_unknown` (evaluation) a label outside `labels` is
    kept as a class behind them, named in the result's `unknown`. `options` are those of the task, as `Engine.train` takes them.
    `files` is what is said of a file beside its name.

    Raises DataError, which names the file, row and column, and ConfigError for an unknown task, role or option.
    """
    provided = catalog.resolve(task)
    settled = catalog.configure(provided, options or {})
    roles = columns if columns is not None else {}
    if not isinstance(roles, Mapping) or not all(isinstance(text, str) for pair in roles.items() for text in pair):
        raise ConfigError(f"columns is {columns!r:.80}; give a mapping from roles to names, {{'text': 'clause'}}")
    files = files or FileOptions()
    request = Request(dict(roles), labels, require_labels, keep_unknown, form, settled, files)
    # The reader of a task knows neither the name that adapters record nor which options were given.
    given = settled.model_dump(mode="json", exclude_unset=True)
    read, opened = imported(provided.spec.read), catalog.opened(source, provided.spec, files)
    dataset: Dataset = read(opened, request)
    if keep_unknown and not dataset.unknown and _beyond(dataset):
        # A reader that does not hand on which labels are unknown: for it they are the error they always were.
        dataset = read(opened, replace(request, keep_unknown=False))
    notes = (*dataset.notes, *_unused(dataset))
    return replace(dataset, task=provided.recorded, options=given, notes=notes, files=files.given())


def _beyond(dataset: Dataset) -> bool:
    """Whether a target is no class of the labels."""
    several, known = any(isinstance(target, tuple) for target in dataset.targets or ()), len(dataset.labels)
    targets = chain.from_iterable(dataset.targets or ()) if several else dataset.targets or ()
    return bool(known) and any(target >= known for target in targets)


def _unused(dataset: Dataset) -> list[str]:
    unused = unused_columns(dataset)
    return [f"columns that are not used: {shortened(unused)}"] if unused else []


def unused_columns(dataset: Dataset) -> list[str]:
    """The columns of the data that play no role; arrays in an .npz are no columns."""
    if dataset.table is None or parse_reference(dataset.source)[0].lower().endswith(".npz"):
        return []
    # A role may have several columns, their names separated by commas.
    used = {name for names in dataset.columns.values() for name in (names, *names.split(","))}
    return [name for name in dataset.table.columns if name not in used]
