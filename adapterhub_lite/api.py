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

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import pluggy
from pydantic import BaseModel, ConfigDict, Field

from adapterhub_lite.errors import AdapterHubError, ConfigError, DataError, NotSupportedError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adapterhub_lite.base.loading import Base
    from adapterhub_lite.base.view import AttentionCall, AttentionSite, ModelView
    from adapterhub_lite.data import Dataset, Table, read_table
    from adapterhub_lite.tasks.classification import Classification
    from adapterhub_lite.tasks.head import HeadTask
    from adapterhub_lite.tasks.options import TextClassificationOptions, TextRegressionOptions
    from adapterhub_lite.tasks.regression import Regression
    from adapterhub_lite.tasks.task import Batch, Encoded, Example, Preprocessing, Task
    from adapterhub_lite.tasks.text_classification import TextClassification
    from adapterhub_lite.tasks.text_regression import TextRegression

API_VERSION = 1
"""The version of this contract; a spec that asks for another one is refused by name."""

PROJECT = "adapterhub_lite"
hookimpl = pluggy.HookimplMarker(PROJECT)

Modality = Literal["text", "image", "series"]
TargetKind = Literal["classes", "labels", "values"]
MODALITIES: frozenset[Modality] = frozenset({"text", "image", "series"})
NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]*(:[a-z0-9_]+)?")
TASK_PATTERN = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class StrategyConfig(BaseModel):
    """The options of a strategy: a frozen pydantic model whose every field has a description and a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Traits:
    """What a strategy promises; the conformance kit holds it to each of these."""

    mergeable: bool = False
    """The strategy has a `merge` that folds the adapter into the base weights."""
    works_on_quantized_base: bool = True
    """It never reads or writes base weights as floating-point numbers."""
    identity_at_init: bool = False
    """Freshly attached, it leaves the outputs of the base as they were."""
    needs_base_gradients: bool = True
    """Training sends gradients through the base; False lets the engine encode the data once."""
    trains_base: bool = False
    """It trains weights of the base itself, which are then kept in fp32 while training."""
    modalities: frozenset[Modality] = MODALITIES


@dataclass(frozen=True)
class StrategySpec:
    """One strategy, described without importing torch."""

    name: str
    summary: str
    config: type[StrategyConfig]
    load: Callable[[], Strategy]
    traits: Traits = field(default_factory=Traits)
    learning_rate: float = 1e-4
    """A good default for the optimizer, used where the user names none."""
    api: int = API_VERSION

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME_PATTERN.fullmatch(self.name):
            raise ConfigError(
                f"strategy name {self.name!r} must be lower case letters, digits and '_', as in 'my_lora'"
            )
        if not (isinstance(self.config, type) and issubclass(self.config, StrategyConfig)):
            raise ConfigError(
                f"strategy {self.name!r}: config must be a subclass of StrategyConfig, not {self.config!r}"
            )
        if not callable(self.load):
            raise ConfigError(f"strategy {self.name!r}: load must be a function that returns the strategy")


class TaskOptions(BaseModel):
    """The options of a task: a frozen pydantic model whose every field has a description and a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Request:
    """How a task's data is to be read."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Which column plays which role; roles left out are guessed."""
    labels: Sequence[str] | None = None
    """Classes of a trained adapter, in the order of its outputs; None to take them from the data."""
    require_labels: bool = True
    """False for prediction, where what is to be predicted may be missing."""
    form: str | None = None
    """`Dataset.form` of the data the adapter was trained on; None to find it out."""
    options: Any = None
    """An instance of the spec's options class."""


class TaskKind(Protocol):
    """What `TaskSpec.load` returns: usually the class of the task."""

    def settle(self, base: Base, data: Dataset, options: Any) -> Preprocessing:
        """Decide, before training, how inputs become tensors on this base; recorded in the adapter.

        Raises:
            ConfigError: an option that this base cannot follow.
            NotSupportedError: a base that cannot do the task.
        """
        ...

    def __call__(self, labels: Sequence[str], preprocessing: Preprocessing) -> Task:
        """Make the task, for training or for a saved adapter."""
        ...


@dataclass(frozen=True)
class TaskSpec:
    """One task, described without importing torch."""

    name: str
    summary: str
    modality: Modality
    read: Callable[[Any, Request], Dataset]
    """Read and check a source, without torch; raises DataError naming file, row and column."""
    load: Callable[[], TaskKind]
    roles: tuple[str, ...]
    """Roles its columns play, that of the input first; `--column ROLE=NAME` names them."""
    options: type[TaskOptions] = TaskOptions
    labelled: bool = True
    """Its outputs are classes with names."""
    forms: tuple[str | None, ...] = (None,)
    """Every `Dataset.form` that `read` gives."""
    columns_again: Callable[[Mapping[str, str], Any], Mapping[str, str]] | None = None
    """Of the columns of the training data, by role, those that a new source has; for a source that is not a plain table."""
    api: int = API_VERSION

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not TASK_PATTERN.fullmatch(self.name):
            raise ConfigError(f"task name {self.name!r} must be lower case words joined by '-', as in 'text-ranking'")
        if self.modality not in MODALITIES:
            known = ", ".join(sorted(MODALITIES))
            raise ConfigError(f"task {self.name!r}: modality {self.modality!r} is not one of {known}")
        if not (isinstance(self.options, type) and issubclass(self.options, TaskOptions)):
            raise ConfigError(f"task {self.name!r}: options must be a subclass of TaskOptions, not {self.options!r}")
        if not callable(self.read) or not callable(self.load):
            raise ConfigError(f"task {self.name!r}: read and load must be functions")
        if self.columns_again is not None and not callable(self.columns_again):
            raise ConfigError(f"task {self.name!r}: columns_again must be a function or None")


class Strategy(Protocol):
    """What `StrategySpec.load` returns."""

    def attach(self, view: ModelView, config: Any) -> Mapping[str, nn.Parameter]:
        """Change the model through `view` and return what trains and is saved, by the name it has in the file.

        Called on a model that carries no other adapter. `config` is an instance of the spec's config class. Random
        initialisation draws from torch's global generator, which the engine seeds.

        Raises:
            NotSupportedError: when this model has no place for the strategy; say which strategy can be used instead.
        """
        ...


@runtime_checkable
class Mergeable(Protocol):
    """A strategy whose adapter can be folded into the base weights (`traits.mergeable`)."""

    def merge(self, view: ModelView, config: Any, tensors: Mapping[str, Tensor]) -> None:
        """Write the adapter into the base weights, in place, so that the base alone gives the adapted outputs."""
        ...


@runtime_checkable
class WeightUpdater(Protocol):
    """A strategy that knows the merged weights without a model, so that a base can be merged weight by weight."""

    def updates(
        self, config: Any, tensors: Mapping[str, Tensor]
    ) -> Mapping[str, Callable[[Tensor, bool], Tensor]] | None:
        """Return, by the name of each weight that changes, a function from the base's weight to the merged one.

        The function is given the weight in fp32, as it lies in the base's files, and whether that is transposed:
        (in_features, out_features), as in GPT-2's `Conv1D`. It returns the merged weight in the same layout.

        Args:
            config: The saved config.
            tensors: The saved tensors, without those of the task's head.

        Returns:
            None for an adapter that only `merge` can merge.
        """
        ...


@runtime_checkable
class Exporter(Protocol):
    """A strategy that saves other tensors than it trains, for instance to fold an initialisation into them."""

    def export(self, view: ModelView, config: Any, tensors: Mapping[str, Tensor]) -> tuple[Any, Mapping[str, Tensor]]:
        """Return the config and the tensors to save; attaching with them gives the same outputs."""
        ...


@runtime_checkable
class PeftCompatible(Protocol):
    """A strategy whose files PEFT can open by itself."""

    def peft_config(self, view: ModelView, config: Any) -> Mapping[str, Any]:
        """Return the contents of PEFT's `adapter_config.json`, without the base's name and the task type."""
        ...


@dataclass(frozen=True)
class FeatureProblem:
    """Frozen features and what they should predict, for a strategy that solves instead of stepping an optimizer."""

    features: Tensor  # (n, hidden_size) float32
    targets: Tensor  # (n,) int64 class or token id; (n, outputs) 0.0 or 1.0; (n, outputs) float32 values: see `kind`
    outputs: int
    """Number of classes or values, or size of the vocabulary."""
    head: nn.Linear | None
    """The task's own head, to be filled in; None where the base's output layer is the head (a language model)."""
    seed: int
    progress: Callable[[float, str], None]
    """Call with the share done in [0, 1] and a word on what is being done."""
    kind: TargetKind = "classes"
    """One of several classes, any of several labels, or numbers."""
    weights: Tensor | None = None  # of the shape of targets, float32
    """How much each target counts; None for all alike."""
    groups: Tensor | None = None  # (n,) int64
    """Rows of one group, such as a patient, are alike, and belong into one fold of a cross-validation."""


@runtime_checkable
class Solver(Protocol):
    """A strategy that fits frozen features (`needs_base_gradients=False`); the engine encodes and caches them once."""

    def solve(
        self, view: ModelView, config: Any, parameters: Mapping[str, nn.Parameter], problem: FeatureProblem
    ) -> Mapping[str, float]:
        """Set `parameters` and `problem.head` to the solution, in place, and return numbers worth logging."""
        ...


@dataclass(frozen=True)
class ModelMap:
    """Where things are in a model: data found by introspection, or given by the hook `adapterhub_describe_model`."""

    modality: Modality
    hidden_size: int
    layers: tuple[str, ...]
    """Paths of the repeated blocks, first to last."""
    linears: tuple[str, ...]
    """Paths of the weight matrices inside the blocks (Linear, Conv1D and 2-d convolutions), in order."""
    attention_linears: tuple[str, ...]
    """Those of `linears` that belong to attention."""
    output: str | None
    """Path of the output embedding of a language model; None for a model without one."""
    pooling: Literal["cls", "mean", "last", "spatial"]
    """How token or pixel features become one vector an example."""
    causal: bool
    """Each position sees only those before it."""
    normalized: bool = False
    """Its pooled features are made to be compared at one length, as sentence-transformers' Normalize leaves them."""


@dataclass
class Run:
    """What an observer hook may see of a training run. Observers look; they do not change."""

    strategy: str
    task: str
    base: str
    total_steps: int
    config: Mapping[str, Any]
    stop: Callable[[str], None]
    """Ask the engine to end after this step, with a reason; the adapter is saved as it is then."""


__all__ = [
    "API_VERSION",
    "AdapterHubError",
    "AttentionCall",
    "AttentionSite",
    "Base",
    "Batch",
    "Classification",
    "ConfigError",
    "DataError",
    "Dataset",
    "Encoded",
    "Example",
    "Exporter",
    "FeatureProblem",
    "Field",
    "HeadTask",
    "Mergeable",
    "ModelMap",
    "ModelView",
    "NotSupportedError",
    "PeftCompatible",
    "Preprocessing",
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
    "hookimpl",
    "read_table",
]

# What needs torch or pyarrow is here to be named by plug-ins, and imported only when it is.
_ELSEWHERE = {
    "ModelView": "base.view",
    "AttentionCall": "base.view",
    "AttentionSite": "base.view",
    "Base": "base.loading",
    "Dataset": "data",
    "Table": "data",
    "read_table": "data",
    "Classification": "tasks.classification",
    "HeadTask": "tasks.head",
    "Regression": "tasks.regression",
    "TextClassification": "tasks.text_classification",
    "TextClassificationOptions": "tasks.options",
    "TextRegression": "tasks.text_regression",
    "TextRegressionOptions": "tasks.options",
    "Batch": "tasks.task",
    "Encoded": "tasks.task",
    "Example": "tasks.task",
    "Preprocessing": "tasks.task",
    "Task": "tasks.task",
}


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        return getattr(import_module(f"adapterhub_lite.{_ELSEWHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
