"""A model without weight matrices, attention or biases, which most strategies have to refuse."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from adapterhub_lite.testing import problems
from adapterhub_lite.testing.models import HIDDEN, LAYERS
from adapterhub_lite.testing.tiny_model import TinyModel
from adapterhub_lite.testing.tokenizer import tiny_tokenizer, vocabulary_size


class _Gate(nn.Module):
    """Multiplies every feature by a number of its own: no matrix, no attention, no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.randn(HIDDEN))

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.tanh(hidden * self.factor)


class _BareConfig(PretrainedConfig):  # type: ignore[misc]
    model_type = "adapterhub_odd"
    hidden_size = HIDDEN
    vocab_size = vocabulary_size()


class _BareModel(PreTrainedModel):  # type: ignore[misc]
    config_class = _BareConfig
    main_input_name = "input_ids"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(vocabulary_size(), HIDDEN)
        self.gates = nn.ModuleList(_Gate() for _ in range(LAYERS))

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> BaseModelOutput:
        hidden = self.embeddings(input_ids)  # (batch, tokens, hidden_size)
        for gate in self.gates:
            hidden = gate(hidden)
        return BaseModelOutput(last_hidden_state=hidden)


BARE_MODEL = TinyModel(
    "odd",
    "a text model without weight matrices and attention",
    lambda: (_BareModel(_BareConfig()), tiny_tokenizer()),
    problems.texts,
)
