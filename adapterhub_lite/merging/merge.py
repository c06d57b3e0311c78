"""`merge_adapter`: an adapter folded into the original weights of its base, as a model folder of its own."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.adapter.probe import probe_batches, probe_items, probe_logits
from adapterhub_lite.adapter.recorded import recorded_adapter
from adapterhub_lite.base.model_files import calm
from adapterhub_lite.base.model_folder import weight_files
from adapterhub_lite.base.prepared import find_prepared, prepared_folder
from adapterhub_lite.base.references import Source, resolve
from adapterhub_lite.base.strategy import Mergeable, WeightUpdater
from adapterhub_lite.base.view import TOKENS
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import BaseNotFoundError, ConfigError, MergeError, NotSupportedError, StorageError
from adapterhub_lite.merging.class_folder import class_logits, class_of, make_class_folder
from adapterhub_lite.merging.report import MergeReport, compare
from adapterhub_lite.merging.saved import SavedAdapter, fill, open_saved, strategy_of
from adapterhub_lite.merging.shards import FLOATS, copy_side_files, headers_of, write_shards
from adapterhub_lite.merging.skeleton import place_in_files, skeleton_of
from adapterhub_lite.names import check_choice
from adapterhub_lite.plugins.spec import ProvidedStrategy
from adapterhub_lite.plugins.strategy_call import StrategyCalls
from adapterhub_lite.storage import Manifest, StoredAdapter, commit_directory, read_adapter
from adapterhub_lite.storage.public import local_reference, public
from adapterhub_lite.tasks.head import HeadTask
from adapterhub_lite.tasks.head_class import HeadClass
from adapterhub_lite.tasks.task import Batch
from adapterhub_lite.training.attachment import HEAD
from adapterhub_lite.training.solve import find_solver

RECORD = "adapterhub_merge.json"
HEAD_FOLDER = "head"
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Merged:
    """What a merge made."""

    path: Path
    report: MergeReport
    sharded: bool
    """Merged weight by weight; False where the strategy needed the whole model in memory."""
    head: Path | None
    """The classifier's head, an adapter of its own; None for a language model."""
    forced: list[str]
    opens_as: str | None = None
    """The class of transformers that opens the folder with a classifier's head and labels."""
    no_class: str | None = None
    """Why there is none, for a classifier."""


def merge_adapter(
    engine: Engine,
    adapter: Path,
    out: Path,
    *,
    base: str | None = None,
    dtype: str | None = None,
    device: str = "auto",
    force: bool = False,
    alone: bool = False,
) -> Merged:
    """Fold an adapter into the unquantized weights of its base and write a model folder.

    The weights keep the dtype of the base's files unless `dtype` says another; a GGUF base is unpacked. The merged model is
    loaded and compared with the adapter on its base, both in fp32; where they differ too much, nothing is written.

    Args:
        engine: Loads bases and strategies.
        adapter: The adapter's directory.
        out: The folder to make; it must not exist, or be empty.
        base: A reference to use instead of the recorded one; never a quantized one.
        dtype: float32, bfloat16 or float16: what to store all weights in; by default what the base's files have, and
            float32 for GGUF. Where it is another than the files', the whole model is in memory.
        device: Where to run the comparison.
        force: Accept a base that differs from the one of training; recorded in what is written.
        alone: Refuse a classifier whose head no class of transformers can hold, instead of writing it beside the model.

    Raises:
        NotSupportedError: the strategy cannot be merged, or see `alone`.
        BaseMismatchError: another base.
        MergeError: the merged model does not do what the adapter does.
        StorageError: the folder cannot be written.
    """
    if dtype is not None:
        check_choice("dtype", dtype, DTYPES)
    stored = read_adapter(adapter)
    provided = engine.strategy_shelf.resolve(stored.manifest.strategy.name, dist=stored.manifest.strategy.dist)
    _require_mergeable(engine, provided, stored.manifest.strategy.config)
    if any(name.startswith(TOKENS) for name in stored.header):
        raise NotSupportedError(
            f"{adapter} adds tokens, for which the base's files have no rows; keep it as an adapter"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StorageError(f"cannot merge into {out}: it is not an empty folder; choose a new one")
    job = _Job(engine, adapter, stored, provided, base or local_reference(stored.manifest.base), dtype, device, force)
    loaded = job.load("float32")
    items = probe_items(loaded.attachment.task, loaded.probe_inputs)
    before = probe_logits(loaded.attachment.task, loaded.base, items, loaded.attachment.logits)
    manifest = stored.manifest.model_copy(update={"forced": list(loaded.forced)})
    generates = loaded.attachment.task.generates
    known, no_class = (None, None) if generates else class_of(loaded)
    if no_class is not None and alone:
        peft = "--to peft writes the head beside the adapter, and " if "peft_type" in stored.config else ""
        raise NotSupportedError(
            f"{adapter}: no model of transformers does what this classifier does: {no_class}; "
            f"{peft}`merge` writes it as an adapter on the merged base"
        )
    loaded.detach()
    del loaded  # nothing of the model may be left in memory while its shards are merged
    gc.collect()
    made: list[Merged] = []

    def write(staging: Path) -> None:
        dtypes = job.write_sharded(staging)
        sharded = dtypes is not None
        if dtypes is None:
            dtypes = job.write_whole(staging)
        after, batches = job.run_merged(staging, out, manifest, items, known)
        if known is not None:  # now that the model it was compared with is gone
            after = class_logits(staging, job.task_with_head(manifest), batches)
        report = compare(before, after, dtypes)
        if not report.passed:
            cure = (
                "report this as a bug" if report.stored_as in ("F32", "F64") else "merge into a base with fp32 weights"
            )
            raise MergeError(
                f"the merged model does not do what the adapter does, so it was not kept: {report.line()}; {cure}"
            )
        head = out / HEAD_FOLDER if not generates else None
        name = known.name if known is not None else None
        made.append(Merged(out, report, sharded, head, list(manifest.forced), name, no_class))
        record = json.dumps(_record(stored, job.reference, adapter, made[0]), indent=2, ensure_ascii=False)
        (staging / RECORD).write_text(record + "\n", encoding="utf-8")

    commit_directory(out, write, last=RECORD)
    return made[0]


def _require_mergeable(engine: Engine, provided: ProvidedStrategy, settings: Mapping[str, Any]) -> None:
    """Refuse a strategy that does something else than change weights, and name those that can be merged."""
    spec = provided.spec
    if spec.traits_of(engine.strategy_shelf.configure(provided, settings)).mergeable:
        return
    able = sorted({p.spec.name for p in engine.strategies() if p.spec.traits.mergeable and ":" not in p.spec.name})
    raise NotSupportedError(
        f"strategy '{spec.name}' cannot be merged: what it adds is no change of the base's weights; "
        f"keep the adapter as it is, or train one of: {', '.join(able)}"
    )


@dataclass
class _Job:
    """One adapter and the unquantized base it goes into."""

    engine: Engine
    adapter: Path
    stored: StoredAdapter
    provided: ProvidedStrategy
    reference: str
    """Of the base."""
    wanted: str | None
    """What the merged weights are to be stored in; None for what the base's files have."""
    device: str
    force: bool
    dtype: str = field(init=False, default="float32")
    """What they are stored in."""
    source: Source | None = field(init=False, default=None)
    """The base's files; None where only a plug-in may know it."""
    converts: bool = field(init=False, default=False)
    """Whether these have another dtype."""

    def __post_init__(self) -> None:
        if self.reference.startswith("("):
            raise ConfigError(
                f"the adapter's base is {self.reference}, which cannot be opened again; give it with --base"
            )
        with suppress(BaseNotFoundError):  # perhaps a plug-in knows it; if not, loading it says so
            self.source = resolve(self.reference)
        if self.source is not None and self.source.gguf is None:
            stored = _dtypes_in(self.source.folder)
            self.dtype = "bfloat16" if "BF16" in stored else "float16" if "F16" in stored else "float32"
            self.converts = self.wanted not in (None, self.dtype)
        self.dtype = self.wanted or self.dtype

    def load(self, dtype: str) -> Adapter:
        """Load the adapter on its base, unquantized."""
        # Unpacked from GGUF as it is merged, so that one copy in the cache is enough and both round the same weights.
        unpacked = self.source is not None and self.source.gguf is not None
        base = self.engine.load_base(
            self.reference, quantization="none", dtype=self.dtype if unpacked else dtype, device=self.device
        )
        if dtype == "float32" and base.dtype != torch.float32:
            base.model.to(torch.float32)
            base.dtype = torch.float32
        return self.engine.load_adapter(self.adapter, base=base, force=self.force)

    def write_sharded(self, out: Path) -> set[str] | None:
        """Merge file by file, and return the dtypes of the weights that changed.

        None, with nothing written, where the whole model has to be loaded: for a strategy that is no `WeightUpdater`,
        another dtype, and files that lay weights out in another way than the model.

        Raises:
            NotSupportedError: a weight that is used in two places and adapted in one.
        """
        folder = self._folder()
        saved = self._saved()
        strategy, config = strategy_of(self.engine, saved)
        if folder is None or self.converts or not isinstance(strategy, WeightUpdater):
            return None
        with StrategyCalls(self.provided).into("updates"):
            updates = strategy.updates(config, saved.body)
        if updates is None:
            return None
        skeleton = skeleton_of(folder)
        headers = headers_of(weight_files(folder))
        for name in updates:
            if name in skeleton.tied and not self.provided.spec.traits.trains_base:
                raise NotSupportedError(
                    f"the adapter changes '{name}' alone, which is one and the same weight as "
                    f"{' and '.join(repr(other) for other in skeleton.tied[name] if other != name)}; keep it as an adapter"
                )
        places = place_in_files(updates, skeleton, headers)
        if places is None:
            return None

        def bound(name: str) -> Callable[[Tensor], Tensor]:
            return lambda weight: updates[name](weight, name in skeleton.transposed)

        copy_side_files(folder, out)
        return write_shards(headers, {place: bound(name) for place, name in places.items()}, out, self.engine.progress)

    def write_whole(self, out: Path) -> set[str]:
        """Let the strategy write into the weights of the loaded base, save that model, and return its files' dtypes.

        Raises:
            NotSupportedError: the strategy refuses this model.
        """
        folder, attachment = self._folder(), self.load(self.dtype).attachment
        base, view, strategy = attachment.base, attachment.view, attachment.strategy
        assert isinstance(strategy, Mergeable)
        base.activate(view)
        with torch.no_grad(), attachment.calls.into("merge"):
            strategy.merge(view, attachment.config, dict(attachment.parameters))
        view.settle()
        base.active = None
        base.model.to(base.dtype)
        base.put_back()
        if folder is not None:  # what `save_pretrained` does not write
            copy_side_files(folder, out)
            (out / "model.safetensors.index.json").unlink(missing_ok=True)  # of other shards than those written below
        with calm():
            base.model.save_pretrained(out)
            if base.processor is not None:
                base.processor.save_pretrained(out)
        return _dtypes_in(out) & set(FLOATS)

    def run_merged(
        self, staging: Path, out: Path, manifest: Manifest, items: list[Any], known: HeadClass | None
    ) -> tuple[list[Tensor], list[Batch]]:
        """Load the merged model, put the head on it and save that beside it.

        Where there is a class that holds the head, the folder becomes one of it.

        Returns:
            Its logits on `items`, and these as batches.
        """
        task = self.engine.recorded_task(manifest.task)
        if known is not None:
            head = {name.removeprefix(HEAD): tensor for name, tensor in self._saved().head.items()}
            make_class_folder(staging, self.task_with_head(manifest), known, head)
        base = self.engine.load_base(str(staging), dtype="float32", device=self.device)
        batches = list(probe_batches(task, base, items))
        if task.generates:
            return probe_logits(task, base, items, lambda batch: task.logits(base, None, batch)), batches
        base.reference = str(out.absolute())  # where it will be
        # A strategy that fits heads changes nothing in the base.
        head_only, _ = find_solver(self.engine.strategy_shelf)
        attachment = fill(self.engine, base, task, head_only, {}, self._saved().head)
        logits = probe_logits(task, base, items, attachment.logits)
        folder = staging / HEAD_FOLDER
        adapter = recorded_adapter(
            attachment, self.engine.plugins, self.engine.progress, manifest, probe_inputs=items
        )  # fmt: skip
        adapter.save(folder)
        attachment.detach()
        return logits, batches

    def task_with_head(self, manifest: Manifest) -> HeadTask:
        """The task of an adapter, which has a head."""
        task = self.engine.recorded_task(manifest.task)
        assert isinstance(task, HeadTask)
        return task

    def _folder(self) -> Path | None:
        """The folder with the base's safetensors; None where there is none, and only the loaded model can be merged."""
        if self.source is None:
            return None
        if self.source.gguf is None:
            return self.source.folder
        prepared = find_prepared(prepared_folder(self.source, "none", self.dtype))
        return prepared.folder if prepared is not None else None

    def _saved(self) -> SavedAdapter:
        saved = open_saved(self.adapter)
        if saved.manifest != self.stored.manifest:
            raise StorageError(f"{self.adapter} was replaced while it was merged; merge it again")
        return saved


def _dtypes_in(folder: Path) -> set[str]:
    """The dtypes of a model's files, by the names of the format."""
    return {info.dtype for header in headers_of(weight_files(folder)).values() for info in header.values()}


def _record(stored: StoredAdapter, reference: str, adapter: Path, merged: Merged) -> dict[str, Any]:
    manifest = stored.manifest
    return {
        "adapter": public(str(adapter)),
        "adapter_files": {name: record.sha256 for name, record in manifest.files.items()},
        "strategy": manifest.strategy.model_dump(mode="json"),
        "task": manifest.task.model_dump(mode="json"),
        "base": manifest.base.model_dump(mode="json"),
        "merged_into": public(reference),
        "forced": merged.forced,
        "opens_as": merged.opens_as,
        "report": asdict(merged.report),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
