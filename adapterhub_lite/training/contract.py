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

HEAD = "head."
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
    places: dict[int, str] = {}
    for name, parameter in given.items():
        if not isinstance(name, str) or not name:
            raise calls.fault(f"returned the name {name!r}, which has to be text", method)
        if name.startswith((HEAD, TOKENS)):
            raise calls.fault(f"may not name a tensor '{name}': '{HEAD}' and '{TOKENS}' are taken", method)
        problem = _problem(parameter, base, of_base)
        if problem is None and parameter.numel():
            other = places.setdefault(parameter.data_ptr(), name)
            problem = f"has the storage of '{other}'; return a parameter once" if other != name else None
        if problem is not None:
            raise calls.fault(f"returned '{name}', which {problem}", method)
    return dict(given)


def _problem(parameter: Any, base: Base, of_base: set[int]) -> str | None:
    """What is wrong with one parameter by itself, in words."""
    if not isinstance(parameter, nn.Parameter):
        return f"is no Parameter ({describe(parameter)})"
    if not parameter.is_floating_point() and not parameter.is_complex():
        return f"is of {parameter.dtype}, which has no gradient"
    if parameter.device.type not in (base.device.type, "cpu"):
        return f"is on {parameter.device} where the base is on {base.device}"
    if parameter.numel() and parameter.untyped_storage().data_ptr() in of_base:
        return "shares its storage with the base, which training would change; clone it, or use view.train_base"
    if not bool(torch.isfinite(parameter).all()):
        return "has values that are not finite"
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
    unknown = sorted(set(state.in_file) - set(state.tensors) - set(state.values))
    if unknown:
        return f"names '{unknown[0]}' for the file, and holds nothing of that name"
    try:
        size = len(json.dumps(dict(state.values), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        return f"holds values that are no JSON ({one_line(error)})"
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
            state[f"a hook of module '{name}'"] = (len(module._forward_hooks), len(module._forward_pre_hooks))
        return state | _settings(self._base)

    def changes(self) -> str:
        """What was done since `begin`, in a few words; empty where nothing was."""
        return changes(self._before, self._now())
