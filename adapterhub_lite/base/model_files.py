"""From files to a model and its processor, through transformers: checkpoints, prepared folders and GGUF."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterhub_lite.base.experts import FILE, read_packed, unpack_to_run
from adapterhub_lite.base.language import is_multimodal
from adapterhub_lite.base.quantization import quantization_config
from adapterhub_lite.base.references import Source
from adapterhub_lite.errors import AdapterHubError, BaseNotFoundError
from adapterhub_lite.names import one_line
from adapterhub_lite.plugins.surroundings import CHANGING, quiet

Configure = Callable[[Mapping[str, Any]], Any]
"""Given what a config.json says, the configuration to make the model of; None for a model that needs no other."""

_AT_HAND = {
    "_attn_implementation": (None, "eager", "sdpa", "flex_attention"),
    "_experts_implementation": (None, "eager", "batched_mm", "grouped_mm"),
}


def model_from(
    source: Source,
    folder: Path,
    dtype: torch.dtype,
    device: torch.device,
    quantization: str | None,
    trust: bool,
    configure: Configure | None = None,
) -> Any:
    """Load the model class that fits the checkpoint: with a language-modelling head where it was saved with one."""
    from transformers import MODEL_MAPPING, AutoModel

    options: dict[str, Any] = {"dtype": dtype, "device_map": {"": device}, "use_safetensors": True}
    if quantization is not None:
        options["quantization_config"] = quantization_config(quantization, dtype)
    with usable(f"base '{source.reference}' could not be loaded from {folder}"):
        config = config_from(folder, trust, configure)
        kind = model_class(config)
        if kind is AutoModel:
            options |= without_pooler(MODEL_MAPPING.get(type(config), object))
        prepared = (folder / FILE).is_file()
        if prepared:
            from adapterhub_lite.base.experts_loader import with_experts

            config.quantization_config = with_experts(config.quantization_config)
        with CHANGING:  # torch's default dtype, until the model is there
            model, loading = kind.from_pretrained(
                folder, config=config, trust_remote_code=trust, output_loading_info=True, **options
            )
        experts = read_packed(model, folder, device) if prepared else set()
        unpack_to_run(model)
    missing = sorted(loading["missing_keys"] - experts)
    if missing:
        raise BaseNotFoundError(
            f"base '{source.reference}': the files lack {len(missing)} weights that {type(model).__name__} needs, such as "
            f"'{missing[0]}'; they would be random, so the base is refused"
        )
    return model


def config_from(folder: Path, trust: bool, configure: Configure | None = None) -> Any:
    """The configuration of a checkpoint: the one that `configure` gives, else as transformers reads it.

    Raises:
        OSError, ValueError: there is no usable config.json, or of a model that nobody knows.
    """
    from transformers import AutoConfig, PretrainedConfig

    given = configure(PretrainedConfig.get_config_dict(folder)[0]) if configure is not None else None
    config = given if given is not None else AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    _compute_by_code_at_hand(config)
    return config


def _compute_by_code_at_hand(config: Any) -> None:
    """Forget the attention a file asks for where transformers might fetch it from a hub, such as flash_attention_2."""
    for name, at_hand in _AT_HAND.items():
        if getattr(config, name, None) not in at_hand:
            setattr(config, name, None)
    for part in config.sub_configs:
        if getattr(config, part, None) is not None:
            _compute_by_code_at_hand(getattr(config, part))


def model_class(config: Any) -> Any:
    """The class a checkpoint is opened with: the one with a language-modelling head where it was saved with one.

    Of an encoder with a decoder it is the encoder alone, where transformers has a class for that: T5EncoderModel for T5.
    """
    import transformers
    from transformers import MODEL_MAPPING, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if is_multimodal(config):
        return AutoModelForImageTextToText
    saved_as = (config.architectures or [""])[0]
    generates = saved_as in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() or saved_as.endswith("ForCausalLM")
    whole = MODEL_MAPPING.get(type(config), None)
    if config.is_encoder_decoder and whole is not None:
        return getattr(transformers, f"{whole.__name__.removesuffix('Model')}EncoderModel", AutoModel)
    return AutoModelForCausalLM if generates else AutoModel


def model_from_gguf(source: Source, dtype: torch.dtype, device: torch.device) -> tuple[Any, Any]:
    """Load a GGUF file as a plain dense model; left packed, its weights could neither be quantized anew nor saved."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with usable(f"base '{source.reference}' could not be read as GGUF from {source.folder / str(source.gguf)}"):
        # The reader draws a bar of its own that nothing turns off, and that fills a log with a line for every step.
        with CHANGING, redirect_stderr(StringIO()):
            model = AutoModelForCausalLM.from_pretrained(
                source.folder,
                gguf_file=source.gguf,
                dtype=dtype,
                quantization_config=GgufConfig(dequantize=True),
                device_map={"": device},
            )
        tokenizer = AutoTokenizer.from_pretrained(source.folder, gguf_file=source.gguf)
    return model, tokenizer


def processor_from(folder: Path, model: Any, trust: bool) -> Any:
    """The tokenizer or image processor that belongs to a model; the PIL one, which needs no torchvision."""
    from transformers import AutoImageProcessor, AutoTokenizer

    kind = getattr(model, "main_input_name", "input_ids")
    what = "tokenizer" if kind == "input_ids" else "image processor"
    with usable(
        f"{folder} has no usable {what} beside its model",
        "add the files that `save_pretrained` of the processor writes",
    ):
        if kind == "input_ids":
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
            if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
                # Without files transformers 5 makes one that knows no word, and reads every text as unknown tokens.
                raise ValueError("it has no vocabulary")
            if not isinstance(tokenizer.model_max_length, (int, float)) or tokenizer.model_max_length < 1:
                raise ValueError(f"its model_max_length is {str(tokenizer.model_max_length)[:40]!r}")
            return tokenizer
        if kind == "pixel_values":
            return AutoImageProcessor.from_pretrained(folder, trust_remote_code=trust, backend="pil")
    return None


def show_all(model: Any) -> None:
    """Let a model see the whole of what it is given, where it was made to be shown a random part of it, as ViTMAE was.

    And let it leave its weights as they are: RWKV halves them, layer by layer, whenever it goes from training to inference.
    """
    for module in model.modules():
        if hasattr(module, "random_masking"):
            module.random_masking = _nothing_hidden
        if hasattr(module, "layers_are_rescaled"):
            module._rescale_layers = _nothing_rescaled


def _nothing_rescaled() -> None:
    """The outputs are the same but for overflow in 16 bits, since halves are exact."""


def _nothing_hidden(sequence: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """All patches in their order, (batch, patches, hidden_size), a mask that hides none, and the order, (batch, patches)."""
    batch, patches, _ = sequence.shape
    order = torch.arange(patches, device=sequence.device).expand(batch, -1)
    return sequence, torch.zeros(batch, patches, device=sequence.device), order


@contextmanager
def usable(
    failure: str,
    cure: str = "one of its files is damaged, or needs another version of transformers: fetch it anew; or it is for another task",
) -> Iterator[None]:
    """Tell what libraries raise over the files of a base, which may be anything, in one line: what failed, why, the cure.

    Raises:
        BaseNotFoundError: for anything but an error of ours and memory that ran out.
    """
    try:
        yield
    except (AdapterHubError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and "alloc" in str(error):
            raise
        raise BaseNotFoundError(f"{failure} ({one_line(error)[:300]}); {cure}") from error


def without_pooler(kind: Any) -> dict[str, bool]:
    """What a model class is made with to have no pooler, whose weights may be random: the task pools the features."""
    takes_option = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    return {"add_pooling_layer": False} if takes_option else {}


@contextmanager
def calm() -> Iterator[None]:
    """Hold back the load reports and bars of the libraries below; what matters is checked and raised here."""
    from transformers.utils import logging as transformers_logging

    with quiet():
        level = transformers_logging.get_verbosity()
        bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        try:
            yield
        finally:
            transformers_logging.set_verbosity(level)
            if bars:
                transformers_logging.enable_progress_bar()
