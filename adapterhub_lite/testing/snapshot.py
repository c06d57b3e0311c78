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
    found: dict[str, Any] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        found[f"parameter {name}"] = digest(parameter)
        found[f"requires_grad of {name}"] = parameter.requires_grad
        found[f"gradient of {name}"] = parameter.grad is not None
        for part in _QUANTIZED:
            state = getattr(parameter, part, None)
            if part == "quant_state" and state is not None:
                found |= {f"{part} of {name}: {k}": digest(v) for k, v in state.as_dict(packed=True).items()}
            elif isinstance(state, Tensor):
                found[f"{part} of {name}"] = digest(state)
    for name, buffer in model.named_buffers(remove_duplicate=False):
        found[f"buffer {name}"] = digest(buffer)
    for name, module in model.named_modules(remove_duplicate=False):
        label = name or "the model"
        found[f"type of {label}"] = type(module).__qualname__
        found[f"identity of {label}"] = id(module)
        found[f"training mode of {label}"] = module.training
        for table in _HOOKS:
            found[f"{table[1:]} of {label}"] = len(getattr(module, table))
        # A method set on one object, as `module.forward = ...` does.
        found[f"methods set on {label}"] = sorted(k for k, v in vars(module).items() if k == "forward" and callable(v))
    found["attention implementation"] = getattr(getattr(model, "config", None), "_attn_implementation", None)
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What differs between two snapshots, each a few words."""
    found = [f"{key} is gone" for key in before if key not in after]
    found += [f"{key} is new" for key in after if key not in before]
    return found + [f"{key} changed" for key in before if key in after and before[key] != after[key]]


def digest(tensor: Tensor) -> str:
    """Type, shape and a hash of the bytes."""
    raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.blake2b(raw.tobytes(), digest_size=16).hexdigest()}"
