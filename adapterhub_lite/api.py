"""All that a plug-in imports.

A plug-in is a module named by an entry point of the group `adapterhub_lite`. It has two halves: a light one, imported
at start-up and free of torch, that says what the strategy is, and a heavy one, imported on first use, that attaches it:

    # my_strategy/__init__.py
    from adapterhub_lite.api import Field, StrategyConfig, StrategySpec, Traits, hookimpl

    class Config(StrategyConfig):
        rank: int = Field(default=8, ge=1, description="Rank of the update.")

    @hookimpl
    def adapterhub_strategies():
        return [
            StrategySpec(name="mine", summary="What it does.", config=Config, load="my_strategy.strategy:MyStrategy")
        ]

    # my_strategy/strategy.py
    class MyStrategy:
        def attach(self, view, config):
            return {...}          # name -> torch.nn.Parameter: exactly what trains and what is saved
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import Field

from adapterhub_lite.base.learning import (
    AfterStep,
    BatchContext,
    Factors,
    Grouped,
    OutputLoss,
    Penalized,
    Preparer,
    Stateful,
    StrategyState,
    TrainingBatch,
)
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
from adapterhub_lite.data.request import SEVERAL, Request
from adapterhub_lite.errors import AdapterCorruptError, AdapterHubError, ConfigError, DataError, NotSupportedError
from adapterhub_lite.names import check_choice, did_you_mean
from adapterhub_lite.plugins.hookspecs import Run
from adapterhub_lite.plugins.spec import (
    API_VERSION,
    MODALITIES,
    Modality,
    ReaderSpec,
    StrategyConfig,
    StrategySpec,
    TargetKind,
    Traits,
    hookimpl,
)
from adapterhub_lite.tasks.spec import TaskKind, TaskOptions, TaskSpec

if TYPE_CHECKING:
    from adapterhub_lite.base.attention import ATTENTION_IMPLEMENTATION
    from adapterhub_lite.base.describe import introspect
    from adapterhub_lite.base.loading import Base
    from adapterhub_lite.base.view import AttentionCall, AttentionSite, ModelView
    from adapterhub_lite.data.dataset import Dataset
    from adapterhub_lite.data.files.npz import load_arrays, parse_reference, rows_of_split
    from adapterhub_lite.data.files.read import existing, file_sha256, read_table
    from adapterhub_lite.data.files.text import open_text, undecodable
    from adapterhub_lite.data.items import read_items
    from adapterhub_lite.data.roles.choices import read_choices
    from adapterhub_lite.data.roles.columns import (
        check_roles,
        checked_text,
        counted,
        find_column,
        guess_column,
        is_missing,
        shortened,
    )
    from adapterhub_lite.data.roles.groups import read_groups
    from adapterhub_lite.data.roles.labels import Labels, one_label, ordered_labels, read_labels
    from adapterhub_lite.data.roles.numbers import ABSENT, number_of, read_values
    from adapterhub_lite.data.roles.several_labels import list_in_text
    from adapterhub_lite.data.table import JSON_TYPE, Table, place
    from adapterhub_lite.merging.peft_files import refuse_settings
    from adapterhub_lite.plugins.strategy_call import is_out_of_memory
    from adapterhub_lite.tasks.classification import Classification
    from adapterhub_lite.tasks.head import HeadTask, pool, targets_of
    from adapterhub_lite.tasks.metrics import bootstrap, macro_f1
    from adapterhub_lite.tasks.options import ClassificationOptions
    from adapterhub_lite.tasks.regression import Regression, standard_units
    from adapterhub_lite.tasks.stored import batched, collected
    from adapterhub_lite.tasks.task import Batch, Encoded, Example, Preprocessing, Task
    from adapterhub_lite.tasks.text import LONGEST_TEXT, SAMPLE_TEXTS, checked_length, hidden_states, pad_tokens
    from adapterhub_lite.testing.tiny_model import TinyModel
    from adapterhub_lite.testing.tokenizer import tiny_tokenizer

__all__ = [
    "ABSENT",
    "API_VERSION",
    "ATTENTION_IMPLEMENTATION",
    "JSON_TYPE",
    "LONGEST_TEXT",
    "MODALITIES",
    "SAMPLE_TEXTS",
    "SEVERAL",
    "AdapterCorruptError",
    "AdapterHubError",
    "AfterStep",
    "AttentionCall",
    "AttentionSite",
    "Base",
    "Batch",
    "BatchContext",
    "Classification",
    "ClassificationOptions",
    "Combinable",
    "Combination",
    "ConfigError",
    "DataError",
    "Dataset",
    "Encoded",
    "Example",
    "Exporter",
    "Factors",
    "FeatureProblem",
    "Field",
    "GgufWriter",
    "Grouped",
    "HeadTask",
    "Labels",
    "Mergeable",
    "Modality",
    "ModelMap",
    "ModelView",
    "NotSupportedError",
    "OutputLoss",
    "Part",
    "PeftCompatible",
    "PeftReader",
    "PeftWriter",
    "Penalized",
    "Preparer",
    "Preprocessing",
    "ReaderSpec",
    "Recipe",
    "Regression",
    "Request",
    "Run",
    "Solver",
    "Stateful",
    "Strategy",
    "StrategyConfig",
    "StrategySpec",
    "StrategyState",
    "Table",
    "TargetKind",
    "Task",
    "TaskKind",
    "TaskOptions",
    "TaskSpec",
    "TinyModel",
    "TrainingBatch",
    "Traits",
    "WeightUpdater",
    "batched",
    "bootstrap",
    "check_choice",
    "check_roles",
    "checked_length",
    "checked_text",
    "collected",
    "counted",
    "did_you_mean",
    "existing",
    "file_sha256",
    "find_column",
    "guess_column",
    "hidden_states",
    "hookimpl",
    "introspect",
    "is_missing",
    "is_out_of_memory",
    "list_in_text",
    "load_arrays",
    "macro_f1",
    "number_of",
    "one_label",
    "open_text",
    "ordered_labels",
    "pad_tokens",
    "parse_reference",
    "place",
    "pool",
    "read_choices",
    "read_groups",
    "read_items",
    "read_labels",
    "read_table",
    "read_values",
    "refuse_settings",
    "rows_of_split",
    "shortened",
    "standard_units",
    "targets_of",
    "tiny_tokenizer",
    "undecodable",
]

# What needs torch or pyarrow is imported only when it is used.
_NAMES = {
    "base.attention": ("ATTENTION_IMPLEMENTATION",),
    "base.describe": ("introspect",),
    "base.loading": ("Base",),
    "base.view": ("AttentionCall", "AttentionSite", "ModelView"),
    "data.dataset": ("Dataset",),
    "data.files.npz": ("load_arrays", "parse_reference", "rows_of_split"),
    "data.files.read": ("existing", "file_sha256", "read_table"),
    "data.files.text": ("open_text", "undecodable"),
    "data.items": ("read_items",),
    "data.roles.choices": ("read_choices",),
    "data.roles.columns": (
        "check_roles",
        "checked_text",
        "counted",
        "find_column",
        "guess_column",
        "is_missing",
        "shortened",
    ),
    "data.roles.groups": ("read_groups",),
    "data.roles.labels": ("Labels", "one_label", "ordered_labels", "read_labels"),
    "data.roles.numbers": ("ABSENT", "number_of", "read_values"),
    "data.roles.several_labels": ("list_in_text",),
    "data.table": ("JSON_TYPE", "Table", "place"),
    "merging.peft_files": ("refuse_settings",),
    "plugins.strategy_call": ("is_out_of_memory",),
    "tasks.classification": ("Classification",),
    "tasks.head": ("HeadTask", "pool", "targets_of"),
    "tasks.metrics": ("bootstrap", "macro_f1"),
    "tasks.options": ("ClassificationOptions",),
    "tasks.regression": ("Regression", "standard_units"),
    "tasks.stored": ("batched", "collected"),
    "tasks.task": ("Batch", "Encoded", "Example", "Preprocessing", "Task"),
    "tasks.text": ("LONGEST_TEXT", "SAMPLE_TEXTS", "checked_length", "hidden_states", "pad_tokens"),
    "testing.tiny_model": ("TinyModel",),
    "testing.tokenizer": ("tiny_tokenizer",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"adapterhub_lite.{_HOME[name]}"), name)
    raise AttributeError(f"module 'adapterhub_lite.api' has no attribute {name!r}")
