"""Holding a strategy to its contract: what it says it trains, and what it leaves behind in the base."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from adapterhub_lite.base.learning import StrategyState
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.view import TOKENS, ModelView
from adapterhub_lite.names import one_line
from adapterhub_lite.plugins.guard import model_state
from adapterhub_lite.plugins.strategy_call import StrategyCalls, describe
from adapterhub_lite.storage import is_tensor_name

HEAD = "head."
PACKAGE = __name__.partition(".")[0]
DTYPE_CODES = {
    torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64", torch.complex64: "C64",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""Dtypes that an adapter's file may have, by the name the format gives them."""
LARGEST_VALUES = 1 << 20
"""Bytes that a strategy's state may have as JSON."""
NAMED = 3
"""How many of the things that changed are named."""


def storage_of(base: Base) -> set[int]:
    """Where in memory the weights of the bare base lie, or the parts that this process has of them."""
    tensors = [p.to_local() if isinstance(p, DTensor) else p for p in base.model.parameters()]
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def check_parameters(
    given: Any, base: Base, of_base: set[int], calls: StrategyCalls, method: str
) -> dict[str, nn.Parameter]:
    """What a strategy says it trains, checked before anything is trained.

    Args:
        given: What it returned.
        base: Carries it.
        of_base: Where the base's own weights lie, from `storage_of`.
        calls: Names the strategy.
        method: What returned it.

    Raises:
        PluginError: no mapping from names to parameters that are finite, on the base's device, and of storage that is
            neither the base's nor another parameter's; names what is wrong.
    """
    if not isinstance(given, Mapping):
        raise calls.fault(f"returned {describe(given)}, not a mapping from names to parameters", method)
    for name, parameter in given.items():
        if not isinstance(name, str) or not is_tensor_name(name):
            raise calls.fault(
                f"returned the name {str(name)[:80]!r}, which has to be text that a file can hold", method
            )
        if name.startswith((HEAD, TOKENS)):
            raise calls.fault(f"may not name a tensor '{name}': '{HEAD}' and '{TOKENS}' are taken", method)
        problem = _problem(parameter, base, of_base)
        if problem is not None:
            raise calls.fault(f"returned '{name}', which {problem}", method)
    shared = _sharing(given)
    if shared is not None:
        name, other = shared
        raise calls.fault(f"returned '{name}', which has the storage of '{other}'; return a parameter once", method)
    return dict(given)


def _problem(parameter: Any, base: Base, of_base: set[int]) -> str | None:
    """What is wrong with one parameter by itself, in words."""
    if not isinstance(parameter, nn.Parameter):
        return f"is no Parameter ({describe(parameter)})"
    if not parameter.is_floating_point() and not parameter.is_complex():
        return f"is of {parameter.dtype}, which has no gradient"
    unsaved = _unsaved(parameter)
    if unsaved is not None:
        return unsaved
    if parameter.device.type not in (base.device.type, "cpu"):
        return f"is on {parameter.device} where the base is on {base.device}"
    if parameter.numel() and parameter.untyped_storage().data_ptr() in of_base:
        return "shares its storage with the base, which training would change; clone it, or use view.train_base"
    if not bool(torch.isfinite(parameter).all()):
        return "has values that are not finite"
    return None


def _unsaved(tensor: Tensor) -> str | None:
    """Why a tensor cannot be written into a file, in words."""
    if tensor.layout != torch.strided or tensor.dtype not in DTYPE_CODES:
        dtypes = ", ".join(DTYPE_CODES.values())
        return f"is {tensor.layout} of {tensor.dtype}, which no file holds; make it dense, of one of {dtypes}"
    if any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)):
        return "is expanded, so that several of its entries are one number; clone it"
    return None


def _sharing(tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """The names of two tensors that have memory in common, the one given first last; None where none have."""
    order = {name: number for number, name in enumerate(tensors)}
    last, last_end = "", 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].data_ptr(), order[item[0]])):
        if tensor.numel() == 0 or tensor.is_meta:
            continue
        if tensor.data_ptr() < last_end:
            first, second = sorted((last, name), key=order.__getitem__)
            return second, first
        extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        last, last_end = name, tensor.data_ptr() + extent * tensor.element_size()
    return None


def state_problem(state: Any, taken: Collection[str]) -> str | None:
    """What is wrong with what a strategy gives as its state, in words; `taken` are the names of what trains."""
    if not isinstance(state, StrategyState):
        return f"returned {describe(state)}, not a StrategyState"
    for name, tensor in state.tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            return f"holds {name!r}, which is no tensor ({describe(tensor)})"
        if name in taken or name.startswith((HEAD, TOKENS)) or name in state.values:
            return f"holds a tensor '{name}', and there is another of that name"
        problem = "is on meta, without values" if tensor.is_meta else _unsaved(tensor)
        if problem is not None or not is_tensor_name(name):
            return f"holds a tensor {name[:80]!r}, which {problem or 'is a name that no file holds'}"
    unknown = sorted(set(state.in_file) - set(state.tensors) - set(state.values))
    if unknown:
        return f"names '{unknown[0]}' for the file, and holds nothing of that name"
    try:
        written = json.dumps(dict(state.values), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return f"holds values that are no JSON ({one_line(error)})"
    if json.loads(written) != state.values:
        return "holds values that JSON gives back as others; make names of numbers, and lists of tuples"
    size = len(written)
    if size > LARGEST_VALUES:
        return f"holds values of {size} bytes as JSON, over {LARGEST_VALUES}; keep numbers in tensors"
    return None


def bare_state(base: Base) -> dict[str, Any]:
    """What can be seen cheaply of a bare base: modules, hooks, tensors, configuration and tokenizer, by name."""
    return {**model_state(base.model), **_settings(base)}


def _settings(base: Base) -> dict[str, Any]:
    """The configuration and the tokenizer of a base as they are now, by name."""
    settings: dict[str, Any] = {}
    for name in ("config", "generation_config"):
        config = getattr(base.model, name, None)
        if config is not None and hasattr(config, "to_dict"):
            settings[f"the base's {name}"] = repr(config.to_dict())
    if base.tokenizer is not None:
        tokenizer = base.tokenizer
        settings["the tokenizer"] = (
            id(tokenizer), len(tokenizer), tokenizer.padding_side, repr(tokenizer.special_tokens_map),
            tokenizer.chat_template,
        )  # fmt: skip
    return settings


def changes(before: Mapping[str, Any], after: Mapping[str, Any], copied: Collection[int] = ()) -> str:
    """What differs between two states of a base, in a few words; empty where nothing does.

    `copied` are the identities of tensors that were trained on copies, whose writes say nothing of the base.
    """
    if copied:
        before, after = _without_writes(before, copied), _without_writes(after, copied)
    names = [f"{name} is gone" for name in before if name not in after]
    names += [f"{name} is new" for name in after if name not in before]
    names += [f"{name} was changed" for name in before if name in after and before[name] != after[name]]
    more = f" (and {len(names) - NAMED} more)" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _without_writes(state: Mapping[str, Any], copied: Collection[int]) -> dict[str, Any]:
    """A state without the number of writes into some tensors."""
    return {
        name: (value[0], value[1], value[3]) if name.startswith("tensor") and value[0] in copied else value
        for name, value in state.items()
    }


def _is_of_others(hook: Any) -> bool:
    """Whether a hook is none of the engine's own, which come and go while it trains (batch normalisation's do)."""
    return not str(getattr(hook, "__module__", "")).startswith(f"{PACKAGE}.")


class BaseWatch:
    """Notices what is done to a base, bare when this is made, while an adapter is on it.

    Writes into weights are counted by torch; those through `.data` are not, and the conformance kit finds them by a hash.
    Weights that the adapter has in copies of its own (`ModelView.train_base`) are left out.
    """

    def __init__(self, base: Base):
        self._base = base
        self._weights, self._modules = list(base.model.named_parameters()), list(base.model.named_modules())
        self._before = self._now()

    def begin(self, view: ModelView) -> None:
        """Take the base as it is now, the adapter of `view` on it, as what it should stay."""
        self._weights = [(name, tensor) for name, tensor in self._weights if id(tensor) not in view.copied]
        self._before = self._now()

    def _now(self) -> dict[str, Any]:
        state: dict[str, Any] = {f"weight '{name}'": tensor._version for name, tensor in self._weights}
        for name, module in self._modules:
            hooks = (module._forward_hooks, module._forward_pre_hooks)
            state[f"a hook of module '{name}'"] = tuple(sum(map(_is_of_others, kind.values())) for kind in hooks)
        return state | _settings(self._base)

    def changes(self) -> str:
        """What was done since `begin`, in a few words; empty where nothing was."""
        return changes(self._before, self._now())
