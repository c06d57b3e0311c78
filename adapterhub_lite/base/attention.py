"""Attention functions, registered through transformers' `AttentionInterface`, that adapters can extend per layer.

They compute what "sdpa" and "eager" compute, and let a function set on the calling module change queries, keys, values
and mask first. The registration adds names; it changes nothing for models that do not ask for them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, eager_mask, sdpa_mask

from adapterhub_lite.base.flat import BLOCKS, Blocks
from adapterhub_lite.errors import NotSupportedError

ATTENTION_IMPLEMENTATION = "adapterhub"
EXTENSIBLE = {"sdpa": ATTENTION_IMPLEMENTATION, "eager": f"{ATTENTION_IMPLEMENTATION}_eager"}
"""For each implementation, the one that computes the same and can be extended."""
EXTENSION = "_adapterhub_extension"
PLAIN_UP_TO = 128
"""Tokens of a text up to which plain products and a softmax are quicker on a CPU than torch's fused kernels, whose backward
takes 12 to 25 ms in half precision for 512 tokens in texts of 16 to 64, where the plain one takes 2 to 5."""


@dataclass(frozen=True)
class AttentionSite:
    """One place in a model where attention is computed."""

    path: str
    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    causal: bool


@dataclass
class AttentionCall:
    """The arguments of one attention call; an extension changes them and returns nothing."""

    query: Tensor  # (batch, heads, queries, head_dim)
    key: Tensor  # (batch, kv_heads, keys, head_dim)
    value: Tensor  # (batch, kv_heads, keys, value_dim)
    mask: Tensor | None  # broadcastable to (batch, heads, queries, keys); bool (True: attend) or added to the scores
    causal: bool
    """Where there is no mask: query i sees only the keys up to i."""

    def prepend(self, key: Tensor, value: Tensor) -> None:
        """Put keys and values before the others, visible to every query.

        Args:
            key: (kv_heads, extra, head_dim)
            value: (kv_heads, extra, value_dim)
        """
        batch, queries, keys, extra = self.query.shape[0], self.query.shape[2], self.key.shape[2], key.shape[1]
        if self.mask is None and self.causal and queries > 1:
            # The kernel's own causal mask aligns the first query with the first key, which the new ones would shift.
            self.mask = torch.ones(queries, keys, dtype=torch.bool, device=key.device).tril()[None, None]
        if self.mask is not None:
            shape = (*self.mask.shape[:-1], extra)
            open_ = self.mask.new_ones(shape) if self.mask.dtype == torch.bool else self.mask.new_zeros(shape)
            self.mask = torch.cat([open_, self.mask[..., :keys]], dim=-1)
        self.causal = False
        self.key = torch.cat([key.to(self.key.dtype).expand(batch, -1, -1, -1), self.key], dim=2)
        self.value = torch.cat([value.to(self.value.dtype).expand(batch, -1, -1, -1), self.value], dim=2)


Extension = Callable[[AttentionCall], None]


def extensible_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,  # the signature is transformers', models pass what they have
) -> tuple[Tensor, Tensor | None]:
    """Compute scaled dot-product attention after the module's extension, if it has one, changed the arguments."""

    def attend(call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        short = call.query.shape[2] <= PLAIN_UP_TO and call.query.element_size() == 2
        if hasattr(attention_mask, BLOCKS) and short and call.query.device.type == "cpu":
            return plain_attention(call, dropout, scaling), None
        return sdpa_attention_forward(
            module, call.query, call.key, call.value, call.mask,
            dropout=dropout, scaling=scaling, is_causal=call.causal, **kwargs,
        )  # fmt: skip

    causal = _is_causal(module, is_causal)
    return _extended_attention(module, (query, key, value), attention_mask, causal, attend, kwargs)


def extensible_eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    is_causal: bool | None = None,
    **kwargs: Any,  # the signature is transformers', models pass what they have
) -> tuple[Tensor, Tensor | None]:
    """Compute attention as the file of the model does, which may cap scores or have sinks, after the module's extension.

    Some ways to attend, such as those of Gemma 2 and GPT-OSS, no kernel of torch knows.
    """
    own = vars(sys.modules[type(module).__module__])["eager_attention_forward"]

    def attend(call: AttentionCall) -> tuple[Tensor, Tensor | None]:
        mask = call.mask
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, torch.finfo(query.dtype).min)
        attended: tuple[Tensor, Tensor | None] = own(module, call.query, call.key, call.value, mask, **kwargs)
        return attended

    # Without a mask each token attends to all: what a model written out does not mask, no kernel masks for it.
    causal = hasattr(attention_mask, BLOCKS) and _is_causal(module, is_causal)
    return _extended_attention(module, (query, key, value), attention_mask, causal, attend, kwargs)


def _extended_attention(
    module: nn.Module,
    states: tuple[Tensor, Tensor, Tensor],
    mask: Tensor | None,
    causal: bool,
    attend: Callable[[AttentionCall], tuple[Tensor, Tensor | None]],
    kwargs: dict[str, Any],
) -> tuple[Tensor, Tensor | None]:
    """Attention of queries, keys and values; of texts that are one behind the other in a row, each to itself, in blocks.

    Raises:
        NotSupportedError: scores have a bias by place in the row, where the places in each text are wanted.
    """
    blocks: Blocks | None = getattr(mask, BLOCKS, None)
    if blocks is None:
        return attend(_extended(module, AttentionCall(*states, mask, causal), kwargs))
    if kwargs.get("position_bias") is not None:
        raise NotSupportedError(f"{type(module).__name__} attends by places in a row, and a text begins anywhere in it")
    query, key, value = map(blocks.split, states)
    calls = zip(query, key, value, blocks.masks(causal), strict=True)
    return blocks.join([attend(_extended(module, AttentionCall(*call, False), kwargs))[0] for call in calls]), None


def plain_attention(call: AttentionCall, dropout: float, scaling: float | None) -> Tensor:
    """softmax(s Q K^T) V, the softmax in fp32."""
    repeats = call.query.shape[1] // call.key.shape[1]
    key, value = repeat_kv(call.key, repeats), repeat_kv(call.value, repeats)
    scale = call.query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (call.query * scale) @ key.transpose(2, 3)  # (texts, heads, queries, keys)
    if call.mask is not None and call.mask.dtype == torch.bool:
        scores = scores.masked_fill(~call.mask, torch.finfo(scores.dtype).min)
    elif call.mask is not None:
        scores = scores + call.mask
    shares = nn.functional.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(
        value.dtype
    )
    return (nn.functional.dropout(shares, dropout) @ value).transpose(1, 2)


def _is_causal(module: nn.Module, is_causal: bool | None) -> bool:
    return bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)


def _extended(module: nn.Module, call: AttentionCall, kwargs: dict[str, Any]) -> AttentionCall:
    """Let a module's extension, if it has one, change a call, and make its bias by position fit."""
    extension: Extension | None = getattr(module, EXTENSION, None)
    if extension is not None:
        keys, bias = call.key.shape[2], kwargs.get("position_bias")
        extension(call)
        if bias is not None and call.key.shape[2] > keys:
            kwargs["position_bias"] = nn.functional.pad(bias, (call.key.shape[2] - keys, 0))
    return call


AttentionInterface.register(ATTENTION_IMPLEMENTATION, extensible_attention)
AttentionMaskInterface.register(ATTENTION_IMPLEMENTATION, sdpa_mask)
AttentionInterface.register(EXTENSIBLE["eager"], extensible_eager_attention)
AttentionMaskInterface.register(EXTENSIBLE["eager"], eager_mask)
