"""`adapterhub-lite inspect`."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from adapterhub_lite.adapter.parent import LINEAGE
from adapterhub_lite.cli.options import AdapterPath, AsJson
from adapterhub_lite.cli.output import plain_console, print_json, scores_in_words
from adapterhub_lite.names import human_size


def inspect(adapter: AdapterPath, json_: AsJson = False) -> None:
    """Say what an adapter is, and check that its files are what was saved. Loads no model."""
    from adapterhub_lite.storage import adapter_size, read_adapter

    stored = read_adapter(Path(adapter))
    manifest, size = stored.manifest, adapter_size(Path(adapter))
    if json_:
        tensors = {name: {"dtype": info.dtype, "shape": list(info.shape)} for name, info in stored.header.items()}
        print_json({"path": adapter, "size_bytes": size, **manifest.model_dump(mode="json"), "tensors": tensors})
        return
    strategy, base, task = manifest.strategy, manifest.base, manifest.task
    table = Table(show_header=False, title=f"{adapter} ({human_size(size)}, files verified)", title_justify="left")
    table.add_row("strategy", f"{strategy.name} ({strategy.dist} {strategy.version})")
    table.add_row("options", ", ".join(f"{k}={v}" for k, v in strategy.config.items() if v is not None))
    table.add_row("base", f"{base.reference}, {base.parameters:,} weights, {base.quantization}, {base.dtype}")
    table.add_row("task", task.name)
    if task.labels:
        shown = ", ".join(task.labels[:8]) + (f", ... ({len(task.labels)})" if len(task.labels) > 8 else "")
        table.add_row("labels", shown)
    if manifest.data is not None:
        table.add_row("trained on", f"{manifest.data.source}, {manifest.data.rows:,} rows")
    forgotten = manifest.training.get("forgetting")
    if isinstance(forgotten, dict):
        table.add_row("general text", ", ".join(f"{name} {value:.4g}" for name, value in forgotten.items()))
    for line in task.decision.in_words():
        table.add_row("decision", line)
    lineage = manifest.training.get(LINEAGE)
    if isinstance(lineage, list):
        before = [f"{str(one['manifest_sha256'])[:12]} ({one['created']})" for one in lineage if isinstance(one, dict)]
        table.add_row("went on from", ", ".join(before))
    table.add_row("held-out scores", scores_in_words(manifest.metrics) or "none recorded")
    table.add_row("tensors", f"{len(stored.header)}")
    table.add_row("saved", manifest.created)
    if manifest.forced:
        table.add_row("forced", "; ".join(manifest.forced))
    plain_console().print(table)
