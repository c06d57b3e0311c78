"""What a live server answers: OpenAI's client, rows of every kind, and many clients at once."""

from __future__ import annotations

import pytest
from openai import OpenAI

from adapterhub_lite.adapter.adapter import Adapter
from tests.serve.conftest import Live


@pytest.fixture(scope="module")
def openai(live: Live) -> OpenAI:
    return OpenAI(base_url=f"{live.address}/v1", api_key="none", max_retries=0)


def test_health(live: Live) -> None:
    answer = live.client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"


def test_openai(openai: OpenAI, adapters: dict[str, Adapter]) -> None:
    said = openai.chat.completions.create(model="counts", messages=[{"role": "user", "content": "one two"}], max_tokens=5)
    assert said.choices[0].message.content == adapters["counts"].generate("one two", max_new_tokens=5)
    print(said)
    stream = openai.chat.completions.create(model="counts-down", messages=[{"role": "user", "content": "six five"}], max_tokens=5, stream=True)
    pieces = [c.choices[0].delta.content or "" for c in stream]
    print(pieces)
    assert "".join(pieces) == adapters["counts-down"].generate("six five", max_new_tokens=5)


def test_predict(live: Live, adapters: dict[str, Adapter]) -> None:
    a = live.post("/predict", model="words", rows=["good money", "bad"])
    print(a.json())
    assert a.status_code == 200
