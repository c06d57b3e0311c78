"""What a model is, down to the bit, for comparison before and after an adapter was on it."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_QUANTIZED = ("quant_state", "SCB")


def snapshot(model: Any) -> dict[str, Any]:
    """Parameters, buffers, `requires_grad` flags, gradients, hooks, module types and attention implementation."""
    state: dict[str, Any] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        state[f"parameter {name}"] = digest(parameter)
        state[f"requires_grad of {name}"] = parameter.requires_grad
        state[f"gradient of {name}"] = parameter.grad is not None
        for part in _QUANTIZED:
            quantized = getattr(parameter, part, None)
            if part == "quant_state" and quantized is not None:
                state |= {f"{part} of {name}: {k}": digest(v) for k, v in quantized.as_dict(packed=True).items()}
            elif isinstance(quantized, Tensor):
                state[f"{part} of {name}"] = digest(quantized)
    for name, buffer in model.named_buffers(remove_duplicate=False):
        state[f"buffer {name}"] = digest(buffer)
    for name, module in model.named_modules(remove_duplicate=False):
        label = name or "the model"
        state[f"type of {label}"] = type(module).__qualname__
        state[f"identity of {label}"] = id(module)
        state[f"training mode of {label}"] = module.training
        for table in _HOOKS:
            state[f"{table[1:]} of {label}"] = len(getattr(module, table))
        # A method set on one object, as `module.forward = ...` does.
        state[f"methods set on {label}"] = sorted(k for k, v in vars(module).items() if k == "forward" and callable(v))
    state["attention implementation"] = getattr(getattr(model, "config", None), "_attn_implementation", None)
    return state


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What differs between two snapshots, each a few words."""
    changes = [f"{key} is gone" for key in before if key not in after]
    changes += [f"{key} is new" for key in after if key not in before]
    return changes + [f"{key} changed" for key in before if key in after and before[key] != after[key]]


def digest(tensor: Tensor) -> str:
    """Type, shape and a hash of the bytes."""
    raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.blake2b(raw.tobytes(), digest_size=16).hexdigest()}"
