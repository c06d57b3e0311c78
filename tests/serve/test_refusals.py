"""What a server does not answer, and what it says then: limits, tokens, odd bodies, clients that go, and stopping."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import APIError, AuthenticationError, BadRequestError, NotFoundError, OpenAI, RateLimitError

from adapterhub_lite.adapter.adapter import Adapter
from adapterhub_lite.adapter.generate import Batch
from adapterhub_lite.engine import Engine
from adapterhub_lite.errors import ConfigError
from adapterhub_lite.interrupt import Interrupt, Stopped
from adapterhub_lite.serve.models import Models, named_places
from adapterhub_lite.serve.server import Server, address_of, bound
from adapterhub_lite.serve.settings import Settings
from tests.conftest import ROOT, Outcome
from tests.serve.conftest import Live, serving

CHAT = "/v1/chat/completions"
ONE_TWO = [{"role": "user", "content": "one two"}]
LONG = {"model": "counts", "messages": ONE_TWO, "max_tokens": 30, "temperature": 1.0, "seed": 1, "min_p": 0.0}


def error_of(answer: Any) -> dict[str, Any]:
    """The error of an answer, which has OpenAI's shape and nothing of the server's insides."""
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    return error


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "counts", "messages": ONE_TWO, **more}


def talk(content: Any, **more: Any) -> dict[str, Any]:
    return chat(messages=[{"role": "user", "content": content, **more}])


def rows(*given: Any, model: str = "words", **more: Any) -> dict[str, Any]:
    return {"model": model, "rows": list(given), **more}


PICTURE = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
BAD_CHATS = [
    ({"model": "counts"}, "messages", "messages: field required"),
    (chat(messages=[]), "messages", "at least 1 item"),
    (chat(messages="hi"), "messages", "messages: input should be a valid list; got 'hi'"),
    (chat(messages=["hi"]), "messages.0", "messages.0: "),
    (chat(messages=[{"role": "user"}]), "messages", "must be an object"),
    (chat(messages=[*ONE_TWO, {"role": "assistant", "content": "x"}]), "messages", "message 2: is the assistant's"),
    (talk(" "), "messages", "content of the user is empty"),
    (talk([PICTURE]), "messages", "only parts of text"),
    (talk("one " * 200), "messages", "shorten them"),
    (talk("\ud800"), "messages", "half of a surrogate pair"),
    ({"messages": ONE_TWO}, "model", "say which adapter"),
    (chat(model="mood"), "model", "ask it at POST /predict"),
    (chat(model=3), "model", "valid string"),
    (chat(max_tokens=100_000), "max_tokens", "at most 512"),
    (chat(max_tokens=0), "max_tokens", "greater than or equal to 1"),
    (chat(max_tokens=True), "max_tokens", "valid integer"),
    (chat(temperature=-1), "temperature", "give 0 for the likeliest tokens"),
    (chat(top_p=2), "top_p", "less than or equal to 1"),
    (chat(stop=""), "stop", "empty text"),
    (chat(stop=["a"] * 17), "stop", "more than 16"),
    (chat(n=2), "n", "n is 2"),
    (chat(tools=[{"type": "function"}]), "tools", "not done here"),
    (chat(surprise=1), "surprise", "not done here"),
]
BAD_ROWS = [
    ({"model": "words"}, "rows", "rows: field required"),
    (rows(), "rows", "at least 1 item"),
    (rows("good", ""), "rows", "rows, row 2 is ''"),
    (rows("good", 3), "rows", "rows, row 2 is 3"),
    (rows("good", "\ud800"), "rows", "rows, row 2 holds half of a surrogate"),
    (rows({"text": "good"}, {"text": None}), "rows", "rows, row 2"),
    (rows({"a": "good", "b": "one"}), "rows", "cannot tell which column"),
    (rows({"text": "good"}, "good"), "rows", "write all alike"),
    ({"model": "words", "rows": "/etc/passwd"}, "rows", "valid list"),
    (rows("good", surprise=1), "surprise", "surprise: "),
    (rows("one", model="counts"), "model", "/v1/chat/completions"),
    (rows("/etc/passwd", model="colours"), "rows", "rows, row 1: is not base64"),
    (rows({"image": "file:///etc/hostname"}, model="colours"), "rows", "row 1, column 'image': is not base64"),
    (rows({"image": {"path": "/etc/hostname"}}, model="colours"), "rows", "row 1, column 'image': is no text"),
    (rows({"picture": "aaaa"}, model="colours"), "rows", "has no 'image'"),
    (rows("aGVsbG8=", model="colours"), "rows", "rows, row 1, column 'image': image is not a readable image"),
]
OTHERS = [
    ("/predict", 413, rows(*["good"] * 300), "rows", "at most 256"),
    (CHAT, 404, chat(model="count"), "model", "did you mean 'counts'"),
    ("/nowhere", 404, {}, None, "there is POST /predict"),
    ("/health", 405, {}, None, "use another method"),
]


@pytest.mark.parametrize(
    ("path", "status", "body", "param", "said"),
    [*((CHAT, 400, *case) for case in BAD_CHATS), *(("/predict", 400, *case) for case in BAD_ROWS), *OTHERS],
)
def test_a_request_that_cannot_be_answered_is_told_why(
    live: Live, path: str, status: int, body: dict[str, Any], param: str | None, said: str
) -> None:
    text = json.dumps(body)
    answer = live.client.post(path, content=text, headers={"content-type": "application/json"})
    error = error_of(answer)
    assert (answer.status_code, error["param"]) == (status, param)
    assert said in error["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[1, 2]", "the body: "),
        (b"\xff\xfe{}", "no JSON in UTF-8"),
        (b'{"model": "words", "rows": [NaN]}', "NaN is not JSON"),
        (b'{"model": "words", "rows": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"model": "words", "rows": [' + b"9" * 5000 + b"]}", "no JSON"),
    ],
)
def test_bodies_that_are_no_json(live: Live, body: bytes, said: str) -> None:
    answer = live.client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert said in error_of(answer)["message"]


def test_only_json_is_read(live: Live) -> None:
    body = json.dumps({"model": "words", "rows": ["good"]})
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = live.client.post("/predict", content=body, headers={"content-type": kind})
        assert answer.status_code == 415
        assert error_of(answer)["code"] == "not_json"
    good = live.client.post("/predict", content=body, headers={"content-type": "application/json; charset=utf-8"})
    assert good.status_code == 200


def test_openai_sees_its_own_errors(live: Live) -> None:
    with OpenAI(base_url=f"{live.address}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(NotFoundError, match="there is no model 'gpt'"):
            client.models.retrieve("gpt")
        with pytest.raises(BadRequestError) as caught:
            client.chat.completions.create(model="counts", messages=ONE_TWO, n=3)  # type: ignore[arg-type]
        assert (caught.value.param, caught.value.code) == ("n", "unsupported_parameter")


def test_a_token_is_asked_for(adapters: dict[str, Adapter]) -> None:
    with serving({"counts": adapters["counts"]}, token="hémlich") as live:
        for header in (
            {},
            {"authorization": "Bearer no"},
            {"authorization": "Basic hémlich"},
            {"authorization": "Bearer"},
        ):
            raw = {name: value.encode() for name, value in header.items()}
            for path in ("/v1/models", "/openapi.json", "/nowhere"):
                answer = live.client.get(path, headers=raw)  # type: ignore[arg-type]
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
                assert error_of(answer)["code"] == "invalid_api_key"
        assert live.client.get("/health").status_code == 200
        good = live.client.get("/v1/models", headers={"authorization": "Bearer hémlich".encode()})  # type: ignore[dict-item]
        assert good.status_code == 200
    with serving({"counts": adapters["counts"]}, token="secret") as live:
        with OpenAI(base_url=f"{live.address}/v1", api_key="secret", max_retries=0) as client:
            assert len(client.models.list().data) == 1
        with (
            OpenAI(base_url=f"{live.address}/v1", api_key="wrong", max_retries=0) as client,
            pytest.raises(AuthenticationError),
        ):
            client.models.list()


def test_bodies_have_a_limit(adapters: dict[str, Adapter]) -> None:
    with serving({"words": adapters["words"]}, max_mb=0.01) as live:
        headers = {"content-type": "application/json"}

        def endless() -> Iterator[bytes]:
            for _ in range(1000):
                yield b" " * 1000

        for body in (b" " * 20_000, b" " * 2_000_000, endless()):
            answer = live.client.post("/predict", content=body, headers=headers)
            assert answer.status_code == 413
            assert error_of(answer)["code"] == "request_too_large"
        assert live.post("/predict", rows=["good"]).status_code == 200  # "model" of one adapter may be left out


def test_a_slow_body_is_given_up(adapters: dict[str, Adapter]) -> None:
    with serving({"words": adapters["words"]}, patience=0.2) as live:
        host, port = live.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as slow:
            slow.sendall(
                b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{"
            )
            assert slow.recv(1000).startswith(b"HTTP/1.1 408")
        while live.server.gate.inside:
            time.sleep(0.01)


@contextmanager
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Let answers go on only when the second event is set; the first says that one has begun."""
    begun, going = threading.Event(), threading.Event()
    real = Batch.advance

    def advance(self: Batch, tokens: int) -> bool:
        begun.set()
        assert going.wait(30)
        return real(self, tokens)

    monkeypatch.setattr(Batch, "advance", advance)
    yield begun, going
    going.set()


def test_a_full_queue(adapters: dict[str, Adapter], monkeypatch: pytest.MonkeyPatch) -> None:
    only = {"counts": adapters["counts"]}
    with serving(only, queue=1) as live, held(monkeypatch) as (begun, going), ThreadPoolExecutor(2) as clients:
        first = clients.submit(live.post, CHAT, messages=ONE_TWO)
        assert begun.wait(10)
        second = clients.submit(live.post, CHAT, messages=ONE_TWO)
        while not live.client.get("/health").json()["waiting"]:
            time.sleep(0.01)
        third = live.post(CHAT, messages=ONE_TWO)
        assert (third.status_code, error_of(third)["code"], third.headers["retry-after"]) == (
            429,
            "queue_full",
            "1",
        )
        with (
            OpenAI(base_url=f"{live.address}/v1", api_key="x", max_retries=0) as client,
            pytest.raises(RateLimitError),
        ):
            client.chat.completions.create(model="counts", messages=ONE_TWO)  # type: ignore[arg-type]
        going.set()
        assert first.result().status_code == second.result().status_code == 200


def test_too_many_at_once(adapters: dict[str, Adapter], monkeypatch: pytest.MonkeyPatch) -> None:
    only = {"counts": adapters["counts"]}
    with serving(only, connections=1) as live, held(monkeypatch) as (begun, going), ThreadPoolExecutor(1) as clients:
        first = clients.submit(live.post, CHAT, messages=ONE_TWO)
        assert begun.wait(10)
        second = live.post(CHAT, messages=ONE_TWO)
        assert (second.status_code, error_of(second)["code"]) == (503, "overloaded")
        assert live.client.get("/health").status_code == 200
        going.set()
        assert first.result().status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_who_goes_away_is_dropped(adapters: dict[str, Adapter], monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    with serving({"counts": adapters["counts"]}) as live, held(monkeypatch) as (begun, going):
        (turns,) = live.server.models.turns
        with ThreadPoolExecutor(1) as clients:
            first = clients.submit(live.post, CHAT, messages=ONE_TWO)
            assert begun.wait(10)
            body = json.dumps({"messages": ONE_TWO, "stream": stream}).encode()
            host, port = live.address.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as gone:
                head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
                gone.sendall(head.encode() + body)
                while not turns.waiting:
                    time.sleep(0.01)
            while turns.waiting:  # although nothing has been answered since
                time.sleep(0.01)
            going.set()
            assert first.result().status_code == 200


def test_who_goes_away_while_an_answer_grows_ends_it(
    adapters: dict[str, Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = Batch.advance

    def advance(self: Batch, tokens: int) -> bool:
        more = real(self, tokens)
        sizes.append(self.sizes[0])
        time.sleep(0.02)
        return more

    monkeypatch.setattr(Batch, "advance", advance)
    monkeypatch.setattr(adapters["counts"].attachment.task, "end_ids", lambda base: [])
    with serving({"counts": adapters["counts"]}) as live:
        with live.client.stream("POST", CHAT, json={**LONG, "stream": True, "temperature": 3.0}) as answer:
            next(answer.iter_bytes())
        while live.server.models.turns[0]._running:
            time.sleep(0.01)
    assert len(sizes) < 25


def test_a_fault_of_ours_is_told_without_a_word_of_it(
    adapters: dict[str, Adapter], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*given: Any, **named: Any) -> Any:
        raise KeyError("a secret of the server")

    two = {name: adapters[name] for name in ("counts", "words")}
    with serving(two) as live:
        monkeypatch.setattr(Batch, "advance", fail)
        monkeypatch.setattr(Adapter, "predict", fail)
        for path, body in (
            (CHAT, {"model": "counts", "messages": ONE_TWO}),
            ("/predict", {"model": "words", "rows": ["good"]}),
        ):
            answer = live.post(path, **body)
            assert (answer.status_code, error_of(answer)["code"]) == (500, "internal_error")
            assert "secret" not in answer.text
        with (
            OpenAI(base_url=f"{live.address}/v1", api_key="x", max_retries=0) as client,
            pytest.raises(APIError, match="failed"),
        ):
            list(client.chat.completions.create(model="counts", messages=ONE_TWO, stream=True))  # type: ignore[call-overload]
        monkeypatch.undo()
        assert live.post("/predict", model="words", rows=["good"]).status_code == 200
    assert "a secret of the server" in caplog.text


def test_a_bad_row_spoils_no_other_request(adapters: dict[str, Adapter], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that fail when they are encoded, beside rows of others in one batch."""
    words = adapters["words"]
    real, seen = Adapter.predict, []

    def predict(self: Adapter, rows: Any, **named: Any) -> Any:
        seen.append(len(rows))
        if "bad luck" in rows.inputs:
            raise ConfigError("input 1: no luck")
        time.sleep(0.1)
        return real(self, rows, **named)

    monkeypatch.setattr(Adapter, "predict", predict)
    with serving({"words": words}) as live, ThreadPoolExecutor(8) as clients:
        asked = [["good"], ["bad luck"], ["bad"], ["good", "bad"], ["bad luck"], ["good"]]
        said = list(clients.map(lambda rows: live.post("/predict", rows=rows), asked))
        assert [answer.status_code for answer in said] == [200, 400, 200, 200, 400, 200]
        assert error_of(said[1])["message"] == "rows, row 1: no luck"
        assert max(seen) > 2  # some were answered together


def test_memory_that_runs_out(adapters: dict[str, Adapter], monkeypatch: pytest.MonkeyPatch) -> None:
    real = Batch.run

    def run(self: Batch, inputs: Any, room: int, **options: Any) -> Any:
        if len(self.prompts) > 1 or self.prompts[0].room == 2:
            raise MemoryError
        return real(self, inputs, room, **options)

    wanted = adapters["counts"].generate("one two", max_new_tokens=6)
    with (
        serving({"counts": adapters["counts"]}) as live,
        held(monkeypatch) as (begun, going),
        ThreadPoolExecutor(6) as clients,
    ):
        monkeypatch.setattr(Batch, "run", run)
        rooms = [6, 6, 2, 6, 6]
        said = []
        for room in rooms:
            said.append(clients.submit(live.post, CHAT, messages=ONE_TWO, max_tokens=room))
            assert begun.wait(10)
        while len(live.server.models.turns[0].waiting) < 4:
            time.sleep(0.01)
        going.set()
        for room, answer in zip(rooms, (one.result() for one in said), strict=True):
            if room == 2:
                assert (answer.status_code, error_of(answer)["code"]) == (503, "out_of_memory")
            else:
                assert answer.json()["choices"][0]["message"]["content"] == wanted


def test_stopping_lets_what_was_asked_end(adapters: dict[str, Adapter], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = adapters["counts"].generate("one two", max_new_tokens=6)
    with (
        serving({"counts": adapters["counts"]}, grace=30) as live,
        held(monkeypatch) as (begun, going),
        ThreadPoolExecutor(2) as clients,
    ):
        asked = [clients.submit(live.post, CHAT, messages=ONE_TWO, max_tokens=6)]
        assert begun.wait(10)
        asked.append(clients.submit(live.post, CHAT, messages=ONE_TWO, max_tokens=6))
        while not live.server.models.turns[0].waiting:
            time.sleep(0.01)
        live.server.should_exit = True
        while not live.server.gate.closed:
            time.sleep(0.01)
        with pytest.raises(Exception, match=r"refused|closed|reset|disconnected"):
            live.post(CHAT, messages=ONE_TWO)
        going.set()
        for one in asked:
            assert one.result().json()["choices"][0]["message"]["content"] == wanted
    assert not live.thread.is_alive()


def test_an_adapter_that_is_deleted_while_it_is_served(
    engine: Engine, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = engine.load_adapter(adapter)
    with serving({"words": loaded}) as live:
        before = live.post("/predict", rows=["good money"]).json()
        shutil.rmtree(adapter)
        assert live.post("/predict", rows=["good money"]).json() == before


def test_adapters_that_are_loaded_share_a_base(engine: Engine, adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "again")
    two = {str(path): engine.load_adapter(path) for path in (adapter, tmp_path / "again")}
    first, second = two.values()
    assert first.base is second.base
    assert len(Models(two, Settings()).turns) == 1


def test_names(tmp_path: Path) -> None:
    (tmp_path / "a" / "x").mkdir(parents=True)
    (tmp_path / "b=c").mkdir()
    given = [str(tmp_path / "a" / "x"), f"y={tmp_path / 'a' / 'x'}", str(tmp_path / "b=c")]
    assert list(named_places(given)) == ["x", "y", "b=c"]
    with pytest.raises(ConfigError, match=r"are both called 'x'; give one another name, as in other="):
        named_places([str(tmp_path / "a" / "x"), "elsewhere/x"])
    with pytest.raises(ConfigError, match="write it as NAME=DIR"):
        named_places(["x="])


def test_the_command_says_in_a_line_what_it_cannot_do(
    run: Any, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> str:
        outcome: Outcome = run("serve", *arguments)
        assert outcome.code in (1, 2)
        assert outcome.err.count("\n") == 1
        return outcome.err

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen at 127.0.0.1, port {port}: Address already in use" in refused(adapter, "--port", port)
    assert "cannot listen at no.such.host" in refused(adapter, "--host", "no.such.host")
    assert "no adapter" in refused(tmp_path, "--port", 0)
    assert "are both called" in refused(adapter, f"{adapter.name}={adapter}", "--port", 0)
    assert "max_rows is 0" in refused(adapter, "--max-rows", 0)
    assert "token is ''" in refused(adapter, "--token", "")
    monkeypatch.setattr("adapterhub_lite.cli.serve.find_spec", lambda name: None)
    assert "pip install 'adapterhub-lite[serve]'" in refused(adapter)


def test_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    with bound(Settings(port=0)) as first, pytest.raises(ConfigError, match="give another --port"):
        bound(Settings(port=first.getsockname()[1]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_and_is_told_by_the_exit_code(adapters: dict[str, Adapter], number: int) -> None:
    settings = Settings(port=0)
    server = Server(Models({"counts": adapters["counts"]}, settings), settings)
    said: list[Any] = []

    def ask_and_stop(address: str) -> None:
        with httpx2.Client(base_url=address, trust_env=False, timeout=30) as client:
            said.append(client.post(CHAT, json=chat(max_tokens=3)).status_code)
        os.kill(os.getpid(), number)

    with bound(settings) as listening:
        client = threading.Thread(target=ask_and_stop, args=[address_of(listening)])
        client.start()
        with pytest.raises(Stopped) as stopped, Interrupt().listening():
            server.serve_at(listening)
        client.join()
    assert said == [200]
    assert stopped.value.exit_code == 128 + number
    assert not any(turns.is_alive() for turns in server.models.turns)


def test_a_second_signal_ends_everything(adapters: dict[str, Adapter], monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({"counts": adapters["counts"]}, grace=60) as live, ThreadPoolExecutor(1) as clients:
        begun = threading.Event()

        def endlessly(self: Batch, tokens: int) -> bool:
            begun.set()
            time.sleep(0.02)
            return not all(self.done)

        monkeypatch.setattr(Batch, "advance", endlessly)
        asked = clients.submit(live.post, CHAT, **chat(max_tokens=500))
        assert begun.wait(10)
        live.server.handle_exit(signal.SIGINT, None)
        time.sleep(0.3)
        assert live.thread.is_alive()
        live.server.handle_exit(signal.SIGINT, None)
        answer = asked.result(10)
        assert (answer.status_code, error_of(answer)["code"]) == (503, "stopping")
        live.thread.join(10)
        assert not live.thread.is_alive()


def test_the_page_on_serving_names_every_limit() -> None:
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in page
        if isinstance(field.default, (int, float)):
            assert f"`--{name.replace('_', '-')} {field.default:g}`" in page or name in ("port", "at_once", "grace")
