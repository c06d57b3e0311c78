"""Finding a model's layers, weight matrices, output and pooling by looking at the model, not at a list of names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.base.language import language_part, unreached
from adapterhub_lite.base.map import ModelMap
from adapterhub_lite.base.pooling import declared_pooling
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.plugins.spec import Modality

MODALITY_OF_INPUT: dict[str, Modality] = {"input_ids": "text", "pixel_values": "image"}


def describe(model: Any, folder: Path | None = None) -> ModelMap:
    """Describe a transformers model.

    Args:
        model: The loaded model, with or without a language-modelling head.
        folder: Its files, where a sentence-transformers pooling choice may lie.

    Raises:
        NotSupportedError: when the model has no repeated blocks or takes an unknown kind of input.
    """
    input_name = getattr(model, "main_input_name", "input_ids")
    if input_name not in MODALITY_OF_INPUT:
        raise NotSupportedError(
            f"{type(model).__name__} takes '{input_name}', not one of {', '.join(MODALITY_OF_INPUT)}; "
            "a plug-in can describe it through the hook adapterhub_describe_model (see `adapterhub-lite plugins list`; "
            "the built-in ones come with `pip install adapterhub-lite`)"
        )
    return introspect(model, MODALITY_OF_INPUT[input_name], folder=folder)


def introspect(
    model: Any,
    modality: Modality,
    *,
    folder: Path | None = None,
    example: Mapping[str, tuple[int, ...]] | None = None,
) -> ModelMap:
    """Describe a transformers model by its modules, for a plug-in that knows what it takes; it is run once.

    Args:
        model: The loaded model, with or without a language-modelling head.
        modality: What it takes.
        folder: Its files, where a sentence-transformers pooling choice may lie.
        example: As `ModelMap.example`, for a model of neither texts nor images.

    Raises:
        NotSupportedError: when the model has no repeated blocks.
    """
    example = example or {}
    part = language_part(model) if modality == "text" else ""
    modules = [(n, m) for n, m in model.named_modules() if not part or f"{n}.".startswith(f"{part}.")]
    blocks = _blocks(type(model).__name__, modules)
    silent = unreached(model, part, blocks, example_inputs(model)) if part else ()
    layers = tuple(path for path in blocks if path not in silent)
    attention = tuple(n for n, m in modules if "Attention" in type(m).__name__)
    inside = [(n, m) for n, m in modules if n.startswith(tuple(f"{p}." for p in layers))]
    linears = [n for n, m in inside if _is_matrix(m)]
    if not linears:
        # A convolutional network: pointwise and full convolutions carry its weights, depthwise ones next to none.
        kinds = (nn.Conv1d, nn.Conv2d)
        linears = [n for n, m in modules if isinstance(m, kinds) and m.groups == 1]
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    causal = output is not None or any(getattr(m, "is_causal", False) is True for _, m in inside)
    declared = declared_pooling(folder if modality == "text" else None)
    return ModelMap(
        modality=modality,
        hidden_size=_hidden_size(model, modality, example),
        layers=layers,
        linears=tuple(linears),
        attention_linears=tuple(n for n in linears if n.startswith(tuple(f"{a}." for a in attention))),
        output=next((n for n, m in model.named_modules() if m is output), None) if output is not None else None,
        pooling=declared.pooling or _pooling(model, modality, causal, bool(attention)),
        causal=causal,
        experts=tuple(f"{n}.{own}" for n, m in inside for own, p in _stacked(m)),
        normalized=declared.normalized,
        prompt=declared.prompt,
        pools_prompt=declared.pools_prompt,
        not_done=declared.not_done,
        unreached=silent,
        example=example,
    )


def example_inputs(model: Any, example: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Tensor]:
    """The smallest input the model accepts, on its device: for asking the model about itself by running it once.

    Args:
        model: The loaded model.
        example: The `ModelMap.example` that a plug-in gave.

    Raises:
        NotSupportedError: for a model of neither texts nor images without one.
    """
    device = next(model.parameters()).device
    if example:
        dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
        return {name: torch.zeros(shape, dtype=dtype, device=device) for name, shape in example.items()}
    config = model.config
    name = getattr(model, "main_input_name", "input_ids")
    if name == "input_ids":
        ids = torch.arange(1, 4, device=device).clamp(max=config.get_text_config().vocab_size - 1)
        return {"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None]}
    if name == "pixel_values":
        size = getattr(config, "image_size", None) or 64
        height, width = (size, size) if isinstance(size, int) else tuple(size)[:2]
        shape = (1, getattr(config, "num_channels", 3), height, width)
        return {"pixel_values": torch.zeros(shape, dtype=model.dtype, device=device)}
    raise NotSupportedError(f"{type(model).__name__} takes '{name}', and its ModelMap gives no example of an input")


def _blocks(name: str, modules: Iterable[tuple[str, nn.Module]]) -> tuple[str, ...]:
    """The module list that holds most parameters, of like children where there is one: the repeated blocks of the network."""
    largest, blocks = (False, 0), tuple[str, ...]()
    for path, module in modules:
        if isinstance(module, nn.ModuleList):
            alike = len({type(child) for child in module}) == 1
            size = alike, sum(p.numel() for p in module.parameters())
            if size > largest:
                largest, blocks = size, tuple(f"{path}.{i}" for i in range(len(module)))
    if not blocks:
        raise NotSupportedError(
            f"{name} has no list of repeated blocks; a plug-in can describe it through "
            "the hook adapterhub_describe_model"
        )
    return blocks


def _is_matrix(module: nn.Module) -> bool:
    """Whether a module multiplies by its weight and does no more; a router gives scores as well."""
    name = type(module).__name__
    return name == "Conv1D" or (isinstance(module, nn.Linear) and "Router" not in name)


def _stacked(module: Any) -> list[tuple[str, nn.Parameter]]:
    """The parameters of a module that hold a matrix for each of its experts."""
    count = getattr(module, "num_experts", None)
    own = list(module.named_parameters(recurse=False))
    return [(name, p) for name, p in own if p.dim() == 3 and (len(p) == count or "Expert" in type(module).__name__)]


def _hidden_size(model: Any, modality: Modality, example: Mapping[str, tuple[int, ...]]) -> int:
    if modality == "text":
        return int(model.config.get_text_config().hidden_size)
    with torch.no_grad():
        features = backbone(model)(**example_inputs(model, example)).last_hidden_state
    # (batch, channels, height, width) of a convolutional network, (..., hidden) of any other
    return int(features.shape[1] if features.dim() == 4 and modality == "image" else features.shape[-1])


def backbone(model: Any) -> Any:
    """The model without its language-modelling head, which may lie in a part of it together with its decoder."""
    if model.get_output_embeddings() is None:
        return model
    if model.base_model is not model:
        return model.base_model
    decoder = model.get_decoder()
    return getattr(decoder, "model", decoder)


def _pooling(model: nn.Module, modality: Modality, causal: bool, has_attention: bool) -> str:
    if modality != "image":
        return "last" if causal else "mean"
    if not has_attention:
        return "spatial"
    # A token of that name in a pooling head is a query of its own, and stands in no row of features.
    names = [name for name, _ in model.named_parameters() if "head." not in name]
    return "cls" if any(name.endswith(("cls_token", "class_embedding")) for name in names) else "mean"
