"""What a model, the libraries and the process are, to compare before and after an adapter was at work."""

from __future__ import annotations

import hashlib
import os
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterhub_lite.plugins.surroundings import settings_of_process

LIBRARIES = frozenset({"torch", "transformers", "peft", "bitsandbytes", "accelerate", "safetensors", "adapterhub_lite"})
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)
_METHODS = (types.FunctionType, types.BuiltinFunctionType, property, classmethod, staticmethod)
_TORCH = Path(torch.__file__).parent
# Set by the libraries themselves when they are first used.
_THEIR_OWN = frozenset({"KMP_INIT_AT_FORK", "KMP_DUPLICATE_LIB_OK", "TORCHINDUCTOR_CACHE_DIR", "PYTEST_CURRENT_TEST"})
ENVIRONMENT = "the environment"
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


def function_tables() -> dict[str, Any]:
    """Every function and class a module of `LIBRARIES` holds, and every method of the classes, by dotted name."""
    values: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # looking at a deprecated name warns
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] not in LIBRARIES or not isinstance(module, types.ModuleType):
                continue
            for attribute, value in list(vars(module).items()):
                if isinstance(value, (*_FUNCTIONS, type)):
                    values[f"{name}.{attribute}"] = value
                if isinstance(value, type) and value.__module__ == name:
                    values |= {f"{name}.{attribute}.{k}": v for k, v in vars(value).items() if isinstance(v, _METHODS)}
    return values


@contextmanager
def warnings_with(words: str) -> Iterator[list[str]]:
    """The warnings that have these words, of all that are given inside a `with` block; there once it has ended."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield said
    said += [str(warning.message) for warning in warned if words in str(warning.message)]


def process_state() -> dict[str, Any]:
    """Settings of torch and of the process that every user of it shares, and the environment."""
    environment = {name: value for name, value in os.environ.items() if name not in _THEIR_OWN}
    return {title: read() for title, read, _ in settings_of_process()} | {ENVIRONMENT: environment}


def patched(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names that mean something else than before; new names are no patches."""
    return [name for name, old in before.items() if name in after and not _same(old, after[name])]


def _same(old: Any, new: Any) -> bool:
    """Whether it is the same object or code, or torch's own wrapper around it, as importing torch.compile puts there."""
    if old is new:
        return True
    code = _code(new)
    if code is None:
        return False
    theirs = Path(code.co_filename).is_relative_to(_TORCH)
    wraps = getattr(getattr(new, "__func__", new), "__wrapped__", None) is getattr(old, "__func__", old)
    return code is _code(old) or (theirs and (wraps or isinstance(new, property)))


def _code(value: Any) -> types.CodeType | None:
    function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    return getattr(function, "__code__", None)


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Settings that differ, with both values."""
    settings = []
    for name, value in before.items():
        if name == ENVIRONMENT:
            keys = sorted(k for k in {*value, *after[name]} if value.get(k) != after[name].get(k))
            settings += [f"environment variable {key}" for key in keys]
        elif after[name] != value:
            settings.append(f"{name} ({value} became {after[name]})")
    return settings
