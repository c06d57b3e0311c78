"""LoRA+ (Hayou et al. 2024, arXiv:2402.12354): the second factor of each update learns faster than the first."""

from adapterhub_lite.api import Field, StrategyConfig, StrategySpec, Traits, hookimpl


class LoraPlusConfig(StrategyConfig):
    rank: int = Field(4, ge=1, description="Rank of the update of each weight matrix.")
    ratio: float = Field(16.0, gt=0, description="Learning rate of B, over that of A.")


@hookimpl
def adapterhub_strategies():
    return [
        StrategySpec(
            name="lora_plus", summary="LoRA whose B learns faster than its A.", config=LoraPlusConfig,
            load="lora_plus.strategy:LoraPlus", traits=Traits(identity_at_init=True), learning_rate=2e-4,
        )
    ]  # fmt: skip
