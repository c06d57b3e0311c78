"""Reversible changes to a model. Each is a swap of references, so that undoing one gives back the very same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterhub_lite.base.attention import EXTENSIBLE, EXTENSION, Extension
from adapterhub_lite.base.language import text_config

HOLDERS = "_adapterhub_attention"
"""The attribute of a model that says what its own implementation of attention is, and how many swaps are mounted."""


class Swap(Protocol):
    """One change that can be put in place and taken back any number of times."""

    def mount(self) -> None: ...
    def unmount(self) -> None: ...


@dataclass
class ChildSwap:
    """A submodule, parameter or buffer of `parent` that is replaced, added (old is None) or removed (new is None)."""

    parent: Any
    table: str
    """"_modules", "_parameters" or "_buffers"."""
    name: str
    old: Any
    new: Any

    def mount(self) -> None:
        self._put(self.new)

    def unmount(self) -> None:
        self._put(self.old)

    def _put(self, value: Any) -> None:
        children = getattr(self.parent, self.table)
        if value is None:
            children.pop(self.name, None)
        else:
            children[self.name] = value


@dataclass
class DataSwap:
    """The storage of a parameter of the base; training writes into `new`, the base's own stays untouched in `old`."""

    parameter: nn.Parameter
    old: Tensor
    new: Tensor
    trainable: bool = False

    def mount(self) -> None:
        self.parameter.data = self.new
        self.parameter.requires_grad_(self.trainable)

    def unmount(self) -> None:
        # The optimizer may have stepped, and `.data` may have been set anew: remember what is there now.
        self.new = self.parameter.data
        self.parameter.requires_grad_(False)
        self.parameter.grad = None
        self.parameter.data = self.old


@dataclass
class HookSwap:
    """A forward hook."""

    register: Callable[[], RemovableHandle]
    handle: RemovableHandle | None = field(default=None, init=False)

    def mount(self) -> None:
        self.handle = self.register()

    def unmount(self) -> None:
        if self.handle is not None:
            self.handle.remove()
            self.handle = None


@dataclass
class AttentionSwap:
    """An extension of one layer's attention."""

    module: nn.Module
    extension: Extension

    def mount(self) -> None:
        setattr(self.module, EXTENSION, self.extension)

    def unmount(self) -> None:
        delattr(self.module, EXTENSION)


@dataclass
class TokenizerSwap:
    """The tokenizer that texts are cut up with."""

    put: Callable[[Any], None]
    old: Any
    new: Any

    def mount(self) -> None:
        self.put(self.new)

    def unmount(self) -> None:
        self.put(self.old)


@dataclass
class ImplementationSwap:
    """The implementation of a model's attention, of its language part's where it has others, that can be extended.

    Several may be mounted; the model has its own implementation again when the last of them is taken back.
    """

    model: Any

    def mount(self) -> None:
        own, count = getattr(self.model, HOLDERS, (attention_implementation(self.model), 0))
        if count == 0:
            self._put(EXTENSIBLE[own])
        setattr(self.model, HOLDERS, (own, count + 1))

    def unmount(self) -> None:
        own, count = getattr(self.model, HOLDERS)
        setattr(self.model, HOLDERS, (own, count - 1))
        if count == 1:
            delattr(self.model, HOLDERS)
            self._put(own)

    def _put(self, name: str) -> None:
        config, text = self.model.config, text_config(self.model.config)
        part = next((key for key in config.sub_configs if getattr(config, key) is text), None)
        self.model.set_attn_implementation(name if part is None else {part: name})


def attention_implementation(model: Any) -> str:
    """How a model computes attention; its language part, where it takes more than texts."""
    name: str = (text_config(model.config) or model.config)._attn_implementation
    return name


def module_tree(model: nn.Module) -> dict[tuple[int, str, str], tuple[nn.Module, Any]]:
    """Every reference from a module to a child or parameter, for comparison before and after someone else's surgery."""
    return {
        (id(parent), table, name): (parent, child)
        for parent in model.modules()
        for table in ("_modules", "_parameters")
        for name, child in getattr(parent, table).items()
    }
