"""LayerNorm tuning (Zhao et al. 2023, arXiv:2312.11420): the norms of the model are trained, and nothing else."""

from adapterhub_lite.api import StrategyConfig, StrategySpec, Traits, hookimpl


class LayerNormConfig(StrategyConfig):
    """It has no options."""


@hookimpl
def adapterhub_strategies():
    traits = Traits(identity_at_init=True, works_on_quantized_base=False, trains_base=True)
    return [
        StrategySpec(
            name="layernorm_tuning", summary="Trains the norms of the model.", config=LayerNormConfig,
            load="layernorm_tuning.strategy:LayerNormTuning", traits=traits, learning_rate=1e-3,
        )
    ]  # fmt: skip
