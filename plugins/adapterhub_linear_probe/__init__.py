"""Linear probe: the base is run once over the data, and a linear model is solved on its features."""

from __future__ import annotations

from typing import Literal

from adapterhub_lite.api import Field, StrategyConfig, StrategySpec, Traits, hookimpl


class LinearProbeConfig(StrategyConfig):
    """Options of the linear probe."""

    solver: Literal["lbfgs", "ridge"] = Field(
        default="lbfgs",
        description="lbfgs: logistic regression; ridge: least squares in closed form, for very many examples; its "
        "probabilities are rough. Numbers are always fitted by ridge.",
    )
    penalty: float | None = Field(
        default=None, gt=0, description="L2 penalty on the weights; chosen by cross-validation if not set."
    )
    folds: int = Field(default=5, ge=2, le=20, description="Folds of the cross-validation.")
    epochs: int = Field(default=5, ge=1, description="Passes over the features; language models only.")


@hookimpl
def adapterhub_strategies() -> list[StrategySpec]:
    return [
        StrategySpec(
            name="linear_probe",
            summary="A linear model on frozen features, which are computed once and cached.",
            config=LinearProbeConfig,
            load="adapterhub_linear_probe.strategy:LinearProbe",
            traits=Traits(needs_base_gradients=False, identity_at_init=True),
            learning_rate=1e-3,
        )
    ]
