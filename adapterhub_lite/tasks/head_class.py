"""The class of transformers that puts a linear head on a base as a task does, where there is one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adapterhub_lite.base.describe import backbone
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.model_files import calm
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.errors import AdapterCorruptError, NotSupportedError

if TYPE_CHECKING:
    from adapterhub_lite.tasks.head import HeadTask

FACT = "head_class"
"""The fact of a task's preprocessing that its head is one that such a class holds."""
SAME = 1e-2
"""How far logits may be apart, as a share of the largest: rounding in 16 bits; another pooling makes them differ by all."""


@dataclass(frozen=True)
class HeadClass:
    """A class such as LlamaForSequenceClassification: a base's layers and one linear layer on its pooled features."""

    name: str
    head: str
    """Path of the linear layer, such as "score"."""
    bias: bool
    """Whether that has a bias."""
    before: str
    """What stands before the names of the base's tensors in this class, such as "bert."; empty where they are the same."""

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> HeadClass | None:
        """The class that a saved adapter's head was made for; None where it was made for none.

        Raises:
            AdapterCorruptError: a record that was never written.
        """
        match facts.get(FACT):
            case None:
                return None
            case {"name": str(name), "head": str(head), "bias": bool(bias), "before": str(before), **rest} if not rest:
                return cls(name, head, bias, before)
        raise AdapterCorruptError(
            f"adapterhub.json: task.preprocessing: {FACT} is not understood; save the adapter again"
        )

    def record(self) -> dict[str, Any]:
        """As a fact of the preprocessing."""
        return {FACT: asdict(self)}


def find_head_class(base: Base, task: HeadTask) -> HeadClass:
    """Find the class, and compare its outputs with the task's on made-up inputs, whatever is mounted on the base.

    Raises:
        NotSupportedError: there is none; says why.
    """
    if task.auto_class is None:
        raise NotSupportedError(f"transformers has no class for {task.name}")
    with calm():
        model = _without_weights(base, task)
    prefix = f"{model.base_model_prefix}."
    names = {name for name, _ in model.named_parameters()}
    outside = sorted(name for name in names if not name.startswith(prefix))
    own = {name for name, _ in backbone(base.model).named_parameters()}
    left_out = tuple(f"{path}." for path in base.left_out)
    inside_class = [name for name in names if name.startswith(prefix) and not name.startswith(left_out)]
    lacking = sorted(name for name in inside_class if name.removeprefix(prefix) not in own)
    heads = {name.rpartition(".")[0] for name in outside}
    linear = model.get_submodule(next(iter(heads))) if len(heads) == 1 else None
    shape = (task.output_size, task.feature_size(base.map))
    if lacking or not isinstance(linear, nn.Linear) or (linear.out_features, linear.in_features) != shape:
        more = [*lacking, *outside]
        raise NotSupportedError(
            f"{type(model).__name__} has more between the features and the labels than one linear layer, such as "
            f"'{more[0]}'"
            if more
            else f"{type(model).__name__} has no linear layer for labels"
        )
    if own - {name.removeprefix(prefix) for name in names}:
        raise NotSupportedError(f"{type(model).__name__} has other layers than this base")
    head = heads.pop()
    if not _agrees(model, head, linear.bias is not None, base, task):
        pooling = task.preprocessing.pooling
        raise NotSupportedError(
            f"{type(model).__name__} takes other features than those "
            + (f"pooled by '{pooling}' of this adapter" if pooling else "of this adapter")
        )
    inside = base.model.get_output_embeddings() is not None  # such a base has the prefix in its own names
    return HeadClass(type(model).__name__, head, linear.bias is not None, "" if inside else prefix)


def _without_weights(base: Base, task: HeadTask) -> Any:
    """A model of the class on the meta device, which takes no memory for weights."""
    import transformers

    assert task.auto_class is not None
    classes = getattr(transformers, task.auto_class)._model_mapping
    config = copy.deepcopy(base.model.config)
    kinds = classes.get(type(config), ())
    kind = kinds[0] if isinstance(kinds, tuple) and kinds else kinds  # DeiT has one with a teacher too
    if not kind:
        raise NotSupportedError(f"transformers has no {task.auto_class} for models of type '{config.model_type}'")
    config.num_labels = task.output_size
    pad = getattr(base.tokenizer, "pad_token_id", None)
    if pad is not None:
        config.get_text_config().pad_token_id = config.pad_token_id = pad
    try:
        with torch.device("meta"):
            return kind(config)
    except Exception as error:  # raised by its own code, which may assert things
        raise NotSupportedError(f"{kind.__name__} cannot be made for this base ({type(error).__name__})") from error


def _agrees(model: Any, head: str, bias: bool, base: Base, task: HeadTask) -> bool:
    """Whether the class, around the layers of the base itself, gives the logits that the task gives with the same head."""
    linear = nn.Linear(task.feature_size(base.map), task.output_size, bias=bias, device=base.device)
    with torch.no_grad():
        for parameter in linear.parameters():  # any numbers will do; none are drawn, so that no generator moves
            parameter.copy_(torch.arange(parameter.numel(), device=base.device).cos().reshape(parameter.shape))
    inside, own = getattr(model, model.base_model_prefix), backbone(base.model)
    # Part by part: what has no weights, such as a pooler that takes a mean, stays the class's own.
    for name, part in (
        *own.named_children(), *own.named_parameters(recurse=False), *own.named_buffers(recurse=False),
    ):  # fmt: skip
        setattr(inside, name, part)
    model.set_submodule(head, copy.deepcopy(linear).to(base.dtype))
    model.eval()
    items = tuple(task.samples())
    form = task.preprocessing.form
    examples = task.encode(
        Dataset(task.name, items, None, task.labels, {}, "<samples>", "", None, form=form), base
    ).examples
    pads = base.tokenizer is None or base.tokenizer.pad_token_id is not None
    for rows in [examples] if pads else [[example] for example in examples]:
        batch = {name: value.to(base.device) for name, value in task.collate(rows, base).items()}
        with torch.no_grad():
            ours: Tensor = linear(task.features(base, batch)[0])
            try:
                theirs = task.class_logits(model, batch).float()
            except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):  # it takes other inputs
                return False
        if ours.shape != theirs.shape or float((ours - theirs).abs().max()) > SAME * float(ours.abs().max()):
            return False
    return True
