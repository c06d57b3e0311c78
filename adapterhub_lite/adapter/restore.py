"""From an adapter on disk to an attachment with its values in it, every part of the files checked on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import safetensors.torch
import torch

from adapterhub_lite.adapter.allocation import AllocationLimit
from adapterhub_lite.adapter.parent import Parent
from adapterhub_lite.adapter.peft_names import MODULES, from_file, names_class, to_file
from adapterhub_lite.adapter.save import config_file
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.strategy import Solver, Strategy
from adapterhub_lite.errors import AdapterCorruptError, NotSupportedError, PluginError
from adapterhub_lite.names import one_line
from adapterhub_lite.plugins.spec import ProvidedStrategy, StrategyConfig
from adapterhub_lite.storage import CONFIG, TENSORS, StoredAdapter, check_tensors
from adapterhub_lite.tasks.task import Task
from adapterhub_lite.tasks.text import longest_input
from adapterhub_lite.training.attachment import Attachment, attach
from adapterhub_lite.training.checks import CheckedRun
from adapterhub_lite.training.contract import DTYPE_CODES

# Keys of PEFT's configuration that decide what the tensors do, whatever the base and the version of PEFT.
_DECISIVE = (
    "peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules", "use_rslora", "use_dora", "bias",
    MODULES, "strategy", "tensors",
)  # fmt: skip
# Keys that may differ here: what the base was called in training, and what quantization changes.
_LOCAL = ("base_model_name_or_path", "revision", "fan_in_fan_out")


def restore(
    base: Base,
    task: Task,
    provided: ProvidedStrategy,
    strategy: Strategy,
    options: StrategyConfig,
    stored: StoredAdapter,
    payload: bytes,
) -> Attachment:
    """Attach a saved adapter to a base: every tensor of the file goes into a slot, and every slot is filled.

    Raises:
        AdapterCorruptError: settings, names, shapes, dtypes or configuration that are not those of one such adapter;
            the base is as it was.
    """
    where = str(stored.tensors)
    length = task.preprocessing.max_length
    if length is not None and base.tokenizer is not None and length > longest_input(base):
        raise AdapterCorruptError(f"{where}: max_length {length} where '{base.reference}' takes {longest_input(base)}")
    with torch.random.fork_rng(devices=[]):
        try:
            with AllocationLimit(len(payload), where, base.parameters):
                attachment = attach(base, task, provided, strategy, options)
        except PluginError as error:
            failure = error.__cause__
            if failure is None:  # it breaks its contract, whatever the settings
                raise
            raise AdapterCorruptError(
                f"{where}: strategy '{provided.spec.name}' cannot be attached with the saved settings "
                f"({one_line(failure)[:220]}); save the adapter again"
            ) from failure
    try:
        _fill(attachment, stored, payload)
        _check_config(attachment, stored)
    except BaseException:
        attachment.discard()
        raise
    return attachment


def go_on(
    base: Base, parent: Parent, parents_task: Task, task: Task, run: CheckedRun, strategy: Strategy
) -> Attachment:
    """Attach a saved adapter to train it further, its head with rows for the labels that `task` has and its own has not.

    The rows of its own labels stay as they are, to the bit; new ones start as those of a fresh head.

    Raises:
        NotSupportedError: a strategy that solves for its weights and so begins anew, whatever they were.
        AdapterCorruptError: see `restore`.
    """
    if isinstance(strategy, Solver):
        raise NotSupportedError(
            f"{run.strategy.spec.name} finds its weights from all of the data at once, so that nothing of {parent.path} would be "
            "left; train on the old and the new data together (cached features are not computed again), or go on with a lora "
            "adapter, which may start from the probe's head (--start-head probe)"
        )
    own = run.settings
    attachment = restore(base, parents_task, run.strategy, strategy, own, parent.stored, parent.payload)
    head, grown = attachment.head, task.head(base.map)
    if head is not None and grown is not None:
        with torch.no_grad():
            for old, new in zip(head.parameters(), grown.to(base.device).parameters(), strict=True):
                new[: len(old)] = old
        attachment.head = grown
    attachment.task, attachment.goes_on_from = task, parent.digest
    return attachment


def _fill(attachment: Attachment, stored: StoredAdapter, payload: bytes) -> None:
    """Check the saved tensors against the slots of the attachment, and fill them."""
    slots = attachment.slots
    if attachment.traits.trains_base:
        # Weights that training left unchanged are not in the file; the configuration lists those that are.
        names = stored.config.get("tensors", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise AdapterCorruptError(f"{stored.path / CONFIG}: 'tensors' is not a list of names; fetch it anew")
        listed = set(names)
        slots = {name: slot for name, slot in slots.items() if name in listed or name not in attachment.parameters}
    known = names_class(stored.config, attachment.task.preprocessing.facts)
    expected = {to_file(name, known): (DTYPE_CODES[slot.dtype], tuple(slot.shape)) for name, slot in slots.items()}
    check_tensors(stored.header, expected, str(stored.tensors))
    saved = {from_file(name, known): tensor for name, tensor in safetensors.torch.load(payload).items()}
    kept = {name: slot.detach() for name, slot in attachment.tensors.items() if name not in slots}
    attachment.load_saved({**kept, **saved}, stored.manifest.strategy.state)


def _check_config(attachment: Attachment, stored: StoredAdapter) -> None:
    """Check that adapter_config.json, which PEFT reads, describes the adapter that the manifest describes."""
    expected = json.loads(json.dumps(config_file(attachment, attachment.config, stored.header)))
    versions = stored.manifest.versions
    same = all(versions.get(name) == metadata.version(name) for name in ("peft", "adapterhub-lite"))
    config: Mapping[str, Any] = stored.config
    for key in sorted(set(expected) | set(config)):
        if key in _LOCAL or not (same or key in _DECISIVE):
            continue
        if key not in expected:
            raise AdapterCorruptError(f"{stored.path / CONFIG}: unknown key {key[:80]!r}; fetch the adapter anew")
        if config.get(key) != expected[key] or (key not in config and expected[key] is not None):
            raise AdapterCorruptError(
                f"{stored.path / CONFIG}: {key!r} is {str(config.get(key))[:80]!r} where {TENSORS} and adapterhub.json "
                f"make it {str(expected[key])[:80]!r}; save the adapter again or fetch it anew"
            )
