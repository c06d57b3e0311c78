"""The routes of the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, NoReturn, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from adapterhub_lite.serve.chat import ChatRequest, completion, events, read_chat
from adapterhub_lite.serve.models import Models
from adapterhub_lite.serve.predict import PredictRequest, predicted, read_rows
from adapterhub_lite.serve.refusal import Refusal, bad, refusal_of
from adapterhub_lite.serve.settings import Settings

Model = TypeVar("Model", bound=BaseModel)
Told = TypeVar("Told")


def make_app(models: Models, settings: Settings, version: str) -> FastAPI:
    """The application, behind a `Gate`: see `docs/serving.md` for what is asked where."""
    # Pages that show the schema would load scripts from elsewhere.
    app = FastAPI(title="adapterhub-lite", version=version, docs_url=None, redoc_url=None)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _not_here)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        waiting = sum(len(turns.waiting) for turns in models.turns)
        return {"status": "ok", "models": [model.name for model in models], "waiting": waiting}

    @app.get("/v1/models")
    async def listed() -> dict[str, Any]:
        return {"object": "list", "data": [model.described() for model in models]}

    @app.get("/v1/models/{name:path}")
    async def described(name: str) -> dict[str, Any]:
        return models.named(name).described()

    @app.post("/predict", openapi_extra=_schema(PredictRequest))
    async def predict(request: Request) -> Any:
        asked = await _body(request, PredictRequest)
        model = models.named(asked.model, generates=False)
        job = model.job(await asyncio.to_thread(read_rows, model, asked, settings))
        try:
            outputs = await _unless_gone(request, job.next())
        finally:
            model.turns.drop(job)
        return JSONResponse({"model": model.name, "rows": predicted(outputs, probabilities=asked.probabilities)})

    @app.post("/v1/chat/completions", openapi_extra=_schema(ChatRequest))
    async def chat(request: Request) -> Any:
        asked = await _body(request, ChatRequest)
        model = models.named(asked.model, generates=True)
        job = model.job(await asyncio.to_thread(read_chat, model, asked, settings))
        streaming = False
        try:
            reply = await _unless_gone(request, job.next())
            if asked.stream:
                usage = (asked.stream_options or {}).get("include_usage", False)
                streaming = True
                return StreamingResponse(
                    events(model, job, reply, include_usage=usage), media_type="text/event-stream",
                    headers={"cache-control": "no-store"},
                )  # fmt: skip
            while not reply.done:
                reply = await _unless_gone(request, job.next())
        finally:
            if not streaming:
                model.turns.drop(job)
        return JSONResponse(completion(model, reply))

    return app


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


async def _body(request: Request, kind: type[Model]) -> Model:
    """The body of a request, which is small enough here.

    Raises:
        Refusal: no JSON, or not what `kind` says; names the field.
    """
    data = await request.body()
    try:
        value = await asyncio.to_thread(json.loads, data.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        raise bad("the body is nested too deeply", code="invalid_json") from None
    except ValueError as error:
        raise bad(f"the body is no JSON in UTF-8: {error}", code="invalid_json") from None
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"] if isinstance(part, (str, int)))[:80]
        what = f"{field}: {first['msg'].lower()}" if field else f"the body: {first['msg'].lower()}"
        raise bad(
            f"{what}; got {first['input']!r:.80}" if first["type"] != "missing" else what, field or None
        ) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; write null")


async def _unless_gone(request: Request, told: Awaitable[Told]) -> Told:
    """What is told, unless the client goes away before.

    Raises:
        Refusal: it went; nobody reads this.
    """
    waits = asyncio.ensure_future(told)
    gone = asyncio.ensure_future(request.receive())  # behind the body, nothing comes but that
    try:
        await asyncio.wait({waits, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not waits.done():
            raise Refusal(499, "the client went away")
        return waits.result()
    finally:
        waits.cancel()
        gone.cancel()


async def _refused(request: Request, error: Exception) -> JSONResponse:
    refusal = refusal_of(error)
    return JSONResponse(refusal.body(), refusal.status, refusal.headers)


async def _not_here(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    said = (
        "use another method"
        if error.status_code == 405
        else "there is POST /predict, POST /v1/chat/completions, GET /v1/models and GET /health"
    )
    refusal = Refusal(error.status_code, f"{request.method} {request.url.path[:80]}: {error.detail}; {said}")
    return JSONResponse(refusal.body(), refusal.status, dict(error.headers or {}))
