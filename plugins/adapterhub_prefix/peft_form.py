"""A prefix of PEFT made into one of ours and back: the same keys and values, at other positions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.api import ModelView, NotSupportedError

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def from_peft(
    view: ModelView, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Settings and tensors of strategy prefix; None for another method of PEFT.

    PEFT hands the prefix to the model as a cache of what was read before, so that the input's positions begin after it;
    here they begin at 0. Rotary attention sees only the distance of two positions: with R(n) the rotation of position n,
    (R(i + n) q)' k = (R(i) q)' R(-n) k, so keys turned back by the length n give the same. The result is compared with
    what PEFT would do on a few tokens, so that a model for which this is not all is refused.

    Raises:
        NotSupportedError: another kind of prefix, another shape, or a model in which positions are not relative.
    """
    if config["peft_type"].lower() != "prefix_tuning":
        return None
    if set(tensors) != {"prompt_embeddings"}:
        raise NotSupportedError(f"expected the one tensor 'prompt_embeddings', found {sorted(tensors)[:4]}")
    if view.map.output is None:
        raise NotSupportedError("PEFT's prefix is imported for language models only")
    flat = tensors["prompt_embeddings"]  # (length, layers * 2 * kv_heads * head_dim)
    sites = view.attention
    shapes = {(site.kv_heads, site.head_dim, site.value_dim) for site in sites}
    heads, size, _ = next(iter(shapes), (0, 0, 0))
    if len(shapes) != 1 or flat.shape[1] != len(sites) * 2 * heads * size or any(s.value_dim != size for s in sites):
        raise NotSupportedError(
            f"a prefix of {flat.shape[1]} numbers a position does not fit the {len(sites)} layers of this "
            f"{type(view.model).__name__} with {heads} key heads of {size}"
        )
    length = len(flat)
    states = flat.reshape(length, len(sites), 2, heads, size).permute(1, 2, 3, 0, 4).to(view.device)
    made = {}
    for index, (key, value) in enumerate(states):  # each (kv_heads, length, head_dim)
        made[f"prefix.{index}.key"] = _turned(view.model, key, -length).contiguous()
        made[f"prefix.{index}.value"] = value.contiguous()
    _compare(view, states, made)
    return {"length": length}, made


def to_peft(view: ModelView, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The inverse of `from_peft`: PEFT's configuration and its one tensor; None for a task with a head of its own.

    Args:
        view: The base.
        tensors: Those of strategy prefix.

    Raises:
        NotSupportedError: layers of different shapes, or a model in which positions are not relative.
    """
    if not view.generates:
        return None
    from peft import PrefixTuningConfig

    layers = len(tensors) // 2
    pairs = [(tensors[f"prefix.{i}.key"], tensors[f"prefix.{i}.value"]) for i in range(layers)]
    if len({tensor.shape for pair in pairs for tensor in pair}) != 1:
        raise NotSupportedError("PEFT's prefix has one shape in all layers, and this one has not")
    heads, length, size = pairs[0][0].shape
    states = torch.stack(
        [torch.stack([_turned(view.model, key.to(view.device), length), value.to(view.device)]) for key, value in pairs]
    )  # (layers, 2, kv_heads, length, head_dim)
    _compare(view, states, {name: tensor.to(view.device) for name, tensor in tensors.items()})
    config = PrefixTuningConfig(
        num_virtual_tokens=length, num_layers=layers, num_attention_heads=heads, token_dim=heads * size,
        num_transformer_submodules=1, inference_mode=True,
    )  # fmt: skip
    flat = states.permute(3, 0, 1, 2, 4).reshape(length, -1)
    return config.to_dict(), {"prompt_embeddings": flat.cpu().contiguous()}


def _turned(model: nn.Module, key: Tensor, positions: int) -> Tensor:
    """Keys turned by a number of positions; as they are for a model without rotary positions."""
    rotary: Any = next((m for m in model.modules() if hasattr(m, "inv_freq")), None)
    if rotary is None:
        return key
    cos, sin = rotary(key[None], torch.tensor([[abs(positions)]], device=key.device))  # each (1, 1, rotary_dim)
    unit = (cos.square() + sin.square()).sqrt()  # some models scale both
    cos, sin = (cos / unit)[0].float(), math.copysign(1, positions) * (sin / unit)[0].float()
    turned, rest = key[..., : cos.shape[-1]], key[..., cos.shape[-1] :]
    first, second = turned.chunk(2, dim=-1)
    return torch.cat([turned * cos + torch.cat([-second, first], dim=-1) * sin, rest], dim=-1)


def _compare(view: ModelView, states: Tensor, tensors: Mapping[str, Tensor]) -> None:
    """Run a few tokens after PEFT's prefix and after ours, which is left on the view.

    Raises:
        NotSupportedError: they come out otherwise.
    """
    from transformers import DynamicCache

    model, sites, device = view.model, view.attention, view.device
    ids = torch.arange(5, 11, device=device)[None] % model.get_input_embeddings().weight.shape[0]
    cache = DynamicCache(config=model.config)
    for index, (key, value) in enumerate(states):
        cache.update(key[None].to(model.dtype), value[None].to(model.dtype), index)
    with torch.no_grad():
        mask = torch.ones(1, len(tensors["prefix.0.key"][0]) + ids.shape[1], device=device, dtype=torch.long)
        theirs = model(input_ids=ids, attention_mask=mask, past_key_values=cache).logits.float()
        for index, site in enumerate(sites):
            key, value = tensors[f"prefix.{index}.key"], tensors[f"prefix.{index}.value"]
            view.extend_attention(site.path, lambda call, key=key, value=value: call.prepend(key, value))  # type: ignore[misc]
        ours = model(input_ids=ids, use_cache=False).logits.float()
    difference = float((ours - theirs).abs().max()) / max(1.0, float(theirs.abs().max()))
    if not difference <= TOLERANCE.get(model.dtype, 1e-2):
        raise NotSupportedError(
            f"PEFT moves the input's positions behind the prefix, and in {type(model).__name__} positions are not merely "
            f"relative, so the prefix would do something else there than here (logits differ by {difference:.1e}); train "
            "a prefix here instead"
        )
