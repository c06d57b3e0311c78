"""Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685) on PEFT's layers."""

from __future__ import annotations

from typing import Annotated, Literal

from adapterhub_lite.api import Field, Situation, StrategyConfig, StrategySpec, Traits, hookimpl

Start = Literal["default", "gaussian", "pissa", "olora", "corda", "lora_ga", "eva", "loftq"]
Direction = Literal["ArBr", "A2rBr", "ArB2r", "random"]
GradientScale = Literal["stable", "weight_svd", "gd_scale", "unit"]


class LoraConfig(StrategyConfig):
    """Options of LoRA."""

    rank: int = Field(default=16, ge=1, le=1024, description="Rank of each update.")
    alpha: float | None = Field(
        default=None, gt=0, description="Scale of the updates, divided by the rank; twice the rank if not set."
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout on the input of the updates while training.")
    targets: str = Field(
        default="all",
        description="Which weight matrices: all (of the layers, experts included), all-linear (without stacked experts), "
        "attention, names such as q_proj,v_proj separated by commas, or re: and a regular expression for whole paths, such "
        "as re:.*layers\\.[02]\\..*(q|v)_proj.",
    )
    top_layers: int | None = Field(
        default=None,
        ge=1,
        description="Of the targets, only those in this many layers nearest the output; all if not set.",
    )
    rank_pattern: dict[str, Annotated[int, Field(ge=1, le=1024)]] = Field(
        default_factory=dict,
        description="Other ranks for some targets, as {q_proj: 4, 'layers\\.0\\..*': 32}: a regular expression for the "
        "end of a path, and its rank; the first that fits counts.",
    )
    alpha_pattern: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="Other values of alpha for some targets, as in rank_pattern."
    )
    bias: Literal["none", "all", "lora_only"] = Field(
        default="none",
        description="Which biases of the base train along, on copies of their own: none, all, or lora_only (those of the "
        "targets). The base must not be quantized, and computes in fp32.",
    )
    rslora: bool = Field(default=False, description="Divide alpha by the square root of the rank (Kalajdzievski 2023).")
    dora: bool = Field(default=False, description="Train magnitude and direction apart (Liu et al. 2024).")
    lora_plus_ratio: float = Field(
        default=1.0,
        gt=0,
        description="LoRA+ (Hayou et al. 2024): how many times the learning rate of A the factors B learn with; 16 is a "
        "good value to try.",
    )
    init: Start = Field(
        default="default",
        description="Start: default (no change at first), gaussian, pissa (principal directions, Meng et al. 2024), olora "
        "(orthonormal directions, Büyükakyüz 2024), loftq (make up for quantization, Li et al. 2023; needs a quantized "
        "base); and from the data: eva (directions of the inputs, and ranks where they explain most, Paischer et al. "
        "2024), corda (directions of weights on the inputs, Yang et al. 2024), lora_ga (directions of the gradient, Wang "
        "et al. 2024).",
    )
    eva_rho: float = Field(
        default=2.0,
        ge=1,
        le=1000,
        description="Of init=eva: how many times its rank a target may get; 1 leaves the ranks as they are.",
    )
    corda_method: Literal["ipm", "kpm"] = Field(
        default="ipm",
        description="Of init=corda: train the directions that the data uses most (ipm), or least, which keeps what the "
        "base knows of it (kpm).",
    )
    lora_ga_direction: Direction = Field(
        default="ArB2r", description="Of init=lora_ga: which directions of the gradient become A and which B."
    )
    lora_ga_scale: GradientScale = Field(default="stable", description="Of init=lora_ga: how large the factors start.")
    lora_ga_gamma: float = Field(
        default=16.0, gt=0, description="Of init=lora_ga with lora_ga_scale=stable: the larger, the smaller B."
    )
    start_batches: int = Field(
        default=32, ge=1, description="Of init=corda and lora_ga: how many batches of the run they look at, at most."
    )


CHANGE_BASE = ("pissa", "olora", "corda", "lora_ga")
"""Starts for which the base is another one while the adapter is on it."""


def traits_for(config: LoraConfig) -> Traits:
    """What LoRA promises with some options."""
    return Traits(
        mergeable=True,
        works_on_quantized_base=config.init not in CHANGE_BASE and config.bias == "none",
        identity_at_init=config.init != "loftq",
    )


def suggest(situation: Situation) -> dict[str, float]:
    """What was the best or near it on ten sets of data; text that is continued, and random bases, keep the rate below."""
    if not situation.has_probe:
        return {}
    series_of_classes = situation.modality == "series" and situation.predicts == "classes"
    return {"learning_rate": 2e-3 if series_of_classes else 1e-3}


@hookimpl
def adapterhub_strategies() -> list[StrategySpec]:
    return [
        StrategySpec(
            name="lora",
            summary="Low-rank updates of weight matrices; the files are PEFT's.",
            config=LoraConfig,
            load="adapterhub_lora.strategy:Lora",
            traits=traits_for(LoraConfig()),
            traits_for=traits_for,
            learning_rate=5e-4,
            suggest=suggest,
        )
    ]
