"""The webhook: signed requests to a real server, the queue of what is not delivered, and where it
may go."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from core.errors import Misconfigured, Unavailable
from core.job import commit
from core.job.runtime import Runtime
from core.storage.object_keys import WEBHOOKS, event_key
from events import outgoing
from handlers import webhook
from handlers.jobs import announce, carry_out, trace_clip
from handlers.sweep import run_sweep
from handlers.webhook import Webhook, open_webhook
from tests.support.kms_server import serving_tls, write_certificate
from tests.support.results import FULL, JOB
from tests.support.runtime import local_runtime

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LOOPBACK = "127.0.0.0/8"


class Receiver:
    """A web server that keeps what it gets; `answers` are the next statuses, then 204."""

    def __init__(self, url: str, ca_file: Path) -> None:
        self.url = url
        self.answers: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.trusted = ssl.create_default_context(cafile=ca_file)

    def webhook(self, secret: str = SECRET, networks: str = LOOPBACK) -> Webhook:
        opened = open_webhook(self.url, secret, networks)
        return Webhook(opened.url, opened.secrets, opened.networks, self.trusted)


@pytest.fixture(name="receiver")
def running_receiver(tmp_path: Path) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            answering.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            status = answering.answers.pop(0) if answering.answers else 204
            self.send_response(status)
            if status == 302:
                self.send_header("location", "/other")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    pem = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with serving_tls(Handler, context) as port:
        answering = Receiver(f"https://127.0.0.1:{port}/hook?who=etl", pem)
        yield answering


def telling(folder: Path, receiver: Receiver) -> Runtime:
    plain = local_runtime(folder)
    tell = partial(webhook.deliver, plain.control, receiver.webhook())
    return local_runtime(folder, tell=tell)


def queued(runtime: Runtime) -> list[dict[str, Any]]:
    infos = list(runtime.control.list(WEBHOOKS))
    return [json.loads(runtime.control.get(info.key, limit=999).data) for info in infos]


def test_the_published_example_of_the_scheme_is_signed_alike() -> None:
    """The example that the libraries of Standard Webhooks use in their tests."""
    secret = base64.b64decode(SECRET.removeprefix("whsec_"))
    body = b'{"test": 2432232314}'
    made = webhook.sign((secret,), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_finished_job_is_told_once(tmp_path: Path, receiver: Receiver) -> None:
    runtime = telling(tmp_path, receiver)
    assert announce(FULL, runtime)
    assert not announce(FULL, runtime)
    ((headers, body),) = receiver.got
    assert body == outgoing.job_event(FULL)
    assert headers["webhook-id"] == json.loads(body)["id"]
    secret = base64.b64decode(SECRET.removeprefix("whsec_"))
    stamp = int(headers["webhook-timestamp"])
    assert headers["webhook-signature"] == webhook.sign(
        (secret,), headers["webhook-id"], stamp, body
    )
    assert not queued(runtime)


def test_what_is_refused_is_tried_again_after_the_stated_wait(
    tmp_path: Path, receiver: Receiver
) -> None:
    runtime = telling(tmp_path, receiver)
    receiver.answers = [500, 302]
    announce(FULL, runtime)
    assert runtime.results.head(event_key(JOB, FULL.finished))
    assert queued(runtime)[0]["attempts"] == 1
    assert runtime.tell is not None
    event = outgoing.job_event(FULL)
    assert runtime.tell(f"job-{JOB}", event) == ""  # too early
    for answer in ("a redirect", "yes"):
        key = f"{WEBHOOKS}job-{JOB}"
        attempts = queued(runtime)[0]["attempts"]
        runtime.control.put(key, json.dumps({"attempts": attempts, "after": 0.0}).encode())
        if answer == "yes":
            assert runtime.tell(f"job-{JOB}", event) == "delivered"
        else:
            with pytest.raises(Unavailable, match="302"):
                runtime.tell(f"job-{JOB}", event)
    assert [headers["webhook-id"] for headers, _ in receiver.got] == [json.loads(event)["id"]] * 3
    assert not queued(runtime)


@pytest.mark.parametrize("last", [410, 500])
def test_it_ends_at_410_and_after_the_last_attempt(
    tmp_path: Path, receiver: Receiver, last: int
) -> None:
    runtime = telling(tmp_path, receiver)
    webhook.enqueue(runtime.control, f"job-{JOB}")
    attempts = 0 if last == 410 else len(webhook.WAITS)
    runtime.control.put(f"{WEBHOOKS}job-{JOB}", json.dumps({"attempts": attempts}).encode())
    receiver.answers = [last]
    assert runtime.tell is not None
    assert "given up" in runtime.tell(f"job-{JOB}", outgoing.job_event(FULL))
    assert not queued(runtime)


@pytest.mark.parametrize(
    "entry",
    [b"{}", b"not ours", b'{"attempts":-4}', b"[" * 9000],
    ids=["ours", "none", "negative", "large"],
)
def test_the_sweeper_delivers_what_a_killed_worker_did_not(
    tmp_path: Path, receiver: Receiver, entry: bytes
) -> None:
    runtime = telling(tmp_path, receiver)
    key = "jobs/broken.manifest.json"
    runtime.inbox.put(key, b"{")
    receiver.answers = [503]
    carry_out(key, runtime)
    name = f"job-{commit.read_manifest(key, runtime).job_id}"
    runtime.control.put(f"{WEBHOOKS}{name}", entry)
    runtime.control.put(f"{WEBHOOKS}job-{'0' * 32}", b"{}")
    swept = run_sweep(runtime)
    found = {finding.keys[0]: finding.action for finding in swept.findings}
    assert found == {
        f"{WEBHOOKS}{name}": "delivered", f"{WEBHOOKS}job-{'0' * 32}": "removed",
    }  # fmt: skip
    assert len(receiver.got) == 2
    assert receiver.got[0][1] == receiver.got[1][1]
    assert not queued(runtime)


def test_a_trace_is_told_too(tmp_path: Path, receiver: Receiver) -> None:
    runtime = telling(tmp_path, receiver)
    runtime.inbox.put("audit/clip.wav", b"no sound")
    receiver.answers = [500]
    report = trace_clip("audit/clip.wav", runtime)
    runtime.control.put(f"{WEBHOOKS}trace-{report.trace_id}", b"{}")
    run_sweep(runtime)
    first, second = (json.loads(body) for _, body in receiver.got)
    assert first == second
    assert first["data"]["trace_id"] == report.trace_id


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "10.1.2.3", "169.254.169.254", "100.100.100.200", "[::1]",
        "[::ffff:127.0.0.1]", "[64:ff9b::a00:1]", "[2002:7f00:1::]", "[fe80::1]", "224.0.0.1",
        "0.0.0.0", "2130706433", "[::7f00:1]", "a" * 64,  # noqa: S104
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_not_called(host: str) -> None:
    with pytest.raises(Unavailable, match=r"Only public addresses|not found") as caught:
        open_webhook(f"https://{host}/", SECRET, "").send(outgoing.job_event(FULL), 0.0)
    assert caught.value.code == "WEBHOOK_FAILED"


def test_without_tls_only_listed_networks_are_called(receiver: Receiver) -> None:
    plain = receiver.url.replace("https://127.0.0.1", "http://127.0.0.2")
    with pytest.raises(Unavailable, match="over https"):
        open_webhook(plain, SECRET, "127.0.0.1/32").send(outgoing.job_event(FULL), 0.0)
    assert not receiver.got


def test_another_name_in_the_certificate_is_refused(receiver: Receiver) -> None:
    receiver.url = receiver.url.replace("127.0.0.1", "localhost")
    with pytest.raises(Unavailable, match="SSLError") as caught:
        receiver.webhook(networks="127.0.0.0/8 ::1/128").send(outgoing.job_event(FULL), 0.0)
    assert "who=etl" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "secret", "networks", "code"),
    [
        ("ftp://a.example/", SECRET, "", "SETTING_INVALID"),
        ("https:///x", SECRET, "", "SETTING_INVALID"),
        ("https://a.example:99999/", SECRET, "", "SETTING_INVALID"),
        ("https://a.example/ü", SECRET, "", "SETTING_INVALID"),
        ("https://me:pw@a.example/", SECRET, "", "SETTING_INVALID"),
        ("https://a.example/", "", "", "KEY_UNUSABLE"),
        ("https://a.example/", "whsec_c2hvcnQ=", "", "KEY_UNUSABLE"),
        ("https://a.example/", "whsec_???", "", "KEY_UNUSABLE"),
        ("https://a.example/", SECRET, "10.0.0.1/8", "SETTING_INVALID"),
    ],
)
def test_wrong_settings_are_refused(url: str, secret: str, networks: str, code: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        open_webhook(url, secret, networks)
    assert caught.value.code == code
