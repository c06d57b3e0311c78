"""Prefix tuning (Li and Liang 2021, arXiv:2101.00190): trained keys and values that every token attends to."""

from __future__ import annotations

from adapterhub_lite.api import Field, StrategyConfig, StrategySpec, hookimpl


class PrefixConfig(StrategyConfig):
    """Options of prefix tuning."""

    length: int = Field(
        default=16, ge=1, le=4096, description="Number of prefix positions in each layer; ignored with text."
    )
    text: str | None = Field(
        default=None, min_length=1, description="Start from the keys and values of this text, such as an instruction."
    )
    init_std: float = Field(default=0.02, gt=0, description="Spread of the random start, where no text is given.")


@hookimpl
def adapterhub_strategies() -> list[StrategySpec]:
    return [
        StrategySpec(
            name="prefix",
            summary="Trained keys and values in front of every layer's attention.",
            config=PrefixConfig,
            load="adapterhub_prefix.strategy:Prefix",
            learning_rate=1e-2,
        )
    ]
