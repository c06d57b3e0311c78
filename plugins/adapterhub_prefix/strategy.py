"""The half of prefix tuning that needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.api import AttentionCall, ModelView, NotSupportedError
from adapterhub_prefix import PrefixConfig
from adapterhub_prefix.peft_form import from_peft, to_peft


class Prefix:
    """Keys and values for each attention site, put in front of those of the input whenever attention is computed.

    The cache of a generating model never sees them, so that cached and uncached generation, padding on either side and
    recomputed activations all work without special care. Positions of the input are not moved: for rotary positions,
    which are relative, the prefix lies at -length .. -1.
    """

    def attach(self, view: ModelView, config: PrefixConfig) -> Mapping[str, nn.Parameter]:
        """Extend every attention site.

        Raises:
            NotSupportedError: a model without attention, or one that computes it in its own way.
        """
        if not view.attention:
            raise NotSupportedError(
                f"prefix: {type(view.model).__name__} has no attention that can be extended"
                f"{' (it is a convolutional network)' if view.map.pooling == 'spatial' else ''}; "
                "use lora, linear_probe or full"
            )
        start = _from_text(view, config.text) if config.text else {}
        parameters: dict[str, nn.Parameter] = {}
        for index, site in enumerate(view.attention):
            if site.path in start:
                key, value = start[site.path]
            else:
                key = torch.randn(site.kv_heads, config.length, site.head_dim) * config.init_std
                value = torch.randn(site.kv_heads, config.length, site.value_dim) * config.init_std
            names = (f"prefix.{index}.key", f"prefix.{index}.value")  # each (kv_heads, length, head_dim)
            for name, tensor in zip(names, (key, value), strict=True):
                parameters[name] = nn.Parameter(tensor.to(view.device, torch.float32).contiguous())
            view.extend_attention(site.path, _prepend(parameters[names[0]], parameters[names[1]]))
        return parameters

    def from_peft(
        self, view: ModelView, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> tuple[Mapping[str, Any], Mapping[str, Tensor]] | None:
        """See `peft_form.from_peft`."""
        return from_peft(view, config, tensors)

    def to_peft(
        self, view: ModelView, config: PrefixConfig, tensors: Mapping[str, Tensor]
    ) -> tuple[Mapping[str, Any], Mapping[str, Tensor]] | None:
        """See `peft_form.to_peft`."""
        return to_peft(view, tensors)


def _prepend(key: nn.Parameter, value: nn.Parameter) -> Callable[[AttentionCall], None]:
    def extension(call: AttentionCall) -> None:
        call.prepend(key, value)

    return extension


def _from_text(view: ModelView, text: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Keys and values of a text in every layer: attending to them is reading the text first."""
    if view.tokenizer is None:
        raise NotSupportedError("prefix: text=... needs a base with a tokenizer")
    ids = torch.tensor([view.tokenizer(text)["input_ids"]], device=view.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if any(name.endswith("inv_freq") for name, _ in view.model.named_buffers()):
        inputs["position_ids"] = torch.arange(-ids.shape[1], 0, device=view.device)[None]
    calls = view.capture_attention(inputs)
    return {path: (call.key[0], call.value[0]) for path, call in calls.items()}
