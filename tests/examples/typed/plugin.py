"""What the author of a plug-in sees of the types, with every protocol of training; checked, never run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import assert_type

import torch
from torch import Tensor, nn

from adapterhub_lite.api import (
    AfterStep,
    AttentionCall,
    AttentionSite,
    BatchContext,
    Factors,
    Field,
    Grouped,
    ModelMap,
    ModelView,
    OutputLoss,
    Penalized,
    Preparer,
    Run,
    Stateful,
    Strategy,
    StrategyConfig,
    StrategySpec,
    StrategyState,
    Table,
    TrainingBatch,
    Traits,
    hookimpl,
    read_table,
)


class Config(StrategyConfig):
    """Options with and without a range."""

    rank: int = Field(default=4, ge=1, description="Size.")
    last: bool = Field(default=False, description="Only the last layer.")
    plain: float = 0.5


class Everything:
    """A strategy with every protocol."""

    def attach(self, view: ModelView, config: Config) -> Mapping[str, nn.Parameter]:
        path = view.map.layers[-1]
        assert_type(view.map, ModelMap)
        assert_type(view.map.linears, tuple[str, ...])
        assert_type(view.weight(path), Tensor)
        assert_type(view.original_weight(path), Tensor)
        assert_type(view.is_quantized(path), bool)
        assert_type(view.module(path), nn.Module)
        assert_type(view.device, torch.device)
        assert_type(view.attention, tuple[AttentionSite, ...])
        assert_type(view.context, BatchContext | None)
        assert_type(view.add_tokens(["<a>"]), list[int])
        assert_type(view.train_base([f"{path}.weight"]), dict[str, nn.Parameter])
        scale = nn.Parameter(torch.ones(config.rank))

        def change(hidden: Tensor) -> Tensor:
            if view.context is not None:
                assert_type(view.context.lengths, Tensor | None)
                assert_type(view.context.inputs, Mapping[str, Tensor])
            return hidden * scale.sum()

        def extend(call: AttentionCall) -> None:
            assert_type(call.query, Tensor)
            call.prepend(call.key[0], call.value[0])

        view.after(path, change)
        view.before(path, change)
        view.replace(path, nn.Identity())
        view.extend_attention(view.attention[0].path, extend)
        return {"scale": scale}

    def prepare(
        self, view: ModelView, config: Config, parameters: Mapping[str, nn.Parameter], batches: Iterable[TrainingBatch]
    ) -> tuple[Config, Mapping[str, nn.Parameter]]:
        for batch in batches:
            assert_type(batch.inputs, Mapping[str, Tensor])
            assert_type(batch.weight, float)
            assert_type(batch.loss(adapted=True), Tensor)
            assert_type(batch.gradients(view.map.linears), dict[str, Tensor])
            assert_type(batch.layer_inputs(view.map.linears), dict[str, Tensor])
        return config.model_copy(update={"rank": 2}), parameters

    def groups(self, config: Config, parameters: Mapping[str, nn.Parameter]) -> Mapping[str, Factors]:
        return {"scale": Factors(learning_rate=16.0, weight_decay=0.0)}

    def penalty(self, config: Config, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        return parameters["scale"].square().sum()

    def after_step(
        self, view: ModelView, config: Config, parameters: Mapping[str, nn.Parameter], step: int, total: int
    ) -> None:
        parameters["scale"].clamp_(min=0)

    def output_loss(self, batch: Mapping[str, Tensor], outputs: Tensor, teacher: Callable[[], Tensor]) -> Tensor:
        return (outputs - teacher()).square().mean(dim=1)

    def state(self) -> StrategyState:
        return StrategyState({"mask": torch.ones(2)}, {"calls": 1}, in_file=("mask",))

    def load_state(self, state: StrategyState) -> None:
        assert_type(state.tensors, Mapping[str, Tensor])


strategy: Strategy = Everything()
preparer: Preparer = Everything()
grouped: Grouped = Everything()
penalized: Penalized = Everything()
scheduled: AfterStep = Everything()
stateful: Stateful = Everything()
distilled: OutputLoss = Everything()
assert_type(Config(rank=2).rank, int)
assert_type(read_table("rows.csv"), Table)


@hookimpl
def adapterhub_strategies() -> list[StrategySpec]:
    traits = Traits(identity_at_init=True)
    return [StrategySpec(name="everything", summary="All of it.", config=Config, load=Everything, traits=traits)]


@hookimpl
def adapterhub_step_end(run: Run, step: int, metrics: Mapping[str, float]) -> None:
    assert_type(run.total_steps, int)
    if metrics["loss"] < 0.1:
        run.stop("low enough")
