"""A bucket of Alibaba Cloud OSS. Only this module imports oss2, and only on first use.

oss2 2.19.1 does not retry, so this module does. A retried write first finds out whether the earlier
attempt, whose response was lost, has succeeded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import re
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any, BinaryIO, TypeVar

from core.errors import Misconfigured, Unavailable, missing_extra
from core.storage import oss_connection
from core.storage import oss_errors as answers
from core.storage.object_keys import check_key, check_metadata, is_valid_key
from core.storage.oss_connection import Credentials as Credentials
from core.storage.port import Body, Info, Object, too_large
from core.storage.retry import Retry

T = TypeVar("T")

_CHUNK_BYTES = 1 << 20


class OssStore:
    """`credentials` is called before every request, because Function Compute provides new temporary
    keys with each invocation. An empty `region` is taken from the endpoint."""

    def __init__(
        self,
        bucket: str,
        endpoint: str,
        region: str,
        credentials: Callable[[], Credentials],
        *,
        retry: Retry = Retry(),  # noqa: B008 (frozen)
        timeout: tuple[float, float] = (3.0, 30.0),
    ) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", bucket):
            raise Misconfigured("BUCKET_MISSING", f"{bucket!r} is not a valid bucket name.")
        if importlib.util.find_spec("oss2") is None:
            raise missing_extra("oss2, which OSS buckets need,", "oss", "SETTING_INVALID")
        self._name = bucket
        self._endpoint = oss_connection.https_url(endpoint)
        self._region = region or oss_connection.region_of(self._endpoint)
        self._credentials = credentials
        self._retry = retry
        self._timeout = timeout
        self._clock = answers.Clock()

    @property
    def name(self) -> str:
        return self._name

    def get(self, key: str, *, limit: int, etag: str = "") -> Object:
        check_key(key)
        headers = {"If-Match": etag} if etag else {}
        return self._call(key, lambda: self._get(key, limit, headers))

    def fetch(self, key: str, file: BinaryIO, *, limit: int) -> Info:
        check_key(key)
        return self._call(key, lambda: self._download(key, file, limit))

    def head(self, key: str) -> Info | None:
        check_key(key)

        def read_info() -> Info | None:
            headers = self._head(key)
            return None if headers is None else answers.parse_info(key, headers)

        return self._call(key, read_info)

    def put(self, key: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        check_key(key)
        headers = _upload_headers(data, metadata)
        self._call(key, lambda: self._bucket.put_object(key, data, headers=headers))

    def put_once(self, key: str, data: Body, *, metadata: Mapping[str, str] | None = None) -> bool:
        check_key(key)
        writer = uuid.uuid4().hex
        headers = _upload_headers(data, metadata)
        headers |= {
            "x-oss-forbid-overwrite": "true",
            answers.METADATA_PREFIX + answers.WRITER_METADATA: writer,
        }
        return self._call(key, lambda: self._put_new(key, data, headers, writer))

    def append(self, key: str, data: bytes, *, position: int) -> bool:
        """See `Store.append`. If a response was lost, the retry looks for its bytes at `position`.
        Equal bytes of two writers cannot be distinguished, so records should name their writer."""
        check_key(key)
        headers, attempts = _upload_headers(data, None), iter(range(self._retry.attempts))

        def append_once() -> bool:
            repeated = next(attempts) > 0
            try:
                self._bucket.append_object(key, position, data, headers=headers)
            except self._oss.OssError as exc:
                if exc.code != "PositionNotEqualToLength":
                    raise
                return repeated and self._has_bytes_at(key, data, position)
            return True

        return self._call(key, append_once)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Info]:
        token, more = "", True
        while more:
            page = self._call(prefix, partial(self._list_page, prefix, after, token))
            for item in page.object_list:
                if is_valid_key(item.key):
                    yield Info(item.key, item.size, item.etag, float(item.last_modified))
            token, more = page.next_continuation_token, page.is_truncated

    def link(self, key: str, seconds: int) -> str:
        """See `Store.link`. Whoever gets the address is outside the region, so that it is that of
        the public endpoint."""
        check_key(key)
        public = self._endpoint.replace("-internal.aliyuncs.com", ".aliyuncs.com")
        return str(self._open_bucket(public).sign_url("GET", key, seconds, slash_safe=True))

    def delete(self, key: str) -> None:
        check_key(key)
        self._call(key, lambda: self._bucket.delete_object(key))

    def now(self) -> float:
        """See `Store.now`: from the `Date` of a response at most a minute old, to the second."""
        if (now := self._clock.now()) is None:
            self._call("", lambda: self._list_page("", "", "", keys=1))
            now = self._clock.now()
        if now is None:
            raise Unavailable("STORAGE_UNAVAILABLE", "The object store sends no Date header.")
        return now

    def check(self, *, writable_once: bool) -> None:
        self._call("", self._bucket.get_bucket_info)
        if not writable_once:
            return
        status = self._call("", self._bucket.get_bucket_versioning).status
        if status:  # documented: x-oss-forbid-overwrite is then ignored, even if suspended
            message = f"Versioning of {self._name} is {status}: results could be overwritten."
            raise Misconfigured("BUCKET_VERSIONING_UNSAFE", message)

    @cached_property
    def _oss(self) -> Any:
        import oss2.exceptions

        return oss2.exceptions

    @cached_property
    def _no_answer_errors(self) -> tuple[type[Exception], ...]:
        """Exceptions for a missing or incomplete response."""
        from xml.etree.ElementTree import ParseError

        from requests import RequestException

        return (answers.DamagedResponse, self._oss.OssError, RequestException, ParseError)

    @cached_property
    def _bucket(self) -> Any:
        return self._open_bucket(self._endpoint)

    def _open_bucket(self, endpoint: str) -> Any:
        import oss2

        # oss2 logs requests with their security tokens: all at DEBUG, refused ones at INFO.
        logging.getLogger("oss2").setLevel(logging.WARNING)
        session = oss2.Session(adapter=oss_connection.tls_adapter())
        session.session.trust_env = False  # ignores proxies and .netrc
        session.session.hooks["response"].append(self._update_clock)
        return oss2.Bucket(
            oss2.ProviderAuthV4(SimpleNamespace(get_credentials=self._credentials)),
            endpoint,
            self._name,
            session=session,
            region=self._region,
            connect_timeout=self._timeout,
        )

    def _call(self, key: str, action: Callable[[], T]) -> T:
        try:
            return self._retry.run(action, self._is_retryable)
        except self._oss.ServerError as exc:
            temporary = bool(self._credentials().security_token)
            failure = answers.to_job_error(exc, self._name, key, temporary=temporary)
        except self._no_answer_errors as exc:
            cause = type(getattr(exc, "exception", exc)).__name__
            message = f"No valid response from {self._endpoint}: {cause}."
            failure = Unavailable("STORAGE_UNAVAILABLE", message, pointer=key)
        # Raised outside the handler: the response to a wrong signature contains everything that was
        # signed, tokens included, and a chained exception would take that into logs.
        raise failure

    def _is_retryable(self, exc: Exception) -> bool:
        if isinstance(exc, self._oss.ServerError):
            return answers.is_retryable(exc)
        return isinstance(exc, self._no_answer_errors)

    def _get(self, key: str, limit: int, headers: dict[str, str]) -> Object:
        reply = self._bucket.get_object(key, headers=headers)
        with closing(reply.resp.response) as response:
            info = answers.parse_info(key, reply.headers)
            if info.size > limit:
                raise too_large(key, info.size, limit)
            return Object(info, _read_body(response, info.size))

    def _download(self, key: str, file: BinaryIO, limit: int) -> Info:
        reply = self._bucket.get_object(key)
        with closing(reply.resp.response) as response:
            info = answers.parse_info(key, reply.headers)
            if info.size > limit:
                raise too_large(key, info.size, limit)
            file.seek(0)
            file.truncate()
            file.writelines(_read_chunks(response, info.size))
            return info

    def _head(self, key: str) -> Mapping[str, str] | None:
        try:
            headers: Mapping[str, str] = self._bucket.head_object(key).headers
        except self._oss.NotFound as exc:
            if exc.code == "NoSuchBucket":
                raise
            return None
        return headers

    def _put_new(self, key: str, data: Body, headers: dict[str, str], writer: str) -> bool:
        if not isinstance(data, bytes):
            data.seek(0)
        try:
            self._bucket.put_object(key, data, headers=headers)
        except self._oss.OssError as exc:
            if exc.code != "FileAlreadyExists":
                raise
            found = self._head(key)
            return (
                found is not None
                and found.get(answers.METADATA_PREFIX + answers.WRITER_METADATA) == writer
            )
        return True

    def _has_bytes_at(self, key: str, data: bytes, position: int) -> bool:
        byte_range = (position, position + len(data) - 1)
        reply = self._bucket.get_object(key, byte_range=byte_range)
        with closing(reply.resp.response) as response:
            if reply.status != 206 or reply.headers["Content-Length"] != str(len(data)):
                return False
            return _read_body(response, len(data), whole=False) == data

    def _update_clock(self, response: Any, *_: object, **__: object) -> None:
        self._clock.update(response.headers.get("Date"))

    def _list_page(self, prefix: str, after: str, token: str, keys: int = 1000) -> Any:
        return self._bucket.list_objects_v2(
            prefix, start_after=after, continuation_token=token, max_keys=keys
        )


def _upload_headers(data: Body, metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Include the MD5, by which OSS refuses bytes that were damaged in transit."""
    md5 = hashlib.md5(usedforsecurity=False)
    if isinstance(data, bytes):
        md5.update(data)
    else:
        data.seek(0)
        while part := data.read(_CHUNK_BYTES):
            md5.update(part)
    digest = b64encode(md5.digest()).decode()
    named = {
        answers.METADATA_PREFIX + name: value for name, value in check_metadata(metadata).items()
    }
    return {"Content-MD5": digest, **named}


def _read_body(response: Any, size: int, *, whole: bool = True) -> bytes:
    return b"".join(_read_chunks(response, size, whole=whole, chunk_bytes=size))


def _read_chunks(
    response: Any, size: int, *, whole: bool = True, chunk_bytes: int = _CHUNK_BYTES
) -> Iterator[bytes]:
    """Yield `size` bytes as stored, ignoring Content-Encoding. `whole`: compare the checksum, which
    OSS always sends for the whole object."""
    from oss2.utils import Crc64
    from urllib3.exceptions import HTTPError

    crc, remaining = Crc64(), size
    try:
        while remaining and (
            part := response.raw.read(min(remaining, chunk_bytes), decode_content=False)
        ):
            crc.update(part)
            remaining -= len(part)
            yield part
    except HTTPError as exc:
        raise answers.DamagedResponse(type(exc).__name__) from exc
    if remaining:
        raise answers.DamagedResponse(f"{size - remaining} of {size} bytes")
    expected = response.headers.get("x-oss-hash-crc64ecma")
    if whole and expected is not None and str(crc.crc) != expected:
        raise answers.DamagedResponse("CRC64 mismatch")
