"""Targets that no gradient reaches are found before the first step and let go: an update that never moves is none."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adapterhub_lite.api import ModelView, example_inputs, quiet
from adapterhub_lora import LoraConfig
from adapterhub_lora.layers import ADAPTER, expert_layers, lora_layers

CHOSEN_HERE = ("all", "all-linear", "attention")
"""Values of the option `targets` by which the layers are not named one by one."""


def let_go(view: ModelView, config: LoraConfig) -> LoraConfig | None:
    """Unwrap the targets that nothing the model gives depends on, such as layers that only choose what is attended to.

    The smallest input shows it, whatever the data: it is a matter of which operations have a derivative.

    A layer that was not run, such as an expert that got no token, stays where one of its place in another layer or of
    another number was reached.

    Returns:
        The options that make the targets that are left; None where all are reached.
    """
    layers = {path: layer for path, layer in lora_layers(view) if path in view.map.linears}
    run: set[str] = set()

    def note(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            run.add(path)

        return hook

    handles = [layer.register_forward_hook(note(path)) for path, layer in layers.items()]
    try:
        # As in training, where some models take another way; their random draws move nobody's generator.
        view.model.train()
        for module in view.model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        with torch.random.fork_rng([view.device] if view.device.type == "cuda" else []):
            _given(view).backward()
    except (RuntimeError, TypeError, ValueError):
        return None  # a model that does not take so little, such as Funnel, is seen to train or not by its first steps
    finally:
        view.model.eval()
        for handle in handles:
            handle.remove()
    reached = {path for path, layer in layers.items() if layer.lora_B[ADAPTER].weight.grad is not None}
    for parameter in view.model.parameters():
        parameter.grad = None
    places = {_place(path) for path in reached}
    kept = [path for path in layers if path in reached or (path not in run and _place(path) in places)]
    if len(kept) == len(layers) or not kept:
        return None
    for path in layers:
        if path not in kept:
            view.replace(path, layers[path].get_base_layer())
    experts = [path for path, _ in expert_layers(view)]
    return config.model_copy(update={"targets": ",".join([*kept, *experts]), "top_layers": None})


def _given(view: ModelView) -> Tensor:
    """A number that depends on all that the model makes of the smallest input."""
    inputs: dict[str, Any] = dict(example_inputs(view.model, view.map.example))
    if view.map.causal and view.map.modality == "text":
        inputs["use_cache"] = False
    with quiet(), torch.enable_grad():
        given = view.model(**inputs)
    features = getattr(given, "last_hidden_state", None)
    return (features if features is not None else given.logits).float().sum()


def _place(path: str) -> str:
    """A path without its numbers."""
    return re.sub(r"\.\d+(?=\.|$)", ".*", path)
