"""`ModelView`: how a strategy looks at a model and changes it. Every change is logged and can be undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.base.attention import EXTENSIBLE, AttentionCall, AttentionSite, Extension
from adapterhub_lite.base.batch_norm import statistics_of
from adapterhub_lite.base.describe import example_inputs
from adapterhub_lite.base.learning import BatchContext
from adapterhub_lite.base.map import ModelMap
from adapterhub_lite.base.quantization import dense_weight, is_quantized
from adapterhub_lite.base.swaps import (
    AttentionSwap,
    ChildSwap,
    DataSwap,
    HookSwap,
    ImplementationSwap,
    Swap,
    TokenizerSwap,
    attention_implementation,
    module_tree,
)
from adapterhub_lite.base.tokens import add_rows, add_to_tokenizer
from adapterhub_lite.errors import ConfigError, NotSupportedError

TOKENS = "tokens."
"""What the saved names of the rows of added tokens begin with."""

__all__ = ["AttentionCall", "AttentionSite", "ModelView"]


class ModelView:
    """A model as one adapter sees and changes it.

    Attributes:
        model: The bare model. Look, but change it only through the methods here.
        map: Where its layers, weight matrices and output are.
        task: Name of the task the adapter is for.
        generates: Whether the task continues text, with the base's own output layer as its head.
        tokenizer: The base's tokenizer, with the tokens of `add_tokens`; None for images and series.
        context: The batch that is being run through the model, for layers that ask; None until one is.
    """

    def __init__(
        self,
        model: Any,
        model_map: ModelMap,
        task: str,
        tokenizer: Any = None,
        original_weight: Callable[[str], Tensor] | None = None,
        *,
        generates: bool = False,
        set_tokenizer: Callable[[Any], None] = lambda tokenizer: None,
    ):
        self.model = model
        self.map = model_map
        self.task = task
        self.generates = generates
        self.tokenizer = tokenizer
        self.context: BatchContext | None = None
        self.token_ids: tuple[int, ...] = ()
        """Ids of the tokens that were added."""
        self.token_rows: dict[str, nn.Parameter] = {}
        """Trained rows of the tokens that were added, by the name they are saved under."""
        self._original_weight = original_weight
        self._set_tokenizer = set_tokenizer
        self._log: list[Swap] = []
        self._mounted = True
        self.gone = False
        """Whether the adapter was detached, for good."""

    # Looking

    @property
    def device(self) -> torch.device:
        """The device of the base's weights."""
        return next(iter(self.model.parameters())).device

    def module(self, path: str) -> nn.Module:
        """The submodule at a dotted path."""
        module: nn.Module = self.model.get_submodule(path)
        return module

    def weight(self, path: str) -> Tensor:
        """The weight of a layer as floating-point numbers, dequantized where needed."""
        return dense_weight(self.module(path))

    def is_quantized(self, path: str) -> bool:
        """Whether a layer's weight is stored in 4 or 8 bits."""
        return is_quantized(self.module(path))

    def original_weight(self, path: str) -> Tensor:
        """The weight of a layer as it was before quantization, read from the base's files (fp32).

        Raises:
            NotSupportedError: when the files of the unquantized base are not at hand.
        """
        if self._original_weight is None:
            raise NotSupportedError("the unquantized weights of this base are not at hand")
        return self._original_weight(path)

    @cached_property
    def attention(self) -> tuple[AttentionSite, ...]:
        """Every place where attention is computed, found by running the smallest input through the model.

        Empty for a model without attention, or one that does not compute it through transformers' AttentionInterface.
        """
        return tuple(
            AttentionSite(
                path=path,
                heads=call.query.shape[1],
                kv_heads=call.key.shape[1],
                head_dim=call.key.shape[3],
                value_dim=call.value.shape[3],
                causal=call.causal,
            )
            for path, call in self.capture_attention(example_inputs(self.model, self.map.example)).items()
        )

    def capture_attention(self, inputs: Mapping[str, Tensor]) -> dict[str, AttentionCall]:
        """Run the base on `inputs` and return the arguments of every attention call, by module path, in order."""
        calls: dict[str, AttentionCall] = {}
        if attention_implementation(self.model) not in {*EXTENSIBLE, *EXTENSIBLE.values()}:
            return {}
        modules = dict(self.model.named_modules())

        def recorder(path: str) -> Extension:
            return lambda call: calls.update({path: AttentionCall(**vars(call))})

        swaps: list[Swap] = [ImplementationSwap(self.model)]
        swaps += [AttentionSwap(module, recorder(path)) for path, module in modules.items() if path]
        training = self.model.training
        self.model.eval()
        for swap in swaps:
            swap.mount()
        try:
            with torch.no_grad():
                self.model(**inputs)
        finally:
            for swap in reversed(swaps):
                swap.unmount()
            self.model.train(training)
        return calls

    # Changing

    def replace(self, path: str, module: nn.Module) -> None:
        """Put another module at a path; the new one may hold the old one."""
        parent_path, _, name = path.rpartition(".")
        parent = self.module(parent_path)
        self._do(ChildSwap(parent, "_modules", name, parent._modules[name], module))

    def before(self, path: str, function: Callable[[Tensor], Tensor]) -> None:
        """Change the first input of a module."""
        target = self.module(path)

        def hook(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (function(args[0]), *args[1:])

        self._do(HookSwap(lambda: target.register_forward_pre_hook(hook)))

    def after(self, path: str, function: Callable[[Tensor], Tensor]) -> None:
        """Change the output of a module, or the first of its outputs."""
        target = self.module(path)

        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            return (function(output[0]), *output[1:]) if isinstance(output, tuple) else function(output)

        self._do(HookSwap(lambda: target.register_forward_hook(hook)))

    def extend_attention(self, path: str, extension: Extension) -> None:
        """Let a function change the arguments of one attention site before attention is computed.

        Raises:
            NotSupportedError: when there is no such site.
        """
        if path not in {site.path for site in self.attention}:
            raise NotSupportedError(f"{type(self.model).__name__} has no attention at '{path}' that can be extended")
        if not any(isinstance(swap, ImplementationSwap) for swap in self._log):
            self._do(ImplementationSwap(self.model))
        self._do(AttentionSwap(self.module(path), extension))

    def train_base(self, names: Sequence[str]) -> dict[str, nn.Parameter]:
        """Make parameters of the base trainable, in fp32, on copies: the base's own storage is never written.

        The whole model computes in fp32 (or autocast) while this adapter is active, because layers that mix two dtypes
        do not. A tied weight is one parameter. Running statistics that are parameters (`adapterhub_lite.base.batch_norm`)
        are returned as well and get no gradient.

        Raises:
            NotSupportedError: on a quantized base, whose weights have no gradient.
        """
        if any(is_quantized(module) for module in self.model.modules()):
            raise NotSupportedError(
                "the weights of a quantized base cannot be trained; load it with quantization 'none', or use lora"
            )
        wanted, statistics = set(names), {id(parameter) for parameter in statistics_of(self.model)}
        chosen: dict[str, nn.Parameter] = {}
        for name, parameter in self.model.named_parameters():
            train = name in wanted
            if train or parameter.dtype != torch.float32:
                copy = parameter.data.to(torch.float32, copy=True)
                self._do(DataSwap(parameter, parameter.data, copy, trainable=train and id(parameter) not in statistics))
            if train:
                chosen[name] = parameter
        for module in self.model.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.is_floating_point() and buffer.dtype != torch.float32:
                    self._do(ChildSwap(module, "_buffers", name, buffer, buffer.float()))
        return chosen

    def add_tokens(self, names: Sequence[str]) -> list[int]:
        """Add tokens to the tokenizer, with trained rows of the embedding, for this adapter alone.

        A row starts at the mean of the rows of the pieces that its name was cut into before. In a language model that does
        not tie its two embeddings, the output layer gets rows of its own. The rows are trained, saved and restored beside
        what `attach` returns; the base's own embedding stays frozen.

        Returns:
            The id of each token.

        Raises:
            NotSupportedError: a base without a tokenizer, or without an embedding.
            ConfigError: names that are empty, given twice, or tokens already.
        """
        if self.token_rows:
            raise ConfigError("tokens were added before; name all of them in one call")
        before = self.tokenizer
        tokenizer, ids = add_to_tokenizer(before, names, type(self.model).__name__)
        rows = add_rows(self, before, names, ids[0])
        self.token_ids = tuple(ids)
        self.token_rows = {f"{TOKENS}{name}": parameter for name, parameter in rows.items()}
        self._do(TokenizerSwap(self._put_tokenizer, before, tokenizer))
        return ids

    def _put_tokenizer(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._set_tokenizer(tokenizer)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Log what a function that changes the model by itself does, such as PEFT's `inject_adapter_in_model`.

        References to modules and parameters, and parameters whose `.data` is set anew, are undone exactly, those of a
        function that failed half-way too. Writing into the base's own storage is not seen here, and never allowed.
        """
        before = module_tree(self.model)
        modules_before = {id(module) for module in self.model.modules()}
        attributes_before = set(vars(self.model))
        storages = {id(p): (p, p.data) for p in self.model.parameters()}
        frozen = [p for p in self.model.parameters() if not p.requires_grad]
        try:
            yield
        finally:
            after = module_tree(self.model)
            for key in [*before, *(key for key in after if key not in before)]:
                parent, old = before.get(key, (None, None))
                new_parent, new = after.get(key, (None, None))
                # A module that is new itself hangs on a reference that is logged; its insides need no log.
                if new is not old and key[0] in modules_before:
                    self._log.append(ChildSwap(parent or new_parent, key[1], key[2], old, new))
            for name in set(vars(self.model)) - attributes_before:
                delattr(self.model, name)  # bookkeeping of the other library, which would trip over it next time
            for parameter, data in storages.values():
                if parameter.data.data_ptr() != data.data_ptr():
                    self._log.append(DataSwap(parameter, data, parameter.data))
            for parameter in frozen:
                parameter.requires_grad_(False)

    # What the engine does with the log

    def mount(self) -> None:
        """Put all changes in place, in the order in which they were made.

        Raises:
            ConfigError: the adapter was detached, and there is nothing left to put in place.
        """
        if self.gone:
            raise ConfigError("this adapter was detached from its base; load it again to use it")
        if not self._mounted:
            for swap in self._log:
                swap.mount()
            self._mounted = True

    def unmount(self) -> None:
        """Take all changes back, last first; the model is bit for bit the bare base."""
        if self._mounted:
            for swap in reversed(self._log):
                swap.unmount()
            self._mounted = False

    def unchanged(self, parameters: Mapping[str, nn.Parameter]) -> set[str]:
        """Names of those trained parameters of the base that hold exactly what the base holds."""
        base = {id(swap.parameter): swap.old for swap in self._log if isinstance(swap, DataSwap)}
        return {
            name
            for name, parameter in parameters.items()
            if id(parameter) in base and torch.equal(base[id(parameter)].float(), parameter.data)
        }

    @property
    def copied(self) -> set[int]:
        """The identities of those parameters of the base that have a storage of the adapter's own."""
        return {id(swap.parameter) for swap in self._log if isinstance(swap, DataSwap)}

    @property
    def adapted(self) -> set[int]:
        """The identities of those parameters of the base that are trained, or whose module was wrapped in another."""
        adapted = {id(swap.parameter) for swap in self._log if isinstance(swap, DataSwap) and swap.trainable}
        for swap in self._log:
            if isinstance(swap, ChildSwap) and isinstance(swap.old, nn.Module) and isinstance(swap.new, nn.Module):
                only = getattr(swap.new, "parameter_name", None)  # of a wrapper for one parameter of a module
                named = swap.old.named_parameters()
                adapted |= {id(p) for name, p in named if only in (None, name.rpartition(".")[2])}
        return adapted

    @property
    def rewrites_base(self) -> bool:
        """Whether weights of the base itself are other ones while this is mounted."""
        return any(
            isinstance(swap, DataSwap)
            or (isinstance(swap, ChildSwap) and swap.table != "_modules" and swap.old is not None)
            for swap in self._log
        )

    def settle(self) -> None:
        """After a merge: take everything off but trained weights of the base, which stay; there is no way back."""
        for swap in reversed(self._log):
            stays = isinstance(swap, DataSwap) or (isinstance(swap, ChildSwap) and swap.table == "_buffers")
            if not stays:
                swap.unmount()
        self._log.clear()

    def forget(self) -> None:
        """Drop the log after the changes were taken back; the view is of no more use."""
        self._log.clear()
        self.gone = True

    def _do(self, swap: Swap) -> None:
        swap.mount()
        self._log.append(swap)
