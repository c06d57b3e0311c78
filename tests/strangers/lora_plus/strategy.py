"""The half of lora_plus that needs torch."""

import torch
from torch import nn
from torch.nn.functional import linear

from adapterhub_lite.api import Factors, NotSupportedError


class Update(nn.Module):
    """A weight matrix W with an update of low rank: W x + B A x."""

    def __init__(self, inner, rank):
        super().__init__()
        inputs, outputs = (inner.nx, inner.nf) if hasattr(inner, "nf") else (inner.in_features, inner.out_features)
        self.inner = inner
        self.a = nn.Parameter(torch.randn(rank, inputs, device=inner.weight.device) / inputs**0.5)
        self.b = nn.Parameter(torch.zeros(outputs, rank, device=inner.weight.device))

    def forward(self, x):
        y = self.inner(x)
        return y + linear(linear(x.to(self.a.dtype), self.a), self.b).to(y.dtype)


class LoraPlus:
    def attach(self, view, config):
        if view.map.pooling == "spatial" or not view.map.linears:
            raise NotSupportedError("lora_plus: this model has no weight matrices that are linear; use full")
        parameters = {}
        for path in view.map.linears:
            update = Update(view.module(path), config.rank)
            view.replace(path, update)
            parameters |= {f"{path}.a": update.a, f"{path}.b": update.b}
        return parameters

    def groups(self, config, parameters):
        return {name: Factors(learning_rate=config.ratio) for name in parameters if name.endswith(".b")}
