"""The tiny foundation models that checks run on: the kit's own, and those of plug-ins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch

from adapterhub_lite.base.loading import Base
from adapterhub_lite.errors import ConfigError, PluginError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.testing import problems
from adapterhub_lite.testing.tiny_model import TinyModel
from adapterhub_lite.testing.tokenizer import MAX_LENGTH, PAD, tiny_tokenizer, vocabulary_size

# Widths are multiples of 64, the block of NF4: on a CPU bitsandbytes 0.50 gets narrower matrices wrong.
HIDDEN, HEADS, LAYERS, INNER = 64, 4, 2, 64

TINY_MODELS: tuple[TinyModel, ...]
"""All of them, found when first asked for."""


def _encoder() -> tuple[Any, Any]:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=vocabulary_size(), hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, max_position_embeddings=MAX_LENGTH, initializer_range=0.2, pad_token_id=PAD,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False), tiny_tokenizer()


OWN = TinyModel("encoder", "BERT-like, for text classification", _encoder, problems.texts)


@cache
def tiny_models() -> Mapping[str, TinyModel]:
    """The tiny models by name: the kit's own, then those that the installed plug-ins bring.

    Raises:
        PluginError: a plug-in that fails at it, or gives one of a name that is taken.
    """
    plugins = Plugins()
    models = {OWN.name: OWN}
    for plugin, model in plugins.gathered("adapterhub_tiny_models", TinyModel):
        if models.setdefault(model.name, model) is not model:
            raise PluginError(f"{plugins.title(plugin)} brings a tiny model '{model.name}', which is there already")
    return models


def tiny_base(name: str, *, quantization: str = "none", dtype: torch.dtype = torch.float32, seed: int = 0) -> Base:
    """Build one of the tiny models as a base: `tiny_base("decoder")`.

    Raises:
        ConfigError: a name that is not among them.
    """
    return choose_models([name])[0].base(quantization=quantization, dtype=dtype, seed=seed)


def choose_models(models: Sequence[str | TinyModel] | None) -> list[TinyModel]:
    """Resolve names of tiny models; None stands for all of them.

    Raises:
        ConfigError: a name that is not among them.
    """
    chosen = []
    for model in tiny_models().values() if models is None else models:
        if isinstance(model, TinyModel):
            chosen.append(model)
        elif model in tiny_models():
            chosen.append(tiny_models()[model])
        else:
            raise ConfigError(f"there is no tiny model '{model}'; there are: {', '.join(tiny_models())}")
    return chosen


def __getattr__(name: str) -> Any:
    if name == "TINY_MODELS":
        return tuple(tiny_models().values())
    raise AttributeError(f"module 'adapterhub_lite.testing.models' has no attribute {name!r}")
