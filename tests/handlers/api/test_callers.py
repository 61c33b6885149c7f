"""Who may what, and what other sites may not."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from typer.testing import CliRunner

from core.errors import Misconfigured, Refused
from core.job.quota import Quota
from core.settings import Settings
from handlers.api import callers
from handlers.api.app import create_app
from handlers.api.callers import SameHost, Scope, Tokens, choose_authentication, hash_token
from handlers.api.intake import count_against_quota
from handlers.cli.keys import keys_app
from handlers.server.tokens import ProcessTokens
from tests.support.http_service import (
    CONSENT,
    RECORDING,
    ROUTES,
    Running,
    create_service,
    running_service,
)
from tests.support.runtime import finish_job


def one_token(name: str, *scopes: Scope) -> str:
    return f"{name}:{'+'.join(scopes)}:{hash_token('token-of-' + name + '+'.join(scopes))}"


def bearing(name: str, *scopes: Scope) -> dict[str, str]:
    return {"Authorization": f"Bearer token-of-{name}{'+'.join(scopes)}"}


EVERYWHERE = "0.0.0.0"  # noqa: S104
CALLERS: list[tuple[str, tuple[Scope, ...]]] = [
    ("acme", ("clone", "read", "listen", "trace")),
    ("other", ("clone", "read")),
    ("admin", ("read", "all")),
    *(("acme", (scope,)) for scope in ("clone", "read", "listen", "trace")),
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    tokens = Tokens(" ".join(one_token(name, *scopes) for name, scopes in CALLERS))
    root = tmp_path_factory.mktemp("callers")
    with running_service(root, tokens, works=False) as running:
        yield running


def ask(api: Running, method: str, path: str, headers: dict[str, str]) -> Any:
    if path == "/clone":
        return api.clone(headers=headers)
    return api.client.request(method, path, headers=headers)


@pytest.fixture(scope="module")
def job(api: Running) -> str:
    answer = api.clone(headers=bearing(*ALL_OF_ACME))
    assert answer.status_code == 202
    job: str = answer.json()["job"]
    return job


ALL_OF_ACME: tuple[str, Scope, Scope, Scope, Scope] = ("acme", "clone", "read", "listen", "trace")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_each_route_needs_its_scopes(api: Running, job: str, method: str, path: str) -> None:
    place = path.replace("JOB", job).replace("TRACE", "0" * 32)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}):
        answer = ask(api, method, place, headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "CALLER_UNKNOWN")
        assert answer.headers["www-authenticate"] == "Bearer"
    for scope in ("clone", "read", "listen", "trace"):
        answer = ask(api, method, place, bearing("acme", scope))
        is_enough = set(ROUTES[method, path]) <= {scope}
        assert (answer.status_code == 403) != is_enough, scope
        assert is_enough or answer.json()["code"] == "SCOPE_MISSING"


def test_another_producer_does_not_see_a_job(api: Running, job: str) -> None:
    other = bearing("other", "clone", "read")
    assert api.client.get(f"/jobs/{job}", headers=other).status_code == 404
    assert api.client.delete(f"/jobs/{job}", headers=other).status_code == 404
    assert api.client.get("/jobs", headers=other).json()["jobs"] == []
    admin = bearing("admin", "read", "all")
    assert api.client.get(f"/jobs/{job}", headers=admin).status_code == 200
    assert api.client.get("/jobs", headers=admin).json()["jobs"]


def test_another_producer_uses_neither_files_nor_results_of_a_job(api: Running, job: str) -> None:
    mine = api.client.get(f"/jobs/{job}", headers=bearing("acme", "read")).json()
    stored = api.runtime.inbox.get(mine["manifest"], limit=1 << 20).data
    voice = json.loads(stored)["voices"]["voice"]
    document = {"text": "Words.", "language": "en", "recording": voice["reference"]}
    document["consent"] = voice["consent"]
    other = bearing("other", "clone", "read")
    answer = api.client.post("/clone", json=document, headers=other)
    assert (answer.status_code, answer.json()["code"]) == (422, "REF_FORBIDDEN")
    manifest = {
        "schema": "voicedrop/job/1",
        "voices": {"a": {"language": "en"}},
        "items": [{"id": "a", "text": "Words."}],
        "retry_of": job,
    }
    files = {"recording": ("a", RECORDING), "consent": ("c", CONSENT)}
    form = {"manifest": json.dumps(manifest)}
    answer = api.client.post("/clone", data=form, files=files, headers=other)
    assert answer.json()["code"] == "RETRY_UNKNOWN"


def test_a_caller_is_a_producer_with_a_quota_of_its_own(api: Running, job: str) -> None:
    manifest = api.client.get(f"/jobs/{job}", headers=bearing("acme", "read")).json()["manifest"]
    assert api.runtime.quota.producer(manifest) == "jobs/acme"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "evil.example@127.0.0.1"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "[::1"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "https://127.0.0.1:8000"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_on_a_loopback_address_other_sites_are_refused(
    api: Running, headers: dict[str, str], status: int
) -> None:
    client = TestClient(
        create_app(create_service(api.runtime), same_host="127.0.0.1"),
        base_url="http://127.0.0.1:8000",
    )
    for path in ("/jobs", "/healthz"):
        answer = client.get(path, headers=headers)
        assert answer.status_code == status
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_a_websocket_of_another_site_is_refused() -> None:
    async def accept(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    client = TestClient(SameHost(accept), base_url="http://127.0.0.1:8000")
    with client.websocket_connect(
        "ws://127.0.0.1:8000/stream", headers={"Origin": "http://127.0.0.1:8000"}
    ):
        pass
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        with (
            pytest.raises(WebSocketDisconnect) as refused,
            client.websocket_connect("ws://127.0.0.1:8000/stream", headers=headers),
        ):
            pass
        assert (refused.value.code, refused.value.reason) == (1008, "ORIGIN_FORBIDDEN")


def test_every_token_is_required_elsewhere_than_on_a_loopback_address(api: Running) -> None:
    with pytest.raises(Misconfigured, match="VOICEDROP_API_TOKENS"):
        choose_authentication(Settings(), EVERYWHERE)
    for host in ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"):
        assert choose_authentication(Settings(), host) is callers.of_loopback
    named = Settings(api_tokens=one_token("acme", "read"))
    assert isinstance(choose_authentication(named, "127.0.0.1"), Tokens)
    assert choose_authentication(Settings(api_jwt="platform"), EVERYWHERE) is not None


@pytest.mark.parametrize(
    "entry", ["acme", "acme:read", "acme:read:12", "a/b:read:" + "0" * 64, "acme:all2:" + "0" * 64]
)
def test_a_setting_that_is_wrong_is_refused_without_being_quoted(entry: str) -> None:
    with pytest.raises(Misconfigured) as found:
        Tokens(f"{one_token('acme', 'read')} {entry}")
    assert "entry 2" in found.value.message
    assert entry not in found.value.message


def test_a_token_that_the_command_makes_is_one_that_the_server_takes() -> None:
    options = ["token", "acme", "--scope", "read", "--scope", "clone", "--json"]
    made = json.loads(CliRunner().invoke(keys_app, options).stdout)
    caller = Tokens(made["entry"])(Headers({"Authorization": f"Bearer {made['token']}"}))
    assert caller.name == "acme"
    assert caller.scopes == {"read", "clone"}
    assert made["token"] not in made["entry"]
    wrong = CliRunner().invoke(keys_app, ["token", "acme", "--scope", "everything"])
    assert isinstance(wrong.exception, Misconfigured)


def jwt(claims: Any) -> Headers:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return Headers({"Authorization": f"Bearer e30.{payload}.c2ln"})


def test_the_subject_of_a_token_of_the_platform_is_the_producer() -> None:
    assert callers.of_platform_jwt(jwt({"sub": "acme"})).folder == "acme/"
    named = callers.of_platform_jwt(jwt({"sub": "../x", "scope": "read all"}))
    assert named.folder.startswith("sub-")
    assert named.scopes == {"read", "all"}
    unnamed: list[Any] = [{}, {"sub": ""}, {"sub": 7}, []]
    for claims in unnamed:
        with pytest.raises(Refused, match="CALLER_UNKNOWN"):
            callers.of_platform_jwt(jwt(claims))
    two = Headers(raw=[(b"authorization", b"Bearer a.e30.b"), (b"authorization", b"Bearer c")])
    with pytest.raises(Refused, match="CALLER_UNKNOWN"):
        callers.of_platform_jwt(two)


def test_a_used_up_quota_is_told_before_anything_is_stored(tmp_path: Path) -> None:
    with running_service(tmp_path, works=False, quota=Quota(jobs=1)) as running:
        service = create_service(running.runtime, count=count_against_quota(running.runtime))
        running.client = TestClient(create_app(service), base_url="http://127.0.0.1:8000")
        once = {"Idempotency-Key": "once"}
        first = running.clone(headers=once)
        assert (first.status_code, running.clone(headers=once).status_code) == (202, 202)
        stored = len(list(running.runtime.inbox.list("")))
        answer = running.clone("Other words.")
        assert (answer.status_code, answer.json()["code"]) == (429, "QUOTA_EXCEEDED")
        assert 0 < int(answer.headers["retry-after"]) <= 86_400
        assert len(list(running.runtime.inbox.list(""))) == stored
        result = finish_job(first.json()["manifest"], running.runtime)  # is not counted twice
        assert result.status == "succeeded"


def test_when_too_much_is_in_progress_the_caller_comes_again(tmp_path: Path) -> None:
    with running_service(tmp_path, works=False) as running:
        service = create_service(running.runtime, tokens=ProcessTokens(0))
        running.client = TestClient(create_app(service), base_url="http://127.0.0.1:8000")
        answer = running.clone()
        assert (answer.status_code, answer.json()["code"]) == (429, "OVERLOADED")
        assert answer.headers["retry-after"] == "1"
        assert not list(running.runtime.inbox.list(""))
