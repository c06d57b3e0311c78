"""The document made of the results: a table, and the reasons of what is refused or fails."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from importlib import metadata

from benchmarks.architectures.check import COLUMNS, EXACT, PEFT_EXACT, Result

TOP = """# Architectures

Written by `python -m benchmarks.architectures`; not by hand. It builds a tiny random model of every type of
transformers {version} whose model takes texts or images, saves it, and does on it what a user does: load, attach each strategy,
train two steps, save, load again. **yes** means that

- every tensor that the strategy adds gets a gradient in training (of `full`, the weights that the loss does not depend on are
  counted, such as an output layer under a classifier; they are not saved);
- a saved and reloaded adapter gives the same outputs to the bit;
- an example alone gives what it gives in a padded batch, to {exact:g} of the largest feature in double precision;
- PEFT opens a LoRA adapter and gives the same outputs, to {peft:g};
- the base is bit for bit what it was when the adapter is taken off.

**no** with a number is refused with that reason, before anything is trained where it does not name a step or `detach`;
**fails** with a number is a fault that is not mended yet, of this project, of PEFT or of so small a model; the reasons are
below. *causal-lm* is LoRA on the language model itself; the others stand for a classifier.

Of {types} types {bases} are bases: {good} of {all} pairs of a base and a strategy do all of the above, {refused} are refused and
{failed} fail.

"""


def document(results: Sequence[Result]) -> str:
    """The whole document."""
    reasons: dict[str, int] = {}
    bases = [result for result in results if result.base == "ok"]
    lines = ["| type | takes | " + " | ".join(COLUMNS) + " |", "|---" * (2 + len(COLUMNS)) + "|"]
    for result in sorted(bases, key=lambda result: (result.takes, result.kind)):
        cells = [_cell(result.strategies.get(column), result, reasons) for column in COLUMNS]
        lines.append(f"| {result.kind} | {result.takes} | {' | '.join(cells)} |")
    lines += ["", "## What is no base", ""]
    other: dict[str, list[str]] = {}
    for result in sorted(results, key=lambda result: result.kind):
        if result.base != "ok":
            other.setdefault(result.base, []).append(result.kind)
    lines += [
        f"- {', '.join(kinds)}: {_escaped(reason)}" for reason, kinds in sorted(other.items(), key=lambda item: item[1])
    ]
    lines += ["", "## Reasons", ""]
    lines += [f"{number}. {_escaped(reason)}" for reason, number in reasons.items()]
    counts = Counter(outcome.partition(":")[0][:2] for result in bases for outcome in result.strategies.values())
    top = TOP.format(
        version=metadata.version("transformers"), exact=EXACT, peft=PEFT_EXACT, types=len(results), bases=len(bases),
        good=counts["ok"], all=counts.total(), refused=counts["re"], failed=counts["fa"],
    )  # fmt: skip
    return top + "\n".join(lines) + "\n"


def verdicts(text: str) -> dict[str, list[str]]:
    """What a document says of each base, by type: "yes", "no", "fails" or "" for each column."""
    rows = re.findall(r"^\| ([\w.-]+) \| (?:text|image) \| (.*) \|$", text, flags=re.MULTILINE)
    return {kind: [cell.strip().split(" ")[0] for cell in cells.split("|")] for kind, cells in rows}


def _cell(outcome: str | None, result: Result, reasons: dict[str, int]) -> str:
    if outcome is None:
        return ""
    if outcome.startswith("ok"):
        unreached = re.search(r"no gradient in (\d+)", outcome)
        return f"yes ({unreached[1]} not reached)" if unreached else "yes"
    word, _, reason = outcome.partition(": ")
    # One reason for all types: names of classes and of this type are left out.
    reason = re.sub(r"\b[A-Z]\w+(?:Model|ForCausalLM|LMHeadModel|Encoder)\b", "this model", reason).replace(
        f"'{result.kind}'", "'…'"
    )
    number = reasons.setdefault(reason, len(reasons) + 1)
    return f"{'no' if word == 'refused' else 'fails'} ({number})"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
