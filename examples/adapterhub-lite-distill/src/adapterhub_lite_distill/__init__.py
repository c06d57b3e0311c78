"""Bottleneck adapters that learn a task and stay near what the bare base says (learning without forgetting)."""

from __future__ import annotations

from adapterhub_lite.api import Field, StrategyConfig, StrategySpec, Traits, hookimpl


class DistillConfig(StrategyConfig):
    """Options of distill."""

    size: int = Field(default=16, ge=1, description="Width of the bottleneck behind each layer.")
    weight: float = Field(default=1.0, ge=0, description="How much being near the base counts beside the task.")
    temperature: float = Field(default=2.0, gt=0, description="What outputs are divided by before they are compared.")


@hookimpl
def adapterhub_strategies() -> list[StrategySpec]:
    return [
        StrategySpec(
            name="distill",
            summary="Bottleneck adapters, with the bare base as a teacher beside the task.",
            config=DistillConfig,
            load="adapterhub_lite_distill.strategy:Distill",
            traits=Traits(identity_at_init=True),
            learning_rate=2e-3,
        )
    ]
