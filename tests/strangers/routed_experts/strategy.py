"""The half of routed_experts that needs torch."""

import torch
from torch import nn
from torch.nn.functional import one_hot

from adapterhub_lite.api import NotSupportedError


class Routed:
    def attach(self, view, config):
        if view.map.pooling == "spatial" or not view.map.linears:
            raise NotSupportedError("routed_experts: this model has no weight matrices that are linear; use full")
        parameters = {}
        for path in view.map.linears:
            experts = Experts(view, view.module(path), config.rank)
            view.replace(path, experts)
            parameters |= {f"{path}.{name}": p for name, p in experts.named_parameters(recurse=False)}
        return parameters


class Experts(nn.Module):
    """W x + g1(x) B1 A1 x + g2(x) B2 A2 x, where g1 + g2 = 1."""

    def __init__(self, view, inner, rank):
        super().__init__()
        inputs, outputs = (inner.nx, inner.nf) if hasattr(inner, "nf") else (inner.in_features, inner.out_features)
        self.view, self.inner = view, inner
        self.a = nn.Parameter(torch.randn(2, rank, inputs, device=view.device) / inputs**0.5)
        self.b = nn.Parameter(torch.zeros(2, outputs, rank, device=view.device))
        self.router = nn.Parameter(torch.randn(2, inputs, device=view.device) / inputs**0.5)

    def forward(self, x):  # (rows, ..., inputs)
        y, x = self.inner(x), x.to(self.a.dtype)
        tasks = self.view.context.task_ids if self.view.context is not None else None
        if tasks is None:
            gates = (x @ self.router.T).softmax(dim=-1)  # (rows, ..., 2)
        else:
            gates = one_hot(tasks, 2).to(x.dtype).view(len(x), *[1] * (x.dim() - 2), 2)
        each = torch.einsum("...i,eri,eor->...eo", x, self.a, self.b)
        return y + (gates[..., None] * each).sum(dim=-2).to(y.dtype)
