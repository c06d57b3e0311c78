"""The names of an adapter's tensors in a file that PEFT opens with a class of transformers, the head among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterhub_lite.tasks.head import HeadTask
from adapterhub_lite.tasks.head_class import HeadClass
from adapterhub_lite.tasks.task import Task
from adapterhub_lite.training.attachment import HEAD

PREFIX = "base_model.model."
MODULES = "modules_to_save"
TASK_TYPES = {"AutoModelForSequenceClassification": "SEQ_CLS", "AutoModelForTokenClassification": "TOKEN_CLS"}
"""PEFT's types of the tasks it has one for."""


def with_head(config: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """What PEFT's configuration says of a task, and of a head that PEFT is to load with the adapter."""
    if task.generates:
        return {"task_type": "CAUSAL_LM"}
    known = task.head_class if isinstance(task, HeadTask) and MODULES in config else None
    if known is None:
        return {"task_type": "FEATURE_EXTRACTION"}
    assert isinstance(task, HeadTask)
    return {"task_type": TASK_TYPES.get(task.auto_class or ""), MODULES: [known.head]}


def names_class(config: Mapping[str, Any], facts: Mapping[str, Any]) -> HeadClass | None:
    """The class whose names the tensors of a file have; None where they have those of the base and of our head.

    Args:
        config: The file's `adapter_config.json`.
        facts: Those of the task's preprocessing.

    Raises:
        AdapterCorruptError: facts that were never written.
    """
    return HeadClass.from_facts(facts) if config.get("peft_type") and config.get(MODULES) else None


def to_file(name: str, known: HeadClass | None) -> str:
    """The name in the file of a tensor of an attachment."""
    if known is None or not name.startswith((HEAD, PREFIX)):
        return name
    if name.startswith(HEAD):
        return f"{PREFIX}{known.head}.{name.removeprefix(HEAD)}"
    return f"{PREFIX}{known.before}{name.removeprefix(PREFIX)}"


def from_file(name: str, known: HeadClass | None) -> str:
    """The inverse of `to_file`."""
    if known is None or not name.startswith(PREFIX):
        return name
    inside = name.removeprefix(PREFIX)
    if inside.startswith(f"{known.head}."):
        return HEAD + inside.removeprefix(f"{known.head}.")
    return PREFIX + inside.removeprefix(known.before)
