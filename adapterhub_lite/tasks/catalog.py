"""The tasks by name: ours, listed here and nowhere else, and those of plug-ins. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapterhub_lite.data.dataset import SEVERAL, Dataset
from adapterhub_lite.data.request import Request
from adapterhub_lite.data.roles import (
    causal_lm,
    text_classification,
    text_regression,
)
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.plugins.shelf import Shelf
from adapterhub_lite.plugins.spec import OURS, Provided
from adapterhub_lite.tasks.options import (
    CausalLMOptions,
    TextClassificationOptions,
    TextRegressionOptions,
)
from adapterhub_lite.tasks.spec import TaskOptions, TaskSpec

BUILT_IN = (
    TaskSpec(
        name="text-classification",
        summary="A text or a pair of texts in, one of several labels or any number of them out.",
        modality="text",
        read=text_classification.read,
        load="adapterhub_lite.tasks.text_classification:TextClassification",
        roles=text_classification.ROLES,
        options=TextClassificationOptions,
        forms=(None, SEVERAL),
        peft_task_type="SEQ_CLS",
    ),
    TaskSpec(
        name="text-regression",
        summary="A text or a pair of texts in, a number out.",
        modality="text",
        read=text_regression.read,
        load="adapterhub_lite.tasks.text_regression:TextRegression",
        roles=text_regression.ROLES,
        options=TextRegressionOptions,
        labelled=False,
    ),
    TaskSpec(
        name="causal-lm",
        summary="Text to continue: plain text, prompt and completion, or chats.",
        modality="text",
        read=causal_lm.read,
        load="adapterhub_lite.tasks.causal_lm:CausalLM",
        roles=("messages", "prompt", "input", "completion", "text", "group"),
        options=CausalLMOptions,
        forms=(None, "text", "completion", "chat"),
        labelled=False,
        peft_task_type="CAUSAL_LM",
        pipeline_tag="text-generation",
    ),
)


def task_shelf(plugins: Plugins | None = None) -> Shelf[TaskSpec]:
    """The tasks by name: ours first, then those of plug-ins, where there are any."""
    ours = [Provided(spec, OURS, OURS, "0") for spec in BUILT_IN]
    if plugins is None:
        return Shelf("task", lambda: ours, list)
    return Shelf("task", lambda: [*ours, *plugins.tasks], lambda: plugins.records)


def read_data(
    shelf: Shelf[TaskSpec],
    source: Any,
    task: str,
    *,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    require_labels: bool = True,
    form: str | None = None,
    options: Mapping[str, Any] | TaskOptions | None = None,
) -> Dataset:
    """Read and check data for a task of a shelf; see `load_data`. `form` is that of the data an adapter was trained on."""
    provided = shelf.resolve(task)
    settled = shelf.configure(provided, options or {})
    request = Request(dict(columns or {}), labels, require_labels, form, settled)
    # The reader of a task knows neither the name that adapters record nor which options were given.
    given = settled.model_dump(mode="json", exclude_unset=True)
    return replace(provided.spec.read(source, request), task=provided.recorded, options=given)


def load_data(
    source: Any,
    task: str,
    *,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    require_labels: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Dataset:
    """Read and check the data for one of our tasks, every row of it, before any model is loaded.

    `source` is what `read_table` takes, and what else the task reads. `columns` says which
    column plays a role ({"text": "clause", "label": "kind"}); roles left out are guessed from the names, and the
    result's `columns` says how. `labels` are the classes of a trained adapter: their order is kept, and a label outside
    them is an error. With `require_labels=False` (prediction) labels may be absent; targets are None unless all rows
    have a usable one. `options` are those of the task, as `Engine.train` takes them.

    Raises DataError, which names the file, row and column, and ConfigError for an unknown task, role or option.
    """
    return read_data(
        task_shelf(), source, task, columns=columns, labels=labels, require_labels=require_labels, options=options
    )  # fmt: skip
