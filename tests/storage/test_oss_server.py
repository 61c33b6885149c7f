"""Features of the test server that neither the OSS store nor oss2's tests use."""

from __future__ import annotations

import base64
import hmac
import http.client
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import oss2
import pytest
import requests
from oss2.exceptions import ServerError
from oss2.models import (
    AbortMultipartUpload,
    BucketLifecycle,
    LifecycleExpiration,
    LifecycleRule,
)

from tests.support.oss_server import Fault, OssServer

_MAKERS = {"v1": oss2.Auth, "v4": oss2.AuthV4}


@pytest.fixture
def server() -> Iterator[OssServer]:
    with OssServer() as running:
        running.add_key("id", "secret")
        running.create_bucket("box")
        yield running


@pytest.fixture(params=["v1", "v4"])
def bucket(server: OssServer, request: pytest.FixtureRequest) -> Iterator[oss2.Bucket]:
    made = _bucket(server, _MAKERS[request.param]("id", "secret"))
    yield made
    made.session.session.close()


def _bucket(server: OssServer, auth: object, name: str = "box") -> oss2.Bucket:
    return oss2.Bucket(auth, server.endpoint, name, region=server.region)


def _sha1(secret: str, text: str) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha1")).decode()


def _code(action: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(ServerError) as caught:
        action()
    assert caught.value.request_id
    return caught.value.status, caught.value.code


def test_a_presigned_url_works_until_it_is_changed_or_expires(
    server: OssServer, bucket: oss2.Bucket
) -> None:
    key = "a b/é.txt"
    put = bucket.sign_url("PUT", key, 60, slash_safe=True)
    assert requests.put(put, data=b"data", timeout=5).status_code == 200
    get = bucket.sign_url("GET", key, 60, slash_safe=True)
    assert requests.get(get, timeout=5).content == b"data"
    assert requests.get(get.replace(".txt", ".wav"), timeout=5).status_code == 403
    assert requests.put(get, data=b"other", timeout=5).status_code == 403
    server.state.ahead = 61.0
    assert b"expired" in requests.get(get, timeout=5).content


def test_a_temporary_key_requires_its_token(server: OssServer) -> None:
    server.add_key("sts", "secret", token="token")
    for version in ("v1", "v4"):
        right = _bucket(server, oss2.StsAuth("sts", "secret", "token", auth_version=version))
        right.put_object("k", b"1")
        assert requests.get(right.sign_url("GET", "k", 60), timeout=5).content == b"1"
        wrong = _bucket(server, oss2.StsAuth("sts", "secret", "other", auth_version=version))
        assert _code(partial(wrong.get_object, "k")) == (403, "InvalidSecurityToken")
        none = _bucket(server, _MAKERS[version]("sts", "secret"))
        assert _code(partial(none.get_object, "k")) == (403, "InvalidAccessKeyId")


def test_a_wrong_signature_and_a_wrong_clock_are_refused(
    server: OssServer, bucket: oss2.Bucket
) -> None:
    wrong = _bucket(server, type(bucket.auth)("id", "wrong"))
    assert _code(lambda: wrong.get_object("k")) == (403, "SignatureDoesNotMatch")
    server.state.ahead = 16 * 60.0
    assert _code(lambda: bucket.get_object("k")) == (403, "RequestTimeTooSkewed")


@pytest.mark.parametrize("header", ["Bearer x", "OSS4-HMAC-SHA256 x", "OSS id:x"])
def test_malformed_authorizations_are_refused_without_a_crash(
    server: OssServer, header: str
) -> None:
    answer = requests.get(f"{server.endpoint}/box/k", headers={"Authorization": header}, timeout=5)
    assert answer.status_code in (400, 403)
    assert "<Code>" in answer.text


@pytest.mark.parametrize("host", ["box.localhost", "box.oss-cn-hangzhou.aliyuncs.com"])
def test_the_bucket_may_be_in_the_host_name(server: OssServer, host: str) -> None:
    server.create_bucket("open", acl="public-read")
    server.place("open", "k", b"data")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request("GET", "/k", headers={"Host": host.replace("box", "open")})
    assert connection.getresponse().read() == b"data"
    connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("state", ["", "Enabled", "Suspended"])
def test_forbid_overwrite_has_no_effect_once_versioning_was_on(
    server: OssServer, bucket: oss2.Bucket, state: str
) -> None:
    if state:
        bucket.put_bucket_versioning(oss2.models.BucketVersioningConfig(state))
    headers = {"x-oss-forbid-overwrite": "true"}

    def write(data: bytes) -> None:
        bucket.put_object("k", data, headers=headers)

    def complete() -> None:
        upload = bucket.init_multipart_upload("k").upload_id
        part = oss2.models.PartInfo(1, bucket.upload_part("k", upload, 1, b"3").etag)
        bucket.complete_multipart_upload("k", upload, [part], headers=headers)

    write(b"1")
    copy = (lambda: bucket.copy_object("box", "k", "k", headers=headers), complete)
    for again in (lambda: write(b"2"), *copy):
        if state:
            again()
        else:
            assert _code(again) == (409, "FileAlreadyExists")
    assert server.objects("box") == {"k": b"3" if state else b"1"}


def test_copy_conditions_are_checked(bucket: oss2.Bucket) -> None:
    etag = bucket.put_object("a", b"1").etag
    bucket.copy_object("box", "a", "b", headers={"x-oss-copy-source-if-match": etag})
    wrong = {"x-oss-copy-source-if-match": "0" * 32}
    assert _code(lambda: bucket.copy_object("box", "a", "b", headers=wrong))[0] == 412
    same = {"x-oss-copy-source-if-none-match": etag}
    assert _code(lambda: bucket.copy_object("box", "a", "b", headers=same))[0] == 304


@pytest.mark.slow
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-Match": "ETAG"}, 200),
        ({"If-Match": '"ETAG"'}, 200),
        ({"If-Match": "other"}, 412),
        ({"If-None-Match": "ETAG"}, 304),
        ({"If-Unmodified-Since": "Thu, 01 Jan 2015 00:00:00 GMT"}, 412),
        ({"If-Modified-Since": "Thu, 01 Jan 2015 00:00:00 GMT"}, 200),
    ],
)
def test_reading_is_conditional(bucket: oss2.Bucket, headers: dict[str, str], status: int) -> None:
    etag = bucket.put_object("k", b"1").etag
    headers = {name: value.replace("ETAG", etag) for name, value in headers.items()}
    for read in (bucket.get_object, bucket.head_object):
        if status == 200:
            assert read("k", headers=headers).status == 200
        else:
            assert _code(partial(read, "k", headers=headers))[0] == status


@pytest.mark.slow
@pytest.mark.parametrize(
    "headers",
    [
        {"x-oss-meta-a_b": "1"},
        {"x-oss-meta-a": "x" * 8193},
        {"x-oss-forbid-overwrite": "yes"},
        {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="},
    ],
    ids=["underscore", "too much metadata", "odd forbid", "wrong digest"],
)
def test_bad_headers_store_nothing(
    server: OssServer, bucket: oss2.Bucket, headers: dict[str, str]
) -> None:
    assert _code(lambda: bucket.put_object("k", b"1", headers=headers))[0] == 400
    assert server.objects("box") == {}


def test_unsupported_requests_are_refused(bucket: oss2.Bucket) -> None:
    assert _code(bucket.get_bucket_cors) == (501, "NotImplemented")
    assert _code(bucket.get_bucket_website) == (501, "NotImplemented")


def test_a_plus_in_the_path_is_a_space(server: OssServer) -> None:
    """As in OSS, where clients must write `%2B`."""
    server.create_bucket("open", acl="public-read-write")
    for path in ("a+b", "a%2Bb"):
        requests.put(f"{server.endpoint}/open/{path}", data=path, timeout=5)
    assert server.objects("open") == {"a b": b"a+b", "a+b": b"a%2Bb"}


def test_v1_takes_the_token_from_a_header_that_is_not_signed(server: OssServer) -> None:
    """The SDK V2 for Python calls it `security-token`; other clients put `x-oss-` before it."""
    server.add_key("sts", "secret", token="token")
    date = formatdate(usegmt=True)
    signature = _sha1("secret", f"GET\n\n\n{date}\n/box/k")
    headers = {"Date": date, "Authorization": f"OSS sts:{signature}"}
    for token, code in (("token", "NoSuchKey"), ("other", "InvalidSecurityToken")):
        sent = headers | {"security-token": token}
        answer = requests.get(f"{server.endpoint}/box/k", headers=sent, timeout=5)
        assert f"<Code>{code}</Code>" in answer.text


def test_the_state_of_a_bucket_is_counted(server: OssServer, bucket: oss2.Bucket) -> None:
    bucket.put_object("a", b"12")
    bucket.put_object("b", b"345", headers={"x-oss-storage-class": "IA"})
    bucket.init_multipart_upload("c")
    stat = bucket.get_bucket_stat()
    assert (stat.storage_size_in_bytes, stat.object_count, stat.multi_part_upload_count) == (
        5,
        2,
        1,
    )
    assert (stat.standard_storage, stat.infrequent_access_object_count) == (2, 1)


def test_rules_delete_what_is_old(server: OssServer, bucket: oss2.Bucket) -> None:
    assert _code(bucket.get_bucket_lifecycle) == (404, "NoSuchLifecycle")
    expire, abort = LifecycleExpiration(days=3), AbortMultipartUpload(days=1)
    rules = [
        LifecycleRule("work", "work/", expiration=expire),
        LifecycleRule("", "up/", abort_multipart_upload=abort),
        LifecycleRule("off", "", status="Disabled", expiration=expire),
    ]
    bucket.put_bucket_lifecycle(BucketLifecycle(rules))
    found = bucket.get_bucket_lifecycle().rules
    assert [rule.status for rule in found] == ["Enabled", "Enabled", "Disabled"]
    assert (found[0].id, found[0].prefix, found[0].expiration.days) == ("work", "work/", 3)
    assert found[1].id  # the service gives one
    twice = BucketLifecycle([rules[0], rules[0]])
    assert _code(lambda: bucket.put_bucket_lifecycle(twice))[0] == 400
    bucket.put_object("work/a", b"")
    bucket.put_object("kept", b"")
    bucket.init_multipart_upload("up/a")
    for days, objects, uploads in ((0, 2, 1), (2, 2, 0), (5, 1, 0)):
        server.state.ahead = days * 86_400.0
        requests.get(f"{server.endpoint}/box", timeout=5)
        assert len(server.objects("box")) == objects
        assert len(server.state.buckets["box"].uploads) == uploads
    server.state.ahead = 0.0
    bucket.delete_bucket_lifecycle()
    assert _code(bucket.get_bucket_lifecycle) == (404, "NoSuchLifecycle")


@pytest.fixture(params=["v1", "v4"])
def form(server: OssServer, request: pytest.FixtureRequest) -> Callable[..., requests.Response]:
    """Return a function that posts a form, whose policy is signed, and returns the answer."""
    server.add_key("sts", "secret", token="token")

    def post(
        data: bytes = b"\r\n--data\0", lasts: float = 60.0, **fields: str
    ) -> requests.Response:
        expires = datetime.fromtimestamp(time.time() + lasts, UTC)
        conditions = [
            {"bucket": "box"},
            ["starts-with", "$key", "up/"],
            ["content-length-range", 1, 100],
        ]
        text = {"expiration": f"{expires:%Y-%m-%dT%H:%M:%S.000Z}", "conditions": conditions}
        policy = base64.b64encode(json.dumps(text).encode()).decode()
        signed = {"policy": policy, "x-oss-security-token": "token"}
        if request.param == "v1":
            signed |= {"OSSAccessKeyId": "sts", "Signature": _sha1("secret", policy)}
        else:
            date = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
            scope = [date[:8], server.region, "oss", "aliyun_v4_request"]
            key = b"aliyun_v4secret"
            for part in (*scope, policy):
                key = hmac.digest(key, part.encode(), "sha256")
            signed |= {"x-oss-signature-version": "OSS4-HMAC-SHA256", "x-oss-date": date}
            signed |= {"x-oss-credential": "/".join(["sts", *scope]), "x-oss-signature": key.hex()}
        file = {"file": ("a.wav", data, "audio/wav")}
        sent = {"key": "up/${filename}"} | signed | fields
        return requests.post(f"{server.endpoint}/box", sent, files=file, timeout=5)

    return post


def test_a_form_uploads_an_object(server: OssServer, form: Callable[..., Any]) -> None:
    assert form(**{"x-oss-meta-a": "b"}).status_code == 204
    assert server.objects("box") == {"up/a.wav": b"\r\n--data\0"}
    stored = server.state.buckets["box"].objects["up/a.wav"]
    assert (stored.headers["content-type"], stored.metadata) == ("audio/wav", {"a": "b"})
    again = form(**{"x-oss-forbid-overwrite": "true"})
    assert (again.status_code, "FileAlreadyExists" in again.text) == (409, True)
    created = form(key="up/b c", success_action_status="201")
    assert (created.status_code, "<Key>up/b c</Key>" in created.text) == (201, True)


def test_a_form_that_its_policy_does_not_allow_is_refused(
    server: OssServer, form: Callable[..., Any]
) -> None:
    answers = [
        form(key="jobs/a"),
        form(b""),
        form(b"x" * 101),
        form(lasts=-1.0),
        form(policy="e30="),
        form(**{"x-oss-security-token": "other"}),
    ]
    assert [answer.status_code for answer in answers] == [403] * 6
    assert (
        requests.post(f"{server.endpoint}/box", files={"file": b"x"}, timeout=5).status_code == 400
    )
    anonymous = requests.post(
        f"{server.endpoint}/box", {"key": "up/a"}, files={"file": b"x"}, timeout=5
    )
    assert anonymous.status_code == 403
    assert server.objects("box") == {}


def test_a_body_of_unknown_length_is_refused(server: OssServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.putrequest("PUT", "/box/k")
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()


def test_an_exception_in_the_server_is_not_hidden() -> None:
    server = OssServer()
    server.create_bucket("open", acl="public-read")
    server.place("open", "k", b"", headers={"content-type": None})

    def use() -> None:
        with server, pytest.raises(requests.ConnectionError):
            requests.get(f"{server.endpoint}/open/k", timeout=5)

    with pytest.raises(AttributeError):
        use()


def test_faults_can_be_set_and_counted_over_http(server: OssServer) -> None:
    control, missing = f"{server.endpoint}/-/faults", f"{server.endpoint}/box/k"
    requests.post(control, json={"kind": "error", "status": 503, "times": 2}, timeout=5)
    assert [requests.get(missing, timeout=5).status_code for _ in range(3)] == [503, 503, 403]
    assert requests.get(control, timeout=5).json() == [2]
    requests.delete(control, timeout=5)
    assert requests.get(control, timeout=5).json() == []


def test_chance_and_order_of_faults_are_repeatable() -> None:
    def statuses() -> list[int]:
        with OssServer(seed=7) as server:
            server.inject(Fault("error", chance=0.5, times=99, after=2))
            return [requests.get(f"{server.endpoint}/x", timeout=5).status_code for _ in range(12)]

    first = statuses()
    assert first == statuses()
    assert first[:2] == [404, 404]
    assert set(first[2:]) == {503, 404}


def test_the_slow_fault_delays_the_response(server: OssServer) -> None:
    server.inject(Fault("slow", seconds=0.15))
    began = time.monotonic()
    requests.get(server.endpoint, timeout=5)
    assert time.monotonic() - began >= 0.15


@pytest.mark.slow
def test_the_process_keeps_its_objects_across_a_restart(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.oss_server", "--folder", str(tmp_path / "oss")]
    command += ["--bucket", "box", "--bucket", "old:Suspended", "--key", "id:secret:to:ken"]

    def run(use: Callable[[oss2.Bucket, dict[str, str]], None]) -> None:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        assert process.stdout is not None
        try:
            announced = json.loads(process.stdout.readline())
            auth = oss2.StsAuth("id", "secret", "to:ken", auth_version="v4")
            use(
                oss2.Bucket(auth, announced["endpoint"], "box", region=announced["region"]),
                announced,
            )
        finally:
            process.terminate()
            process.communicate(timeout=20)
        assert process.returncode == 0

    def write(bucket: oss2.Bucket, announced: dict[str, str]) -> None:
        bucket.put_object("é", b"kept", headers={"x-oss-meta-a": "b"})
        bucket.put_object("gone", b"")
        bucket.delete_object("gone")
        assert urllib.request.urlopen(f"{announced['endpoint']}/-/faults").read() == b"[]"  # noqa: S310

    def read(bucket: oss2.Bucket, announced: dict[str, str]) -> None:
        found = bucket.get_object("é")
        assert (found.read(), found.headers["x-oss-meta-a"]) == (b"kept", "b")
        assert [item.key for item in oss2.ObjectIteratorV2(bucket)] == ["é"]
        old = oss2.Bucket(bucket.auth, announced["endpoint"], "old", region=announced["region"])
        assert old.get_bucket_versioning().status == "Suspended"

    run(write)
    run(read)
