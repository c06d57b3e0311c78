"""LoRA that starts where EVA does (Paischer et al. 2024, arXiv:2410.07170): from what its layers are given."""

from adapterhub_lite.api import Field, StrategyConfig, StrategySpec, Traits, hookimpl


class EvaConfig(StrategyConfig):
    rank: int = Field(4, ge=1, description="Rank of an update, on average.")
    rho: float = Field(2.0, ge=1, description="How often that rank a single layer may have.")
    ranks: dict[str, int] = Field({}, description="Rank of each layer, once it is known.")


@hookimpl
def adapterhub_strategies():
    half, traits = "eva_start.strategy:Eva", Traits(identity_at_init=True)
    return [StrategySpec("eva_start", "LoRA with a start and ranks from data.", EvaConfig, half, traits, 1e-3)]
