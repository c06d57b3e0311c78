"""A model without weight matrices, attention or biases, which most strategies have to refuse."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class _Gate(nn.Module):
    """Multiplies every feature by a number of its own: no matrix, no attention, no bias."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.randn(size))

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.tanh(hidden * self.factor)


class BareConfig(PretrainedConfig):  # type: ignore[misc]
    """The sizes of a `BareModel`."""

    model_type = "adapterhub_odd"
    vocab_size: int = 0
    hidden_size: int = 0
    num_hidden_layers: int = 0


class BareModel(PreTrainedModel):  # type: ignore[misc]
    """Embeddings and gates."""

    config_class = BareConfig
    main_input_name = "input_ids"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.gates = nn.ModuleList(_Gate(config.hidden_size) for _ in range(config.num_hidden_layers))

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> BaseModelOutput:
        hidden = self.embeddings(input_ids)  # (batch, tokens, hidden_size)
        for gate in self.gates:
            hidden = gate(hidden)
        return BaseModelOutput(last_hidden_state=hidden)
