"""An example of each protocol of training, shown in docs/strategy-protocols.md and run by its test.

Each is LoRA in a few lines, with one more thing that the protocol is for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapterhub_lite.api import Factors, Field, ModelView, StrategyConfig, StrategyState, TrainingBatch


class Config(StrategyConfig):
    """Options of the examples."""

    rank: int = Field(default=4, ge=1, description="Rank of each update.")


class Updated(nn.Module):
    """A linear layer and a trained update of low rank beside it."""

    def __init__(self, layer: nn.Linear, rank: int):
        super().__init__()
        self.layer = layer
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, inputs: Tensor) -> Tensor:  # (..., in_features)
        update = functional.linear(functional.linear(inputs.float(), self.down), self.up)
        output: Tensor = self.layer(inputs)
        return output + update.to(output.dtype)


class LowRank:
    """A strategy: what every one has is `attach`."""

    def attach(self, view: ModelView, config: Config) -> Mapping[str, nn.Parameter]:
        parameters: dict[str, nn.Parameter] = {}
        for path in view.map.attention_linears:
            layer = view.module(path)
            if isinstance(layer, nn.Linear):  # those of 4 and 8 bits are, too
                updated = Updated(layer, config.rank).to(view.device)
                view.replace(path, updated)
                parameters |= {f"{path}.down": updated.down, f"{path}.up": updated.up}
        return parameters


class FromInputs(LowRank):
    """Begins in the directions in which the inputs of each layer vary most, as EVA does."""

    def prepare(
        self, view: ModelView, config: Config, parameters: Mapping[str, nn.Parameter], batches: Iterable[TrainingBatch]
    ) -> None:
        paths = [name.removesuffix(".down") for name in parameters if name.endswith(".down")]
        first = next(iter(batches))
        for path, inputs in first.layer_inputs(paths).items():  # (tokens, in_features)
            directions = torch.linalg.svd(inputs.float(), full_matrices=False).Vh
            parameters[f"{path}.down"].data.copy_(directions[: config.rank])


class TwoRates(LowRank):
    """One of the two factors learns 16 times as fast, as in LoRA+."""

    def groups(self, config: Config, parameters: Mapping[str, nn.Parameter]) -> Mapping[str, Factors]:
        return {name: Factors(learning_rate=16.0) for name in parameters if name.endswith(".up")}


class Orthogonal(LowRank):
    """Keeps the rows of each first factor nearly orthonormal, as AdaLoRA does."""

    def penalty(self, config: Config, parameters: Mapping[str, nn.Parameter]) -> Mapping[str, Tensor]:
        factors = [parameter for name, parameter in parameters.items() if name.endswith(".down")]
        off = [(down @ down.T - torch.eye(len(down), device=down.device)).square().sum() for down in factors]
        return {"orthogonal": 0.1 * torch.stack(off).sum()}


class Pruned(LowRank):
    """Sets the rank that matters least in each layer to zero, from the middle of the run on."""

    def attach(self, view: ModelView, config: Config) -> Mapping[str, nn.Parameter]:
        parameters = super().attach(view, config)
        names = [name for name in parameters if name.endswith(".up")]
        self.importance = {name: torch.zeros(config.rank, device=view.device) for name in names}
        return parameters

    def after_step(
        self, view: ModelView, config: Config, parameters: Mapping[str, nn.Parameter], step: int, total: int
    ) -> None:
        for name, importance in self.importance.items():
            up = parameters[name]
            assert up.grad is not None
            importance.lerp_((up * up.grad).abs().sum(dim=0), 0.15)  # an average over the steps, (rank,)
            if 2 * step > total:
                up[:, importance.argmin()] = 0.0

    def state(self) -> StrategyState:
        return StrategyState({f"{name}.importance": tensor for name, tensor in self.importance.items()})

    def load_state(self, state: StrategyState) -> None:
        for name, importance in self.importance.items():
            importance.copy_(state.tensors[f"{name}.importance"])


class NearBase(LowRank):
    """Stays near the outputs of the bare base: their Kullback-Leibler divergence is added to the loss."""

    def output_loss(self, batch: Mapping[str, Tensor], outputs: Tensor, teacher: Callable[[], Tensor]) -> Tensor:
        ours, theirs = outputs.log_softmax(dim=-1), teacher().log_softmax(dim=-1)  # (targets, outputs)
        return functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=-1)  # (targets,)


class NewToken(LowRank):
    """Has a token of its own in the tokenizer, with a trained row of the embedding."""

    def attach(self, view: ModelView, config: Config) -> Mapping[str, nn.Parameter]:
        self.ids = view.add_tokens(["<card-number>"])
        return super().attach(view, config)


class FirstTokens:
    """Changes the first token of each text alone, wherever a batch has it."""

    def attach(self, view: ModelView, config: Config) -> Mapping[str, nn.Parameter]:
        shift = nn.Parameter(torch.zeros(view.map.hidden_size, device=view.device))

        def change(hidden: Tensor) -> Tensor:  # (rows, tokens, hidden)
            context = view.context
            if context is None or context.positions is None or context.segments is None:
                return hidden
            if context.positions.shape != hidden.shape[:2]:  # one new token of a text that is generated
                return hidden
            first = (context.positions == 0) & (context.segments >= 0)  # (rows, tokens)
            return hidden + (first[..., None] * shift).to(hidden.dtype)

        view.after(view.map.layers[0], change)
        return {"shift": shift}
