"""The language part of a model that was made for pictures or sound as well, and the parts that no text goes through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def is_multimodal(config: Any) -> bool:
    """Whether a checkpoint holds a decoder and what it looks at pictures with, as AutoModelForImageTextToText opens it."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    name = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(config.model_type)
    return (config.architectures or [""])[0] == name and bool(text_config(config))


def language_part(model: Any) -> str:
    """Path of the decoder inside a model that takes more than texts; empty where the whole model is for texts."""
    if text_config(model.config) is None or not hasattr(model, "get_decoder"):
        return ""
    decoder = model.get_decoder()
    return next((path for path, module in model.named_modules() if module is decoder), "")


def unreached(model: Any, part: str, blocks: Iterable[str], inputs: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Paths of the parts beside the language part, and of its blocks, that a text does not go through; it is run for that.

    Args:
        model: With its weights.
        part: From `language_part`.
        blocks: Paths of the repeated blocks, some of which may look at pictures alone.
        inputs: The text.
    """
    run: set[nn.Module] = {model.get_input_embeddings(), model.get_output_embeddings()}
    modules = list(model.modules())
    handles = [module.register_forward_pre_hook(lambda module, _: run.add(module)) for module in modules]
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    names = part.split(".")
    around = [".".join(names[:depth]) for depth in range(len(names))]
    beside = [f"{path}.{name}".lstrip(".") for path in around for name, _ in model.get_submodule(path).named_children()]
    return tuple(
        path
        for path in (*beside, *blocks)
        if not f"{part}.".startswith(f"{path}.") and run.isdisjoint(model.get_submodule(path).modules())
    )


def leave_out(model: Any, paths: Iterable[str]) -> tuple[str, ...]:
    """Take parts out of a model, and their weights out of memory, but for blocks in a list; returns which."""
    owners = {path: model.get_submodule(path.rpartition(".")[0]) for path in paths}
    gone = {path: owner for path, owner in owners.items() if not isinstance(owner, nn.ModuleList)}
    for path, owner in gone.items():
        owner._modules[path.rpartition(".")[2]] = None
    return tuple(gone)


def text_config(config: Any) -> Any:
    """The configuration of the decoder of a model that takes more than texts; None for any other model."""
    text = config.get_text_config(decoder=True)
    return None if text is config or getattr(config, "is_encoder_decoder", False) else text
