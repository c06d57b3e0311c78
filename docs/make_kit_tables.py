"""The tables of `docs/conformance-kit.md`, made from the code: `python -m docs.make_kit_tables`."""

from __future__ import annotations

from pathlib import Path

from adapterhub_lite.testing.check import KIT_VERSION
from adapterhub_lite.testing.checks import (
    again,
    all_checks,
    contract,
    files,
    learning,
    observer_checks,
    outputs,
    task_checks,
)
from adapterhub_lite.testing.models import TINY_MODELS

BEGIN, END = "<!-- made from the code: begin -->", "<!-- made from the code: end -->"


def tables() -> str:
    """Checks, models and tolerances as Markdown."""
    lines = [
        f"## The checks of kit {KIT_VERSION}",
        "",
        "| check | demands | run for | applies when |",
        "| --- | --- | --- | --- |",
    ]
    for check in all_checks():
        run_for = {"strategy": "the strategy", "adapted model": "each model it adapts", "any model": "each model"}[
            check.on
        ]
        lines.append(f"| `{check.name}` | {check.demand} | {run_for} | {check.condition.rstrip('.')} |")
    for title, checks in (("tasks", task_checks()), ("plug-ins that observe", observer_checks())):
        lines += ["", f"## The checks of {title}", "", "| check | demands |", "| --- | --- |"]
        lines += [f"| `{check.name}` | {check.demand} |" for check in checks]
    lines += ["", "## The models", "", "| name | what it is | weights |", "| --- | --- | --- |"]
    for model in TINY_MODELS:
        lines.append(f"| `{model.name}` | {model.summary} | {model.base().parameters:,} |")
    lines += ["", "## Numbers", ""]
    lines += [
        f"- identity at initialisation: {contract.IDENTITY_TOLERANCE:g}",
        f"- predictions of a loaded adapter: {files.PREDICTION_TOLERANCE:g}; its tensors: bitwise",
        f"- generation with and without a cache: {outputs.CACHE_TOLERANCE:g}",
        f"- padding: {outputs.PADDING_TOLERANCE:g}",
        f"- merged and unmerged: {outputs.MERGE_TOLERANCE:g}",
        f"- gradients with recomputed activations: {again.GRADIENT_TOLERANCE:g} of the largest in the tensor",
        f"- the loss after {learning.STEPS} steps: at most {learning.LARGEST_SHARE:g} of what it was",
    ]
    return "\n".join(lines)


def replaced(document: str) -> str:
    """The document with what is between its marks made anew."""
    head, _, rest = document.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{tables()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    path = Path(__file__).with_name("conformance-kit.md")
    path.write_text(replaced(path.read_text(encoding="utf-8")), encoding="utf-8")
