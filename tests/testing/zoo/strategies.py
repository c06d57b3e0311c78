"""The half of the zoo that needs torch: one whole strategy, and its mutants."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import adapterhub_lite.adapter.restore
from adapterhub_lite.api import ModelView, NotSupportedError
from zoo import ScaleConfig


class Scale:
    """Multiplies the outputs of every weight matrix by learnt numbers that start at one: as IA3 does."""

    def attach(self, view: ModelView, config: ScaleConfig) -> Mapping[str, nn.Parameter]:
        self.check(view)
        parameters: dict[str, nn.Parameter] = {}
        for path in view.map.linears:
            parameters[self.name(path)] = scale = nn.Parameter(self.start(view, path))
            view.after(path, self.function(view, path, scale, config.factor))
        return parameters

    def merge(self, view: ModelView, config: ScaleConfig, tensors: Mapping[str, Tensor]) -> None:
        for path in view.map.linears:
            module, factors = view.module(path), 1 + config.factor * self.share * tensors[self.name(path)]
            rows = isinstance(module, nn.Linear)  # Conv1D keeps outputs in columns
            module.weight.data = module.weight.data * (factors[:, None] if rows else factors)
            if module.bias is not None:
                module.bias.data = module.bias.data * factors

    share = 1.0

    def check(self, view: ModelView) -> None:
        if not view.map.linears:
            raise NotSupportedError("this model has no weight matrices to scale; use full")

    def name(self, path: str) -> str:
        return f"scale.{path}"

    def outputs(self, view: ModelView, path: str) -> int:
        module = view.module(path)
        return module.out_features if hasattr(module, "out_features") else module.nf

    def start(self, view: ModelView, path: str) -> Tensor:
        return torch.zeros(self.outputs(view, path))

    def function(self, view: ModelView, path: str, scale: nn.Parameter, factor: float) -> Callable[[Tensor], Tensor]:
        return lambda y: y * (1 + factor * scale).to(y.dtype)


class Patching(Scale):
    def check(self, view: ModelView) -> None:
        super().check(view)
        if not hasattr(functional.silu, "__wrapped__"):
            original = functional.silu
            functional.silu = functools.wraps(original)(lambda *args, **kwargs: original(*args, **kwargs))


class Refusing(Scale):
    def check(self, view: ModelView) -> None:
        raise NotSupportedError("this model does not suit me")


class Trusting(Scale):
    def check(self, view: ModelView) -> None:
        view.module(view.map.linears[0])


class Blank(Scale):
    def name(self, path: str) -> str:
        return f"scale {path}"


class Dead(Scale):
    def attach(self, view: ModelView, config: ScaleConfig) -> Mapping[str, nn.Parameter]:
        return {**super().attach(view, config), "dead": nn.Parameter(torch.zeros(3))}


class _WithOffset(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner, self.offset = inner, nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + self.offset.to(x.dtype)


class Secretive(Scale):
    def attach(self, view: ModelView, config: ScaleConfig) -> Mapping[str, nn.Parameter]:
        parameters = super().attach(view, config)
        view.replace(view.map.linears[-1], _WithOffset(view.module(view.map.linears[-1])))
        return parameters

    def merge(self, view: ModelView, config: ScaleConfig, tensors: Mapping[str, Tensor]) -> None:
        last = view.map.linears[-1]
        parent, _, name = last.rpartition(".")
        wrapper = view.module(last)
        setattr(view.module(parent), name, wrapper.inner)
        super().merge(view, config, tensors)
        setattr(view.module(parent), name, wrapper)


class Loud(Scale):
    def start(self, view: ModelView, path: str) -> Tensor:
        return torch.full((self.outputs(view, path),), 0.05)


class Littering(Scale):
    def attach(self, view: ModelView, config: ScaleConfig) -> Mapping[str, nn.Parameter]:
        parameters = super().attach(view, config)
        view.module(view.map.linears[0]).register_forward_hook(lambda *_: None)
        return parameters


class _Tidy:
    """Sets the epsilon of a norm when it is made, or when nothing refers to it any more."""

    def __init__(self, view: ModelView, at_start: float | None, at_end: float | None):
        self.norm, self.attribute = next(
            (module, name)
            for module in view.model.modules()
            for name in ("eps", "variance_epsilon")
            if hasattr(module, name)
        )
        self.end = getattr(self.norm, self.attribute) if at_end is None else at_end
        if at_start is not None:
            setattr(self.norm, self.attribute, at_start)

    def __del__(self) -> None:
        setattr(self.norm, self.attribute, self.end)


class WrongTidy(Scale):
    at_start: float | None = None
    at_end: float | None = 0.5

    def function(self, view: ModelView, path: str, scale: nn.Parameter, factor: float) -> Callable[[Tensor], Tensor]:
        if path != view.map.linears[0]:
            return super().function(view, path, scale, factor)
        tidy = _Tidy(view, self.at_start, self.at_end)

        def scaled(y: Tensor, _: _Tidy = tidy) -> Tensor:
            return y * (1 + factor * scale).to(y.dtype)

        return scaled


class PastTheView(WrongTidy):
    at_start, at_end = 0.5, None


class Sharing(Scale):
    """One object for all, as `load` may well return; what it keeps on itself is that of the last attachment."""

    parameters: dict[int, dict[str, nn.Parameter]] = {}  # noqa: RUF012

    def attach(self, view: ModelView, config: ScaleConfig) -> Mapping[str, nn.Parameter]:
        self.check(view)
        parameters = {self.name(path): nn.Parameter(self.start(view, path)) for path in view.map.linears}
        self.parameters[id(view.model)] = parameters
        for path in view.map.linears:
            view.after(path, self.late(id(view.model), path, config.factor))
        return parameters

    def late(self, model: int, path: str, factor: float) -> Callable[[Tensor], Tensor]:
        return lambda y: y * (1 + factor * self.parameters[model][self.name(path)]).to(y.dtype)


class Uphill(Scale):
    def attach(self, view: ModelView, config: ScaleConfig) -> Mapping[str, nn.Parameter]:
        parameters = super().attach(view, config)
        for parameter in parameters.values():
            parameter.register_hook(lambda gradient: -gradient)
        return parameters


class Entropic(Scale):
    def start(self, view: ModelView, path: str) -> Tensor:
        generator = torch.Generator()
        generator.seed()
        return 0.01 * torch.randn(self.outputs(view, path), generator=generator)


class Counting(Scale):
    def function(self, view: ModelView, path: str, scale: nn.Parameter, factor: float) -> Callable[[Tensor], Tensor]:
        calls = 0

        def scaled(y: Tensor) -> Tensor:
            nonlocal calls
            strength = 1.0
            if view.model.training:
                calls += 1
                strength = 1.0 if calls % 2 else 1.5
            return y * (1 + strength * factor * scale).to(y.dtype)

        return scaled


class Rows(Scale):
    def outputs(self, view: ModelView, path: str) -> int:
        return view.module(path).weight.shape[0]


class Imprecise(Scale):
    def start(self, view: ModelView, path: str) -> Tensor:
        dtype = next(p.dtype for p in view.model.parameters() if p.is_floating_point())
        return super().start(view, path).to(dtype)


class Unsaved(Scale):
    """Scales only as much as a random direction, which is drawn anew by each `attach`, says."""

    def function(self, view: ModelView, path: str, scale: nn.Parameter, factor: float) -> Callable[[Tensor], Tensor]:
        noise = torch.randn(self.outputs(view, path))
        return lambda y: y * (1 + factor * scale * noise).to(y.dtype)


class Lenient(Scale):
    def check(self, view: ModelView) -> None:
        super().check(view)
        strict = adapterhub_lite.adapter.restore.check_tensors
        if strict.__name__ != "lenient":

            def lenient(found: Mapping[str, Any], expected: Mapping[str, Any], where: str) -> None:
                strict({name: found[name] for name in found if name in expected}, expected, where)

            adapterhub_lite.adapter.restore.check_tensors = lenient


class PrefillOnly(Scale):
    def function(self, view: ModelView, path: str, scale: nn.Parameter, factor: float) -> Callable[[Tensor], Tensor]:
        return lambda y: y if y.shape[1] == 1 else y * (1 + factor * scale).to(y.dtype)


class Averaging(Scale):
    def function(self, view: ModelView, path: str, scale: nn.Parameter, factor: float) -> Callable[[Tensor], Tensor]:
        if view.map.causal:
            return super().function(view, path, scale, factor)
        return lambda y: y + y.mean(dim=1, keepdim=True) * (factor * scale).to(y.dtype)


class HalfMerged(Scale):
    share = 0.5
