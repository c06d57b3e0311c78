"""Activation checkpointing (Chen et al. 2016, arXiv:1604.06174): recompute what a layer did instead of keeping it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from adapterhub_lite.errors import NotSupportedError


@contextmanager
def activation_checkpointing(model: Any, wanted: bool) -> Iterator[None]:
    """Recompute activations in the backward pass for the length of a `with` block.

    Raises:
        NotSupportedError: the model cannot do it.
    """
    if not wanted:
        yield
        return
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise NotSupportedError(
            f"{type(model).__name__} does not support activation checkpointing; use a smaller micro-batch instead"
        )
    # transformers 5 renamed the pair; the older one warns there, the newer one does not exist before.
    new = hasattr(model, "activation_checkpointing_enable")
    enable = model.activation_checkpointing_enable if new else model.gradient_checkpointing_enable
    disable = model.activation_checkpointing_disable if new else model.gradient_checkpointing_disable
    enable(**{f"{'activation' if new else 'gradient'}_checkpointing_kwargs": {"use_reentrant": False}})
    try:
        # It also makes the embedding's output require gradients, which only the reentrant kind needs.
        model.disable_input_require_grads()
        yield
    finally:
        disable()
