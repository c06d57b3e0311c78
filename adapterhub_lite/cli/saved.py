"""The verbs about the files of a saved adapter and its versions: `inspect`, `verify`, `history` and `rollback`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adapterhub_lite.cli.options import AdapterPath, AsJson, Place
from adapterhub_lite.cli.output import print_json, print_result
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
    table.add_row("held-out scores", _scores(manifest.metrics) or "none recorded")
    table.add_row("tensors", f"{len(stored.header)}")
    table.add_row("saved", manifest.created)
    if manifest.forced:
        table.add_row("forced", "; ".join(manifest.forced))
    Console().print(table)


def verify(
    adapter: AdapterPath,
    place: Place,
    files_only: Annotated[
        bool, typer.Option("--files-only", metavar="", help="Check the files alone; loads no model.")
    ] = False,
    key: Annotated[
        str | None, typer.Option(metavar="FILE", help="Check the signature with this public key (PEM), too.")
    ] = None,
    json_: AsJson = False,
) -> None:
    """Check that an adapter is what was saved: its files, its base, and the outputs seen when it was saved.

    Exit code 0: everything holds. 1: something does not, and the last line says what.
    """
    from adapterhub_lite.storage.bundle import as_folder
    from adapterhub_lite.storage.verify import verify_files

    with as_folder(Path(adapter)) as path:
        _, report = verify_files(path, key=Path(key) if key is not None else None)
        if report.ok and not files_only:  # a damaged adapter is told without importing anything heavy
            from adapterhub_lite.adapter.replay import verify_adapter
            from adapterhub_lite.engine import Engine

            report = verify_adapter(Engine(), path, base=place.base, device=place.device, files=report)
    report.path = adapter
    if json_:
        print_json(report.to_json())
    else:
        colour = {"passed": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}
        table = Table(show_header=False, title=f"{adapter}: {'verified' if report.ok else 'NOT as saved'}")
        for check in report.checks:
            table.add_row(check.name, f"[{colour[check.state]}]{check.state}[/]", escape(check.detail))
        Console().print(table)
    if report.error is not None:
        raise report.error


def history(
    adapter: AdapterPath,
    keep: Annotated[
        int | None, typer.Option(min=0, help="Delete all earlier versions but the newest of this many.")
    ] = None,
    json_: AsJson = False,
) -> None:
    """List the versions of an adapter: those that a save replaced, and last the one in use."""
    from adapterhub_lite.storage.find import find_adapter
    from adapterhub_lite.storage.history import list_versions
    from adapterhub_lite.storage.versions import trim

    path = Path(adapter)
    if keep is not None:
        trim(path, keep)
    versions = list_versions(path)
    if not versions:
        find_adapter(path)  # says what is there instead
    if json_:
        described = [
            {
                "id": version.id,
                "current": version.current,
                "created": version.manifest.created,
                "strategy": version.manifest.strategy.name,
                "metrics": version.manifest.metrics,
                "size_bytes": version.size,
            }
            for version in versions
        ]
        print_json({"adapter": adapter, "versions": described})
        return
    table = Table("version", "saved", "strategy", "held-out scores", "size", "")
    for version in versions:
        manifest, mark = version.manifest, "in use" if version.current else ""
        scores, size = _scores(manifest.metrics), human_size(version.size)
        table.add_row(version.id, manifest.created, manifest.strategy.name, scores, size, mark)
    Console().print(table)


def rollback(
    adapter: AdapterPath,
    version: Annotated[
        str | None,
        typer.Argument(metavar="[VERSION]", help="Beginning of an id that `history` shows; the last one by default."),
    ] = None,
    json_: AsJson = False,
) -> None:
    """Put an earlier version of an adapter back; the one in use is kept, and a second rollback returns to it."""
    from adapterhub_lite.storage.versions import rollback as put_back

    chosen = put_back(Path(adapter), version)
    created = chosen.manifest.created
    words = f"{adapter} is version {chosen.id} again, saved {created}"
    print_result({"adapter": adapter, "version": chosen.id, "created": created}, words, as_json=json_)


def _scores(metrics: Mapping[str, float | None]) -> str:
    """Held-out scores in one line, without the number of rows."""
    return ", ".join(f"{name} {score:.4f}" for name, score in metrics.items() if score is not None and name != "n")
