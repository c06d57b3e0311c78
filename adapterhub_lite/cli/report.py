"""`adapterhub-lite report`: the page of an adapter, or of several beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AsJson, Columns, Loading
from adapterhub_lite.cli.output import print_json
from adapterhub_lite.cli.rows import check_target, checked_data


def report(
    adapters: Annotated[list[str], typer.Argument(metavar="ADAPTER...", help="Directories of saved adapters.")],
    loading: Loading,
    columns: Columns,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where the page goes. \\[default: report.html]")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Score the adapters on these labelled rows first; needs their bases."),
    ] = None,
    no_examples: Annotated[
        bool,
        typer.Option("--no-examples", metavar="", help="Leave out rows of the data: most wrong ones, images, answers."),
    ] = False,
    json_: AsJson = False,
) -> None:
    """Make a page of what an adapter learnt and where it fails, or compare several: a file to hand to a colleague.

    Every training leaves it in its run folder; this makes it again, of an older adapter too, without loading a model.
    """
    target = Path(out) if out is not None else None if json_ else Path("report.html")
    if target is not None:
        check_target(str(target), suffixes=(".html",))
    from adapterhub_lite.reporting.outcome import Report, report_of_saved

    if data is None:
        made = report_of_saved([Path(adapter) for adapter in adapters])
    else:
        rows = [checked_data(adapter, data, columns, require_labels=True, keep_unknown=True) for adapter in adapters]
        from adapterhub_lite.reporting.engine import Engine

        engine = Engine()
        facts = []
        for path, own in zip(adapters, rows, strict=True):
            loaded = engine.load_adapter(path, base=loading.base, device=loading.device, force=loading.force)
            facts.append(engine.facts_of(loaded, own, examples=not no_examples, saved=Path(path)))
            loaded.detach()
        made = Report.of(facts)
    made = made.without_examples() if no_examples else made
    if target is not None:
        made.save(target)
    if json_:
        print_json(made.facts)
    else:
        typer.echo(f"written: {target}")
