"""The tiny foundation models that checks run on, all of which plug-ins bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch

from adapterhub_lite.base.loading import Base
from adapterhub_lite.errors import ConfigError, PluginError
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.testing.tiny_model import TinyModel

TINY_MODELS: tuple[TinyModel, ...]
"""Those that strategies adapt, found when first asked for."""


@cache
def brought_models() -> tuple[TinyModel, ...]:
    """The tiny models of the installed plug-ins, bare ones too.

    Raises:
        PluginError: a plug-in that fails at it, or gives one of a name that is taken.
    """
    plugins = Plugins()
    models: dict[str, TinyModel] = {}
    for plugin, model in plugins.gathered("adapterhub_tiny_models", TinyModel):
        if models.setdefault(model.name, model) is not model:
            raise PluginError(f"{plugins.title(plugin)} brings a tiny model '{model.name}', which is there already")
    return tuple(models.values())


def tiny_models() -> Mapping[str, TinyModel]:
    """The tiny models by name that strategies adapt, without bare ones and those for tasks; see `brought_models`."""
    return {model.name: model for model in brought_models() if not model.bare and not model.for_task}


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
    chosen, known = [], tiny_models()
    for model in known.values() if models is None else models:
        if isinstance(model, TinyModel):
            chosen.append(model)
        elif model in known:
            chosen.append(known[model])
        else:
            raise ConfigError(f"there is no tiny model '{model}'; there are: {', '.join(known)}")
    return chosen


def __getattr__(name: str) -> Any:
    if name == "TINY_MODELS":
        return tuple(tiny_models().values())
    raise AttributeError(f"module 'adapterhub_lite.testing.models' has no attribute {name!r}")
