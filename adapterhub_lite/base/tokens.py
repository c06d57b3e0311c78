"""Tokens that one adapter adds: in a copy of the tokenizer, and as trained rows beside the frozen embeddings."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.base.quantization import dequantized, is_quantized
from adapterhub_lite.errors import ConfigError, NotSupportedError


class RowsOfEmbedding(nn.Module):
    """An embedding, with rows of its own for some ids in a row."""

    def __init__(self, old: Any, rows: nn.Parameter, first: int, scale: Any):
        super().__init__()
        self.old, self.rows, self.first, self.scale = old, rows, first, scale

    @property
    def weight(self) -> Tensor:
        """The base's rows."""
        weight: Tensor = self.old.weight
        return weight

    def forward(self, ids: Tensor) -> Tensor:
        """(rows, tokens) ids to (rows, tokens, hidden_size)."""
        places = ids - self.first
        new = (places >= 0) & (places < len(self.rows))
        values: Tensor = self.old(ids.masked_fill(new, 0))
        own = self.rows[places.clamp(0, len(self.rows) - 1)] * self.scale
        return torch.where(new[..., None], own.to(values.dtype), values)


class RowsOfOutput(nn.Module):
    """An output layer, with rows of its own for some ids in a row."""

    def __init__(self, old: Any, rows: nn.Parameter, first: int):
        super().__init__()
        self.old, self.rows, self.first = old, rows, first

    @property
    def weight(self) -> Tensor:
        """The base's rows."""
        weight: Tensor = self.old.weight
        return weight

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., hidden_size) to (..., vocabulary and new tokens)."""
        logits: Tensor = self.old(hidden)
        own = (hidden.to(self.rows.dtype) @ self.rows.T).to(logits.dtype)
        return torch.cat([logits[..., : self.first], own, logits[..., self.first + len(self.rows) :]], dim=-1)


def add_to_tokenizer(tokenizer: Any, names: Sequence[str], model: str) -> tuple[Any, list[int]]:
    """A copy of a tokenizer that knows more tokens, and their ids.

    Raises:
        NotSupportedError: there is no tokenizer.
        ConfigError: names that are empty, given twice, or tokens already.
    """
    from tokenizers import AddedToken

    if tokenizer is None:
        raise NotSupportedError(f"tokens can be added to text models alone, and {model} has no tokenizer")
    known = tokenizer.get_vocab()
    wrong = [name for name in names if not isinstance(name, str) or not name.strip() or name in known]
    if wrong or len(set(names)) != len(names) or not names:
        raise ConfigError(
            f"tokens cannot be added: {wrong[0]!r} is empty, or a token already"
            if wrong
            else f"tokens cannot be added: {list(names)!r} is empty, or names a token twice"
        )
    larger = copy.deepcopy(tokenizer)
    larger.add_tokens([AddedToken(name, normalized=False) for name in names])
    ids: list[int] = larger.convert_tokens_to_ids(list(names))
    return larger, ids


def add_rows(view: Any, tokenizer: Any, names: Sequence[str], first: int) -> dict[str, nn.Parameter]:
    """Put trained rows for tokens beside the embedding, and beside an output layer that does not share its weight.

    Args:
        view: Of the model; what is replaced is replaced through it.
        tokenizer: The base's own, which cuts the names of the tokens into pieces.
        names: Of the tokens.
        first: Id of the first of them.

    Returns:
        The rows, (tokens, hidden_size) in fp32: "embedding", and "output" where these are others.

    Raises:
        NotSupportedError: a model without an embedding, or whose embedding is smaller than its tokenizer.
    """
    model = view.model
    paths = {id(module): path for path, module in model.named_modules()}
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    weight = getattr(embedding, "weight", None)
    if weight is None or id(embedding) not in paths or first > len(weight):
        raise NotSupportedError(
            f"tokens cannot be added: {type(model).__name__} has no embedding with a row for each token"
        )
    pieces = [tokenizer(name, add_special_tokens=False)["input_ids"] for name in names]

    def start(rows: Tensor) -> nn.Parameter:
        rows = rows.detach().float()
        return nn.Parameter(torch.stack([(rows[cut] if cut else rows).mean(dim=0) for cut in pieces]))

    parameters = {"embedding": start(weight)}
    scale = getattr(embedding, "embed_scale", 1.0)  # Gemma's embeddings are multiplied by it
    view.replace(paths[id(embedding)], RowsOfEmbedding(embedding, parameters["embedding"], first, scale))
    if output is not None:
        if output.weight is not weight:
            parameters["output"] = start(dequantized(output) if is_quantized(output) else output.weight)
        rows = parameters.get("output", parameters["embedding"])
        view.replace(paths[id(output)], RowsOfOutput(output, rows, first))
    return parameters
