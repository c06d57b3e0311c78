"""The half of distill that needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from adapterhub_lite.api import ModelView, NotSupportedError
from torch import Tensor, nn
from torch.nn import functional

from adapterhub_lite_distill import DistillConfig


class Distill:
    """h + up(relu(down(h))) behind each layer (Houlsby et al. 2019, arXiv:1902.00751), taught by the bare base.

    The loss is the task's plus weight * T^2 * KL(base || adapted) with outputs softened by a temperature T, as in
    learning without forgetting (Li and Hoiem 2016, arXiv:1606.09282). A language model keeps what the base would say.
    """

    def attach(self, view: ModelView, config: DistillConfig) -> Mapping[str, nn.Parameter]:
        """Put a bottleneck behind each layer.

        Raises:
            NotSupportedError: a convolutional network, whose layers differ in width.
        """
        if view.map.pooling == "spatial":
            raise NotSupportedError("distill: the layers of a convolutional network differ in width; use lora")
        self.config = config
        width = view.map.hidden_size
        parameters: dict[str, nn.Parameter] = {}
        for number, path in enumerate(view.map.layers):
            start = torch.randn(config.size, width) / width**0.5  # drawn on the CPU: the same on every device
            down = nn.Parameter(start.to(view.device))
            up = nn.Parameter(torch.zeros(width, config.size, device=view.device))
            parameters |= {f"distill.{number}.down": down, f"distill.{number}.up": up}
            view.after(path, _bottleneck(down, up))
        return parameters

    def output_loss(self, batch: Mapping[str, Tensor], outputs: Tensor, teacher: Callable[[], Tensor]) -> Tensor:
        """The divergence from the base for each target, (targets,)."""
        weight, temperature = self.config.weight, self.config.temperature
        if weight == 0 or outputs.shape[-1] == 1:  # a single number has no distribution
            return outputs.new_zeros(len(outputs))
        adapted = (outputs / temperature).log_softmax(dim=-1)  # (targets, outputs)
        base = (teacher().float() / temperature).log_softmax(dim=-1)
        divergence = functional.kl_div(adapted, base, reduction="none", log_target=True).sum(dim=-1)
        return weight * temperature**2 * divergence


def _bottleneck(down: nn.Parameter, up: nn.Parameter) -> Callable[[Tensor], Tensor]:
    def change(hidden: Tensor) -> Tensor:  # (batch, tokens, hidden)
        inner = functional.linear(hidden.float(), down).relu()  # (batch, tokens, size)
        return hidden + functional.linear(inner, up).to(hidden.dtype)

    return change
