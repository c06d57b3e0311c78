"""A base that was just loaded is run once on next to nothing: files that do not fit together are told then, not in training."""

from __future__ import annotations

from typing import Any

import torch

TEXT = "The quick brown fox."


def run_once(model: Any, processor: Any) -> None:
    """Run a model of texts or images on a short text or a grey image, and let it write a token if it can.

    Models of anything else are left alone.

    Raises:
        ValueError: the processor makes what the model does not take, or the model gives numbers that are not finite.
        Exception: whatever the model or the processor raises.
    """
    kind = getattr(model, "main_input_name", None)
    if kind == "input_ids" and not getattr(model.config, "is_encoder_decoder", False):
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
        return
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
        outputs = model(**placed)[0]
        if model.can_generate():
            model.generate(**placed, max_new_tokens=1)
    if dtype != torch.float16 and not bool(torch.isfinite(outputs).all()):
        raise ValueError("it gives numbers that are not finite")
