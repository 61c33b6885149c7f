"""The OSS store beyond the contract: network faults, credentials, endpoints, TLS."""

from __future__ import annotations

import gzip
import io
import logging
import ssl
import tempfile
import time
import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import oss2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from core.errors import JobError
from core.storage import oss_connection, oss_errors
from core.storage.oss import Credentials, OssStore
from core.storage.port import Store, put_unless_genuine, read_log
from core.storage.retry import Retry
from tests.support.oss_server import Fault, OssServer
from tests.support.oss_server.faults import Kind
from tests.support.stores import KEYS, QUICK, head, oss_store, patient, together

_BEFORE: tuple[Kind, ...] = ("error", "reset", "hang")
_AFTER: tuple[Kind, ...] = ("lost_reply", "duplicate", "wrong_crc")


def _fault(kind: Kind, method: str, **fields: Any) -> Fault:
    return Fault(kind, method=method, seconds=5.0, **fields)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*_BEFORE, "cut", "stall", "corrupt", "wrong_crc", "lost_reply"])
def test_get_returns_the_right_bytes_despite(server: OssServer, kind: Kind) -> None:
    server.place("results", "k", b"x" * 2000)
    fault = server.inject(_fault(kind, "GET", times=2))
    found = oss_store(server, patience=0.2).get("k", limit=2000)
    assert found.data == b"x" * 2000
    assert fault.fired == 2
    server.inject(_fault(kind, "GET", times=2))
    with tempfile.TemporaryFile() as file:
        oss_store(server, patience=0.2).fetch("k", file, limit=2000)
        file.seek(0)
        assert file.read() == b"x" * 2000


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*_BEFORE, *_AFTER])
def test_put_succeeds_despite(server: OssServer, kind: Kind) -> None:
    fault = server.inject(_fault(kind, "PUT"))
    oss_store(server, patience=0.2).put("k", b"data")
    assert server.objects("results") == {"k": b"data"}
    assert fault.fired == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*_BEFORE, *_AFTER])
def test_put_once_recognises_its_own_object_despite(server: OssServer, kind: Kind) -> None:
    fault = server.inject(_fault(kind, "PUT"))
    store = oss_store(server, patience=0.2)
    assert store.put_once("k", io.BytesIO(b"data"), metadata={"a": "b"}) is True
    assert server.objects("results") == {"k": b"data"}
    assert fault.fired == 1
    assert store.put_once("k", b"data", metadata={"a": "b"}) is False
    assert head(store, "k").metadata == {"a": "b"}


@pytest.mark.slow
def test_of_32_writers_of_equal_bytes_on_a_bad_network_exactly_one_succeeds() -> None:
    for seed in range(3):
        with OssServer(seed=seed) as server:
            server.add_key(KEYS.access_key_id, KEYS.access_key_secret)
            server.create_bucket("results")
            for kind in ("lost_reply", "duplicate", "error", "reset"):
                server.inject(Fault(kind, method="PUT", chance=0.2, times=99))
            store = oss_store(server, retry=patient(20))

            def write(_: int, store: Store = store) -> bool:
                return store.put_once("race", b"equal")

            assert sum(together(32, write)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*_BEFORE, "lost_reply"])
def test_append_recognises_its_own_record_despite(server: OssServer, kind: Kind) -> None:
    store = oss_store(server, patience=0.2)
    store.append("log", b"first;", position=0)
    server.inject(_fault(kind, "POST"))
    assert store.append("log", b"second;", position=6) is True
    assert server.objects("results") == {"log": b"first;second;"}


@pytest.mark.slow
@pytest.mark.parametrize("theirs", [b"theirs", b"x"], ids=["longer", "shorter"])
def test_append_fails_if_another_writer_appended_between_its_attempts(
    server: OssServer, theirs: bytes
) -> None:
    other = oss_store(server)

    def come_between(_: float) -> None:
        other.append("log", theirs, position=0)

    between = replace(QUICK, sleep=come_between)
    server.inject(_fault("error", "POST"))
    assert oss_store(server, retry=between).append("log", b"ours", position=0) is False
    assert server.objects("results") == {"log": theirs}


def test_append_to_another_kind_of_object_fails(server: OssServer) -> None:
    server.place("results", "k", b"1")
    with pytest.raises(JobError, match=r"STORAGE_UNAVAILABLE.*ObjectNotAppendable"):
        oss_store(server).append("k", b"2", position=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*_BEFORE, "cut", "lost_reply"])
def test_a_listing_is_complete_despite(server: OssServer, kind: Kind) -> None:
    keys = [f"k{number:04}" for number in range(1003)]
    for key in keys:
        server.place("results", key, b"")
    server.inject(_fault(kind, "GET", after=1))
    assert [info.key for info in oss_store(server, patience=1.5).list("k")] == keys


def test_head_and_delete_are_retried(server: OssServer) -> None:
    server.place("results", "k", b"1")
    store = oss_store(server)
    server.inject(_fault("reset", "HEAD"))
    assert head(store, "k").size == 1
    server.inject(_fault("lost_reply", "DELETE"))
    store.delete("k")
    assert server.objects("results") == {}


def test_a_request_that_never_succeeds_is_a_temporary_error(server: OssServer) -> None:
    fault = server.inject(_fault("error", "GET", times=99))
    with pytest.raises(JobError, match="STORAGE_UNAVAILABLE: OSS answered 503") as caught:
        oss_store(server).get("k", limit=1)
    assert caught.value.retry
    assert fault.fired == QUICK.attempts


def test_an_unreachable_server_is_a_temporary_error() -> None:
    with OssServer() as server:
        store = oss_store(server, retry=patient(2))
    with pytest.raises(JobError, match=r"STORAGE_UNAVAILABLE: No valid response.*ConnectionError"):
        store.get("k", limit=1)


def test_an_object_above_the_limit_is_refused_before_its_body_is_read(server: OssServer) -> None:
    server.place("results", "k", b"x" * 2000)
    fault = server.inject(_fault("cut", "GET", times=9))
    with pytest.raises(JobError, match="OBJECT_TOO_LARGE"):
        oss_store(server).get("k", limit=1999)
    assert fault.fired == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AccessDenied", "BUCKET_FORBIDDEN"),
        (403, "SomethingNew", "BUCKET_FORBIDDEN"),
        (403, "UserDisable", "BUCKET_FORBIDDEN"),
        (404, "NoSuchBucket", "BUCKET_MISSING"),
        (403, "InvalidObjectState", "REF_NOT_READABLE"),
        (403, "SecurityTokenExpired", "CREDENTIALS_EXPIRED"),
        (403, "RequestTimeTooSkewed", "STORAGE_UNAVAILABLE"),
        (400, "SomethingOdd", "STORAGE_UNAVAILABLE"),
    ],
)
def test_permanent_errors_are_not_retried(
    server: OssServer, status: int, code: str, expected: str
) -> None:
    fault = server.inject(_fault("error", "GET", status=status, code=code, times=9))
    with pytest.raises(JobError, match=f"^{expected}: OSS answered {status} {code}"):
        oss_store(server).get("k", limit=1)
    assert fault.fired == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "InternalError"), (503, "QpsLimitExceeded"), (429, "X"), (400, "RequestTimeout")],
)
def test_temporary_errors_are_retried(server: OssServer, status: int, code: str) -> None:
    server.place("results", "k", b"1")
    server.inject(_fault("error", "GET", status=status, code=code, times=3))
    assert oss_store(server).get("k", limit=1).data == b"1"


def test_pauses_are_random_below_a_doubling_limit_and_the_budget_ends_them() -> None:
    limits, slept, clock = [], [], [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    def uniform(low: float, high: float) -> float:
        limits.append((low, high))
        return high

    retry = Retry(8, 1.0, 5.0, 13.0, sleep, uniform, lambda: clock[0])
    with pytest.raises(ZeroDivisionError):
        retry.run(lambda: 1 // 0, lambda _: True)
    assert limits == [(0, 1), (0, 2), (0, 4), (0, 5), (0, 5)]
    assert slept == [1, 2, 4, 5]  # a fifth pause would end after 13 s


def test_credentials_are_requested_for_every_call(server: OssServer) -> None:
    server.add_key("sts-1", "secret-1", token="token-1")
    server.add_key("sts-2", "secret-2", token="token-2")
    handed = iter(
        [Credentials("sts-1", "secret-1", "token-1")] * 2
        + [Credentials("sts-2", "secret-2", "token-2")] * 2
    )
    store = oss_store(server, keys=lambda: next(handed))
    store.put("k", b"1")
    store.put("k", b"2")
    del server.state.keys["sts-1"]
    store.put("k", b"3")
    assert store.get("k", limit=1).data == b"3"


def test_expired_and_unknown_temporary_keys_are_temporary_errors(server: OssServer) -> None:
    keys = Credentials("sts-1", "secret-1", "token-1")
    store = oss_store(server, keys=lambda: keys)
    with pytest.raises(JobError, match=r"CREDENTIALS_EXPIRED.*InvalidAccessKeyId") as caught:
        store.head("k")
    assert caught.value.retry
    server.add_key("sts-1", "secret-1", token="token-1", expires=time.time() - 1)
    with pytest.raises(JobError, match=r"CREDENTIALS_EXPIRED.*SecurityTokenExpired"):
        store.head("k")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "code"),
    [
        (Credentials("nobody", "s3cr3t-value"), "InvalidAccessKeyId"),
        (Credentials("contract-id", "s3cr3t-value"), "SignatureDoesNotMatch"),
        (Credentials("sts-1", "s3cr3t-value", "t0k3n-value"), "SignatureDoesNotMatch"),
        (Credentials("sts-1", "secret-1", "t0k3n-other"), "InvalidSecurityToken"),
        (Credentials("narrow", "s3cr3t-value"), "AccessDenied"),
    ],
    ids=["unknown", "wrong secret", "wrong secret with token", "wrong token", "no right"],
)
def test_refused_keys_are_a_misconfiguration_and_never_shown(
    server: OssServer, keys: Credentials, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.add_key("sts-1", "secret-1", token="t0k3n-value")
    server.add_key("narrow", "s3cr3t-value", buckets=["other"])
    caplog.set_level(logging.DEBUG)
    with pytest.raises(JobError, match=f"BUCKET_FORBIDDEN.*{code}") as caught:
        oss_store(server, keys=lambda: keys).get("k", limit=1)
    shown = [str(caught.value), repr(caught.value), repr(keys), caplog.text]
    shown += [repr(caught.value.__context__), repr(caught.value.__cause__)]
    assert not any(secret in text for secret in ("s3cr3t", "t0k3n") for text in shown)
    assert keys.access_key_id in repr(keys)


@pytest.mark.parametrize("state", ["Enabled", "Suspended"])
def test_a_bucket_that_ever_had_versioning_is_refused(server: OssServer, state: str) -> None:
    server.create_bucket("versioned", versioning=state)
    store = oss_store(server, "versioned")
    store.check(writable_once=False)
    with pytest.raises(JobError, match=f"BUCKET_VERSIONING_UNSAFE.*{state}"):
        store.check(writable_once=True)


def test_a_missing_bucket_is_a_misconfiguration(server: OssServer) -> None:
    store = oss_store(server, "nowhere")
    for operation in (
        lambda: store.check(writable_once=True),
        lambda: store.head("k"),
        lambda: store.get("k", limit=1),
        lambda: store.put("k", b""),
        lambda: list(store.list("")),
    ):
        with pytest.raises(JobError, match="BUCKET_MISSING"):
            operation()


def test_an_archived_object_is_not_readable(server: OssServer) -> None:
    server.place("results", "k", b"1", storage_class="Archive")
    with pytest.raises(JobError, match="REF_NOT_READABLE"):
        oss_store(server).get("k", limit=1)
    with pytest.raises(JobError, match="REF_NOT_READABLE"):
        read_log(oss_store(server), "k", limit=1)
    with pytest.raises(JobError, match="REF_NOT_READABLE"):
        put_unless_genuine(oss_store(server), "k", b"2", limit=1, is_genuine=lambda _: False)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Content-Length": "many", "ETag": "E", "Last-Modified": "now"}],
    ids=["none", "wrong"],
)
def test_a_response_without_the_headers_of_an_object_is_damaged(headers: dict[str, str]) -> None:
    with pytest.raises(oss_errors.DamagedResponse):
        oss_errors.parse_info("k", headers)


def test_bytes_are_returned_as_stored_whatever_their_encoding(server: OssServer) -> None:
    packed = gzip.compress(b"text" * 100)
    auth = oss2.AuthV4(KEYS.access_key_id, KEYS.access_key_secret)
    bucket = oss2.Bucket(auth, server.endpoint, "results", region=server.region)
    bucket.put_object("k.gz", packed, headers={"Content-Encoding": "gzip"})
    bucket.session.session.close()
    assert oss_store(server).get("k.gz", limit=999).data == packed


def test_listings_omit_folder_markers(server: OssServer) -> None:
    for key in ("refs/", "refs/a.wav", "/odd", "a//b"):
        server.place("results", key, b"")
    assert [info.key for info in oss_store(server).list("")] == ["refs/a.wav"]


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [-400.0, 0.0, 400.0])
def test_the_clock_is_the_servers(ahead: float) -> None:
    with OssServer(ahead=ahead) as server:
        server.add_key(KEYS.access_key_id, KEYS.access_key_secret)
        server.create_bucket("results")
        store = oss_store(server)
        for _ in range(3):
            assert -1.2 < store.now() - time.time() - ahead < 0.2
            store.head("k")


def test_a_worker_with_a_wrong_clock_gets_a_clear_error(server: OssServer) -> None:
    server.state.ahead = 3600.0
    with pytest.raises(JobError, match=r"STORAGE_UNAVAILABLE.*RequestTimeTooSkewed"):
        oss_store(server).head("k")


def test_proxies_of_the_environment_are_ignored(
    server: OssServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    oss_store(server).put("k", b"1")


@pytest.mark.parametrize(
    ("endpoint", "code"),
    [
        ("http://oss-cn-hangzhou.aliyuncs.com", "ENDPOINT_INSECURE"),
        ("http://127.0.0.1.example.com", "ENDPOINT_INSECURE"),
        ("http://10.0.0.1:8080", "ENDPOINT_INSECURE"),
        ("ftp://oss-cn-hangzhou.aliyuncs.com", "SETTING_INVALID"),
        ("https://", "SETTING_INVALID"),
        ("https://oss-cn-hangzhou.aliyuncs.com/bucket", "SETTING_INVALID"),
        ("https://user:pass@oss-cn-hangzhou.aliyuncs.com", "SETTING_INVALID"),
    ],
)
def test_insecure_or_invalid_endpoints_are_refused(endpoint: str, code: str) -> None:
    with pytest.raises(JobError, match=code) as caught:
        OssStore("results", endpoint, "cn-hangzhou", lambda: KEYS)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("oss-cn-hangzhou.aliyuncs.com", "https://oss-cn-hangzhou.aliyuncs.com"),
        ("https://oss-cn-hangzhou.aliyuncs.com/", "https://oss-cn-hangzhou.aliyuncs.com"),
        ("http://localhost:9000", "http://localhost:9000"),
        ("http://[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_safe_endpoints_are_completed(endpoint: str, url: str) -> None:
    assert oss_connection.https_url(endpoint) == url


def test_the_region_is_taken_from_the_endpoint_or_required() -> None:
    assert (
        oss_connection.region_of("https://oss-cn-shanghai-internal.aliyuncs.com") == "cn-shanghai"
    )
    assert oss_connection.region_of("https://oss-ap-southeast-1.aliyuncs.com") == "ap-southeast-1"
    with pytest.raises(JobError, match="SETTING_INVALID: Set the region"):
        OssStore("results", "https://files.example.com", "", lambda: KEYS)


@pytest.mark.parametrize("name", ["", "ab", "Upper", "under_score", "-dash", "x" * 64])
def test_invalid_bucket_names_are_refused(name: str) -> None:
    with pytest.raises(JobError, match="BUCKET_MISSING"):
        OssStore(name, "https://oss-cn-hangzhou.aliyuncs.com", "", lambda: KEYS)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    built = built.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = built.add_extension(address, critical=False).sign(key, hashes.SHA256())
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(signed.public_bytes(Encoding.PEM) + key.private_bytes(*form))
    return path


def _put_over_tls(certificate: Path, newest: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, newest
    with OssServer(tls=context) as server:
        server.add_key(KEYS.access_key_id, KEYS.access_key_secret)
        server.create_bucket("results")
        oss_store(server, retry=patient(2)).put("k", b"1")
        assert server.objects("results") == {"k": b"1"}


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_newer_are_accepted(
    certificate: Path, newest: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    _put_over_tls(certificate, newest)


def test_older_tls_and_unknown_certificates_are_refused(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(JobError, match="STORAGE_UNAVAILABLE: No valid response"):
        _put_over_tls(certificate, ssl.TLSVersion.TLSv1_3)  # its authority is unknown
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(JobError, match="STORAGE_UNAVAILABLE: No valid response"):
        _put_over_tls(certificate, ssl.TLSVersion.TLSv1_1)


def test_connections_refuse_tls_below_1_2() -> None:
    adapter = oss_connection.tls_adapter()
    context = adapter.poolmanager.connection_pool_kw["ssl_context"]
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
