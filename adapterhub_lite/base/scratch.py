"""The same architecture with random weights: the control that shows what pre-training was worth.

    scratch:SEED:REFERENCE

is a reference like any other, so that an adapter of such a base can be saved and loaded again.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import torch
from torch import nn

from adapterhub_lite.base.identity import fingerprint_of_module
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.modelmap import example_inputs
from adapterhub_lite.base.reference import scratch_reference
from adapterhub_lite.errors import NotSupportedError

CALIBRATION_INPUTS = 32


def with_random_weights(base: Base, seed: int) -> Base:
    """A base of the same architecture and processor, its weights drawn anew as transformers draws them.

    Statistics of batch normalisation, which adapting leaves alone, are taken from noise, so that activations have the
    scale that such a network is made for.

    Raises:
        NotSupportedError: a quantized base.
    """
    if base.quantization != "none":
        raise NotSupportedError(
            "random weights are trained in full, which takes an unquantized base; use --quantize none"
        )
    kind, model = type(base.model), base.model
    options: dict[str, Any] = {}
    if "add_pooling_layer" in inspect.signature(kind.__init__).parameters:
        options["add_pooling_layer"] = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = kind(model.config, **options)
        _calibrate(fresh)
    fresh = fresh.to(device=base.device, dtype=base.dtype)
    fresh.requires_grad_(False)
    fresh.eval()
    weights = fingerprint_of_module(fresh, len(base.map.layers)).weights
    return dataclasses.replace(
        base,
        reference=scratch_reference(base.reference, seed),
        model=fresh,
        fingerprint=base.fingerprint.model_copy(update={"weights": weights}),
        source=None,
    )


def _calibrate(model: nn.Module) -> None:
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    shapes = {name: value.shape[1:] for name, value in example_inputs(model).items()}
    for norm in norms:
        norm.momentum = None  # an average over all inputs, of which there is one batch
    model.train()
    with torch.no_grad():
        model(**{name: torch.randn(CALIBRATION_INPUTS, *shape) for name, shape in shapes.items()})
