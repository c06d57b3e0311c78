"""The half of orthogonal_lora that needs torch."""

import torch
from torch import nn
from torch.nn.functional import linear

from adapterhub_lite.api import NotSupportedError


class OrthogonalLora:
    def attach(self, view, config):
        if view.map.pooling == "spatial" or not view.map.linears:
            raise NotSupportedError("orthogonal_lora: this model has no weight matrices that are linear; use full")
        parameters = {}
        for path in view.map.linears:
            inner = view.module(path)
            inputs, outputs = (inner.nx, inner.nf) if hasattr(inner, "nf") else (inner.in_features, inner.out_features)
            p = nn.Parameter(torch.randn(outputs, config.rank, device=view.device) / outputs**0.5)
            q = nn.Parameter(torch.randn(config.rank, inputs, device=view.device) / inputs**0.5)
            w = nn.Parameter(torch.zeros(config.rank, device=view.device))
            parameters |= {f"{path}.p": p, f"{path}.q": q, f"{path}.w": w}
            update = nn.Module()
            update.inner, update.forward = inner, updated(inner, p, q, w)
            view.replace(path, update)
        return parameters

    def penalty(self, config, parameters):
        bases = [t if name.endswith(".q") else t.T for name, t in parameters.items() if not name.endswith(".w")]
        eye = torch.eye(config.rank, device=bases[0].device)
        distance = sum(((basis @ basis.T - eye) ** 2).sum() for basis in bases)
        return {"orthogonality": config.strength * distance / len(bases)}


def updated(inner, p, q, w):
    return lambda x: (y := inner(x)) + linear(linear(x.to(q.dtype), q) * w, p).to(y.dtype)
