"""All that a strategy plug-in imports.

A plug-in is a module named by an entry point of the group `adapterhub_lite`. It has two halves: a light one, imported
at start-up and free of torch, that says what the strategy is, and a heavy one, imported on first use, that attaches it:

    # my_strategy/__init__.py
    from adapterhub_lite.api import Field, StrategyConfig, StrategySpec, Traits, hookimpl

    class Config(StrategyConfig):
        rank: int = Field(8, ge=1, description="Rank of the update.")

    def load():
        from my_strategy.strategy import MyStrategy
        return MyStrategy()

    @hookimpl
    def adapterhub_strategies():
        return [StrategySpec(name="mine", summary="What it does.", config=Config, load=load)]

    # my_strategy/strategy.py
    class MyStrategy:
        def attach(self, view, config):
            return {...}          # name -> torch.nn.Parameter: exactly what trains and what is saved
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import Field

from adapterhub_lite.base.map import ModelMap
from adapterhub_lite.base.strategy import (
    Combinable,
    Combination,
    Exporter,
    FeatureProblem,
    GgufWriter,
    Mergeable,
    Part,
    PeftCompatible,
    PeftReader,
    PeftWriter,
    Recipe,
    Solver,
    Strategy,
    WeightUpdater,
)
from adapterhub_lite.data.request import Request
from adapterhub_lite.errors import AdapterHubError, ConfigError, DataError, NotSupportedError
from adapterhub_lite.names import check_choice
from adapterhub_lite.plugins.run import Run
from adapterhub_lite.plugins.spec import (
    API_VERSION,
    MODALITIES,
    Modality,
    StrategyConfig,
    StrategySpec,
    TargetKind,
    Traits,
    hookimpl,
)
from adapterhub_lite.tasks.spec import TaskKind, TaskOptions, TaskSpec

if TYPE_CHECKING:
    from adapterhub_lite.base.loading import Base
    from adapterhub_lite.base.view import AttentionCall, AttentionSite, ModelView
    from adapterhub_lite.data.dataset import Dataset
    from adapterhub_lite.data.files.read import read_table
    from adapterhub_lite.data.table import Table
    from adapterhub_lite.merging.peft_files import refuse_settings
    from adapterhub_lite.tasks.classification import Classification
    from adapterhub_lite.tasks.head import HeadTask
    from adapterhub_lite.tasks.options import TextClassificationOptions, TextRegressionOptions
    from adapterhub_lite.tasks.regression import Regression
    from adapterhub_lite.tasks.task import Batch, Encoded, Example, Preprocessing, Task
    from adapterhub_lite.tasks.text_classification import TextClassification
    from adapterhub_lite.tasks.text_regression import TextRegression

__all__ = [
    "API_VERSION",
    "MODALITIES",
    "AdapterHubError",
    "AttentionCall",
    "AttentionSite",
    "Base",
    "Batch",
    "Classification",
    "Combinable",
    "Combination",
    "ConfigError",
    "DataError",
    "Dataset",
    "Encoded",
    "Example",
    "Exporter",
    "FeatureProblem",
    "Field",
    "GgufWriter",
    "HeadTask",
    "Mergeable",
    "Modality",
    "ModelMap",
    "ModelView",
    "NotSupportedError",
    "Part",
    "PeftCompatible",
    "PeftReader",
    "PeftWriter",
    "Preprocessing",
    "Recipe",
    "Regression",
    "Request",
    "Run",
    "Solver",
    "Strategy",
    "StrategyConfig",
    "StrategySpec",
    "Table",
    "TargetKind",
    "Task",
    "TaskKind",
    "TaskOptions",
    "TaskSpec",
    "TextClassification",
    "TextClassificationOptions",
    "TextRegression",
    "TextRegressionOptions",
    "Traits",
    "WeightUpdater",
    "check_choice",
    "hookimpl",
    "read_table",
    "refuse_settings",
]

# What needs torch or pyarrow is imported only when it is used.
_HOME = {
    "Base": "base.loading",
    "AttentionCall": "base.view",
    "AttentionSite": "base.view",
    "ModelView": "base.view",
    "Dataset": "data.dataset",
    "read_table": "data.files.read",
    "Table": "data.table",
    "refuse_settings": "merging.peft_files",
    "Classification": "tasks.classification",
    "HeadTask": "tasks.head",
    "TextClassificationOptions": "tasks.options",
    "TextRegressionOptions": "tasks.options",
    "Regression": "tasks.regression",
    "Batch": "tasks.task",
    "Encoded": "tasks.task",
    "Example": "tasks.task",
    "Preprocessing": "tasks.task",
    "Task": "tasks.task",
    "TextClassification": "tasks.text_classification",
    "TextRegression": "tasks.text_regression",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"adapterhub_lite.{_HOME[name]}"), name)
    raise AttributeError(f"module 'adapterhub_lite.api' has no attribute {name!r}")
