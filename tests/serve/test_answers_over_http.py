"""What a live server answers is what the adapter answers: to OpenAI's client, to rows of every kind, to many at once."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.engine import Engine
from adapterhub_lite.testing.models import tiny_base
from adapterhub_lite.training.config import TrainConfig
from adapterhub_series.tiny import waves
from adapterhub_text.tiny import values
from adapterhub_tokens.tiny import things
from tests.serve.conftest import Live, serving

CLOSE = 1e-5
"""What the rows beside it may change of a probability, in fp32."""
WORDS = ["good money", "my bad bank", "the card is not here", "good", "bad bill please help", "a good one is bad"]
PROMPTS = ["one two", "ten", "three four five", "nine eight seven six five", "two", "six six six"]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def openai(live: Live) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{live.address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_models_and_health(openai: OpenAI, live: Live, adapters: dict[str, Adapter]) -> None:
    assert [model.id for model in openai.models.list()] == list(adapters)
    assert openai.models.retrieve("mood").owned_by == "adapterhub-lite"
    assert live.client.get("/health").json() == {"status": "ok", "models": list(adapters), "waiting": 0}
    paths = live.client.get("/openapi.json").json()["paths"]
    assert {"/predict", "/v1/chat/completions", "/v1/models", "/health"} <= set(paths)
    assert "rows" in str(paths["/predict"]["post"]["requestBody"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stop": ["four", "en"]},
        {"stop": "four"},
        {"temperature": 1.5, "seed": 4},
        {"temperature": 0.8, "top_p": 0.7, "seed": 9},
    ],
)
def test_chats_whole_and_in_pieces(openai: OpenAI, adapters: dict[str, Adapter], options: dict[str, Any]) -> None:
    for name, prompt in (("counts", PROMPTS[0]), ("counts-less", PROMPTS[3])):
        own = {**options, "stop": [options["stop"]]} if isinstance(options.get("stop"), str) else options
        wanted = adapters[name].generate(prompt, max_new_tokens=7, **own)
        asked: dict[str, Any] = {"model": name, "messages": user(prompt), "max_completion_tokens": 7, **options}
        whole = openai.chat.completions.create(**asked)
        assert whole.choices[0].message.content == wanted
        assert whole.usage is not None
        assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
        assert whole.usage.prompt_tokens == len(adapters[name].attachment.task.prompt_ids(prompt, adapters[name].base))
        assert whole.choices[0].finish_reason in ("stop", "length")
        assert (whole.choices[0].finish_reason == "length") <= (whole.usage.completion_tokens == 7)
        chunks = list(openai.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == wanted
        assert chunks[-1].usage == whole.usage
        assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
        assert len({chunk.id for chunk in chunks}) == 1


def test_an_answer_is_cut_where_the_request_says(openai: OpenAI) -> None:
    for field in ("max_tokens", "max_completion_tokens"):
        said = openai.chat.completions.create(model="counts", messages=user("one two"), **{field: 1})  # type: ignore[call-overload]
        assert said.choices[0].finish_reason == "length"
        assert said.usage.completion_tokens == 1


def test_without_a_seed_draws_differ(openai: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "counts", "messages": user("ten"), "max_tokens": 8, "temperature": 2.0}
    assert len({openai.chat.completions.create(**asked).choices[0].message.content for _ in range(8)}) > 1


def test_a_conversation_goes_through_the_chat_template(engine: Engine, base: Any) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "where is my card"}, {"role": "assistant", "content": "it is lost"}]},
        {"messages": [{"role": "user", "content": "pay my bill"}, {"role": "assistant", "content": "we can help"}]},
    ]
    chats = engine.load_data(rows, "causal-lm")
    adapter = engine.train(base("tiny-llama"), chats, config=TrainConfig(steps=4, learning_rate=0.02))
    turns = [
        {"role": "system", "content": "please help"},
        {"role": "user", "content": "where is my card"},
        {"role": "assistant", "content": "it is lost"},
        {"role": "user", "content": [{"type": "text", "text": "where was it"}]},
    ]
    item = adapter.load_data([{"messages": turns}], require_labels=False).inputs[0]
    wanted = adapter.generate(item, max_new_tokens=6)
    first = adapter.generate("where is my card", max_new_tokens=6)
    with serving({"chat": adapter}) as live:
        for messages, answer in ((turns, wanted), (user("where is my card"), first)):
            said = live.post("/v1/chat/completions", messages=messages, max_tokens=6).json()
            assert said["choices"][0]["message"]["content"] == answer
        bad = live.post("/v1/chat/completions", messages=[*turns, {"role": "nobody", "content": "x"}])
        assert (bad.status_code, bad.json()["error"]["param"]) == (400, "messages")
        assert "messages, message 5: role 'nobody' is not known" in bad.json()["error"]["message"]
    adapter.detach()


def same(said: dict[str, Any], wanted: Any) -> None:
    columns = dict(wanted.columns())
    number = isinstance(columns["prediction"], float)
    assert said["prediction"] == (pytest.approx(columns["prediction"], rel=CLOSE) if number else columns["prediction"])
    assert said.get("probability") == pytest.approx(columns.get("probability"), abs=CLOSE)


def test_rows_of_texts(live: Live, adapters: dict[str, Adapter]) -> None:
    wanted = adapters["words"].predict(WORDS)
    for rows in (WORDS, [{"text": text, "other": 1} for text in WORDS]):
        answer = live.post("/predict", model="words", rows=rows)
        assert answer.status_code == 200
        assert answer.json()["model"] == "words"
        for said, expected in zip(answer.json()["rows"], wanted, strict=True):
            same(said, expected)
            assert set(said) == {"prediction", "probability"}
    said = live.post("/predict", model="words", rows=WORDS[:1], probabilities=True).json()["rows"][0]
    assert said["probabilities"] == pytest.approx(wanted[0].probabilities, abs=CLOSE)


def test_unicode_and_texts_in_other_scripts(live: Live, adapters: dict[str, Adapter]) -> None:
    texts = ["gül\u00e9 🙂 card", "我的 card is lost", "e\u0301 bank"]
    wanted = adapters["words"].predict(texts)
    for said, expected in zip(live.post("/predict", model="words", rows=texts).json()["rows"], wanted, strict=True):
        same(said, expected)


def test_rows_of_images(live: Live, adapters: dict[str, Adapter], pictures: Dataset) -> None:
    paths = [Path(item) for item in pictures.inputs][:4]
    wanted = adapters["colours"].predict(paths)
    encoded = [base64.b64encode(path.read_bytes()).decode() for path in paths]
    for rows in (
        encoded,
        [f"data:image/png;base64,{text}" for text in encoded],
        [{"image": text} for text in encoded],
    ):
        answer = live.post("/predict", model="colours", rows=rows)
        assert answer.status_code == 200, answer.text
        for said, expected in zip(answer.json()["rows"], wanted, strict=True):
            same(said, expected)


def test_rows_of_pairs_words_numbers_and_series(engine: Engine) -> None:
    few, encoder, shapes = TrainConfig(steps=2, batch_size=4), tiny_base("encoder"), waves()
    alike = [{"text": "one two", "pair": "three", "label": "good"}, {"text": "six", "pair": "bad", "label": "bad"}]
    adapters = {
        "pairs": engine.train(
            encoder, engine.load_data(alike, "text-classification", columns={"pair": "pair"}), config=few
        ),
        "tags": engine.train(encoder, things(), config=few),
        "values": engine.train(encoder, values(), config=few),
        "series": engine.train(tiny_base("series"), shapes, strategy="linear_probe"),
    }
    wave = shapes.inputs[0].tolist()
    wave[1][0] = None
    given: dict[str, list[Any]] = {
        "pairs": [["one two", "three"], ["good", "bad six"]],
        "tags": [["one", "two", "three"], ["bad"]],
        "values": ["one two", "good six"],
        "series": [wave, shapes.inputs[1].tolist()],
    }
    with serving(adapters) as live:
        for name, rows in given.items():
            answer = live.post("/predict", model=name, rows=rows)
            assert answer.status_code == 200, answer.text
            for said, expected in zip(answer.json()["rows"], adapters[name].predict(rows), strict=True):
                same(said, expected)
    for adapter in adapters.values():
        adapter.detach()


def test_many_clients_get_the_answers_of_one(live: Live, openai: OpenAI, adapters: dict[str, Adapter]) -> None:
    """200 requests of 16 clients over five adapters on two bases, whole and streamed, greedy and drawn."""
    draw = random.Random(0)
    asked: list[tuple[str, Any, dict[str, Any]]] = []
    for number in range(200):
        name = draw.choice(["counts", "counts-less", "mood", "words", "flipped"])
        if name.startswith("counts"):
            options: dict[str, Any] = {"max_tokens": draw.randint(1, 9)}
            options |= {"temperature": 1.3, "seed": number} if number % 3 == 0 else {}
            asked.append((name, draw.choice(PROMPTS), options))
        else:
            asked.append((name, draw.sample(WORDS, draw.randint(1, 4)), {}))

    def ask(one: tuple[str, Any, dict[str, Any]]) -> Any:
        name, what, options = one
        if isinstance(what, list):
            return live.post("/predict", model=name, rows=what).json()["rows"]
        if options["max_tokens"] % 2:
            chunks = openai.chat.completions.create(model=name, messages=user(what), stream=True, **options)
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        return openai.chat.completions.create(model=name, messages=user(what), **options).choices[0].message.content

    wanted = []
    for name, what, options in asked:
        if isinstance(what, list):
            wanted.append(adapters[name].predict(what))
        else:
            own = {"max_new_tokens" if key == "max_tokens" else key: value for key, value in options.items()}
            wanted.append(adapters[name].generate(what, **own))
    with ThreadPoolExecutor(16) as clients:
        said = list(clients.map(ask, asked))
    for one, expected, (_, what, _options) in zip(said, wanted, asked, strict=True):
        if isinstance(what, list):
            for row, prediction in zip(one, expected, strict=True):
                same(row, prediction)
        else:
            assert one == expected
