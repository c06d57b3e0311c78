"""Writes docs/hooks.md from the hook specifications: `python -m docs.make_hooks > docs/hooks.md`."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import Any

from adapterhub_lite.plugins import hookspecs
from adapterhub_lite.plugins.manager import HOOK_PREFIX, OBSERVERS
from adapterhub_lite.plugins.spec import PROJECT

KINDS = {
    "collect": "every plug-in is asked, and all answers are used",
    "first result": "plug-ins are asked in turn until one answers",
    "observe": "every plug-in is told, and nothing it returns is used",
}
OPENING = """\
# Hooks

Written from `adapterhub_lite/plugins/hookspecs.py` by `python -m docs.make_hooks`; change it there.

A plug-in is a module named by an entry point of the group `adapterhub_lite`. It marks the functions it implements with
`adapterhub_lite.api.hookimpl`, and leaves out the arguments it does not need. A marked function whose name is not one
of these, an argument that is not one of these, a hook that is `async`, and a generator (except where
answers are collected) are refused when the plug-in is loaded.

A plug-in that takes longer than ten seconds in a hook is named on standard error. It is not ended.
"""


def hooks() -> list[Callable[..., Any]]:
    """The specifications, in the order of the file."""
    return [
        value
        for name, value in vars(hookspecs).items()
        if name.startswith(HOOK_PREFIX) and inspect.isfunction(value)
    ]  # fmt: skip


def kind(hook: Callable[..., Any]) -> str:
    """What is done with the answers: "collect", "first result" or "observe"."""
    if hook.__name__ in OBSERVERS:
        return "observe"
    options = getattr(hook, f"{PROJECT}_spec")
    return "first result" if options["firstresult"] else "collect"


def example(hook: Callable[..., Any]) -> str:
    """The code of its example."""
    code = inspect.getdoc(hook).partition("Example:\n")[2].partition("\n\nWhen it fails")[0]  # type: ignore[union-attr]
    return textwrap.dedent(code).rstrip() + "\n"


def reference() -> str:
    """The whole document."""
    parts = [OPENING, "| hook | kind | for |\n|---|---|---|"]
    for hook in hooks():
        first = (inspect.getdoc(hook) or "").partition("\n")[0]
        parts[-1] += f"\n| [`{hook.__name__}`](#{hook.__name__}) | {kind(hook)} | {first} |"
    parts[-1] += "\n"
    for hook in hooks():
        doc = inspect.getdoc(hook) or ""
        said, _, rest = doc.partition("Example:\n")
        failing = rest.partition("\n\nWhen it fails")[2]
        signature = str(inspect.signature(hook)).replace("'", "")
        parts.append(
            f"## {hook.__name__}\n\n```\n{hook.__name__}{signature}\n```\n\n"
            f"Kind: {kind(hook)}; {KINDS[kind(hook)]}.\n\n{said.strip()}\n\n```python\n{example(hook)}```\n\n"
            f"When it fails{failing}\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(reference())
