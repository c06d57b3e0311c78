"""The command line: a table of verbs, each imported from its module when it is used. Nothing here imports torch."""

from __future__ import annotations

import errno
import os
import sys
from functools import partial
from importlib import import_module, metadata
from io import TextIOWrapper
from platform import python_version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.interrupt import Interrupt, Stopped
from adapterhub_lite.names import one_line
from adapterhub_lite.progress import logged_on_standard_error

VERBS = {
    "train": ("train:train", "Adapt a base to your data and save the adapter."),
    "compare": (
        "compare:compare",
        "Say which strategy is best on your data, and whether it beats models without a base.",
    ),
    "audit": (
        "audit:audit",
        "Look for wrong labels, leaks and other faults of the data before anything is trained on it.",
    ),
    "plan": ("plan:plan", "Say what training takes of memory, and what fits which card, before anything is loaded."),
    "preview": (
        "preview:preview",
        "Show what rows become for a base before training: what is learnt, and what is not.",
    ),
    "evaluate": ("evaluate:evaluate", "Score an adapter on labelled data."),
    "report": ("report:report", "Make a page of what an adapter learnt and where it fails, or compare several."),
    "predict": ("predict:predict", "Predict a label with its probability, or a completion, for every row of a file."),
    "generate": ("generate:generate", "Let an adapted language model answer a prompt."),
    "serve": ("serve:serve", "Answer requests for adapters over HTTP, as OpenAI's API does."),
    "inspect": ("inspect:inspect", "Say what an adapter is, and check that its files are what was saved."),
    "verify": ("verify:verify", "Check that an adapter is what was saved: its files, its base and its outputs."),
    "history": ("history:history", "List the versions of an adapter: those that a save replaced, and the one in use."),
    "rollback": ("rollback:rollback", "Put an earlier version of an adapter back."),
    "pack": ("pack:pack", "Put an adapter into one file, for mail or an object store."),
    "unpack": ("unpack:unpack", "Check a bundle and write the adapter in it to a folder."),
    "push": ("push:push", "Upload an adapter to a hub, with a model card."),
    "pull": ("pull:pull", "Download an adapter from a hub and verify it."),
    "sign": ("sign:sign", "Sign an adapter, so that others can tell who made it."),
    "merge": ("merge:merge", "Fold an adapter into the weights of its base: a model folder that needs no adapter."),
    "combine": ("combine:combine", "Make one LoRA adapter of several."),
    "import-peft": ("import_peft:import_peft", "Make an adapter of one that PEFT trained."),
    "export": ("export:export", "Write an adapter for other tools: PEFT, a merged model, or a LoRA for llama.cpp."),
    "strategies": ("plugins:strategies", "List the strategies with their options."),
    "tasks": ("plugins:tasks", "List the tasks with the roles of their columns and their options."),
    "demo": ("demo:demo", "Adapt two real bases in a few minutes on a CPU: a chat model and a text classifier."),
    "plugins": ("plugins:plugins_app", "See what plug-ins are installed."),
}
"""Each verb: the module here and the function in it, and what the list of verbs says about it."""


class Verb(TyperCommand):
    """A verb in the list of verbs. Its module is imported, and its options are known, only when it is used."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Read the arguments as the verb itself does."""
        return self.load().make_context(info_name, args, parent, **extra)

    def load(self) -> Any:
        """The verb itself, a command or a group of them."""
        module, _, name = VERBS[str(self.name)][0].partition(":")
        verb = getattr(import_module(f"adapterhub_lite.cli.{module}"), name)
        if not isinstance(verb, typer.Typer):
            from adapterhub_lite.cli.from_models import with_options

            alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
            alone.command(self.name)(with_options(verb))
            verb = alone
        return get_command(verb)


app = typer.Typer(
    name="adapterhub-lite",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(asked: bool) -> None:
    """Print the versions a report of a fault needs, and end."""
    if asked:
        names = ("adapterhub-lite", "torch", "transformers", "peft", "bitsandbytes")
        typer.echo(", ".join(f"{name} {metadata.version(name)}" for name in names) + f", Python {python_version()}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    no_plugins: Annotated[
        bool, typer.Option("--no-plugins", metavar="", help="Only the strategies of adapterhub-lite itself.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", metavar="", help="Print versions.", is_eager=True, callback=_version)
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", metavar="", help="A plug-in that fails is an error.")] = False,
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


def _listed() -> None:
    """A command without options: it holds the place of a verb in the list of verbs."""


for _name, (_, _summary) in VERBS.items():
    app.command(_name, cls=Verb, help=_summary)(_listed)


def main() -> None:
    """Run the command line; what a user got wrong is one line on standard error and an exit code, never a traceback.

    After a signal the exit code is 128 + its number, whatever the verb ended with.
    """
    # Idle OpenMP threads that spin take the core from the one that works; it has to be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that knows no umlauts gets them as \xfc
            stream.reconfigure(errors="backslashreplace")
    try:
        with Interrupt().listening(), logged_on_standard_error():
            app()
    except Stopped as stop:
        print(stop, file=sys.stderr)
        if isinstance(stop.__cause__, Exception):
            print(f"what was being done ended with {one_line(stop.__cause__)}", file=sys.stderr)
        sys.exit(stop.exit_code)
    except AdapterHubError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as stop:
        # Typer turns an interrupt into its own exit with code 130.
        interrupt = stop.__context__.__cause__ if stop.__context__ is not None else None
        if isinstance(interrupt, KeyboardInterrupt):
            print(" ".join(["interrupted", *getattr(interrupt, "__notes__", [])]), file=sys.stderr)
        raise
    except BrokenPipeError:
        # The reader of our output, such as `head`, is gone: end quietly, and let nothing be flushed into the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:  # files say which of them it is
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"error: standard output cannot be written: {error.strerror}", file=sys.stderr)
        sys.exit(1)
