"""The tasks of the plug-ins by name, and data read for one of them. No torch here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.files.read import READERS, read_foreign
from adapterhub_lite.data.request import Request
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

    def opened(self, source: Any, spec: TaskSpec) -> Any:
        """The source as a table where it is a file that a plug-in alone reads; any other source as it is.

        Raises:
            DataError: a bad file.
            ConfigError: two plug-ins read files of its suffix.
        """
        suffix = Path(source).suffix.lower() if isinstance(source, (str, os.PathLike)) else ""
        if not suffix or suffix in READERS or suffix in spec.suffixes:
            return source
        readers = {plugin: reader for plugin, reader in self._readers() if suffix in reader.suffixes}
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
    form: str | None = None,
    options: Mapping[str, Any] | TaskOptions | None = None,
) -> Dataset:
    """Read and check the data for a task, every row of it, before any model is loaded.

    `source` is what `read_table` takes, and what else the task reads. `columns` says which
    column plays a role ({"text": "clause", "label": "kind"}); roles left out are guessed from the names, and the
    result's `columns` says how. `labels` are the classes of a trained adapter: their order is kept, and a label outside
    them is an error; `form` is that of the data it was trained on. With `require_labels=False` (prediction) labels may be
    absent; targets are None unless all rows have a usable one. `options` are those of the task, as `Engine.train` takes them.

    Raises DataError, which names the file, row and column, and ConfigError for an unknown task, role or option.
    """
    provided = catalog.resolve(task)
    settled = catalog.configure(provided, options or {})
    roles = columns if columns is not None else {}
    if not isinstance(roles, Mapping) or not all(isinstance(text, str) for pair in roles.items() for text in pair):
        raise ConfigError(f"columns is {columns!r:.80}; give a mapping from roles to names, {{'text': 'clause'}}")
    request = Request(dict(roles), labels, require_labels, form, settled)
    # The reader of a task knows neither the name that adapters record nor which options were given.
    given = settled.model_dump(mode="json", exclude_unset=True)
    read = imported(provided.spec.read)
    return replace(read(catalog.opened(source, provided.spec), request), task=provided.recorded, options=given)
