"""The half of rank_pruning that needs torch."""

import torch
from torch import nn
from torch.nn.functional import linear

from adapterhub_lite.api import NotSupportedError, StrategyState


class RankPruning:
    def attach(self, view, config):
        if view.map.pooling == "spatial" or not view.map.linears:
            raise NotSupportedError("rank_pruning: this model has no weight matrices that are linear; use full")
        self.paths, parameters = view.map.linears, {}
        self.mask = torch.ones(len(self.paths), config.rank, device=view.device)
        self.importance = torch.zeros_like(self.mask)
        for path, mask in zip(self.paths, self.mask, strict=True):
            inner = view.module(path)
            inputs, outputs = (inner.nx, inner.nf) if hasattr(inner, "nf") else (inner.in_features, inner.out_features)
            a = nn.Parameter(torch.randn(config.rank, inputs, device=view.device) / inputs**0.5)
            b = nn.Parameter(torch.zeros(outputs, config.rank, device=view.device))
            parameters |= {f"{path}.a": a, f"{path}.b": b}
            update = nn.Module()
            update.inner, update.forward = inner, masked(inner, a, b, mask)
            view.replace(path, update)
        return parameters

    def after_step(self, view, config, parameters, step, total):
        for path, importance in zip(self.paths, self.importance, strict=True):
            a, b = parameters[f"{path}.a"], parameters[f"{path}.b"]
            importance.lerp_((a * a.grad).abs().sum(1) + (b * b.grad).abs().sum(0), 0.5)
        share = min(max(1.5 * step / total - 0.5, 0), 1)  # nothing in the first third
        left = round(self.mask.numel() * (1 - (1 - config.keep) * share))
        order = self.importance.masked_fill(self.mask == 0, -1).flatten().argsort(descending=True, stable=True)
        self.mask.view(-1)[order[left:]] = 0

    def state(self):
        return StrategyState({"mask": self.mask, "importance": self.importance}, in_file=["mask"])

    def load_state(self, state):
        for name, tensor in state.tensors.items():
            getattr(self, name).copy_(tensor)


def masked(inner, a, b, mask):
    return lambda x: (y := inner(x)) + linear(linear(x.to(a.dtype), a) * mask, b).to(y.dtype)
