"""`load_base`: from a reference to a frozen model on a device, quantized where wanted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from adapterhub_lite.base.arguments import check_arguments
from adapterhub_lite.base.batch_norm import batch_norms
from adapterhub_lite.base.describe import describe
from adapterhub_lite.base.experts import whole_experts
from adapterhub_lite.base.fingerprint import fingerprint_of_files, fingerprint_of_module
from adapterhub_lite.base.flat import Flattening
from adapterhub_lite.base.foreign import NOTHING_FOREIGN, Asked, Foreign
from adapterhub_lite.base.language import leave_out
from adapterhub_lite.base.map import ModelMap
from adapterhub_lite.base.model_files import calm, model_from, model_from_gguf, processor_from, show_all, usable
from adapterhub_lite.base.precision import choose_device, choose_dtype, dtype_name
from adapterhub_lite.base.prepared import find_prepared, keep_prepared, prepared_folder, temporary_folder
from adapterhub_lite.base.quantization import is_quantized, make_trainable, numel, stored_transposed, unpack_misread
from adapterhub_lite.base.references import Source, resolve
from adapterhub_lite.base.shards import Shards
from adapterhub_lite.base.trial import run_once
from adapterhub_lite.base.view import ModelView
from adapterhub_lite.base.vocabulary import check_usual_tokens, tokens_beyond
from adapterhub_lite.errors import BaseNotFoundError, NotSupportedError, StorageError
from adapterhub_lite.names import QUANTIZATIONS, check_choice
from adapterhub_lite.storage.manifest import Fingerprint


@dataclass(repr=False)
class Base:
    """A frozen foundation model, ready to carry adapters.

    Attributes:
        reference: As given; recorded in every adapter.
        model: The transformers model, on its device, with no parameter requiring gradients.
        processor: Its tokenizer or image processor; None for series.
        map: Where its layers and outputs are.
        fingerprint: Its identity by content.
        active: The view of the adapter that is mounted now, if any.
        lock: Held by the thread that uses the base, so that no other mounts an adapter meanwhile. Re-entrant.
        folder: Its files, those of the trained model where the weights are random; None where it was made in memory.
        shards: Where its weights are spread over processes, what keeps these in step; else None.
        left_out: Paths of the parts of its class that were taken out of memory because no text goes through them.
        beyond: Tokens of its tokenizer that it has no embedding for, by id; inputs that have one are refused.
    """

    reference: str
    revision: str | None
    model: Any
    processor: Any
    map: ModelMap
    fingerprint: Fingerprint
    quantization: str
    dtype: torch.dtype
    device: torch.device
    source: Source | None = None
    folder: Path | None = None
    active: ModelView | None = field(default=None, repr=False)
    lock: Any = field(default_factory=threading.RLock, init=False, compare=False)
    shards: Shards | None = field(default=None, repr=False)
    left_out: tuple[str, ...] = ()
    beyond: Mapping[int, str] = field(default_factory=dict, repr=False)
    kept_bare: bool = field(default=False, init=False, compare=False)
    """Whether a thread holds it bare: whoever mounts an adapter then takes it off again."""
    row_features: dict[bytes, Any] | None = field(default=None, init=False, compare=False)
    """While several runs share them, the features of single examples; see `training.features.shared_features`."""
    flat: Flattening | None = field(default=None, init=False, compare=False)
    """How texts are run without padding, while that was shown to change nothing; see `training.flat`."""
    parameters: int = field(init=False)
    """Number of weights of the bare base, quantized ones counted as what they stand for."""

    def __repr__(self) -> str:
        kind, size = type(self.model).__name__, f"{self.parameters:,} weights"
        return f"<Base {self.reference}: {kind}, {size}, quantization {self.quantization}, {dtype_name(self.dtype)}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse to be copied or pickled, with all its weights and adapters that would not be on the copy."""
        raise NotSupportedError("a base is not copied or pickled; save the adapter and load it where it is needed")

    def __sklearn_clone__(self) -> Base:
        """Itself, which estimators of scikit-learn share; see `adapterhub_lite.estimators`."""
        return self

    def __post_init__(self) -> None:
        self.parameters = sum(numel(parameter) for parameter in self.model.parameters())

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of a text model, else None."""
        return self.processor if self.map.modality == "text" else None

    def view(self, task: str, *, generates: bool = False) -> ModelView:
        """A fresh view on the bare model; whatever adapter is mounted is taken off first.

        Args:
            task: Name of the task it is for.
            generates: Whether that task continues text.
        """
        self.activate(None)
        return ModelView(
            self.model, self.map, task, self.tokenizer, self._original_weight,
            generates=generates, set_tokenizer=partial(setattr, self, "processor"),
        )  # fmt: skip

    def activate(self, view: ModelView | None) -> None:
        """Mount one adapter's view, or none for the bare base."""
        with self.lock:
            if self.active is not None and self.active is not view:
                self.active.unmount()
            if view is not None:
                view.mount()
            self.active = view

    def put_back(self) -> None:
        """Put what was left out of memory back in, on the CPU, before the model is saved."""
        if self.left_out and self.source is not None:
            whole = model_from(self.source, self.source.folder, self.dtype, torch.device("cpu"), None, False)
            for path in self.left_out:
                parent, _, name = path.rpartition(".")
                self.model.get_submodule(parent)._modules[name] = whole.get_submodule(path)
            self.left_out = ()

    def _original_weight(self, path: str) -> Tensor:
        """Read one weight of the unquantized base, by its path in the model (fp32), laid out as `ModelView.weight`."""
        name = f"{path}.weight"
        # In fp32, and out of GGUF, the model holds what the files do.
        if self.quantization == "none" and (
            self.source is None or self.source.gguf is not None or self.dtype == torch.float32
        ):
            return self.model.get_parameter(name).data.float()
        if self.source is None or self.source.gguf is not None:
            dense = find_prepared(prepared_folder(self.source, "none", dtype_name(self.dtype))) if self.source else None
            files = sorted(dense.folder.glob("*.safetensors")) if dense else []
        else:
            files = self.source.weights
        for file in files:
            with safe_open(file, framework="pt") as tensors:
                # A checkpoint may carry the prefix of a head model, or lack the one this model has.
                match = [
                    key
                    for key in tensors.keys()  # noqa: SIM118
                    if f".{name}".endswith(f".{key}") or f".{key}".endswith(f".{name}")
                ]
                if match:
                    weight: Tensor = tensors.get_tensor(max(match, key=len)).float()
                    module = self.model.get_submodule(path)
                    return weight.T if stored_transposed(getattr(module, "base_layer", module)) else weight
        raise BaseNotFoundError(
            f"base '{self.reference}': the unquantized weight '{name}' is not at hand; load the base once with "
            "quantization 'none' to keep it in the cache"
        )


def load_base(
    reference: str,
    *,
    quantization: str = "none",
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    foreign: Foreign = NOTHING_FOREIGN,
    report: Callable[[str], None] | None = None,
) -> Base:
    """Load a foundation model, frozen.

    Args:
        reference: A local folder, a `.gguf` file, `pypi:<dist>` (a base shipped in a wheel) or a hub id (`org/name@rev`).
        quantization: "none", "nf4", "fp4" (4 bits, double quantization) or "int8".
        dtype: "auto", "float32", "bfloat16" or "float16"; what the model computes in.
        device: "auto", "cpu", "cuda", ...
        trust_remote_code: Run modelling code that comes with the base. Never taken from a file.
        foreign: What plug-ins know of bases.
        report: Called with a line on each step that takes long.

    Raises:
        BaseNotFoundError: the reference leads nowhere, or its files do not make a model.
        ConfigError: an unknown quantization, dtype or device.
        NotSupportedError: bitsandbytes is missing, or the model is of a kind nobody described.
    """
    check_choice("quantization", quantization, QUANTIZATIONS)
    target = choose_device(device)
    computes_in = choose_dtype(dtype, target)
    say = report or (lambda line: None)
    revision = reference.partition("@")[2] or None
    given = foreign.load(Asked(reference, quantization, dtype_name(computes_in), str(target), revision))
    if given is not None:
        return adopt(
            given.to(target), reference=reference, quantization=quantization, describe_foreign=foreign.describe
        )
    source = resolve(reference)
    wanted = _Wanted(source, quantization, computes_in, target, trust_remote_code, foreign, say)
    with calm():
        if quantization == "none" and source.gguf is None:
            say(f"loading {reference}")
            model = wanted.model(source.folder)
            if dtype == "auto" and computes_in != torch.float32 and batch_norms(model):
                # Running means and variances lose too much in 16 bits, and networks that have them are small.
                wanted = replace(wanted, dtype=torch.float32)
                model = wanted.model(source.folder)
            processor, known = processor_from(source.folder, model, trust_remote_code), None
        else:
            model, processor, known = _load_prepared(wanted)
    model.requires_grad_(False)
    model.eval()
    make_trainable(model)
    if quantization != "none" and not any(is_quantized(module) for module in model.modules()):
        raise NotSupportedError(
            f"{type(model).__name__} has no layer that {quantization} can store (only linear ones are); use --quantize none"
        )
    misread = unpack_misread(model)
    if misread:
        say(
            f"{misread} layers of {reference} are kept unpacked: bitsandbytes reads their {quantization} form wrongly here"
        )
    check_arguments(model)
    show_all(model)
    with usable(f"base '{reference}' was loaded from {source.folder} but cannot be described"):
        model_map = _describe(model, foreign.describe)
        identity = known or fingerprint_of_files(source, model, model_map)
    left_out = leave_out(model, model_map.unreached)
    if left_out:
        say(f"left out of memory, since no text goes through: {', '.join(left_out)}")
        model_map = replace(model_map, unreached=tuple(p for p in model_map.unreached if p not in left_out))
    if quantization != "none" and (staying := whole_experts(model, model_map.experts, quantization)):
        say(staying)
    with calm(), usable(f"base '{reference}' was loaded from {source.folder} but cannot be run"):
        beyond = tokens_beyond(model, processor)
        check_usual_tokens(model, processor, beyond, say)
        if quantization == "none":  # int8 layers change when they are first run
            model_map = replace(model_map, sees_padding=run_once(model, processor, model_map.hidden_size))
    return Base(
        reference, source.revision, model, processor, model_map, identity, quantization, wanted.dtype, target, source,
        folder=source.folder,
        left_out=left_out,
        beyond=beyond,
    )  # fmt: skip


@dataclass(frozen=True)
class _Wanted:
    """What `load_base` was asked for."""

    source: Source
    quantization: str
    dtype: torch.dtype
    device: torch.device
    trust: bool
    foreign: Foreign
    say: Callable[[str], None]

    def model(self, folder: Path, quantization: str | None = None) -> Any:
        """Load the model in a folder, quantized on the way where a quantization is named."""
        return model_from(
            self.source, folder, self.dtype, self.device, quantization, self.trust, self.foreign.configure
        )

    def prepared(self, quantization: str) -> Path:
        """Where the prepared form of the base is kept."""
        return prepared_folder(self.source, quantization, dtype_name(self.dtype))


def _load_prepared(wanted: _Wanted) -> tuple[Any, Any, Fingerprint]:
    """Open the prepared form of a base, making it first where there is none yet: model, processor and fingerprint."""
    source, quantization = wanted.source, wanted.quantization
    ready = find_prepared(wanted.prepared(quantization), wanted.say)
    if ready is not None:
        wanted.say(f"loading {source.reference} ({quantization}, prepared before)")
        model = wanted.model(ready.folder)
        return model, processor_from(ready.folder, model, wanted.trust), ready.fingerprint
    if source.gguf is not None:
        model, processor, identity = _unpack_gguf(wanted)
    else:
        wanted.say(f"quantizing {source.reference} to {quantization}")
        model = wanted.model(source.folder, quantization)
        processor = processor_from(source.folder, model, wanted.trust)
        make_trainable(model)  # describing it may run it, which would repack what is about to be kept
        identity = fingerprint_of_files(source, model, _describe(model, wanted.foreign.describe))
    try:
        keep_prepared(wanted.prepared(quantization), model, processor, identity)
    except StorageError as error:
        wanted.say(f"going on without the cache: {error}")
    return model, processor, identity


def _unpack_gguf(wanted: _Wanted) -> tuple[Any, Any, Fingerprint]:
    """Unpack a GGUF file, and quantize it anew where wanted: model, processor and fingerprint."""
    source, quantization = wanted.source, wanted.quantization
    dense = find_prepared(wanted.prepared("none"), wanted.say if quantization != "none" else lambda line: None)
    if dense is not None:
        wanted.say(f"quantizing {source.reference} to {quantization}")
        model = wanted.model(dense.folder, quantization)
        return model, processor_from(dense.folder, model, wanted.trust), dense.fingerprint
    wanted.say(f"unpacking {source.reference}")
    model, processor = model_from_gguf(source, wanted.dtype, wanted.device)
    identity = fingerprint_of_files(source, model, describe(model))
    if quantization != "none":
        wanted.say(f"quantizing {source.reference} to {quantization}")
        with temporary_folder() as folder:  # bitsandbytes quantizes while loading
            model.save_pretrained(folder)
            model = wanted.model(folder, quantization)
    return model, processor, identity


def _describe(model: Any, describe_foreign: Callable[[nn.Module], ModelMap | None]) -> ModelMap:
    given = describe_foreign(model)
    return given if given is not None else describe(model)


def adopt(
    model: Any,
    processor: Any = None,
    *,
    reference: str = "(in memory)",
    quantization: str = "none",
    describe_foreign: Callable[[nn.Module], ModelMap | None] = NOTHING_FOREIGN.describe,
) -> Base:
    """Make a base of a model that is loaded already: by a plug-in, or built in code.

    It is frozen and put into evaluation mode, where it is. Its identity is taken from its tensors.

    Args:
        model: A transformers model, or a module that a plug-in describes through `adapterhub_describe_model`.
        processor: Its tokenizer or image processor; `model.processor` where there is one.
        reference: What adapters record; `load_adapter` has to be given the base again unless a plug-in loads this.
        quantization: How its weights are stored.
        describe_foreign: As `Foreign.describe`.
    """
    model.requires_grad_(False)
    model.eval()
    make_trainable(model)
    show_all(model)
    unpack_misread(model)
    model_map = _describe(model, describe_foreign)
    first = next(p for p in model.parameters() if p.is_floating_point())
    identity = fingerprint_of_module(model, len(model_map.layers))
    processor = processor if processor is not None else getattr(model, "processor", None)
    return Base(
        reference, None, model, processor, model_map, identity, quantization, first.dtype, first.device,
        beyond=tokens_beyond(model, processor),
    )  # fmt: skip
