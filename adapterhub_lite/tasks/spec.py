"""A task described without importing torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from adapterhub_lite.data.request import Request
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.names import refuse_truth_for_number
from adapterhub_lite.plugins.spec import API_VERSION, LOAD_PATTERN, MODALITIES, Modality, Spec

if TYPE_CHECKING:
    from adapterhub_lite.base.loading import Base
    from adapterhub_lite.data.dataset import Dataset
    from adapterhub_lite.tasks.task import Preprocessing, Task

TASK_PATTERN = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class TaskOptions(BaseModel):
    """The options of a task: a frozen pydantic model whose every field has a description and a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth(cls, value: Any, info: ValidationInfo) -> Any:
        return refuse_truth_for_number(cls, value, str(info.field_name))


class TaskKind(Protocol):
    """What `TaskSpec.load` returns: usually the class of the task."""

    def settle(self, base: Base, data: Dataset, options: Any) -> Preprocessing:
        """Decide, before training, how inputs become tensors on this base; recorded in the adapter.

        Raises:
            ConfigError: an option that this base cannot follow.
            NotSupportedError: a base that cannot do the task.
        """

    def __call__(self, labels: Sequence[str], preprocessing: Preprocessing) -> Task:
        """Make the task, for training or for a saved adapter."""


@dataclass(frozen=True)
class TaskSpec(Spec):
    """One task, described without importing torch."""

    kind = "task"
    method = "settle"

    name: str
    summary: str
    modality: Modality
    read: str | Callable[[Any, Request], Dataset]
    """Read and check a source, without torch; raises DataError naming file, row and column. A function, or where one is, as
    `"module:function"`: that module is imported when there is something to read."""
    load: str | Callable[[], TaskKind]
    """`"module:Class"`, the class of the task, or a function that returns it."""
    roles: tuple[str, ...]
    """Roles its columns play, that of the input first; `--column ROLE=NAME` names them."""
    options: type[TaskOptions] = TaskOptions
    labelled: bool = True
    """Its outputs are classes with names."""
    forms: tuple[str | None, ...] = (None,)
    """Every `Dataset.form` that `read` gives."""
    columns_again: str | Callable[[Mapping[str, str], Any], Mapping[str, str]] | None = None
    """Of the columns of the training data, by role, those that a new source has; for a source that is not a plain table.
    A function, or where one is, as for `read`."""
    peft_task_type: str | None = None
    """What PEFT calls it, as in "SEQ_CLS": adapters that PEFT trained for that can be imported."""
    pipeline_tag: str | None = None
    """What model hubs call it; its name by default."""
    suffixes: tuple[str, ...] = ()
    """Of files that `read` opens by itself, for which no plug-in's reader of tables is asked."""
    formats: tuple[str, ...] = ()
    """Formats by the names for `--format`, and "folder", of what `read` opens by itself as `Request.files` says."""
    api: int = API_VERSION

    @property
    def settings(self) -> type[BaseModel]:
        return self.options

    def __post_init__(self) -> None:
        self.check(TASK_PATTERN, "lower case words joined by '-', as in 'text-ranking'", TaskOptions)
        if self.modality not in MODALITIES:
            known = ", ".join(sorted(MODALITIES))
            raise ConfigError(f"task {self.name!r}: modality {self.modality!r} is not one of {known}")
        for name, what in (("read", "a function"), ("columns_again", "a function or None")):
            given = getattr(self, name)
            place = isinstance(given, str) and LOAD_PATTERN.fullmatch(given)
            if not callable(given) and not place and (name == "read" or given is not None):
                raise ConfigError(f"task {self.name!r}: {name} must be {what}")
