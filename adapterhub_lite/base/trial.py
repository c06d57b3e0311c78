"""A base that was just loaded is run on next to nothing: files that do not fit together are told then, not in training."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from adapterhub_lite.base.describe import backbone, features_of, vocabulary_of
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.names import one_line

TEXT = "The quick brown fox."
SAME = {torch.float32: 1e-3}
"""How far outputs of the same may be apart, as a share of the largest; more in half precision, where rounding adds up."""
SAME_IN_HALF = 0.1


def check_arguments(model: Any) -> None:
    """Refuse a model that has to be given more than its texts or images.

    Raises:
        NotSupportedError: naming what it asks for.
    """
    main = getattr(model, "main_input_name", None)
    takes = inspect.signature(model.forward).parameters.values()
    asked = [p.name for p in takes if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and p.name != main]
    if main in ("input_ids", "pixel_values") and asked:
        raise NotSupportedError(
            f"{type(model).__name__} takes {' and '.join(asked)}, which are no plain texts or images: it is a part of a larger "
            "model, or made for another task; a plug-in can describe it through the hook adapterhub_describe_model"
        )
    if hasattr(model, "text_model") and hasattr(model, "vision_model"):
        raise NotSupportedError(
            f"{type(model).__name__} has a model of texts and one of images, and a base is one of them; save it "
            f"by itself, as with transformers.{type(model).__name__.removesuffix('Model')}VisionModel.from_pretrained(FOLDER)"
            ".save_pretrained(NEW), and its processor with it"
        )
    if main == "input_ids" and vocabulary_of(model) is None:
        raise NotSupportedError(
            f"{type(model).__name__} has no embedding with a row for each token; texts cannot be checked against it"
        )


def run_once(model: Any, processor: Any, hidden_size: int) -> bool:
    """Run a model of texts or images on a short text or a grey image, and let it write a token if it can.

    Models of anything else are left alone.

    Returns:
        Whether what it makes of a text depends on the padding behind it.

    Raises:
        ValueError: the processor makes what the model does not take, or the model gives numbers that are not finite.
        NotSupportedError: it has no features of `hidden_size`, takes one image at a time, needs a second text, or gives
            something else each time.
        Exception: whatever the model or the processor raises.
    """
    kind = getattr(model, "main_input_name", None)
    if kind == "input_ids":
        ids = processor(TEXT, return_tensors="pt")["input_ids"]  # (1, tokens)
        rows = model.get_input_embeddings().weight.shape[0]
        words, added = processor.get_vocab(), processor.get_added_vocab()
        beyond = next((word for word, number in words.items() if number >= rows and word not in added), None)
        if beyond is not None:
            raise ValueError(
                f"the tokenizer gives {beyond[:40]!r} the number {words[beyond]}, and the model knows {rows} tokens"
            )
        if not ids.numel() or int(ids.max()) >= rows:
            raise ValueError(f"the tokenizer makes {ids.tolist()} of a text, and the model knows {rows} tokens")
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    elif kind == "pixel_values":
        from PIL import Image

        inputs = {kind: processor(images=Image.new("RGB", (48, 40), (99, 99, 99)), return_tensors="pt")[kind]}
    else:
        return False
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not bool(torch.isfinite(parameter.sum(dtype=torch.float32))):
            raise ValueError(f"the values of '{name}' are not finite")
    # What is computed from the configuration may be infinite, as masks are; attention on a CPU passes over the other.
    for name, buffer in model.named_buffers():
        if bool(torch.isnan(buffer).any()):
            raise ValueError(f"'{name}', which config.json leads to, is not a number")
    device, dtype = model.device, model.dtype
    placed = {name: value.to(device, dtype if value.is_floating_point() else None) for name, value in inputs.items()}
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        outputs = _features(model, placed, hidden_size)
        if model.can_generate() and not model.config.is_encoder_decoder:
            model.generate(**placed, max_new_tokens=1)
        if dtype != torch.float16 and not bool(torch.isfinite(outputs).all()):
            raise ValueError("it gives numbers that are not finite")
        beside = _beside_longer(placed, processor) if kind == "input_ids" else {kind: placed[kind].repeat(2, 1, 1, 1)}
        together = model(**beside)[0]
        if len(together) != 2:
            raise NotSupportedError(
                f"{type(model).__name__} takes one image at a time, and makes one of a batch of them"
            )
        if _same(outputs, together[:1, : outputs.shape[1]]):
            return False
        if not _same(outputs, model(**placed)[0]):
            raise NotSupportedError(
                f"{type(model).__name__} gives something else each time that it is run on the same, first in "
                f"'{_first_random(model, placed)}'; what is learnt on such features cannot be relied on, so it is refused"
            )
    return kind == "input_ids"


def _features(model: Any, placed: dict[str, Tensor], hidden_size: int) -> Tensor:
    """What a model gives for a text or an image: its features, or the logits of a language model."""
    try:
        output = model(**placed)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        if not model.config.is_encoder_decoder:
            raise
        raise NotSupportedError(
            f"{type(model).__name__} is an encoder with a decoder that has to be given a text of its own "
            f"({one_line(error)[:120]}); use an encoder, a decoder alone, or one that transformers has the encoder of, such as T5"
        ) from error
    if backbone(model) is not model:
        return output[0]
    features = features_of(output, model)
    if features.shape[1 if features.dim() == 4 else -1] != hidden_size:
        raise NotSupportedError(
            f"{type(model).__name__} gives features of shape {tuple(features.shape)}, and its configuration says that they are "
            f"of {hidden_size} numbers; a plug-in can describe it through the hook adapterhub_describe_model"
        )
    return features


def _beside_longer(placed: dict[str, Tensor], processor: Any) -> dict[str, Tensor]:
    """A batch of a text, padded on the right, and a text twice as long."""
    ids, mask = placed["input_ids"], placed["attention_mask"]
    padding = torch.full_like(ids, processor.pad_token_id or 0)
    rows = torch.cat([torch.cat([ids, padding], dim=1), torch.cat([ids, ids], dim=1)])
    seen = torch.cat([torch.cat([mask, 0 * mask], dim=1), torch.cat([mask, mask], dim=1)])
    return {"input_ids": rows, "attention_mask": seen}


def _same(first: Tensor, second: Tensor) -> bool:
    """Whether two outputs are equal but for rounding."""
    if first.shape != second.shape:
        return False
    limit = SAME.get(first.dtype, SAME_IN_HALF) * float(first.abs().max())
    return not float((first - second).abs().max()) > limit  # numbers of half precision may overflow in both


def _first_random(model: Any, placed: dict[str, Tensor]) -> str:
    """The path of the first module, of those that hold no others, whose output differs between two runs."""
    runs: list[list[tuple[str, Tensor]]] = []
    leaves = [(name, module) for name, module in model.named_modules() if not any(module.children())]
    for _ in range(2):
        seen: list[tuple[str, Tensor]] = []

        def note(name: str, output: Any, seen: list[tuple[str, Tensor]] = seen) -> None:
            if isinstance(output, Tensor):
                seen.append((name, output))

        handles = [
            module.register_forward_hook(lambda _, __, output, name=name, note=note: note(name, output))
            for name, module in leaves
        ]
        model(**placed)
        for handle in handles:
            handle.remove()
        runs.append(seen)
    return next((a[0] for a, b in zip(*runs, strict=False) if not _same(a[1], b[1])), "no module of its own")
