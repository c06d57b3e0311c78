"""New tokens, whose embeddings are all that is trained: soft words for what the vocabulary has no word for."""

from adapterhub_lite.api import Field, StrategyConfig, StrategySpec, Traits, hookimpl


class NewTokensConfig(StrategyConfig):
    tokens: tuple[str, ...] = Field(("<topic>", "<tone>"), min_length=1, description="The tokens, as texts have them.")


@hookimpl
def adapterhub_strategies():
    return [
        StrategySpec(
            name="new_tokens", summary="Trains the embeddings of new tokens.", config=NewTokensConfig,
            load="new_tokens.strategy:NewTokens", traits=Traits(modalities=frozenset({"text"})), learning_rate=1e-2,
        )
    ]  # fmt: skip
