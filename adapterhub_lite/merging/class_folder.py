"""A merged folder made one of the class that has the classifier's head, which transformers opens with its labels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.base.model_files import calm
from adapterhub_lite.base.model_folder import weight_files
from adapterhub_lite.errors import NotSupportedError
from adapterhub_lite.merging.shards import headers_of
from adapterhub_lite.merging.skeleton import Skeleton, skeleton_of
from adapterhub_lite.storage.header import DTYPE_BYTES, TensorInfo
from adapterhub_lite.tasks.head import HeadTask
from adapterhub_lite.tasks.head_class import HeadClass, find_head_class
from adapterhub_lite.tasks.task import Batch

INDEX = "model.safetensors.index.json"
CHUNK = 16 << 20


def class_of(loaded: Adapter) -> tuple[HeadClass | None, str | None]:
    """The class of transformers that holds an adapter's head, or the reason why there is none."""
    base, task, head = loaded.base, loaded.attachment.task, loaded.attachment.head
    if not isinstance(task, HeadTask) or head is None:
        return None, f"transformers has no class for {task.name}"
    base.activate(None)
    try:
        known = find_head_class(base, task)
    except NotSupportedError as error:
        return None, str(error)
    if head.bias is not None and not known.bias and bool(head.bias.any()):
        return None, f"the head has a bias, and that of {known.name} has none"
    return known, None


def make_class_folder(folder: Path, task: HeadTask, known: HeadClass, head: Mapping[str, Tensor]) -> None:
    """Rename the weights in a folder as the class has them, put the head in, and say its class and labels in config.json.

    What the class has no place for, such as the output layer of a language model, is left out. Weights are copied a part
    at a time, whatever their size.

    Args:
        folder: The merged base, with its tokenizer.
        task: Its labels are named.
        known: The class.
        head: Its tensors in fp32: "weight" and "bias"; the task's temperature goes into them.
    """
    skeleton = skeleton_of(folder)
    files = headers_of(weight_files(folder))
    scaled = {name: (tensor.float() / task.decision.divisor).contiguous() for name, tensor in head.items()}
    extra = {f"{known.head}.{name}": scaled[name] for name in head if known.bias or name != "bias"}
    places: dict[str, str] = {}
    total = 0
    for number, (path, header) in enumerate(files.items()):
        names = {key: name for key in header if (name := _name_in_class(key, skeleton, known)) is not None}
        added = extra if number == len(files) - 1 else {}
        if not names and not added:
            path.unlink()
            continue
        _rewrite(path, {key: header[key] for key in names}, names, added)
        places |= dict.fromkeys([*names.values(), *added], path.name)
        total += path.stat().st_size
    if (folder / INDEX).is_file():
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _describe(config, task, known, _pad_token(folder) if task.modality == "text" else None)
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def class_logits(folder: Path, task: HeadTask, batches: Sequence[Batch]) -> list[Tensor]:
    """What transformers makes of batches with the model in a folder: logits in fp32 on the CPU, at temperature 1."""
    import transformers

    assert task.auto_class is not None
    with calm(), torch.no_grad():
        model = getattr(transformers, task.auto_class).from_pretrained(folder, dtype=torch.float32).eval()
        device = next(iter(batches[0].values())).device
        raw = [task.class_logits(model.to(device), batch).float().cpu() for batch in batches]
        return [logits * task.decision.divisor for logits in raw]


def _describe(config: dict[str, Any], task: HeadTask, known: HeadClass, pad: int | None) -> None:
    """Say the class, the labels, and the token behind which the class looks for the last one of a text."""
    for stale in ("num_labels", "_num_labels", "problem_type"):
        config.pop(stale, None)
    config["architectures"] = [known.name]
    config["id2label"] = {str(number): label for number, label in enumerate(task.labels)}
    config["label2id"] = {label: number for number, label in enumerate(task.labels)}
    if task.target_kind == "labels":
        config["problem_type"] = "multi_label_classification"
    if pad is not None:
        config["pad_token_id"] = pad
        if isinstance(config.get("text_config"), dict):
            config["text_config"]["pad_token_id"] = pad


def _pad_token(folder: Path) -> int | None:
    """The id of the token that fills up texts; None for a tokenizer without one."""
    from transformers import AutoTokenizer

    pad: int | None = AutoTokenizer.from_pretrained(folder).pad_token_id
    return pad


def _name_in_class(key: str, skeleton: Skeleton, known: HeadClass) -> str | None:
    """What a tensor of the base's files is called in the class's; None where the class has no place for it."""
    prefix = known.before or f"{skeleton.model.base_model_prefix}."
    name = skeleton.name_of(key)
    if name is None and not skeleton.converts(key):
        return None
    if name is not None and not known.before and not name.startswith(prefix):
        return None  # the output layer of a language model
    return key if key.startswith(prefix) else prefix + key


def _rewrite(
    path: Path, header: Mapping[str, TensorInfo], names: Mapping[str, str], extra: Mapping[str, Tensor]
) -> None:
    """Write a file anew with some of its tensors, under other names, and with more of them."""
    entries = [(names[key], info.dtype, info.shape, info.start, info.end - info.start) for key, info in header.items()]
    entries += [(name, "F32", tuple(tensor.shape), -1, 4 * tensor.numel()) for name, tensor in extra.items()]
    entries.sort(
        key=lambda entry: -DTYPE_BYTES[entry[1]]
    )  # so that each begins at a multiple of the size of its numbers
    described: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, dtype, shape, _, size in entries:
        described[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(f"{path.name}.part")
    with path.open("rb") as source, partial.open("xb") as target:
        data = 8 + int.from_bytes(source.read(8), "little")
        target.write(len(text).to_bytes(8, "little") + text)
        for name, _, _, start, size in entries:
            if start < 0:
                target.write(extra[name].cpu().flatten().view(torch.uint8).numpy().data)
                continue
            source.seek(data + start)
            for done in range(0, size, CHUNK):
                target.write(source.read(min(CHUNK, size - done)))
    shutil.move(partial, path)
