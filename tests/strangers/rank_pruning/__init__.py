"""LoRA with ranks to spare, of which a schedule takes away those that matter least, over all layers."""

from adapterhub_lite.api import Field, StrategyConfig, StrategySpec, Traits, hookimpl


class RankPruningConfig(StrategyConfig):
    rank: int = Field(6, ge=1, description="Rank of each update at the start.")
    keep: float = Field(0.5, gt=0, le=1, description="Share of all ranks that is left at the end.")


@hookimpl
def adapterhub_strategies():
    half, traits = "rank_pruning.strategy:RankPruning", Traits(identity_at_init=True)
    return [StrategySpec("rank_pruning", "LoRA that loses ranks on its way.", RankPruningConfig, half, traits, 1e-3)]
