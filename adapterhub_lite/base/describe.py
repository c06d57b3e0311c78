"""Finding a model's layers, weight matrices, output and pooling by looking at the model, not at a list of names."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.base.experts import stacked
from adapterhub_lite.base.language import language_part, unreached
from adapterhub_lite.base.map import ModelMap
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.plugins.spec import Modality

MODALITY_OF_INPUT: dict[str, Modality] = {"input_ids": "text", "pixel_values": "image"}


def describe(model: Any) -> ModelMap:
    """Describe a transformers model.

    Args:
        model: The loaded model, with or without a language-modelling head.

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
    return introspect(model, MODALITY_OF_INPUT[input_name])


def introspect(
    model: Any,
    modality: Modality,
    *,
    example: Mapping[str, tuple[int, ...]] | None = None,
) -> ModelMap:
    """Describe a transformers model by its modules, for a plug-in that knows what it takes; it is run once.

    Args:
        model: The loaded model, with or without a language-modelling head.
        modality: What it takes.
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
    passed_by = _passed_by(inside)
    linears = [name for name in linears if name not in passed_by]
    if not linears:
        # A convolutional network: pointwise and full convolutions carry its weights, depthwise ones next to none.
        kinds = (nn.Conv1d, nn.Conv2d)
        linears = [n for n, m in modules if isinstance(m, kinds) and m.groups == 1]
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    causal = output is not None or any(getattr(m, "is_causal", False) is True for _, m in inside)
    return ModelMap(
        modality=modality,
        hidden_size=_hidden_size(model, modality, example),
        layers=layers,
        linears=tuple(linears),
        attention_linears=tuple(n for n in linears if n.startswith(tuple(f"{a}." for a in attention))),
        output=next((n for n, m in model.named_modules() if m is output), None) if output is not None else None,
        pooling=_pooling(model, modality, causal, bool(attention)),
        causal=causal,
        experts=tuple(f"{n}.{own}" for n, m in inside for own, p in stacked(m)),
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


def _is_plain(linear: nn.Linear) -> bool:
    """Whether a layer multiplies by its weight and does no more, unlike Llama 4's router, which is a linear layer by class."""
    if type(linear).forward is nn.Linear.forward or not type(linear).__module__.startswith("transformers.models."):
        return True
    given = linear.weight.detach()[:1]  # (1, in_features)
    if given.is_meta:
        return True  # there is nothing to compare
    try:
        with torch.no_grad():
            return torch.equal(linear(given), nn.functional.linear(given, linear.weight, linear.bias))
    except (RuntimeError, TypeError, ValueError):  # it takes other shapes, or gives several tensors
        return False


def _passed_by(inside: Sequence[tuple[str, nn.Module]]) -> set[str]:
    """Layers of state-space mixers whose weights a kernel reads by itself: what wraps such a layer is passed by."""
    passed_by = set()
    for path, module in inside:
        if hasattr(module, "A_log"):
            source = inspect.getsource(type(module))
            passed_by |= {f"{path}.{name}" for name in re.findall(r"self\.(\w+)\.weight\b(?!\.dtype|\.device)", source)}
    return passed_by


def _is_matrix(module: nn.Module) -> bool:
    """Whether a module multiplies by its weight and does no more; a router gives scores as well."""
    name = type(module).__name__
    return name == "Conv1D" or (isinstance(module, nn.Linear) and "Router" not in name and _is_plain(module))


def _hidden_size(model: Any, modality: Modality, example: Mapping[str, tuple[int, ...]]) -> int:
    if modality == "text":
        config, output = model.config.get_text_config(), model.get_output_embeddings()
        # An OPT may have narrower features than its layers have.
        return int(getattr(output, "in_features", None) or getattr(config, "word_embed_proj_dim", config.hidden_size))
    with torch.no_grad():
        features = features_of(backbone(model)(**example_inputs(model, example)), model)
    # (batch, channels, height, width) of a convolutional network, (..., hidden) of any other
    return int(features.shape[1] if features.dim() == 4 and modality == "image" else features.shape[-1])


def backbone(model: Any) -> Any:
    """The model without its language-modelling head, which may lie in a part of it together with its decoder."""
    if model.get_output_embeddings() is None:
        return model
    if model.base_model is not model:
        return model.base_model
    if getattr(model.config, "is_encoder_decoder", False):
        return model  # FSMT's output layer is its embedding
    decoder = model.get_decoder()
    return getattr(decoder, "model", decoder)


def features_of(output: Any, model: Any) -> Tensor:
    """The features in what a model gives: (batch, tokens, hidden_size), or (batch, channels, height, width).

    Raises:
        NotSupportedError: there are none, as in a model for another task.
    """
    features = getattr(output, "last_hidden_state", None)
    if not isinstance(features, Tensor):
        raise NotSupportedError(
            f"{type(model).__name__} gives no features of tokens or pixels (last_hidden_state), but {', '.join(output)}: it was "
            "made for another task; a plug-in can describe it through the hook adapterhub_describe_model"
        )
    return features


def _pooling(model: nn.Module, modality: Modality, causal: bool, has_attention: bool) -> str:
    if modality != "image":
        return "last" if causal else "mean"
    if not has_attention:
        return "spatial"
    # A token of that name in a pooling head is a query of its own, and stands in no row of features.
    names = [name for name, _ in model.named_parameters() if "head." not in name]
    return "cls" if any(name.endswith(("cls_token", "class_embedding")) for name in names) else "mean"


def vocabulary_of(model: Any) -> int | None:
    """How many tokens the embedding of a model has rows for; None where it has none, as Canine, which hashes characters."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError):
        return None
