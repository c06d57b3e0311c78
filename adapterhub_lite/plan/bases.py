"""A base without weights, made of its configuration alone, that can carry adapters and be trained in the imagination."""

from __future__ import annotations

import copy
import dataclasses
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adapterhub_lite.base.batch_norm import batch_norms
from adapterhub_lite.base.describe import describe
from adapterhub_lite.base.foreign import Foreign
from adapterhub_lite.base.language import leave_out
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.model_files import (
    calm,
    config_from,
    model_class,
    processor_from,
    show_all,
    usable,
    without_pooler,
)
from adapterhub_lite.base.model_folder import check_folder
from adapterhub_lite.base.outline import UNKNOWN
from adapterhub_lite.base.quantization import make_trainable, quantization_config
from adapterhub_lite.base.references import Source, resolve
from adapterhub_lite.base.vocabulary import tokens_beyond
from adapterhub_lite.errors import BaseNotFoundError
from adapterhub_lite.plan.imagined import Imagined

ONE_WORD = "a"


def imagined_base(reference: str, foreign: Foreign, quantization: str, dtype: torch.dtype, *, chosen: bool) -> Base:
    """The base of a reference, or of a folder that holds a config.json and nothing else.

    Args:
        reference: As of `load_base`.
        foreign: What plug-ins know of bases.
        quantization: How its weights are to be held.
        dtype: What it is to compute in.
        chosen: The user named the dtype; else networks with batch normalisation compute in fp32, as `load_base` has it.

    Raises:
        BaseNotFoundError: no configuration is found, or it does not make a model.
        NotSupportedError: the model is of a kind nobody described, or bitsandbytes is missing.
    """
    from transformers import AutoModelForCausalLM

    source = _source_of(reference)
    with calm(), usable(f"base '{reference}' was found in {source.folder} and cannot be described"), Imagined():
        config = _config_of(source, foreign)
        kind = model_class(config) if source.gguf is None else AutoModelForCausalLM
        model = _made(kind, config, dtype)
        if not chosen and batch_norms(model):
            dtype = torch.float32
            model = _made(kind, config, dtype)
        if quantization != "none":
            _quantize(model, quantization, dtype)
        model.requires_grad_(False)
        model.eval()
        show_all(model)
        model_map = foreign.describe(model) or describe(model)
        left_out = leave_out(model, model_map.unreached)
    processor = _processor_of(source, model)
    return Base(
        reference, source.revision, model, processor, model_map, UNKNOWN, quantization, dtype, torch.device("cpu"), source,
        source.folder, left_out=left_out, beyond=tokens_beyond(model, processor),
    )  # fmt: skip


def imagined_like(base: Base) -> Base:
    """A base like one that is loaded, without its weights, on the CPU."""
    kind: Any = type(base.model)
    with calm(), Imagined():
        model = kind._from_config(copy.deepcopy(base.model.config), dtype=base.dtype, **without_pooler(kind))
        if base.quantization != "none":
            _quantize(model, base.quantization, base.dtype)
        model.requires_grad_(False)
        show_all(model.eval())
        leave_out(model, base.left_out)
    return dataclasses.replace(base, model=model, device=torch.device("cpu"), active=None)


def _source_of(reference: str) -> Source:
    folder = Path(reference).expanduser()
    if (folder / "config.json").is_file():
        check_folder(folder)
        return Source(reference, folder.resolve())
    return resolve(reference)


def _config_of(source: Source, foreign: Foreign) -> Any:
    if source.gguf is None:
        return config_from(source.folder, False, foreign.configure)
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(source.folder, gguf_file=source.gguf)


def _made(kind: Any, config: Any, dtype: torch.dtype) -> Any:
    from transformers import MODEL_MAPPING, AutoModel

    whole = MODEL_MAPPING.get(type(config), object)
    return kind.from_config(config, dtype=dtype, **(without_pooler(whole) if kind is AutoModel else {}))


def _quantize(model: Any, quantization: str, dtype: torch.dtype) -> None:
    """Put quantized layers in the place of those that `load_base` would quantize."""
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear
    from transformers.quantizers.base import HfQuantizer

    options = quantization_config(quantization, dtype)
    kept = HfQuantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules)
    replace_with_bnb_linear(model, modules_to_not_convert=kept, quantization_config=options)
    for module in model.modules():
        if type(module).__name__ in ("Linear4bit", "Linear8bitLt"):
            made: Any = module
            dense = torch.empty(module.out_features, module.in_features, dtype=dtype)
            made.weight = type(made.weight)(dense, requires_grad=False, **_options_of(made.weight)).to("cpu")
            if made.bias is not None:
                made.bias = nn.Parameter(torch.empty(module.out_features, dtype=dtype), requires_grad=False)
    make_trainable(model)


def _options_of(weight: Any) -> dict[str, Any]:
    names = ("blocksize", "compress_statistics", "quant_type", "quant_storage", "module", "has_fp16_weights")
    return {name: value for name, value in vars(weight).items() if name in names}


def _processor_of(source: Source, model: Any) -> Any:
    """The processor beside the model; where there is none for texts, one that knows one word."""
    if source.gguf is not None:
        return _one_word()
    with suppress(BaseNotFoundError):
        return processor_from(source.folder, model, False)
    return _one_word() if getattr(model, "main_input_name", "input_ids") == "input_ids" else None


def _one_word() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, ONE_WORD: 2}, unk_token=ONE_WORD))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token=ONE_WORD, model_max_length=1 << 30
    )
