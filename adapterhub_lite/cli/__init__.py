"""The command line: one small module a verb. Nothing here imports torch before a verb needs it."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Annotated

import typer

from adapterhub_lite.cli import (
    bundle,
    combine,
    demo,
    evaluate,
    exchange,
    generate,
    history,
    hub,
    inspect,
    listing,
    merge,
    predict,
    sign,
    train,
    verify,
)
from adapterhub_lite.errors import AdapterHubError

app = typer.Typer(
    name="adapterhub-lite",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def options(
    context: typer.Context,
    no_plugins: Annotated[
        bool, typer.Option("--no-plugins", help="Only the strategies of adapterhub-lite itself.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="A plug-in that fails is an error.")] = False,
) -> None:
    """Adapt a quantized foundation model to your task; keep only the small adapter."""
    # Whatever makes a `Plugins` below, in this process or one started from it, reads the same two settings.
    for variable, wanted in (("ADAPTERHUB_NO_PLUGINS", no_plugins), ("ADAPTERHUB_STRICT", strict)):
        if wanted:
            context.call_on_close(partial(_set, variable, os.environ.get(variable)))
            _set(variable, "1")


def _set(variable: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = value


app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("generate")(generate.generate)
app.command("inspect")(inspect.inspect)
app.command("verify")(verify.verify)
app.command("history")(history.history)
app.command("rollback")(history.rollback)
app.command("pack")(bundle.pack)
app.command("unpack")(bundle.unpack)
app.command("push")(hub.push)
app.command("pull")(hub.pull)
app.command("sign")(sign.sign)
app.command("merge")(merge.merge)
app.command("combine")(combine.combine)
app.command("import-peft")(exchange.import_peft)
app.command("export")(exchange.export)
app.command("strategies")(listing.strategies)
app.command("tasks")(listing.tasks)
app.add_typer(listing.plugins_app, name="plugins")
app.command("demo")(demo.demo)


def main() -> None:
    """Run the command line; what a user got wrong is one line on standard error and an exit code, never a traceback."""
    # Idle OpenMP threads that spin take the core from the one that works; it has to be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except AdapterHubError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as stop:
        # Typer turns an interrupt into its own exit with code 130.
        interrupt = stop.__context__.__cause__ if stop.__context__ is not None else None
        if isinstance(interrupt, KeyboardInterrupt):
            print(" ".join(["interrupted", *getattr(interrupt, "__notes__", [])]), file=sys.stderr)
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output, such as `head`, is gone: end quietly, and let nothing be flushed into the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
