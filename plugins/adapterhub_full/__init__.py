"""Full fine-tuning: the weights of the base, or of its top layers, saved as those that changed."""

from __future__ import annotations

from adapterhub_lite.api import Field, StrategyConfig, StrategySpec, Traits, hookimpl


class FullConfig(StrategyConfig):
    """Options of full fine-tuning."""

    top_layers: int | None = Field(
        default=None, ge=1, description="Train only this many layers nearest the output; all weights if not set."
    )


@hookimpl
def adapterhub_strategies() -> list[StrategySpec]:
    return [
        StrategySpec(
            name="full",
            summary="All weights of the base, or of its top layers.",
            config=FullConfig,
            load="adapterhub_full.strategy:Full",
            traits=Traits(mergeable=True, works_on_quantized_base=False, identity_at_init=True, trains_base=True),
            learning_rate=5e-5,
        )
    ]
