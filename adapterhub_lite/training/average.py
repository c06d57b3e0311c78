"""The average of the trained weights over a run, which often scores better than the last of them and costs no pass.

Weights that stochastic gradient descent visits lie around a better point (Polyak and Juditsky 1992; Izmailov et al. 2018,
arXiv:1803.05407). Here they are averaged by polynomial decay (Shamir and Zhang 2013, arXiv:1212.1824): after update t the
average moves to the new weights by (ETA + 1) / (t + ETA), so that with ETA = 1 the weights after update s count s times. This
needs no length of the run, leaves out the weights of the start, and is an average after any step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

ETA = 1


class Average:
    """The average in fp32 of all tensors that train, or of none if no average is wanted."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        self._tensors = dict(tensors)
        self.values = {name: tensor.detach().float().clone() for name, tensor in self._tensors.items()}

    @torch.no_grad()
    def update(self, number: int) -> None:
        """Take in the weights after an update, counted from 1."""
        share = (ETA + 1) / (number + ETA)
        for name, tensor in self._tensors.items():
            self.values[name].lerp_(tensor.float(), share)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go on from an average that was saved."""
        for name, value in self.values.items():
            value.copy_(values[name])

    def instead_of(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A copy of tensors on the CPU, with their average where they have one."""
        return {name: value.detach().cpu().clone() for name, value in {**tensors, **self.values}.items()}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average in the place of the weights for the length of a `with` block; then the weights, bit for bit."""
        kept = {name: tensor.detach().clone() for name, tensor in self._tensors.items()}
        self.settle()
        try:
            yield
        finally:
            self._write(kept)

    def settle(self) -> None:
        """Put the average in the place of the weights for good."""
        self._write(self.values)

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor]) -> None:
        for name, tensor in self._tensors.items():
            tensor.copy_(values[name])
