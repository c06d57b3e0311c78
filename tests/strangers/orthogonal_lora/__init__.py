"""Updates P diag(w) Q whose two bases are kept near orthogonal by a penalty, as AdaLoRA does (arXiv:2303.10512)."""

from adapterhub_lite.api import Field, StrategyConfig, StrategySpec, Traits, hookimpl


class OrthogonalConfig(StrategyConfig):
    rank: int = Field(4, ge=1, description="Rank of the update of each weight matrix.")
    strength: float = Field(0.1, ge=0, description="What the penalty is multiplied by.")


@hookimpl
def adapterhub_strategies():
    return [
        StrategySpec(
            name="orthogonal_lora", summary="Updates with near-orthogonal bases.", config=OrthogonalConfig,
            load="orthogonal_lora.strategy:OrthogonalLora", traits=Traits(identity_at_init=True), learning_rate=1e-3,
        )
    ]  # fmt: skip
