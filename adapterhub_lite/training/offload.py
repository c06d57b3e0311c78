"""Activation offload: what the backward pass needs waits in the CPU's memory, not in the accelerator's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from adapterhub_lite.base.flat import BLOCKS
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.shards import storage_of

SMALL = 1 << 14
"""Bytes below which a tensor stays where it is: moving it costs more than it gives."""


@contextmanager
def activation_offload(base: Base, wanted: bool) -> Iterator[None]:
    """Keep activations on the CPU between forward and backward for the length of a `with` block.

    As `torch.autograd.graph.save_on_cpu`, but for weights, which autograd saves as well and which stay on the
    accelerator anyway: of a frozen base they are most of what is saved. With activation checkpointing only the inputs
    of the layers are left to move. Values are moved, not changed, so that gradients are the same to the bit.
    """
    if not wanted:
        yield
        return

    def pack(tensor: Tensor) -> tuple[torch.device, Tensor]:
        # A mask stays itself: the blocks that it carries would not be on a copy.
        if tensor.nbytes < SMALL or storage_of(tensor) in weights or hasattr(tensor, BLOCKS):
            return tensor.device, tensor
        waiting = torch.empty_like(tensor, device="cpu", pin_memory=tensor.device.type == "cuda")
        waiting.copy_(tensor, non_blocking=tensor.device.type == "cuda")
        return tensor.device, waiting

    def unpack(packed: tuple[torch.device, Tensor]) -> Tensor:
        device, tensor = packed
        return tensor.to(device, non_blocking=True)

    weights = {storage_of(tensor) for tensor in [*base.model.parameters(), *base.model.buffers()]}
    if base.shards is not None:
        weights |= base.shards.storages()
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
