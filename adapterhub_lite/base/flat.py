"""A batch of texts as one row of its real tokens, without padding; attention sees blocks of texts of similar lengths.

What a text becomes in such a row is what it becomes alone only where nothing but attention mixes tokens, and attention goes
through `adapterhub_lite.base.attention`. Which models these are is tried before it is relied on (`training/flat.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SHORT = 16
"""Texts of up to so many tokens are in one block: what their padding costs is less than what another block does."""
BLOCKS = "_adapterhub_blocks"
"""The attribute of a mask that holds the blocks of its row: models hand the mask they are given on to each attention call."""


@dataclass
class Flattening:
    """How the texts of a base are put into one row."""

    first: int
    """The position id of the first token of a text."""
    longest: int
    """Tokens up to which a token sees all of its text; batches with longer texts are padded."""
    view: object
    """The view of the adapter that this was shown of."""
    used: bool = False
    """Whether a batch was run so; a task may have its own way to run the model."""


class Blocks:
    """Texts that lie one behind the other, sorted into blocks of similar lengths, each padded on the right to its longest.

    Args:
        lengths: Tokens of each text.
        device: Where the row is.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device):
        sizes = torch.tensor(lengths)
        starts, parts = (sizes.cumsum(0) - sizes).clamp(max=int(sizes.sum()) - 1), _similar(lengths)
        self.shapes = [(len(part), max(lengths[text] for text in part)) for part in parts]  # texts, tokens
        within = [torch.arange(tokens) for _, tokens in self.shapes]
        reals = [
            places < sizes[part][:, None] for places, part in zip(within, parts, strict=True)
        ]  # (texts, tokens) each
        # The token of the row in each place of the blocks; in those of padding the first of the text.
        tokens = [starts[part][:, None] + place * real for place, part, real in zip(within, parts, reals, strict=True)]
        sources, real = (torch.cat([block.flatten() for block in blocks]) for blocks in (tokens, reals))
        places = torch.empty(int(sizes.sum()), dtype=torch.long)
        places[sources[real]] = real.nonzero().flatten()
        padding = (~real).nonzero().flatten()
        self._sources, self._places, self._padding = sources.to(device), places.to(device), padding.to(device)
        self._real = [None if bool(real.all()) else real[:, None, None].to(device) for real in reals]
        self._causal = [torch.ones(1, 1, size, size, dtype=torch.bool, device=device).tril() for _, size in self.shapes]

    def masks(self, causal: bool) -> Sequence[Tensor | None]:
        """What the queries of each block see, True where they do, broadcastable to (texts, heads, queries, keys); None: all."""
        # Padding is behind the text, where no query sees it that sees what is before it alone.
        return self._causal if causal else self._real

    def split(self, states: Tensor) -> list[Tensor]:
        """From queries, keys or values of the row, (1, heads, tokens, width), to those of each block, (texts, heads, ...)."""
        # No gradient comes from padding, which nothing sees.
        states = states[0].transpose(0, 1)
        padded: Tensor = _Moved.apply(states, self._sources, self._places, self._padding[:0])  # type: ignore[no-untyped-call]
        parts = padded.split([texts * tokens for texts, tokens in self.shapes])
        return [part.unflatten(0, shape).transpose(1, 2) for part, shape in zip(parts, self.shapes, strict=True)]

    def join(self, outputs: Sequence[Tensor]) -> Tensor:
        """From what attention gave for each block, (texts, tokens, heads, width), to that of the row, (1, tokens, ...)."""
        padded = torch.cat([output.flatten(0, 1) for output in outputs])
        row: Tensor = _Moved.apply(padded, self._places, self._sources, self._padding)  # type: ignore[no-untyped-call]
        return row[None]


def _similar(lengths: Sequence[int]) -> list[list[int]]:
    """Numbers of texts of similar lengths: up to `SHORT` tokens, up to twice as many, and so on."""
    parts: dict[int, list[int]] = {}
    for text, length in enumerate(lengths):
        parts.setdefault(max(0, (length - 1) // SHORT).bit_length(), []).append(text)
    return [parts[size] for size in sorted(parts)]


class _Moved(torch.autograd.Function):
    """`states.index_select(0, index)`, whose gradient is the one at `back`, and zero at `unused`."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, index: Tensor, back: Tensor, unused: Tensor) -> Tensor:
        ctx.save_for_backward(back, unused)
        return states.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        back, unused = ctx.saved_tensors
        return gradient.index_select(0, back).index_fill_(0, unused, 0), None, None, None


class Texts:
    """Where the texts of a batch are, in its padded rows and in the one row of its real tokens.

    Args:
        mask: (batch, tokens), 1 for real tokens.
        first: The position id of the first token of a text.
    """

    def __init__(self, mask: Tensor, first: int = 0):
        self.shape = mask.shape
        self.lengths: list[int] = mask.sum(dim=1).tolist()
        self.real = mask.flatten().nonzero().flatten()
        """(n,): the place of each token of the row in the padded rows, one row behind the other."""
        numbers = torch.arange(1, len(mask) + 1, device=mask.device)
        self.segments = numbers.repeat_interleave(mask.sum(dim=1))[None]
        """(1, n): the number of the text that each token belongs to, counted from 1."""
        self._positions = self.row(mask.cumsum(dim=1) - 1 + first)
        self._mask = torch.ones(1, 1, 1, len(self.real), dtype=torch.bool, device=mask.device)
        setattr(self._mask, BLOCKS, Blocks(self.lengths, mask.device))

    def inputs(self, padded: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The arguments of the model for the row, from those for padded rows, each (batch, tokens)."""
        row = {name: self.row(tensor) for name, tensor in padded.items()}
        return {**row, "attention_mask": self._mask, "position_ids": self._positions}

    def row(self, padded: Tensor) -> Tensor:
        """From (batch, tokens) to the row, (1, n)."""
        return padded.flatten()[self.real][None]

    def places(self, padded: Tensor) -> Tensor:
        """From places of real tokens in the padded rows, one row behind the other, to those in the one row; (k,)."""
        return torch.searchsorted(self.real, padded)

    def rows(self, row: Tensor) -> Tensor:
        """From the row, (1, n, width), to rows padded with zeros, (batch, tokens, width)."""
        padded: Tensor = row.new_zeros(self.shape.numel(), row.shape[-1]).index_copy(0, self.real, row[0])
        return padded.unflatten(0, self.shape)
