"""Two LoRA experts a layer: the task of a row says which it takes, and a trained router does where there is none."""

from adapterhub_lite.api import Field, StrategyConfig, StrategySpec, Traits, hookimpl


class RoutedConfig(StrategyConfig):
    rank: int = Field(4, ge=1, description="Rank of each expert.")


@hookimpl
def adapterhub_strategies():
    return [
        StrategySpec(
            name="routed_experts", summary="A routed pair of LoRA experts.", config=RoutedConfig,
            load="routed_experts.strategy:Routed", traits=Traits(identity_at_init=True), learning_rate=1e-3,
        )
    ]  # fmt: skip
