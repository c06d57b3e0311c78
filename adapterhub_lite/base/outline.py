"""A base without its weights: what rows are read and tokenized for, before anything is trained."""

from __future__ import annotations

from contextlib import suppress

import torch

from adapterhub_lite.base.describe import describe
from adapterhub_lite.base.foreign import Foreign
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.model_files import calm, config_from, model_class, processor_from, usable
from adapterhub_lite.base.prepared import find_prepared, prepared_folder
from adapterhub_lite.base.references import resolve
from adapterhub_lite.base.vocabulary import tokens_beyond
from adapterhub_lite.names import DTYPE_NAMES
from adapterhub_lite.storage.manifest import Fingerprint

UNKNOWN = Fingerprint(architecture="", weights="", tokenizer=None, vocabulary=None, layers=0)


def outline_base(reference: str, foreign: Foreign) -> Base | None:
    """A base on the meta device, with its processor and map; None for one in a GGUF file that was never unpacked.

    Raises:
        BaseNotFoundError: the reference leads nowhere, or its files do not make a model.
        NotSupportedError: the model is of a kind nobody described.
    """
    source = resolve(reference)
    folder = source.folder
    if source.gguf is not None:
        kept = (find_prepared(prepared_folder(source, "none", dtype)) for dtype in DTYPE_NAMES if dtype != "auto")
        ready = next(filter(None, kept), None)
        if ready is None:
            return None
        folder = ready.folder
    with calm(), usable(f"base '{reference}' was found in {folder} and cannot be described"):
        config = config_from(folder, False, foreign.configure)
        with torch.device("meta"):
            model = model_class(config).from_config(config)
            model_map = foreign.describe(model) or describe(model)
        processor = processor_from(folder, model, False)
        if model.can_generate():
            with suppress(OSError):  # there is none
                model.generation_config = type(model.generation_config).from_pretrained(folder)
    return Base(
        reference, source.revision, model.eval(), processor, model_map, UNKNOWN, "none", torch.float32,
        torch.device("meta"), source, source.folder, beyond=tokens_beyond(model, processor),
    )  # fmt: skip
