"""Writing an adapter for other tools, PEFT and llama.cpp, in the form that the strategy gives it."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from adapterhub_lite.adapter.peft_names import to_file, with_head
from adapterhub_lite.adapter.save import of_base
from adapterhub_lite.base.loading import Base
from adapterhub_lite.base.references import resolve
from adapterhub_lite.base.strategy import GgufWriter, PeftWriter
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError, NotSupportedError, StorageError
from adapterhub_lite.merging.saved import SavedAdapter, calling, open_saved, provider_of, strategy_of
from adapterhub_lite.storage import CONFIG, TENSORS, commit_directory
from adapterhub_lite.storage.disk import sync_directory, sync_file
from adapterhub_lite.storage.public import local_reference, public_config
from adapterhub_lite.training.attachment import HEAD

HEAD_FILE = "head.safetensors"


def export_peft(
    adapter: Path, out: Path, engine: Engine, *, base: Base | str | None = None, force: bool = False
) -> list[str]:
    """Write what PEFT's `save_pretrained` would have: its configuration and its tensors.

    A classifier's head goes with it where transformers has a class for it; else it is written beside it, as
    head.safetensors.

    `out` must not exist or be empty; `base` is used instead of the recorded one, and with `force` it may be another one.

    Returns:
        Notes worth telling.

    Raises:
        NotSupportedError: a strategy without a PEFT form.
        ConfigError: `force` for an adapter that is written without its base.
        StorageError: a folder in use.
    """
    saved = open_saved(adapter)
    refusal = f"{adapter} is an adapter of strategy '{saved.manifest.strategy.name}', which PEFT has no form of"
    in_form = "peft_type" in saved.config_file
    if not in_form and not isinstance(strategy_of(engine, saved)[0], PeftWriter):
        raise NotSupportedError(refusal)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError(f"cannot export to {out}: it is not an empty folder; choose a new one")
    if in_form and force:
        raise ConfigError(
            f"--force accepts another base, and {adapter} is in PEFT's form already, for which none is loaded; leave it out"
        )
    form = (saved.config_file, saved.body) if in_form else _in_peft(engine, saved, base, force)
    if form is None:
        raise NotSupportedError(refusal)
    config, body = form
    known = saved.head_class if in_form else None
    if known is not None:
        body, head = {to_file(name, known): tensor for name, tensor in {**body, **saved.head}.items()}, {}
    else:
        head = {name.removeprefix(HEAD): tensor for name, tensor in saved.head.items()}

    def write(folder: Path) -> None:
        (folder / TENSORS).write_bytes(safetensors.torch.save(body, metadata={"format": "pt"}))
        if head:
            labels = json.dumps(saved.manifest.task.labels)
            (folder / HEAD_FILE).write_bytes(safetensors.torch.save(head, metadata={"format": "pt", "labels": labels}))
        (folder / CONFIG).write_text(
            json.dumps(public_config(config), indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )

    commit_directory(out, write, last=CONFIG)
    if known is not None:
        return [f"opens with its head as {known.name}, made with num_labels={len(saved.manifest.task.labels)}"]
    pooling = saved.manifest.task.preprocessing.get("pooling")
    return [f"the head is in {HEAD_FILE}: a linear layer on features pooled by '{pooling}'"] if head else []


def _in_peft(
    engine: Engine, saved: SavedAdapter, base: Base | str | None, force: bool
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """PEFT's configuration and tensors of an adapter that is saved in another form; None where PEFT has none."""
    strategy, config = strategy_of(engine, saved)
    assert isinstance(strategy, PeftWriter)
    loaded = engine.load_adapter(
        saved.path, base=base, device="cpu", force=force
    )  # which checks that it is the right base
    loaded.detach()
    task = loaded.attachment.task
    view = loaded.base.view(task.name, generates=task.generates)
    try:
        with calling(provider_of(engine, saved.manifest), "to_peft", saved.path):
            form = strategy.to_peft(view, config, saved.body)
    finally:
        view.unmount()
        view.forget()
    if form is None:
        return None
    return {**form[0], **of_base(loaded.base), **with_head({}, task)}, dict(form[1])


def export_gguf(adapter: Path, out: Path, engine: Engine | None = None, *, base: str | None = None) -> int:
    """Write an adapter of a language model as llama.cpp reads it.

    `engine` is one with the installed strategies by default; `base` is a reference to use instead of the recorded one.
    Returns the number of weights that are adapted.

    Raises:
        NotSupportedError: what llama.cpp has no form of: other strategies than LoRA, heads, and what the strategy refuses.
        StorageError: a file that is there, or cannot be written.
    """
    from transformers import AutoConfig

    engine = engine or Engine()
    saved = open_saved(adapter)
    manifest = saved.manifest
    writer, settings = strategy_of(engine, saved)
    if not isinstance(writer, GgufWriter):
        raise NotSupportedError(f"{adapter}: llama.cpp knows LoRA adapters, not strategy '{manifest.strategy.name}'")
    if not engine.recorded_task(manifest.task).generates:
        raise NotSupportedError(
            f"{adapter}: llama.cpp adapts language models, and this adapter is for {manifest.task.name}"
        )
    if out.exists():
        raise StorageError(f"cannot export to {out}: it is there already; choose a new name")
    source = resolve(base or local_reference(manifest.base))
    config = AutoConfig.from_pretrained(source.folder, **({"gguf_file": source.gguf} if source.gguf else {}))
    partial = out.with_name(f".{out.name}.{secrets.token_hex(8)}")
    try:
        with calling(provider_of(engine, manifest), "write_gguf", adapter):
            adapted = writer.write_gguf(partial, settings, saved.body, config)
        sync_file(partial)
        partial.replace(out)
        sync_directory(out.absolute().parent)
    except OSError as error:
        raise StorageError(f"cannot export to {out}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return adapted
