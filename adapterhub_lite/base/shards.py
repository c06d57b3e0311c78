"""A base that is spread over processes: each holds a part of every weight, and a layer is put together to be run.

The work is done by torch's `fully_shard` (FSDP2; Zhao et al. 2023, arXiv:2304.11277). Its units are the repeated blocks,
the output layer, and the rest of the model. What an adapter trains is left out: it stays whole on every process, as a
plain tensor, so that optimizer, checkpoints and adapter files know nothing of this.

A layer is put together by all processes at once. They have to run the same layers in the same order, and one that runs
out of memory must not leave the others waiting: so they ask each other before every layer whether all are still there.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_lite.base.describe import backbone, example_inputs
from adapterhub_lite.base.map import ModelMap
from adapterhub_lite.base.quantization import keep_quantization
from adapterhub_lite.errors import NotSupportedError


class OutOfMemoryElsewhere(MemoryError):
    """Another process ran out of memory, so that all have to begin again."""

    def __init__(self) -> None:
        super().__init__("another process is out of memory")


class Shards:
    """How the processes that hold a base together keep step.

    Args:
        roots: The wrapped modules that no other one contains.
    """

    def __init__(self, roots: Sequence[Any]):
        self._roots = roots
        self._units: list[Any] = []
        # On the CPU, whatever the base is on: a process learns that memory ran out when it asks for it, not when the
        # accelerator gets there, and asking must not wait for the accelerator.
        self._group = torch.distributed.new_group(backend="gloo")

    def check(self) -> None:
        """Ask whether all processes have come this far.

        Raises:
            OutOfMemoryElsewhere: one of them ran out of memory instead.
        """
        if self.largest(0):
            raise OutOfMemoryElsewhere

    def begin_again(self, error: BaseException) -> None:
        """After memory ran out, here or elsewhere: tell those who do not know, and make the base ready to be run anew.

        Raises:
            NotSupportedError: this torch cannot.
        """
        if not isinstance(error, OutOfMemoryElsewhere):
            self.largest(1)
        for root in self._roots:
            if not hasattr(root, "reset_iter_state"):
                raise NotSupportedError(
                    "out of memory, and after that this version of torch cannot go on with a sharded base; give a "
                    "smaller --micro-batch-size, or pip install 'torch>=2.13'"
                ) from error
            root.reset_iter_state()

    def largest(self, value: int) -> int:
        """The largest of the values that the processes give."""
        largest = torch.tensor([value])
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX, group=self._group)
        return int(largest)

    def wrap(self, module: nn.Module, **options: Any) -> None:
        """Shard a module, and ask before it is put together: on the way forward, and on the way of the gradients back."""
        from torch.distributed.fsdp import fully_shard

        def before_backward(gradient: Tensor) -> Tensor:
            self.check()
            return gradient

        def before(*_: Any) -> None:
            self.check()

        def after(_: nn.Module, __: Any, output: Any) -> None:
            for tensor in _tensors(output):
                if tensor.requires_grad:
                    tensor.register_hook(before_backward)

        # Hooks of a tensor are called in the order in which they came; ours has to be called first.
        module.register_forward_hook(after)
        fully_shard(module, **options)
        module.register_forward_pre_hook(before, prepend=True)
        self._units.append(module)

    def storages(self) -> set[int]:
        """Where the weights lie once they are put together: always in the same places, empty in between."""
        storages: set[int] = set()
        for unit in self._units:
            unit.unshard()
            storages |= {storage_of(parameter) for parameter in unit.parameters()}
            unit.reshard()
        return storages


def storage_of(tensor: Tensor) -> int:
    """What the tensors that share memory have in common, also while that memory is given back."""
    return tensor.untyped_storage()._cdata


def shard(model: Any, model_map: ModelMap, trained: Iterable[nn.Parameter], device: torch.device) -> Shards:
    """Spread the frozen weights of a model over the processes of the default group, each part on `device`.

    Args:
        model: Its parameters are replaced; the whole ones are freed, unit by unit.
        model_map: Where its repeated blocks and its output layer are.
        trained: Stays whole.
        device: This process's own.

    Raises:
        NotSupportedError: torch is too old, or the model cannot be run in this way.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise NotSupportedError(f"--shard needs a newer torch than {torch.__version__}; pip install -U torch")
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    blocks, output = model_map.layers, model_map.output
    body = backbone(model) if hasattr(model, "get_output_embeddings") else model
    head = model.get_submodule(output) if output is not None else None
    apart = head is not None and not any(module is head for module in body.modules())
    roots = [body, head] if apart else [body]
    whole = {*trained, *_shared(model, [*blocks, *([output] if output is not None else [])])}
    keep_quantization(model)
    shards = Shards(roots)
    for module in [*(model.get_submodule(path) for path in blocks), *roots]:
        shards.wrap(module, mesh=mesh, ignored_params=whole)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.device != device:
            tensor.data = tensor.data.to(device)
    _rehearse(model, model_map)
    return shards


def _shared(model: nn.Module, units: Sequence[str]) -> set[nn.Parameter]:
    """Parameters that belong to more than one unit, such as an output layer that is the embedding as well."""
    owners: dict[nn.Parameter, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner = next((unit for unit in units if name.startswith(f"{unit}.")), "")
        owners.setdefault(parameter, set()).add(owner)
    return {parameter for parameter, names in owners.items() if len(names) > 1}


def _rehearse(model: Any, model_map: ModelMap) -> None:
    """Run the smallest input once, to see that the model calls its layers as modules, which is what puts them together.

    Raises:
        NotSupportedError: it does not.
    """
    try:
        with torch.no_grad():
            model(**example_inputs(model, model_map.example))
    except (RuntimeError, TypeError, AttributeError, AssertionError) as error:
        raise NotSupportedError(
            f"--shard: {type(model).__name__} does not run once its layers are sharded "
            f"({str(error).splitlines()[0]}); leave out --shard, and use --quantize nf4 if it does not fit"
        ) from error


def _tensors(output: Any) -> Iterator[Tensor]:
    """The tensors in what a module returns: one, or some in tuples, dictionaries and model outputs."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _tensors(value)
