"""A live server in a thread, with tiny adapters: two classifiers and a language model on one base, images and series."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from adapterhub_causal_lm.tiny import completions
from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine
from adapterhub_lite.serve.models import Models
from adapterhub_lite.serve.server import Server, address_of, bound
from adapterhub_lite.serve.settings import Settings
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.config import TrainConfig
from tests.conftest import GOOD_AND_BAD, LoadBase

CONFIG = TrainConfig(steps=12, batch_size=8, learning_rate=0.02)


class Live:
    """A server that runs, and a client for it."""

    def __init__(self, server: Server, address: str):
        self.server, self.address = server, address
        self.client = httpx2.Client(base_url=address, timeout=60, trust_env=False)

    def post(self, path: str, **body: Any) -> httpx2.Response:
        return self.client.post(path, json=body)


@contextmanager
def serving(adapters: dict[str, Adapter], **settings: Any) -> Iterator[Live]:
    """Serve adapters at a free port for the length of a `with` block."""
    chosen = Settings(**{"port": 0, "grace": 5, **settings})
    listening = bound(chosen)
    address = address_of(listening)
    server = Server(Models(adapters, chosen), chosen)
    thread = threading.Thread(target=server.serve_at, args=[listening], daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    live = Live(server, address)
    try:
        yield live
    finally:
        live.client.close()
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def adapters(
    engine: Engine, load: LoadBase, references: Callable[[str], str], pictures: Dataset
) -> dict[str, Adapter]:
    words = engine.load_data(GOOD_AND_BAD, "text-classification")
    flipped = [{**row, "label": "bad" if row["label"] == "good" else "good"} for row in GOOD_AND_BAD]
    others = engine.load_data(flipped, "text-classification")
    talk = tiny_base("decoder")
    up = completions()
    down = up.select(range(0, len(up), 2))
    bert = load(references("tiny-bert"))
    vit = load(references("tiny-vit"))
    return {
        "counts": engine.train(talk, up, config=CONFIG),
        "counts-down": engine.train(talk, down, strategy="prefix", config=CONFIG),
        "mood": engine.train(talk, words, config=CONFIG),
        "words": engine.train(bert, words, config=CONFIG),
        "flipped": engine.train(bert, others, config=CONFIG),
        "colours": engine.train(vit, pictures, strategy="linear_probe"),
    }


@pytest.fixture(scope="session")
def live(adapters: dict[str, Adapter]) -> Iterator[Live]:
    with serving(adapters) as running:
        yield running
