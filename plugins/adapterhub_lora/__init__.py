"""Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685) on PEFT's layers."""

from __future__ import annotations

from typing import Literal

from adapterhub_lite.api import Field, StrategyConfig, StrategySpec, Traits, hookimpl


class LoraConfig(StrategyConfig):
    """Options of LoRA."""

    rank: int = Field(16, ge=1, le=1024, description="Rank of each update.")
    alpha: float | None = Field(
        None, gt=0, description="Scale of the updates, divided by the rank; twice the rank if not set."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the input of the updates while training.")
    targets: str = Field(
        "all-linear",
        description="Which weight matrices: all-linear, attention, or names such as q_proj,v_proj separated by commas.",
    )
    rslora: bool = Field(False, description="Divide alpha by the square root of the rank (Kalajdzievski 2023).")
    dora: bool = Field(False, description="Train magnitude and direction apart (Liu et al. 2024).")
    init: Literal["default", "gaussian", "pissa", "loftq"] = Field(
        "default",
        description="Start: default (no change at first), gaussian, pissa (principal directions, Meng et al. 2024), or "
        "loftq (make up for quantization, Li et al. 2023; needs a quantized base).",
    )


@hookimpl
def adapterhub_strategies() -> list[StrategySpec]:
    return [
        StrategySpec(
            name="lora",
            summary="Low-rank updates of weight matrices; the files are PEFT's.",
            config=LoraConfig,
            load="adapterhub_lora.strategy:Lora",
            traits=Traits(mergeable=True, identity_at_init=True),
            learning_rate=5e-4,
        )
    ]
