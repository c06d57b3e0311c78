"""The same architecture with random weights: the control that shows what pre-training was worth.

    scratch:SEED:REFERENCE

is a reference like any other, so that an adapter of such a base can be saved and loaded again.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from adapterhub_lite.base.batch_norm import STATISTICS, batch_norms
from adapterhub_lite.base.describe import example_inputs
from adapterhub_lite.base.fingerprint import fingerprint_of_module
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.map import ModelMap
from adapterhub_lite.base.model_files import show_all, without_pooler
from adapterhub_lite.base.references import scratch_reference
from adapterhub_lite.errors import NotSupportedError

CALIBRATION_INPUTS = 32
MOMENTUM = 0.1
"""Share of a batch in the running statistics, torch's default. Some models of transformers hand torch TensorFlow's 0.997, which
means the opposite there and would keep nothing but the last batch."""


def with_random_weights(base: Base, seed: int) -> Base:
    """A base of the same architecture and processor, its weights drawn anew as transformers draws them.

    Running statistics of batch normalisation, which are fixed in other bases, are parameters here: measured on noise to
    begin with, so that activations have a sensible scale, and learnt by a strategy that trains the base.

    Raises:
        NotSupportedError: a quantized base.
    """
    if base.quantization != "none":
        raise NotSupportedError(
            "random weights are trained in full, which takes an unquantized base; use --quantize none"
        )
    kind = type(base.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = kind(base.model.config, **without_pooler(kind))
        _begin_statistics(fresh, base.map)
    fresh = fresh.to(device=base.device, dtype=base.dtype)
    fresh.requires_grad_(False)
    fresh.eval()
    show_all(fresh)
    weights = fingerprint_of_module(fresh, len(base.map.layers)).weights
    return dataclasses.replace(
        base,
        reference=scratch_reference(base.reference, seed),
        model=fresh,
        fingerprint=base.fingerprint.model_copy(update={"weights": weights}),
        source=None,
    )


def _begin_statistics(model: nn.Module, model_map: ModelMap) -> None:
    norms = batch_norms(model)
    if not norms:
        return
    shapes = {name: value.shape[1:] for name, value in example_inputs(model, model_map.example).items()}
    for norm in norms:
        norm.momentum = None  # an average over all inputs, of which there is one batch
    model.train()
    with torch.no_grad():
        model(**{name: torch.randn(CALIBRATION_INPUTS, *shape) for name, shape in shapes.items()})
    for norm in norms:
        norm.momentum = MOMENTUM
        for name in STATISTICS:
            values = norm._buffers.pop(name)
            if values is not None:
                norm.register_parameter(name, nn.Parameter(values, requires_grad=False))
