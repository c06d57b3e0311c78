"""A live server in a thread, with tiny adapters: classifiers and language models that share bases, and one for images."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2
import pytest

from adapterhub_causal_lm.tiny import completions
from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine
from adapterhub_lite.interrupt import Stopped
from adapterhub_lite.serve.models import Models
from adapterhub_lite.serve.server import Server, address_of, bound
from adapterhub_lite.serve.settings import Settings
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.config import TrainConfig
from tests.conftest import GOOD_AND_BAD, LoadBase

CONFIG = TrainConfig(steps=12, batch_size=8, learning_rate=0.02)
Serve = Callable[..., Any]


class Live:
    """A server that runs, and a client for it."""

    def __init__(self, server: Server, address: str, thread: threading.Thread):
        self.server, self.address, self.thread = server, address, thread
        self.client = httpx2.Client(base_url=address, timeout=60, trust_env=False)

    def post(self, path: str, **body: Any) -> Any:
        return self.client.post(path, json=body)

    def stop(self) -> None:
        """Stop it as a signal does, and wait for its end."""
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()


@contextmanager
def serving(adapters: dict[str, Adapter], **settings: Any) -> Iterator[Live]:
    """Serve adapters at a free port for the length of a `with` block."""
    chosen = Settings(**{"port": 0, "grace": 5, **settings})
    listening = bound(chosen)
    server = Server(Models(adapters, chosen), chosen)

    def run() -> None:
        with suppress(Stopped):  # which ends the program, and here the thread
            server.serve_at(listening)

    thread = threading.Thread(target=run, daemon=True)
    live = Live(server, address_of(listening), thread)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield live
    finally:
        live.client.close()
        live.stop()


@pytest.fixture(scope="session")
def adapters(engine: Engine, load: LoadBase, references: Callable[[str], str], pictures: Dataset) -> dict[str, Adapter]:
    words = engine.load_data(GOOD_AND_BAD, "text-classification")
    other = {"good": "bad", "bad": "good"}
    flipped = engine.load_data([{**row, "label": other[row["label"]]} for row in GOOD_AND_BAD], "text-classification")
    talk, bert, vit = tiny_base("decoder"), load(references("tiny-bert")), load(references("tiny-vit"))
    up = completions()
    return {
        "counts": engine.train(talk, up, config=CONFIG),
        "counts-less": engine.train(talk, up.select(range(0, len(up), 2)), strategy="prefix", config=CONFIG),
        "mood": engine.train(talk, words, config=CONFIG),
        "words": engine.train(bert, words, config=CONFIG),
        "flipped": engine.train(bert, flipped, config=CONFIG),
        "colours": engine.train(vit, pictures, strategy="linear_probe"),
    }


@pytest.fixture(scope="session")
def live(adapters: dict[str, Adapter]) -> Iterator[Live]:
    with serving(adapters) as running:
        yield running
