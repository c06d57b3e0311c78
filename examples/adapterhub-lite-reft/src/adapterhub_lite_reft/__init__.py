"""LoReFT (Wu et al. 2024, arXiv:2404.03592): a trained low-rank change of the hidden states between layers."""

from __future__ import annotations

from adapterhub_lite.api import Field, StrategyConfig, StrategySpec, Traits, hookimpl


class ReftConfig(StrategyConfig):
    """Options of LoReFT."""

    rank: int = Field(default=4, ge=1, description="Dimension of the subspace of the hidden states that is changed.")
    layers: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        description="Layers after which to change them, from 0; negative counts from the last. Default: all.",
    )


@hookimpl
def adapterhub_strategies() -> list[StrategySpec]:
    return [
        StrategySpec(
            name="reft",
            summary="A trained low-rank change of the hidden states after each layer (LoReFT).",
            config=ReftConfig,
            load="adapterhub_lite_reft.strategy:Reft",
            traits=Traits(identity_at_init=True, modalities=frozenset({"text"})),
            learning_rate=4e-3,
        )
    ]
