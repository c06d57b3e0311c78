"""The processes that train together under `accelerate launch`; one by itself otherwise.

Every process holds the whole adapter and takes a share of the rows of each step; the gradients are added up before they
are clipped. This is what DistributedDataParallel computes, done once a step instead of in hooks of the backward pass:
it needs no module that owns the parameters, adapters are small enough for one message, and a process that runs out of
memory repeats its share with smaller micro-batches without the others noticing, unless they share the base as well (see
`adapterhub_lite.base.shards`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from adapterhub_lite.training.config import world_size

Row = TypeVar("Row")


class Processes:
    """This process among those that train together."""

    def __init__(self) -> None:
        self.count = world_size()
        self.rank, self.device = 0, torch.device("cpu")
        if self.count > 1:
            from accelerate import PartialState

            # Starts torch.distributed, with gloo on CPUs and NCCL on GPUs, and takes this process's own GPU.
            cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
            state = PartialState(cpu=cpu or not torch.accelerator.is_available())
            self.rank, self.count, self.device = state.process_index, state.num_processes, state.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, rows: Sequence[Row]) -> Sequence[Row]:
        """This process's part of the rows of a step; dealt out in turns, since they are sorted by length."""
        return rows[self.rank :: self.count]

    def start_equal(self, tensors: Mapping[str, nn.Parameter]) -> None:
        """Give all processes the main one's weights, and each its own dropout."""
        if self.count > 1:
            for parameter in tensors.values():
                torch.distributed.broadcast(parameter.data, 0)
            if self.rank:
                torch.manual_seed(torch.initial_seed() + self.rank)

    def add(self, *values: float, device: torch.device) -> list[float]:
        """Add up numbers over all processes."""
        if self.count == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(sums)
        return sums.tolist()

    def largest(self, value: int, device: torch.device) -> int:
        """The largest of the numbers that the processes call this with."""
        if self.count == 1:
            return value
        largest = torch.tensor([value], device=device)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        return int(largest)

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up the gradients over all processes, in one message; a parameter without any stays without."""
        if self.count == 1:
            return
        flags = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        parts = [(p.grad if p.grad is not None else torch.zeros_like(p)).float().flatten() for p in parameters]
        message = torch.cat([flags, *parts])
        torch.distributed.all_reduce(message)
        flags, *sums = message.split([len(parameters), *(p.numel() for p in parameters)])
        for parameter, present, total in zip(parameters, flags.tolist(), sums, strict=True):
            parameter.grad = total.view_as(parameter).to(parameter.dtype) if present else None

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over all processes in the place of each tensor."""
        if self.count > 1:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor.data)
                tensor.data /= self.count

    def gather(self, tensor: Tensor, device: torch.device) -> list[Tensor]:
        """A tensor of the same shape from every process, by rank."""
        if self.count == 1:
            return [tensor]
        sent = tensor.to(device)
        received = [torch.empty_like(sent) for _ in range(self.count)]
        torch.distributed.all_gather(received, sent)
        return [part.to(tensor.device) for part in received]

    def collect(self, parts: list[Row]) -> list[Row]:
        """The parts of every process in one list, those of the first process first."""
        if self.count == 1:
            return parts
        received: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(received, parts)
        return [part for parts_of_process in received for part in parts_of_process]

    def wait(self) -> None:
        """Wait for the others, after the main process has written something."""
        if self.count > 1:
            torch.distributed.barrier()

    def end(self) -> None:
        """Leave the group."""
        if self.count > 1 and torch.distributed.is_initialized():
            from accelerate import PartialState

            self.wait()  # one that leaves while another is still talking takes it down
            state: Any = PartialState()
            state.destroy_process_group()
