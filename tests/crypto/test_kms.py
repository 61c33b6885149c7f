"""KMS as a key provider, against a small KMS over TLS that checks signatures and injects faults."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.crypto import sealing
from core.crypto.keys import WrappedKey
from core.crypto.kms import AliyunKms
from core.crypto.openapi import sign_request
from core.crypto.sealing import Context
from core.errors import JobError, Unavailable
from core.storage.oss import Credentials
from core.storage.retry import Retry
from tests.support import kms_server
from tests.support.kms_server import Kms
from tests.support.stores import together

CONTEXT = Context(job="j", item="第一章", mt="audio/wav")
DATA_KEY = bytes(range(32))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kms]:
    with kms_server.running(tmp_path_factory.mktemp("kms")) as kms:
        yield kms


@pytest.fixture
def kms(server: Kms) -> Iterator[Kms]:
    server.keys = {"alias/voices": bytes(32), "other": bytes([1]) * 32}
    server.states, server.faults, server.requests, server.closing = {}, [], [], False
    server.targets, server.forbidden = [], set()
    yield server
    assert server.faults == []


ROLE = Credentials("id", kms_server.SECRET)
QUICK = Retry(attempts=3, first_pause=0.001)


def provider(kms: Kms, given: Credentials = ROLE, **fields: str) -> AliyunKms:
    fields = {"key": "alias/voices", "endpoint": kms.endpoint, "ca_file": kms.ca_file} | fields
    return AliyunKms(region="cn-hangzhou", credentials=lambda: given, retry=QUICK, **fields)


def code(call: Callable[..., object], *args: object) -> str:
    with pytest.raises(JobError) as caught:
        call(*args)
    return caught.value.code


def test_seals_and_opens(kms: Kms) -> None:
    keys = provider(kms)
    sealed = sealing.seal(b"secret", CONTEXT, keys)
    assert sealed.envelope.kek == "kms:alias/voices"
    assert sealed.envelope.kek_ver == "alias/voices-v2"
    assert sealing.open_sealed(sealed.body, sealed.envelope, keys) == b"secret"


def test_the_context_is_sent_to_kms_and_authenticated(kms: Kms) -> None:
    keys = provider(kms)
    wrapped = keys.wrap(DATA_KEY, CONTEXT.associated_data)
    shown = json.loads(kms.requests[-1]["EncryptionContext"])
    assert shown == {"voicedrop": CONTEXT.associated_data.decode()}
    assert code(keys.unwrap, wrapped, b"other") == "SEAL_INVALID"


def test_no_parameter_is_part_of_the_url(kms: Kms) -> None:
    keys = provider(kms)
    assert keys.unwrap(keys.wrap(DATA_KEY, b"{}"), b"{}") == DATA_KEY
    assert set(kms.targets) == {"/"}
    kms.faults = [(503, "ServiceUnavailable")] * QUICK.attempts
    with pytest.raises(Unavailable) as caught:
        keys.wrap(DATA_KEY, b"{}")
    assert base64.b64encode(DATA_KEY).decode()[:16] not in repr(caught.value)


def test_a_role_that_may_only_encrypt_is_told_what_it_lacks(kms: Kms) -> None:
    wrapped = provider(kms).wrap(DATA_KEY, b"{}")
    kms.forbidden = {"Decrypt"}
    with pytest.raises(JobError, match="Grant kms:Encrypt and kms:Decrypt") as caught:
        provider(kms).unwrap(wrapped, b"{}")
    assert caught.value.code == "KEY_UNUSABLE"


def test_temporary_credentials_carry_their_token(kms: Kms) -> None:
    provider(kms, Credentials("id", kms_server.SECRET, "sts+/=")).wrap(DATA_KEY, b"{}")
    assert kms.requests[-1]["x-acs-security-token"] == "sts+/="


def test_a_changed_blob_is_refused(kms: Kms) -> None:
    keys = provider(kms)
    wrapped = keys.wrap(DATA_KEY, b"{}")
    changed = WrappedKey(wrapped.kek, wrapped.version, wrapped.blob[:-1] + b"\0")
    assert code(keys.unwrap, changed, b"{}") == "SEAL_INVALID"


def test_a_missing_key_cannot_wrap_and_a_deleted_one_is_destroyed(kms: Kms) -> None:
    wrapped = provider(kms).wrap(DATA_KEY, b"{}")
    del kms.keys["alias/voices"]
    assert code(provider(kms).wrap, DATA_KEY, b"{}") == "KEY_NOT_FOUND"
    assert code(provider(kms).unwrap, wrapped, b"{}") == "KEY_DESTROYED"


def test_kms_is_not_called_for_a_local_key(kms: Kms) -> None:
    assert code(provider(kms).unwrap, WrappedKey("local:a", "1", b"x"), b"{}") == "KEY_NOT_FOUND"
    assert kms.requests == []


@pytest.mark.parametrize("state", ["Disabled", "PendingDeletion", "Unavailable"])
def test_a_key_that_is_not_enabled_is_unusable(kms: Kms, state: str) -> None:
    wrapped = provider(kms).wrap(DATA_KEY, b"{}")
    kms.states["alias/voices"] = state
    assert code(provider(kms).wrap, DATA_KEY, b"{}") == "KEY_UNUSABLE"
    assert code(provider(kms).unwrap, wrapped, b"{}") == "KEY_UNUSABLE"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ((403, "Forbidden.NoPermission"), "KEY_UNUSABLE"),
        ((400, "InvalidSecurityToken.Expired"), "CREDENTIALS_EXPIRED"),
        ((200, "html"), "KMS_UNAVAILABLE"),
    ],
    ids=["forbidden", "expired", "not JSON"],
)
def test_other_responses(kms: Kms, fault: tuple[int, str], expected: str) -> None:
    kms.faults = [fault] * (1 if expected == "KEY_UNUSABLE" else QUICK.attempts)
    assert code(provider(kms).wrap, DATA_KEY, b"{}") == expected


def test_a_wrong_secret_is_unusable(kms: Kms) -> None:
    assert code(provider(kms, Credentials("id", "wrong")).wrap, DATA_KEY, b"{}") == "KEY_UNUSABLE"


@pytest.mark.parametrize("fault", [(503, "ServiceUnavailable"), (429, "Throttling.User")])
def test_a_lasting_outage_is_retryable(kms: Kms, fault: tuple[int, str]) -> None:
    kms.faults = [fault] * QUICK.attempts
    with pytest.raises(Unavailable) as caught:
        provider(kms).wrap(DATA_KEY, b"{}")
    assert caught.value.code == "KMS_UNAVAILABLE"


def test_a_short_outage_is_survived(kms: Kms) -> None:
    kms.faults = [(503, "ServiceUnavailable")]
    assert provider(kms).wrap(DATA_KEY, b"{}").blob


def test_an_unreachable_kms_is_retryable(kms: Kms) -> None:
    with pytest.raises(Unavailable, match="KMS_UNAVAILABLE"):
        provider(kms, endpoint="127.0.0.1:9").wrap(DATA_KEY, b"{}")


@pytest.mark.slow
def test_a_certificate_from_an_unknown_authority_is_refused(kms: Kms) -> None:
    with pytest.raises(Unavailable, match="KMS_UNAVAILABLE"):
        provider(kms, ca_file="").wrap(DATA_KEY, b"{}")
    assert kms.requests == []


def test_calls_share_a_connection(kms: Kms) -> None:
    keys, before = provider(kms), kms.connections
    wrapped = keys.wrap(DATA_KEY, b"{}")
    assert all(keys.unwrap(wrapped, b"{}") == DATA_KEY for _ in range(20))
    assert code(keys.unwrap, wrapped, b"other") == "SEAL_INVALID"
    assert keys.wrap(DATA_KEY, b"{}").blob
    assert kms.connections == before + 1


def test_threads_use_at_most_one_connection_each(kms: Kms) -> None:
    keys, before = provider(kms), kms.connections
    wrapped = keys.wrap(DATA_KEY, b"{}")

    def call(_: int) -> bool:
        return all(keys.unwrap(wrapped, b"{}") == DATA_KEY for _ in range(10))

    assert all(together(4, call))
    assert kms.connections <= before + 4


def test_a_closed_connection_is_reopened(kms: Kms) -> None:
    keys, before, kms.closing = provider(kms), kms.connections, True
    for _ in range(3):
        assert keys.wrap(DATA_KEY, b"{}").blob
    assert kms.connections == before + 3


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_newer_are_accepted(tmp_path: Path, newest: ssl.TLSVersion) -> None:
    with kms_server.running(tmp_path, newest) as kms:
        kms.keys = {"alias/voices": bytes(32)}
        assert provider(kms).wrap(DATA_KEY, b"{}").blob


def test_older_tls_is_refused(tmp_path: Path) -> None:
    with kms_server.running(tmp_path, ssl.TLSVersion.TLSv1_1) as kms:
        assert code(provider(kms).wrap, DATA_KEY, b"{}") == "KMS_UNAVAILABLE"
        assert kms.requests == []


def test_no_credentials_appear_in_a_repr(kms: Kms) -> None:
    assert kms_server.SECRET not in repr(provider(kms))


def test_the_signature_is_that_of_alibabas_own_library() -> None:
    """The expected value was computed with alibabacloud-openapi-util 0.2.4."""
    headers = {
        "host": "kms.cn-hangzhou.aliyuncs.com",
        "x-acs-version": "2016-01-20",
        "x-acs-action": "Encrypt",
        "x-acs-date": "2026-01-02T03:04:05Z",
        "x-acs-signature-nonce": "0123456789abcdef",
        "user-agent": "x",
        "x-acs-security-token": "token+/=",
    }
    body = (
        b"EncryptionContext=%7B%22voicedrop%22%3A%22%7B%5C%22item%5C%22%3A%5C%22"
        b"%E7%AC%AC%E4%B8%80%E7%AB%A0%20~%2A%5C%22%7D%22%7D"
        b"&KeyId=alias%2Fvoices&Plaintext=AAECAwQF%2B%2F%3D%3D"
    )
    authorization = sign_request(headers, body, "id", "secret-of-test")["authorization"]
    assert authorization == (
        "ACS3-HMAC-SHA256 Credential=id,SignedHeaders=accept;content-type;host;user-agent;"
        "x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-security-token;x-acs-signature-nonce;"
        "x-acs-version,Signature=05301807cc0d469e3b88db9e3d6a9ac98ead25c95bba732cfdbf642a736a6a33"
    )
