"""Everything that a result depends on, as JSON: where it is the same, what was found out before holds again."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.precision import dtype_name
from adapterhub_lite.comparison.contenders import Contender
from adapterhub_lite.data.roles.groups import numbered
from adapterhub_lite.tasks.task import Encoded, Task
from adapterhub_lite.training.features import example_content

FITTED_WITH = ("adapterhub-lite", "torch", "transformers", "peft", "bitsandbytes", "numpy", "scikit-learn")


def about_contender(contender: Contender) -> Any:
    """How it is fitted."""
    run = contender.run
    if run is None:
        return contender.family
    provided = run.strategy
    return {
        "strategy": (provided.spec.name, provided.dist, provided.version),
        "settings": run.settings.model_dump(mode="json"),
        "training": run.config.model_dump(mode="json"),
    }


def about_place(base: Base, task: Task, seed: int) -> dict[str, Any]:
    """What is the same for all contenders."""
    return {
        "fingerprint": base.fingerprint.model_dump(mode="json"),
        "quantization": base.quantization,
        "dtype": dtype_name(base.dtype),
        "device": base.device.type,
        "task": (task.name, task.labels, task.preprocessing.record()),
        "seed": seed,
        "versions": {name: _version(name) for name in FITTED_WITH},
    }


def about_rows(data: Encoded | None) -> Any:
    """The rows, of files the content, and their groups."""
    if data is None:
        return None
    content = [example_content(example).hex() for example in data.examples]
    return content, None if data.groups is None else numbered(data.groups)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
