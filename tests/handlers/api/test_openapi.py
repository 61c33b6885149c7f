"""The OpenAPI document: complete, current, and what the server answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from starlette.routing import Route

from handlers.api import openapi
from handlers.api.callers import SCOPES
from tests.support.http_service import ROUTES, Running, running_service

PAGE = (Path(__file__).parents[3] / "docs" / "http.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_service(tmp_path_factory.mktemp("openapi"), works=False) as running:
        yield running


def described() -> dict[tuple[str, str], openapi.Operation]:
    return {(one.method.upper(), one.path): one for one in openapi.OPERATIONS}


def test_every_route_is_described_and_nothing_else(idle: Running) -> None:
    routes = {
        (method, route.path)
        for route in idle.app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert set(described()) == routes


def test_the_page_and_the_tests_have_the_same_table_of_scopes() -> None:
    rows = [row.strip("| ").split(" | ") for row in PAGE.splitlines() if row.startswith("| `")]
    stated = {}
    for row in rows:
        for method, path in re.findall(r"`(GET|POST|DELETE) (/[^`?]*)[^`]*`", row[0]):
            stated[method, path] = set(re.findall(r"`(\w+)`", row[2].partition(", and")[0]))
    for (method, path), one in described().items():
        shown = path.replace("{job}", "JOB").replace("{trace}", "TRACE")
        shown = shown.replace("{name}", "ITEM" if "/items/" in path else "CHAPTER")
        assert stated.pop((method, shown)) == set(one.scopes), shown
        assert set(one.scopes) <= SCOPES
        if one.scopes and "chapters" not in path:
            assert ROUTES[method, shown.replace("ITEM", "speech")] == one.scopes
    assert not stated


def test_it_is_served_and_what_is_answered_has_its_schemas(idle: Running) -> None:
    served = idle.client.get("/openapi.json").json()
    assert served == json.loads(openapi.document())

    def check(method: str, path: str, answer: Any) -> None:
        kind = answer.headers["content-type"]
        stated = served["paths"][path][method]["responses"][str(answer.status_code)]
        schema = stated["content"][kind]["schema"] | {"components": served["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer.json())

    job = idle.clone(voice="alice")
    check("post", "/clone", job)
    check("post", "/clone", idle.clone(""))
    check("get", "/jobs", idle.client.get("/jobs"))
    check("get", "/jobs", idle.client.get("/jobs?limit=0"))
    check("get", "/jobs/{job}", idle.client.get(job.headers["location"]))
    check("get", "/voices", idle.client.get("/voices"))
    check("get", "/jobs/{job}/items/{name}", idle.client.get(job.headers["location"] + "/items/a"))
    check("delete", "/jobs/{job}", idle.client.delete(job.headers["location"]))
    clip = idle.client.post("/trace", content=b"x", headers={"Content-Type": "audio/wav"})
    check("post", "/trace", clip)
    check("get", "/traces/{trace}", idle.client.get(clip.headers["location"]))
    check("post", "/v1/audio/speech", idle.client.post("/v1/audio/speech", json={"input": "a"}))
