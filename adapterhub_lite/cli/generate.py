"""`adapterhub-lite generate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.cli.options import AdapterPath, AsJson, Loading, NewTokens
from adapterhub_lite.cli.output import print_result
from adapterhub_lite.errors import ConfigError, NotSupportedError
from adapterhub_lite.storage.bundle import manifest_of


def generate(
    adapter: AdapterPath,
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="What to answer or continue.")],
    loading: Loading,
    max_new_tokens: NewTokens = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampling.")] = 0,
    json_: AsJson = False,
) -> None:
    """Let an adapted language model answer a prompt."""
    if not prompt.strip():
        raise ConfigError("--prompt is empty")
    task = manifest_of(Path(adapter)).task
    from adapterhub_lite.engine import Engine

    engine = Engine()
    if not engine.recorded_task(task).generates:
        raise NotSupportedError(f"{adapter} is an adapter for {task.name}; use `adapterhub-lite predict` with it")
    loaded = engine.load_adapter(adapter, base=loading.base, device=loading.device, force=loading.force)
    reply = loaded.generate(prompt, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    if not reply:
        print("note: the answer is empty: the model ends its turn at once", file=sys.stderr)
    print_result({"prompt": prompt, "reply": reply}, reply, as_json=json_)
