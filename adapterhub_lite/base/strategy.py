"""What a strategy does with a view of a base. A strategy has `attach`; each other protocol is for one more thing it can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from adapterhub_lite.plugins.spec import TargetKind

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from adapterhub_lite.base.view import ModelView


class Strategy(Protocol):
    """What `StrategySpec.load` returns."""

    def attach(self, view: ModelView, config: Any) -> Mapping[str, nn.Parameter]:
        """Change the model through `view` and return what trains and is saved, by the name it has in the file.

        Called on a model that carries no other adapter. `config` is an instance of the spec's config class. Random
        initialisation draws from torch's global generator, which the engine seeds.

        Raises:
            NotSupportedError: when this model has no place for the strategy; say which strategy can be used instead.
        """


@runtime_checkable
class Mergeable(Protocol):
    """A strategy whose adapter can be folded into the base weights (`traits.mergeable`)."""

    def merge(self, view: ModelView, config: Any, tensors: Mapping[str, Tensor]) -> None:
        """Write the adapter into the base weights, in place, so that the base alone gives the adapted outputs."""


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


@runtime_checkable
class Exporter(Protocol):
    """A strategy that saves other tensors than it trains, for instance to fold an initialisation into them."""

    def export(self, view: ModelView, config: Any, tensors: Mapping[str, Tensor]) -> tuple[Any, Mapping[str, Tensor]]:
        """Return the config and the tensors to save; attaching with them gives the same outputs."""


@runtime_checkable
class PeftCompatible(Protocol):
    """A strategy whose files PEFT can open by itself."""

    def peft_config(self, view: ModelView, config: Any) -> Mapping[str, Any]:
        """Return the contents of PEFT's `adapter_config.json`, without the base's name and the task type."""


@runtime_checkable
class PeftReader(Protocol):
    """A strategy that takes over adapters which PEFT trained."""

    def from_peft(
        self, view: ModelView, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> tuple[Mapping[str, Any], Mapping[str, Tensor]] | None:
        """Turn an adapter that PEFT saved into one of this strategy.

        Args:
            view: The bare base. What is tried out on it is taken back afterwards.
            config: PEFT's `adapter_config.json`; its `peft_type` names the method.
            tensors: PEFT's tensors in fp32, without a classifier's head. They keep PEFT's names, "base_model.model."
                in front, in which the paths of layers are those of this base.

        Returns:
            The strategy's settings and its tensors, by the names they are saved under; None for a method that is not
            the strategy's, so that another one is asked.

        Raises:
            NotSupportedError: something that the strategy cannot represent; names it.
        """


@runtime_checkable
class PeftWriter(Protocol):
    """A strategy that knows PEFT's form of adapters it saves in another one; see `PeftCompatible` for those it does not."""

    def to_peft(
        self, view: ModelView, config: Any, tensors: Mapping[str, Tensor]
    ) -> tuple[Mapping[str, Any], Mapping[str, Tensor]] | None:
        """Turn a saved adapter into one of PEFT's.

        Args:
            view: The bare base. What is tried out on it is taken back afterwards.
            config: The saved config.
            tensors: The saved tensors, without those of the task's head.

        Returns:
            PEFT's `adapter_config.json`, without the base's name and the task type, and PEFT's tensors; None for an
            adapter that PEFT has no form of.

        Raises:
            NotSupportedError: an adapter that would do something else in PEFT; says why.
        """


@runtime_checkable
class GgufWriter(Protocol):
    """A strategy whose adapters llama.cpp can apply."""

    def write_gguf(self, path: Path, config: Any, tensors: Mapping[str, Tensor], model_config: Any) -> int:
        """Write the adapter of a language model as a GGUF file.

        Args:
            path: A new file, which the engine puts in place when it is whole.
            config: The saved config.
            tensors: The saved tensors.
            model_config: The base's configuration, as transformers reads it.

        Returns:
            The number of weights it adapts.

        Raises:
            NotSupportedError: an adapter or a base that llama.cpp has no form of; says why.
        """


@dataclass(frozen=True)
class Part:
    """One of the adapters that are combined."""

    name: str
    """For messages."""
    weight: float
    config: Any
    tensors: Mapping[str, Tensor]
    """The saved ones, without those of the task's head."""


@dataclass(frozen=True)
class Recipe:
    """How adapters are combined; see docs/merging.md for the methods of LoRA."""

    method: str
    density: float
    """Share of the entries of each update that are kept, for methods that drop some; above 0 and at most 1."""
    rank: int | None
    """What the result is cut down to; None for no cut."""
    seed: int


@dataclass(frozen=True)
class Combination:
    """Several adapters in one."""

    settings: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    rank: int | None
    """Of the updates; None where they have none."""
    lost: float
    """Largest share of a layer's update (Frobenius norm) that the rank had no room for; 0 where nothing was cut off."""


@runtime_checkable
class Combinable(Protocol):
    """A strategy several of whose adapters can be made into one."""

    def combine(self, parts: Sequence[Part], recipe: Recipe) -> Combination:
        """Combine adapters of one base and one task; a single one of weight 1, not cut down, is given back as it is.

        Raises:
            ConfigError: a method that there is not.
            NotSupportedError: adapters that do not add up; says why.
        """


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
    device: torch.device | str = "cpu"
    """Where the base computes, and a solver may; all tensors here, and the head, are on the CPU."""


@runtime_checkable
class Solver(Protocol):
    """A strategy that fits frozen features (`needs_base_gradients=False`); the engine encodes and caches them once."""

    def solve(
        self, view: ModelView, config: Any, parameters: Mapping[str, nn.Parameter], problem: FeatureProblem
    ) -> Mapping[str, float]:
        """Set `parameters` and `problem.head` to the solution, in place, and return numbers worth logging."""
