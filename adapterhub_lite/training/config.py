"""The options of a training run. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainConfig(BaseModel):
    """How to train; the defaults suit a few thousand examples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: float = Field(3.0, gt=0, description="Passes over the data; ignored where steps is given.")
    steps: int | None = Field(None, ge=1, description="Optimizer steps, instead of epochs.")
    batch_size: int = Field(16, ge=1, description="Examples per optimizer step.")
    micro_batch_size: int | None = Field(
        None, ge=1, description="Examples computed at once; smaller saves memory and changes no result."
    )
    learning_rate: float | None = Field(None, gt=0, description="Peak learning rate; the strategy's own by default.")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="Decay after the warm-up.")
    warmup: float = Field(0.06, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decay of matrices; never of biases and norms.")
    clip: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    seed: int = Field(0, ge=0, description="Of initialisation, order and dropout.")
    activation_checkpointing: bool = Field(False, description="Recompute activations: less memory, a third more time.")
