"""Tiny foundation models built in code: no files, no network, the same weights every time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from adapterhub_lite.base.loading import Base, adopt
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.testing import problems
from adapterhub_lite.testing.quantize import quantize_nf4
from adapterhub_lite.testing.tokenizer import END, MAX_LENGTH, PAD, START, tiny_tokenizer, vocabulary_size

# Widths are multiples of 64, the block of NF4: on a CPU bitsandbytes 0.50 gets narrower matrices wrong.
HIDDEN, HEADS, LAYERS, INNER = 64, 4, 2, 64


@dataclass(frozen=True)
class TinyModel:
    """A model the checks run on, with a problem it can learn. Authors may add their own."""

    name: str
    summary: str
    build: Callable[[], tuple[Any, Any]]
    """Returns the model and its tokenizer or image processor, drawing weights from torch's global generator."""
    problem: Callable[[], Dataset]

    def base(self, *, quantization: str = "none", dtype: torch.dtype = torch.float32, seed: int = 0) -> Base:
        """Build it as a fresh base on the CPU.

        Args:
            quantization: "none" or "nf4".
            dtype: What it computes in.
            seed: Of its weights.

        Raises:
            NotSupportedError: "nf4" where bitsandbytes cannot be imported.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, processor = self.build()
        model = model.to(dtype)
        if quantization == "nf4":
            quantize_nf4(model)
        elif quantization != "none":
            raise ConfigError(f"tiny models come with quantization 'none' or 'nf4', not '{quantization}'")
        return adopt(model, processor, reference=f"(tiny {self.name})", quantization=quantization)


def _encoder() -> tuple[Any, Any]:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=vocabulary_size(), hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, max_position_embeddings=MAX_LENGTH, initializer_range=0.2, pad_token_id=PAD,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertModel(config, add_pooling_layer=False), tiny_tokenizer()


def _decoder() -> tuple[Any, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary_size(), hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=2, max_position_embeddings=MAX_LENGTH, initializer_range=0.2,
        tie_word_embeddings=True, pad_token_id=PAD, bos_token_id=START, eos_token_id=END,
    )  # fmt: skip
    return LlamaForCausalLM(config), tiny_tokenizer()


def _conv1d() -> tuple[Any, Any]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocabulary_size(), n_positions=MAX_LENGTH, n_embd=HIDDEN, n_inner=INNER, n_layer=LAYERS, n_head=HEADS,
        initializer_range=0.2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, pad_token_id=PAD, bos_token_id=START,
        eos_token_id=END,
    )  # fmt: skip
    return GPT2LMHeadModel(config), tiny_tokenizer()


def _vision() -> tuple[Any, Any]:
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    config = ViTConfig(
        hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=HEADS, image_size=16,
        patch_size=4, initializer_range=0.2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return ViTModel(config, add_pooling_layer=False), ViTImageProcessorPil(size={"height": 16, "width": 16})


def _series() -> tuple[Any, Any]:
    from transformers import PatchTSTConfig, PatchTSTModel

    config = PatchTSTConfig(
        num_input_channels=problems.CHANNELS, context_length=problems.SERIES_LENGTH, patch_length=8, patch_stride=8,
        d_model=HIDDEN, num_attention_heads=HEADS, num_hidden_layers=LAYERS, ffn_dim=INNER, init_std=0.2,
        attention_dropout=0.0, ff_dropout=0.0, positional_dropout=0.0, path_dropout=0.0,
    )  # fmt: skip
    return PatchTSTModel(config), None


TINY_MODELS: tuple[TinyModel, ...] = (
    TinyModel("encoder", "BERT-like, for text classification", _encoder, problems.texts),
    TinyModel(
        "decoder", "Llama-like: grouped-query attention, rotary positions, tied head", _decoder, problems.completions
    ),
    TinyModel("conv1d", "GPT-2-like: Conv1D weights, absolute positions", _conv1d, problems.completions),
    TinyModel("vision", "ViT with its PIL image processor", _vision, problems.images),
    TinyModel("series", "PatchTST, for series classification", _series, problems.series),
)
_BY_NAME: Mapping[str, TinyModel] = {model.name: model for model in TINY_MODELS}


def tiny_base(name: str, *, quantization: str = "none", dtype: torch.dtype = torch.float32, seed: int = 0) -> Base:
    """Build one of the tiny models as a base: `tiny_base("decoder")`.

    Raises:
        ConfigError: a name that is not among them.
    """
    return choose_models([name])[0].base(quantization=quantization, dtype=dtype, seed=seed)


def choose_models(models: Sequence[str | TinyModel] | None) -> list[TinyModel]:
    """Resolve names of tiny models; None stands for all of them.

    Raises:
        ConfigError: a name that is not among them.
    """
    chosen = []
    for model in TINY_MODELS if models is None else models:
        if isinstance(model, TinyModel):
            chosen.append(model)
        elif model in _BY_NAME:
            chosen.append(_BY_NAME[model])
        else:
            raise ConfigError(f"there is no tiny model '{model}'; there are: {', '.join(_BY_NAME)}")
    return chosen
