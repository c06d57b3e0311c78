"""The half of full fine-tuning that needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from adapterhub_full import FullConfig
from adapterhub_lite.api import ConfigError, ModelView

OF_BASE = "base."
TAKEN = ("head.", "tokens.", OF_BASE)
"""What the names of the base's weights may not begin with in a file."""


class Full:
    """Trains weights of the base on fp32 copies; the base itself stays as it was."""

    def attach(self, view: ModelView, config: FullConfig) -> Mapping[str, nn.Parameter]:
        """Make the chosen weights trainable.

        Raises:
            ConfigError: more layers asked for than there are.
            NotSupportedError: a quantized base.
        """
        names = [name for name, _ in view.model.named_parameters() if view.map.reaches(name)]
        if config.top_layers is not None:
            if config.top_layers > len(view.map.layers):
                raise ConfigError(
                    f"full: top_layers={config.top_layers}, but this model has {len(view.map.layers)} layers"
                )
            kept = tuple(f"{path}." for path in view.map.layers[-config.top_layers :])
            names = [name for name in names if name.startswith(kept)]
        return {_in_file(name): parameter for name, parameter in view.train_base(names).items()}

    def merge(self, view: ModelView, config: FullConfig, tensors: Mapping[str, Tensor]) -> None:
        """Nothing is left to do: the weights in place are the trained ones."""

    def updates(
        self, config: FullConfig, tensors: Mapping[str, Tensor]
    ) -> Mapping[str, Callable[[Tensor, bool], Tensor]]:
        """Each saved weight takes the place of the base's."""

        def replacement(tensor: Tensor) -> Callable[[Tensor, bool], Tensor]:
            return lambda weight, transposed: tensor.float()

        return {name.removeprefix(OF_BASE): replacement(tensor) for name, tensor in tensors.items()}


def _in_file(name: str) -> str:
    """The name of a weight in a file, where that of the task's head is `head.weight`, as it may be of the base's own."""
    return f"{OF_BASE}{name}" if name.startswith(TAKEN) else name
