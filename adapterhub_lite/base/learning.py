"""What a strategy may do while it is trained. Each protocol is optional; docs/strategy-protocols.md says when it is called."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adapterhub_lite.base.view import ModelView


class TrainingBatch(Protocol):
    """A batch of the run, and what the model makes of it: of the bare base, or of the base with the adapter on it."""

    @property
    def inputs(self) -> Mapping[str, Tensor]:
        """What the model is given, on its device; "targets" is what should come out, (targets, ...)."""

    @property
    def weight(self) -> float:
        """The weight of its targets together: their number, unless classes are weighted."""

    def loss(self, *, adapted: bool = False) -> Tensor:
        """The mean loss over its targets, with its graph; a scalar in fp32. Dropout is off."""

    def gradients(self, layers: Sequence[str], *, adapted: bool = False) -> dict[str, Tensor]:
        """The gradient of the mean loss with respect to weight matrices, quantized ones too: fp32, by path.

        Each is (out_features, in_features), also where the layer holds its weight the other way, as GPT-2's `Conv1D` does.
        Only one batch's inputs and gradients of these layers are held at a time.

        Raises:
            NotSupportedError: a layer that is not linear.
        """

    def layer_inputs(self, layers: Sequence[str], *, adapted: bool = False) -> dict[str, Tensor]:
        """What layers are given for the real tokens of the batch, padding left out: (tokens, in_features), by path."""


@runtime_checkable
class Preparer(Protocol):
    """A strategy that starts from data."""

    def prepare(
        self, view: ModelView, config: Any, parameters: Mapping[str, nn.Parameter], batches: Iterable[TrainingBatch]
    ) -> Mapping[str, nn.Parameter] | tuple[Any, Mapping[str, nn.Parameter]] | None:
        """Set the adapter up for the data it will learn from.

        Called once, after `attach` and before the first step; never when an adapter is loaded or a run is resumed.

        Args:
            view: The adapter is mounted. What is changed through it here is undone like what `attach` changes.
            config: The strategy's options.
            parameters: What `attach` returned. Their values may be set in place.
            batches: The batches of the run in their order, from the first on, as often as they are iterated over.

        Returns:
            None where values were set in place; or the parameters that train instead; or a config and these, where
            `attach` with the options that were given would not make parameters of those names and shapes: then the run
            goes on, is resumed and is saved with the config that is returned.
        """


@dataclass(frozen=True)
class Factors:
    """What the run's learning rate and weight decay are multiplied by for one parameter."""

    learning_rate: float = 1.0
    weight_decay: float = 1.0


@runtime_checkable
class Grouped(Protocol):
    """A strategy whose parameters learn at rates of their own."""

    def groups(self, config: Any, parameters: Mapping[str, nn.Parameter]) -> Mapping[str, Factors]:
        """The factors of some parameters, by their names; the others have factors of 1. Called once a run."""


@runtime_checkable
class Penalized(Protocol):
    """A strategy that adds to the loss what depends on its parameters alone."""

    def penalty(self, config: Any, parameters: Mapping[str, nn.Parameter]) -> Tensor | Mapping[str, Tensor]:
        """A scalar that is added to the mean loss of every update, or several by name; with its graph.

        Called once an update, however the batch is cut into pieces. It is part of the loss that is reported, and logged as
        "penalty", or "penalty/<name>".
        """


@runtime_checkable
class AfterStep(Protocol):
    """A strategy with a schedule: it prunes, projects, restarts or moves ranks between updates."""

    def after_step(
        self, view: ModelView, config: Any, parameters: Mapping[str, nn.Parameter], step: int, total: int
    ) -> None:
        """Called after every update that was applied, without gradients being recorded.

        It may write into parameters, and into masks and other tensors of its own; `parameter.grad` is still the clipped
        gradient of the update. Names and shapes of parameters stay.

        Args:
            view: The adapter is mounted.
            config: The strategy's options.
            parameters: What trains.
            step: Number of the update, counted from 1; a step that is not applied has no call.
            total: Steps of the run.
        """


@dataclass(frozen=True)
class StrategyState:
    """What belongs to an adapter and does not train."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    """JSON."""
    in_file: Collection[str] = ()
    """Names of those tensors and values that are also saved with the adapter; the others are in checkpoints alone."""


@runtime_checkable
class Stateful(Protocol):
    """A strategy with averages, masks, random projections or schedules, which a run that is resumed needs again."""

    def state(self) -> StrategyState:
        """What a checkpoint has to hold. The tensors in the adapter's file have the same names and shapes after `attach`."""

    def load_state(self, state: StrategyState) -> None:
        """Take back what `state` gave: all of it when a run is resumed, what was in the file when an adapter is loaded."""


@runtime_checkable
class OutputLoss(Protocol):
    """A strategy that adds to the loss what depends on the outputs: distillation, a distance from the base, contrasts."""

    def output_loss(self, batch: Mapping[str, Tensor], outputs: Tensor, teacher: Callable[[], Tensor]) -> Tensor:
        """Added to the task's loss. Called once for each piece of a batch.

        Args:
            batch: The inputs of the piece, and its "targets".
            outputs: (targets, outputs) in fp32, with their graph.
            teacher: Gives the outputs of the bare base for the same piece, behind the task's head where it has one;
                without gradients and without a second copy of the base.

        Returns:
            One loss a target, (targets,), or a scalar that is the mean of the piece's.
        """


class BatchContext:
    """What is being run through the model, for layers that depend on more than the features they are given.

    While text is generated it is the prompt, also where a layer is given the features of one new token alone.

    Args:
        inputs: The batch, as the task made it.
    """

    def __init__(self, inputs: Mapping[str, Tensor]):
        self.inputs = inputs

    @cached_property
    def segments(self) -> Tensor | None:
        """Which text each token belongs to, (rows, tokens), counted from 0 in a row, -1 for padding; None without tokens."""
        if "segments" in self.inputs:  # packed: 1, 2, ... and 0 for padding
            return self.inputs["segments"] - 1
        ids, mask = self.inputs.get("input_ids"), self.inputs.get("attention_mask")
        if mask is None and ids is not None:
            return ids.new_zeros(ids.shape)
        return mask.long() - 1 if mask is not None and mask.dim() == 2 else None

    @cached_property
    def positions(self) -> Tensor | None:
        """Place of each token in its text, (rows, tokens), counted from 0, and 0 for padding; None without tokens."""
        if "position_ids" in self.inputs:
            return self.inputs["position_ids"]
        if self.segments is None:
            return None
        real = (self.segments >= 0).long()
        return (real.cumsum(1) - 1).clamp(min=0) * real

    @cached_property
    def lengths(self) -> Tensor | None:
        """Real tokens of each row, (rows,); None without tokens."""
        return None if self.segments is None else (self.segments >= 0).sum(1)

    @property
    def task_ids(self) -> Tensor | None:
        """The task each row is of, (rows,), where the task puts `task_ids` into its batches; else None."""
        return self.inputs.get("task_ids")
