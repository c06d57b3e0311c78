"""`adapterhub-lite serve`."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from adapterhub_lite.errors import ConfigError
from adapterhub_lite.serve.settings import TOKEN, Settings
from adapterhub_lite.storage.bundle import manifest_of

NEEDED = ("fastapi", "uvicorn")


def serve(
    adapters: Annotated[
        list[str], typer.Argument(metavar="DIR...", help="Directories of saved adapters, each as DIR or NAME=DIR.")
    ],
    settings: Settings,
    device: Annotated[str, typer.Option(metavar="NAME", help="Where to compute: auto, cpu, cuda, ...")] = "auto",
) -> None:
    """Answer requests for adapters over HTTP: predictions at /predict, chats as OpenAI's API has them at /v1.

    Adapters of one base share it. Ctrl-C or SIGTERM stops it when what was asked before is answered.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"serve needs {' and '.join(missing)}: pip install 'adapterhub-lite[serve]'")
    if settings.token is None and os.environ.get(TOKEN):
        settings = settings.model_copy(update={"token": os.environ[TOKEN]})
    from adapterhub_lite.engine import Engine
    from adapterhub_lite.serve.models import Models, named_places
    from adapterhub_lite.serve.server import Server, address_of, bound

    places = named_places(adapters)
    for path in places.values():
        manifest_of(Path(path))  # before any base is loaded
    with bound(settings) as listening:
        engine = Engine()
        loaded = {name: engine.load_adapter(path, device=device) for name, path in places.items()}
        models = Models(loaded, settings)
        for model in models:
            print(f"{model.name}: {model.task.name} on {model.adapter.base.reference}", file=sys.stderr)
        if settings.token is None and listening.getsockname()[0] not in ("127.0.0.1", "::1"):
            print("note: whoever reaches this address can ask; give --token", file=sys.stderr)
        print(f"serving at {address_of(listening)}", file=sys.stderr, flush=True)
        Server(models, settings).serve_at(listening)
