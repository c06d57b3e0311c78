"""What plug-ins know of bases that the core cannot load, configure or describe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from adapterhub_lite.base.map import ModelMap
from adapterhub_lite.base.model_files import Configure
from adapterhub_lite.plugins.manager import Plugins


@dataclass(frozen=True)
class Asked:
    """The base that a plug-in is asked for, in words."""

    ref: str
    quantization: str
    dtype: str
    device: str
    revision: str | None
    """What stands behind an "@" in the reference."""


@dataclass(frozen=True)
class Foreign:
    """What plug-ins know of bases, handed in; by default nothing."""

    load: Callable[[Asked], nn.Module | None] = lambda asked: None
    """Loads the references that are not the core's; None for the others."""
    configure: Configure = lambda config: None
    """Makes the configuration of models that transformers would not make, or would make otherwise; None for the others."""
    describe: Callable[[nn.Module], ModelMap | None] = lambda model: None
    """Describes the models that introspection gets wrong; None for the others."""


NOTHING_FOREIGN = Foreign()


def foreign_bases(plugins: Plugins) -> Foreign:
    """Ask plug-ins through their hooks.

    Raises:
        PluginError: when called, a plug-in that fails or answers with something else; names it.
    """
    from transformers import PretrainedConfig

    ask = plugins.first_result
    return Foreign(
        lambda wanted: ask("adapterhub_load_base", vars(wanted), nn.Module, "a torch module"),
        lambda config: ask("adapterhub_base_config", {"config": config}, PretrainedConfig, "a PretrainedConfig"),
        lambda model: ask("adapterhub_describe_model", {"model": model}, ModelMap, "a ModelMap"),
    )
