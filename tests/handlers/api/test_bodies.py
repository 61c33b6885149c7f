"""Bodies are limited in size and time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from core.errors import Unavailable
from handlers.api import bodies
from handlers.api.bodies import BoundedBodies, release_body


def client_of(*, released: bool = False, **limits: int) -> TestClient:
    async def count(request: Request) -> Response:
        size = len(await request.body())
        if released:
            release_body(request)
        return PlainTextResponse(str(size))

    async def refuse(_: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), 429)

    app = Starlette(
        routes=[Route("/", count, methods=["POST"])],
        middleware=[Middleware(BoundedBodies, **limits)],
        exception_handlers={Unavailable: refuse},
    )
    return TestClient(app, base_url="http://127.0.0.1:8000")


def chunks(count: int) -> Iterator[bytes]:
    """Without a stated length."""
    yield from [b"x" * 100] * count


def test_a_body_is_bounded() -> None:
    client = client_of(limit=1000)
    assert client.post("/", content=b"x" * 1000).text == "1000"
    assert client.post("/", content=b"x" * 1001).status_code == 413
    assert client.post("/", content=chunks(11)).status_code == 413
    assert client.post("/", content=chunks(10)).status_code == 200


@pytest.mark.parametrize("released", [False, True])
def test_bodies_are_bounded_together(released: bool) -> None:
    client = client_of(released=released, limit=1000, together=600)
    for _ in range(3):  # nothing is held when a request is over, however it ended
        assert client.post("/", content=b"x" * 700).status_code == 429
        assert client.post("/", content=b"x" * 500).status_code == 200


async def slow(_: Any) -> Response:
    async with bodies.arriving():
        raise TimeoutError


def test_a_body_that_does_not_arrive_is_a_timeout() -> None:
    app = Starlette(routes=[Route("/", slow, methods=["POST"])])
    assert TestClient(app, base_url="http://127.0.0.1").post("/").status_code == 408
