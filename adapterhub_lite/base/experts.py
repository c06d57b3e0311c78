"""Parameters that hold a matrix for each of several experts: in 4 bits, and whole only while their module runs.

Autograd, which would keep the whole ones until the backward pass, in every layer at once, is given notes in their place, by
which the experts that are needed are made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adapterhub_lite.base.quantization import BLOCK, dequantized_part, numel, packed_from, packed_tensors, stored_shape

FILE = "experts.safetensors"
"""The file of a prepared base that has its experts in 4 bits, which transformers neither writes nor reads."""

Make = Callable[[int, int | None], Tensor]
"""Makes the matrices of the experts from one to before another, or to the last: (experts, rows, columns)."""


def stacked(module: Any) -> list[tuple[str, nn.Parameter]]:
    """The parameters of a module that hold a matrix for each of its experts, (experts, rows, columns)."""
    count, names = getattr(module, "num_experts", None), "Expert" in type(module).__name__
    own = ((name, p, stored_shape(p)) for name, p in module.named_parameters(recurse=False))
    return [(name, p) for name, p, shape in own if len(shape) == 3 and (shape[0] == count or names)]


def packed(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of experts that are stored in 4 bits, by their paths."""
    named = ((f"{path}.{name}", p) for path, module in model.named_modules() for name, p in stacked(module))
    return {path: p for path, p in named if p.dim() < 3}


def whole_experts(model: nn.Module, paths: Sequence[str], quantization: str) -> str | None:
    """A line that says which experts of a quantized model are not stored in fewer bits, and why; None where all are."""
    whole = {path: p for path in paths if (p := model.get_parameter(path)).dim() == 3}
    if not whole:
        return None
    share = sum(map(numel, whole.values())) / sum(map(numel, model.parameters()))
    names = ", ".join(sorted({path.rpartition(".")[2] for path in whole}))
    dtype = str(next(iter(whole.values())).dtype).removeprefix("torch.")
    why = (
        "it stores linear layers alone"
        if quantization == "int8"
        else f"a matrix is no number of blocks of {BLOCK} weights"
    )
    return f"{len(whole)} tensors of experts ({names}), {share:.0%} of the weights, stay in {dtype} and not {quantization}: {why}"


def matrices(weight: Tensor, first: int = 0, last: int | None = None) -> Tensor:
    """The matrices of some of the experts in a parameter, dequantized where needed: (experts, rows, columns)."""
    shape = stored_shape(weight)
    return weight[first:last] if len(shape) == weight.dim() else dequantized_part(weight, first, last)


def noted(whole: Tensor, make: Make) -> AbstractContextManager[None]:
    """Let autograd keep notes of what lies in a tensor that can be made again, (experts, rows, columns).

    Notes may be nested: what lies in the tensors of the wider ones is noted as well.
    """
    outside = torch._C._autograd._top_saved_tensors_default_hooks(True)
    if outside is not None and outside[1] is not _again:
        return nullcontext()  # a block is run again for its gradients, or kept elsewhere: others see to it
    storage, matrix = whole.untyped_storage().data_ptr(), whole[0].numel()

    def note(tensor: Tensor) -> Tensor | _Part:
        if tensor.untyped_storage().data_ptr() == storage:
            return _Part(make, matrix, tensor.size(), tensor.stride(), int(tensor.storage_offset()))
        return tensor if outside is None else outside[0](tensor)

    return torch.autograd.graph.saved_tensors_hooks(note, _again)


class _Part(NamedTuple):
    """The part of the matrices that a tensor is."""

    make: Make
    matrix: int  # numbers in one of them
    size: torch.Size
    stride: tuple[int, ...]
    offset: int

    def again(self) -> Tensor:
        """Make the experts that it lies in."""
        last = self.offset + sum((extent - 1) * step for extent, step in zip(self.size, self.stride, strict=True))
        first = self.offset // self.matrix
        made = self.make(first, last // self.matrix + 1)
        return made.as_strided(self.size, self.stride, self.offset - first * self.matrix)


def _again(kept: Tensor | _Part) -> Tensor:
    return kept if isinstance(kept, Tensor) else kept.again()


def unpack_to_run(model: nn.Module) -> None:
    """Have each module whose experts are in 4 bits find them whole while it runs."""
    for path in dict.fromkeys(name.rpartition(".")[0] for name in packed(model)):
        module: Any = model.get_submodule(path)
        module.unpacked = []
        module.register_forward_pre_hook(_unpack)
        module.register_forward_hook(_pack, always_call=True)


def _unpack(module: Any, inputs: tuple[Any, ...]) -> None:
    module.unpacked.append(ExitStack())
    for name, weight in list(module._parameters.items()):
        # A strategy may have put the sum with its update there.
        if len(stored_shape(weight)) == 3 and weight.dim() < 3:
            whole = matrices(weight)
            module.unpacked[-1].enter_context(noted(whole, partial(matrices, weight)))
            # In the place of the parameter, which code of the model looks up by its name.
            module._parameters[name] = whole
            module.unpacked[-1].callback(module._parameters.__setitem__, name, weight)


def _pack(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
    module.unpacked.pop().close()


def write_packed(model: nn.Module, folder: Path) -> None:
    """Write the experts of a model that are in 4 bits, if it has any, into the folder of a prepared base."""
    parts = {path: packed_tensors(parameter) for path, parameter in packed(model).items()}
    tensors = {f"{path}|{key}": part.contiguous() for path, own in parts.items() for key, part in own.items()}
    if tensors:
        save_file(tensors, folder / FILE)


def read_packed(model: nn.Module, folder: Path, device: torch.device) -> set[str]:
    """Put experts that lie in the folder of a prepared base into a model, and return their paths."""
    own: dict[str, dict[str, Tensor]] = {}
    for name, tensor in load_file(folder / FILE).items():
        path, _, key = name.partition("|")
        own.setdefault(path, {})[key] = tensor
    for path, tensors in own.items():
        owner, _, name = path.rpartition(".")
        model.get_submodule(owner)._parameters[name] = packed_from(tensors, device)
    return set(own)
