"""`adapterhub-lite compare`, and `train --strategy auto`: baselines and strategies on the same rows, and the best one saved."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, Field, create_model

from adapterhub_lite.cli.options import AsJson, NamedColumns, columns_by_role
from adapterhub_lite.cli.output import command_line, plain_console, print_json, say_columns
from adapterhub_lite.cli.run_file import RunFile, read_run
from adapterhub_lite.cli.train import TaskShortcuts, read_rows
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.interrupt import Stopped
from adapterhub_lite.names import Flag, check_choice, listed_names
from adapterhub_lite.plugins.manager import Plugins
from adapterhub_lite.storage import check_writable_target
from adapterhub_lite.tasks.catalog import Catalog
from adapterhub_lite.training.run.layout import run_folder_of

if TYPE_CHECKING:
    from adapterhub_lite.comparison.outcome import Comparison

HELD_OUT = 0.2
CHOICES = ("validation", "held-out")
OF_ONE_STRATEGY = ("strategy", "from_adapter", "from_scratch", "out")


class Choosing(BaseModel):
    """What is compared, and how the best is chosen."""

    strategies: Annotated[
        list[str], Flag(metavar="NAME", unset="linear_probe, lora and full; for language models prefix, lora and full")
    ] = Field(
        default_factory=list, description="A strategy to compare, as often as needed, or several separated by commas."
    )
    no_baselines: bool = Field(False, description="Leave out the models without a base.")
    choose_on: Annotated[str, Flag(metavar="ROWS")] = Field(
        "validation",
        description="What the winner is chosen by: validation, parts of the rows to learn from that are held out in turn; or "
        "held-out, the rows that are scored on, which is quicker, and makes the winner's score optimistic.",
    )
    minutes: float = Field(60.0, gt=0, description="Leave out what would take longer, by its first try.")
    out: Annotated[str | None, Flag(metavar="DIR", unset="not saved")] = Field(
        None, description="Directory to save the best adapter in."
    )


OfRun = create_model(
    "OfRun",
    **{name: (field.annotation, field) for name, field in RunFile.model_fields.items() if name not in OF_ONE_STRATEGY},
)  # type: ignore[call-overload]
"""The options of `train` that go for every strategy."""


def compare(
    run: Annotated[dict[str, Any], OfRun],
    choosing: Choosing,
    shortcuts: Annotated[dict[str, Any], TaskShortcuts],
    named: NamedColumns,
    config: Annotated[str | None, typer.Option(metavar="RUN.YAML", help="A run file, as of `train`.")] = None,
    json_: AsJson = False,
) -> None:
    """Say which strategy is best on your data, and whether it beats models without a base."""
    run["task_options"] = run.get("task_options", {}) | shortcuts
    run["columns"] = columns_by_role(named, run.get("columns", {}))
    settled = read_run(config, {**run, "strategy": "auto", "out": choosing.out or "unsaved"})
    if settled.eval_data is None and settled.hold_out is None:
        settled = settled.model_copy(update={"hold_out": HELD_OUT})
    show(run_comparison(settled, choosing), choosing.out, as_json=json_)


def train_best(run: RunFile, *, resume: bool, as_json: bool) -> None:
    """`train --strategy auto`: compare, save the best adapter and print how the others fared.

    Raises:
        ConfigError: asked to resume, which it does by itself.
    """
    if resume:
        raise ConfigError(
            "--resume does not go with --strategy auto; run the same command without it: what was finished is taken from the "
            "cache, and only what was being trained begins anew"
        )
    show(run_comparison(run, Choosing(out=run.out)), run.out, as_json=as_json)


def run_comparison(run: RunFile, choosing: Choosing) -> Comparison:
    """Check everything that can be checked without a model, then load, compare, and save the best adapter.

    Raises:
        ConfigError: options of a single strategy, beside the reasons that `Engine.compare` has.
    """
    for name in ("from_adapter", "from_scratch"):
        if getattr(run, name):
            raise ConfigError(
                f"--{name.replace('_', '-')} goes with one strategy, not with a comparison; name that one"
            )
    check_choice("way to choose", choosing.choose_on, CHOICES)
    if choosing.out is not None:
        check_writable_target(Path(choosing.out))
    plugins = Plugins()
    dataset, held_out, share, line = read_rows(run, Catalog(plugins))
    say_columns(dataset.columns, run.data)

    from adapterhub_lite.base.precision import dtype_name
    from adapterhub_lite.comparison.asked import Asked, check_asked
    from adapterhub_lite.comparison.run import compare
    from adapterhub_lite.reporting.engine import Engine

    engine = Engine(plugins)
    if line is not None:
        engine.progress.say(line)
    names = listed_names(choosing.strategies)
    asked = Asked(names or None, run.settings, run.training, not choosing.no_baselines)
    check_asked(engine, asked)
    base = engine.load_base(run.base, quantization=run.quantize, dtype=run.dtype, device=run.device)
    choose_on: Any = choosing.choose_on
    try:
        compared = compare(
            engine, base, dataset, held_out, asked, task_options={}, choose_on=choose_on, minutes=choosing.minutes
        )
    except Stopped:
        print("what was finished is kept; the same command goes on from there", file=sys.stderr)
        raise
    if choosing.out is not None and compared.adapter is not None:
        best = compared[compared.best_adapter]
        # The winner's own run: `train --config` makes the same adapter.
        facts: dict[str, Any] = {
            "strategy": best.strategy,
            "settings": best.settings,
            "out": choosing.out,
            "device": base.device.type,
        }
        facts |= {"dtype": dtype_name(base.dtype), **({} if run.eval_data is not None else {"hold_out": share})}
        as_one = run.model_copy(update={**facts, "training": run.training.model_copy(update=best.options)})
        compared.adapter.run_file = as_one.to_yaml()
        compared.adapter.save(choosing.out)
        engine.leave_report(compared.adapter, dataset, held_out, command_line(), run_folder_of(Path(choosing.out)))
    return compared


def show(compared: Comparison, out: str | None, *, as_json: bool) -> None:
    """Print a comparison."""
    if as_json:
        print_json({**compared.record(), "adapter": out})
        return
    from adapterhub_lite.comparison.shown import summary_of, table_of

    console = plain_console()
    console.print(table_of(compared))
    for line in (summary_of(compared), *compared.notes):
        console.print(line, soft_wrap=True)
    if out is not None:
        console.print(f"{out}: {compared.best_adapter}", style="bold")
        console.print(f"next: adapterhub-lite predict {out} --data FILE --out FILE", style="dim")
