"""`adapterhub-lite generate`."""

from __future__ import annotations

from typing import Annotated

import typer

from adapterhub_lite.cli.options import AdapterPath, AsJson, Loading, NewTokens, print_json
from adapterhub_lite.errors import ConfigError


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
    from adapterhub_lite.cli.loading import open_engine, require_language_model

    engine = open_engine()
    require_language_model(engine, adapter)
    loaded = engine.load_adapter(adapter, base=loading.base, device=loading.device, force=loading.force)
    reply = loaded.generate(prompt, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    if json_:
        print_json({"prompt": prompt, "reply": reply})
    else:
        typer.echo(reply)
