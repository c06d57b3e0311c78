"""Models that cannot be a base of texts or images are told by what they take and what they give."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from adapterhub_lite.base.describe import backbone, features_of, vocabulary_of
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.names import one_line


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
    if hasattr(model, "text_model") and hasattr(model, "vision_model") and not model.can_generate():
        raise NotSupportedError(
            f"{type(model).__name__} has a model of texts and one of images, and a base is one of them; save it "
            f"by itself, as with transformers.{type(model).__name__.removesuffix('Model')}VisionModel.from_pretrained(FOLDER)"
            ".save_pretrained(NEW), and its processor with it"
        )
    if main == "input_ids" and vocabulary_of(model) is None:
        raise NotSupportedError(
            f"{type(model).__name__} has no embedding with a row for each token; texts cannot be checked against it"
        )


def features_or_logits(model: Any, placed: dict[str, Tensor], hidden_size: int) -> Tensor:
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
