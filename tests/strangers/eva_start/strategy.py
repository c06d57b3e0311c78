"""The half of eva_start that needs torch."""

import torch
from torch import nn
from torch.nn.functional import linear

from adapterhub_lite.api import NotSupportedError


class Update(nn.Module):
    def __init__(self, inner, rank, device):
        super().__init__()
        inputs, outputs = (inner.nx, inner.nf) if hasattr(inner, "nf") else (inner.in_features, inner.out_features)
        self.inner, self.a = inner, nn.Parameter(torch.randn(rank, inputs, device=device) / inputs**0.5)
        self.b = nn.Parameter(torch.zeros(outputs, rank, device=device))

    def forward(self, x):
        return (y := self.inner(x)) + linear(linear(x.to(self.a.dtype), self.a), self.b).to(y.dtype)


class Eva:
    def attach(self, view, config):
        if view.map.pooling == "spatial" or not view.map.linears:
            raise NotSupportedError("eva_start: this model has no weight matrices that are linear; use full")
        for path in view.map.linears:
            view.replace(path, Update(view.module(path), config.ranks.get(path, config.rank), view.device))
        return self.parameters(view)

    def parameters(self, view):
        return {f"{path}.{name}": getattr(view.module(path), name) for path in view.map.linears for name in "ab"}

    def prepare(self, view, config, parameters, batches):
        paths, squares = view.map.linears, {}
        for batch, _ in zip(batches, range(4), strict=False):
            squares = {p: squares.get(p, 0) + x.float().T @ x.float() for p, x in batch.layer_inputs(paths).items()}
        values, vectors = zip(*(torch.linalg.eigh(squares[path]) for path in paths), strict=True)  # least first
        shares = [(value / value.sum()).flip(0)[1 : int(config.rho * config.rank)].tolist() for value in values]
        best = sorted(((share, path) for path, own in zip(paths, shares, strict=True) for share in own), reverse=True)
        more = [path for _, path in best[: (config.rank - 1) * len(paths)]]
        ranks = {path: 1 + more.count(path) for path in paths}
        for path, own in zip(paths, vectors, strict=True):
            update = view.module(path)
            update.a = nn.Parameter(own[:, -ranks[path] :].T.flip(0).contiguous())
            update.b = nn.Parameter(update.b.new_zeros(len(update.b), ranks[path]))
        return config.model_copy(update={"ranks": ranks}), self.parameters(view)
