"""Starts that take a part out of the base's weights and put it into the factors, so that it is what trains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from adapterhub_lite.api import ConfigError, ModelView, NotSupportedError, StrategyState, TrainingBatch
from adapterhub_lora import CHANGE_BASE, LoraConfig
from adapterhub_lora.corda import corda
from adapterhub_lora.layers import ADAPTER, is_transposed, lora_layers, matrix_of
from adapterhub_lora.lora_ga import lora_ga
from adapterhub_lora.scales import rank_at, scale_at

STATE = "start/"
"""What the names of the starts begin with in a checkpoint."""


@dataclass(frozen=True)
class Pair:
    """The factors of one layer's update at its start."""

    a: Tensor  # (rank, in_features)
    b: Tensor  # (out_features, rank)


def check_start(view: ModelView, config: LoraConfig, targets: list[str]) -> None:
    """Refuse weights that the option `init` cannot work on, before anything is changed.

    Raises:
        NotSupportedError: a target is no matrix, or is tied to another weight; loftq on a base that is not quantized.
        ConfigError: the rank is too large.
    """
    if config.init == "loftq" and not any(view.is_quantized(path) for path in targets):
        raise NotSupportedError("lora: init=loftq makes up for quantization, and this base is not quantized")
    if config.init not in (*CHANGE_BASE, "eva"):
        return
    for path in targets:
        module = view.module(path)
        if not isinstance(module, nn.Linear) and not is_transposed(module):
            kind = "an embedding" if isinstance(module, nn.Embedding) else "a convolution"
            raise NotSupportedError(
                f"lora: init={config.init} splits matrices, and '{path}' is {kind}; use init=default"
            )
        if config.init in CHANGE_BASE:
            _check_matrix(view, config, path)


def _check_matrix(view: ModelView, config: LoraConfig, path: str) -> None:
    weight = view.module(path).get_parameter("weight")
    tied = [n for n, p in view.model.named_parameters(remove_duplicate=False) if p is weight and n != f"{path}.weight"]
    if tied:
        raise NotSupportedError(
            f"lora: init={config.init} changes the weight of '{path}', which is also '{tied[0]}'; use init=default"
        )
    directions = rank_at(config, path) * (2 if config.init == "lora_ga" else 1)
    if directions > min(weight.shape):
        raise ConfigError(
            f"lora: init={config.init} takes {directions} directions at rank={rank_at(config, path)}, and '{path}' has "
            f"{min(weight.shape)}; lower the rank or use init=default"
        )


def refuse_shards(view: ModelView, config: LoraConfig) -> None:
    """Refuse a base whose weights are spread over processes.

    Raises:
        NotSupportedError: it is.
    """
    if any(isinstance(layer.get_base_layer().weight, DTensor) for _, layer in lora_layers(view)):
        raise NotSupportedError(
            f"--shard does not go with strategy 'lora' and init={config.init}, which changes weights of the base itself and "
            "keeps the old ones beside them; use another init"
        )


def find_start(view: ModelView, config: LoraConfig, batches: Iterable[TrainingBatch]) -> dict[str, Pair]:
    """The factors that each layer starts with, by its path.

    The product of a layer's, times its scale, is the part of the weight that is taken out of the base. PiSSA (Meng et
    al. 2024, arXiv:2404.02948) takes the principal directions of the weight, OLoRA (Büyükakyüz 2024, arXiv:2406.01775)
    those of its QR decomposition; for the others see `corda` and `lora_ga`.
    """
    make = {"pissa": pissa, "olora": olora}.get(config.init)
    weights = {path: matrix_of(layer.get_base_layer()) for path, layer in lora_layers(view)}
    if make is not None:
        made = {p: make(w, rank_at(config, p), scale_at(config, p)) for p, w in weights.items()}
    else:
        made = {"corda": corda, "lora_ga": lora_ga}[config.init](weights, config, batches)
    return {path: Pair(a.contiguous(), b.contiguous()) for path, (a, b) in made.items()}


def pissa(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """The principal directions of a weight, the singular values halved between the factors."""
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    root = (s[:rank] / scale).sqrt()
    return root[:, None] * v[:rank], u[:, :rank] * root


def olora(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """The first columns of Q and rows of R; the scale is left out, as in PEFT."""
    q, r = torch.linalg.qr(weight)
    return r[:rank], q[:, :rank]


class Rest:
    """What is left of the base's weights below an adapter whose start was taken out of them.

    The weights are set to W - s B A, with the factors of the start, on copies that the view takes back. The factors are
    all that a checkpoint has to hold.
    """

    def __init__(self) -> None:
        self.start: dict[str, Pair] = {}
        self._whole: dict[str, Tensor] = {}

    def leave(self, view: ModelView, config: LoraConfig, start: Mapping[str, Pair]) -> None:
        """Take a start out of the base; the factors that train are left as they are."""
        with view.recording():
            for path, layer in lora_layers(view):
                base, pair = layer.get_base_layer(), start[path]
                weight = self._whole.setdefault(path, base.weight.data)
                part = scale_at(config, path) * pair.b @ pair.a
                rest = weight.float() - (part.T if is_transposed(base) else part)
                base.weight.data = rest.to(weight.dtype).contiguous()
        self.start = dict(start)

    def state(self) -> StrategyState:
        """The start, for a checkpoint."""
        halves = {f"{STATE}{path}.{half}": getattr(pair, half) for path, pair in self.start.items() for half in "ab"}
        return StrategyState(halves)

    def restore(self, view: ModelView, config: LoraConfig, state: StrategyState) -> None:
        """Take the start of a checkpoint out of the base, unless it is the one that was taken."""
        paths = {name.removeprefix(STATE).rpartition(".")[0]: name.rpartition(".")[0] for name in state.tensors}
        start = {
            path: Pair(*(state.tensors[f"{name}.{half}"].to(view.device) for half in "ab"))
            for path, name in paths.items()
        }
        if start and not _same(start, self.start):
            self.leave(view, config, start)


def put(view: ModelView, start: Mapping[str, Pair]) -> None:
    """Begin to train at a start."""
    with torch.no_grad():
        for path, layer in lora_layers(view):
            layer.lora_A[ADAPTER].weight.copy_(start[path].a)
            layer.lora_B[ADAPTER].weight.copy_(start[path].b)


def _same(one: Mapping[str, Pair], other: Mapping[str, Pair]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[path].a, other[path].a) and torch.equal(one[path].b, other[path].b) for path in one
    )
