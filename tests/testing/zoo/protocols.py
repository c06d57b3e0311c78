"""The part of the zoo that breaks a protocol, or what the engine guards."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.api import Factors, ModelView, StrategyState
from zoo import ScaleConfig
from zoo.strategies import Scale

Parameters = Mapping[str, nn.Parameter]


class WithTokens(Scale):
    """Adds a token, as it should."""

    def attach(self, view: ModelView, config: ScaleConfig) -> Parameters:
        view.add_tokens(["<mine>"])
        return super().attach(view, config)


class Whole(Scale):
    """Has every protocol, and keeps to each."""

    def attach(self, view: ModelView, config: ScaleConfig) -> Parameters:
        self.average = torch.zeros(1)
        return super().attach(view, config)

    def prepare(self, view: ModelView, config: ScaleConfig, parameters: Parameters, batches: Any) -> None:
        self.average.add_(next(iter(batches)).loss().detach())

    def groups(self, config: ScaleConfig, parameters: Parameters) -> Mapping[str, Factors]:
        return {next(iter(parameters)): Factors(learning_rate=2.0)}

    def penalty(self, config: ScaleConfig, parameters: Parameters) -> Tensor:
        return 1e-3 * next(iter(parameters.values())).square().sum()

    def after_step(self, view: ModelView, config: ScaleConfig, parameters: Parameters, step: int, total: int) -> None:
        last = list(parameters.values())[-1]
        self.average.lerp_(last.abs().mean()[None], 0.5)
        last.mul_(1 - 1e-3 * self.average)

    def state(self) -> StrategyState:
        return StrategyState({"average": self.average}, in_file=["average"])

    def load_state(self, state: StrategyState) -> None:
        self.average.copy_(state.tensors["average"])

    def output_loss(self, batch: Any, outputs: Tensor, teacher: Callable[[], Tensor]) -> Tensor:
        return 1e-3 * (outputs - teacher()).square().mean(dim=1)


class Ending(Scale):
    def start(self, view: ModelView, path: str) -> Tensor:
        raise SystemExit(0)


class Aliasing(Scale):
    def attach(self, view: ModelView, config: ScaleConfig) -> Parameters:
        parameters = dict(super().attach(view, config))
        return {**parameters, "own": nn.Parameter(view.module(view.map.linears[0]).weight.data)}


class Twice(Scale):
    def attach(self, view: ModelView, config: ScaleConfig) -> Parameters:
        parameters = super().attach(view, config)
        return {**parameters, "again": next(iter(parameters.values()))}


class NotFinite(Scale):
    def start(self, view: ModelView, path: str) -> Tensor:
        return super().start(view, path) / 0


class Retokenizing(Scale):
    def check(self, view: ModelView) -> None:
        super().check(view)
        view.tokenizer.add_tokens(["<mine>"])


class Reconfiguring(Scale):
    def check(self, view: ModelView) -> None:
        super().check(view)
        view.model.config.initializer_range = 0.5


class Reembedding(Scale):
    def check(self, view: ModelView) -> None:
        super().check(view)
        view.model.set_input_embeddings(copy.deepcopy(view.model.get_input_embeddings()))


class Writing(Scale):
    """Writes into a row that nothing reads, where torch does not count it."""

    def after_step(self, view: ModelView, config: ScaleConfig, parameters: Parameters, step: int, total: int) -> None:
        view.model.get_input_embeddings().weight.data[view.tokenizer.unk_token_id] += 1


class HookingLater(Scale):
    def after_step(self, view: ModelView, config: ScaleConfig, parameters: Parameters, step: int, total: int) -> None:
        view.module(view.map.linears[0]).register_forward_hook(lambda *_: None)


class Careless(Scale):
    def attach(self, view: ModelView, config: ScaleConfig) -> Parameters:
        parameters = super().attach(view, config)
        torch.set_default_dtype(torch.float64)
        return parameters


class Halfway(Scale):
    """Another option than the default was never tried."""

    def function(self, view: ModelView, path: str, scale: nn.Parameter, factor: float) -> Callable[[Tensor], Tensor]:
        if self.only_last and path != view.map.linears[-1]:
            return lambda y: y + nothing  # type: ignore[name-defined]  # noqa: F821
        return super().function(view, path, scale, factor)

    def attach(self, view: ModelView, config: Any) -> Parameters:
        self.only_last = config.only_last
        return super().attach(view, config)


class PreparedList(Scale):
    def prepare(self, view: ModelView, config: ScaleConfig, parameters: Parameters, batches: Any) -> Any:
        return list(parameters.values())


class PreparedUnwritten(Scale):
    def prepare(self, view: ModelView, config: ScaleConfig, parameters: Parameters, batches: Any) -> Any:
        return config.model_copy(update={"factor": next(iter(batches)).loss().detach()}), parameters


class GroupingOthers(Scale):
    def groups(self, config: ScaleConfig, parameters: Parameters) -> Mapping[str, Factors]:
        return {"nobody": Factors()}


class Penalising(Scale):
    """Punishes what came out of a layer: another number with every cut of the batch."""

    seen: Tensor | float = 0.0

    def function(self, view: ModelView, path: str, scale: nn.Parameter, factor: float) -> Callable[[Tensor], Tensor]:
        scaled = super().function(view, path, scale, factor)

        def note(y: Tensor) -> Tensor:
            self.seen = float(y.detach().mean())
            return scaled(y)

        return note

    def penalty(self, config: ScaleConfig, parameters: Parameters) -> Any:
        return 1e-3 * self.seen * next(iter(parameters.values())).exp().sum()


class PenaltyWithoutGradient(Scale):
    def penalty(self, config: ScaleConfig, parameters: Parameters) -> Tensor:
        return next(iter(parameters.values())).detach().sum()


class PenaltyEnding(Scale):
    def penalty(self, config: ScaleConfig, parameters: Parameters) -> Tensor:
        raise SystemExit(0)


class PenaltyNotFinite(Scale):
    calls = 0

    def penalty(self, config: ScaleConfig, parameters: Parameters) -> Tensor:
        self.calls += 1
        return next(iter(parameters.values())).sum() * (float("nan") if self.calls == 6 else 0)

    def state(self) -> StrategyState:
        return StrategyState(values={"calls": self.calls})

    def load_state(self, state: StrategyState) -> None:
        self.calls = state.values["calls"]


class Shrinking(Scale):
    def after_step(self, view: ModelView, config: ScaleConfig, parameters: Parameters, step: int, total: int) -> None:
        last = list(parameters.values())[-1]
        last.data = last.data[:1]


class Breaking(Scale):
    def after_step(self, view: ModelView, config: ScaleConfig, parameters: Parameters, step: int, total: int) -> None:
        next(iter(parameters.values())).fill_(float("nan"))


class Stateless(Scale):
    """Takes ever smaller steps, and begins to count anew when a run goes on."""

    steps = 0

    def after_step(self, view: ModelView, config: ScaleConfig, parameters: Parameters, step: int, total: int) -> None:
        self.steps += 1
        for parameter in parameters.values():
            parameter.mul_(1 - 1e-4 * self.steps)


class StateOfAnotherKind(Scale):
    def state(self) -> Any:
        return {}

    def load_state(self, state: StrategyState) -> None:
        raise AssertionError("nothing was given")


class Growing(Scale):
    def attach(self, view: ModelView, config: ScaleConfig) -> Parameters:
        self.log = [torch.zeros(1 << 19)]
        return super().attach(view, config)

    def after_step(self, view: ModelView, config: ScaleConfig, parameters: Parameters, step: int, total: int) -> None:
        self.log += [torch.zeros(1 << 19)] * 2

    def state(self) -> StrategyState:
        return StrategyState({"log": torch.cat(self.log)})

    def load_state(self, state: StrategyState) -> None:
        self.log = [state.tensors["log"]]


class ForgettingState(Stateless):
    """Keeps a count that nothing depends on, and does not take it back."""

    def after_step(self, view: ModelView, config: ScaleConfig, parameters: Parameters, step: int, total: int) -> None:
        self.steps += 1

    def state(self) -> StrategyState:
        return StrategyState(values={"steps": self.steps})

    def load_state(self, state: StrategyState) -> None:
        pass


class LossWithoutGradient(Scale):
    def output_loss(self, batch: Any, outputs: Tensor, teacher: Callable[[], Tensor]) -> Tensor:
        return (outputs.detach() - teacher()).square().mean()


class LossOfAnotherShape(Scale):
    def output_loss(self, batch: Any, outputs: Tensor, teacher: Callable[[], Tensor]) -> Tensor:
        return outputs


class TokensWithoutRows(Scale):
    def attach(self, view: ModelView, config: ScaleConfig) -> Parameters:
        view.add_tokens(["<one>"])
        view.tokenizer.add_tokens(["<two>"])
        return super().attach(view, config)


class Mixing(Scale):
    """Scales by the tokens of a batch, as if it were a single row."""

    def function(self, view: ModelView, path: str, scale: nn.Parameter, factor: float) -> Callable[[Tensor], Tensor]:
        def scaled(y: Tensor) -> Tensor:
            lengths = view.context.lengths if view.context is not None else None
            tokens = 1.0 if lengths is None else float(lengths.sum())
            return y * (1 + factor * tokens * scale).to(y.dtype)

        return scaled
