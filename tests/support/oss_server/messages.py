"""Requests and replies as plain values, and the XML of OSS."""

from __future__ import annotations

import base64
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import quote

from tests.support.oss_server.errors import OssError

Node = tuple[str, object]


@dataclass
class Request:
    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: Mapping[str, str]
    """Lower-case names; values decoded as latin-1, as they came over the wire."""
    body: bytes
    host: str
    account: str = ""
    """Id of the access key that signed; empty for an anonymous request."""

    def header(self, name: str) -> str:
        return self.headers.get(name, "")


@dataclass
class Reply:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def document(root: str, nodes: Iterable[Node]) -> bytes:
    """Serialise `nodes`, (tag, text) or (tag, nested nodes), in this order; None is omitted."""
    element = ET.Element(root)
    _fill(element, nodes)
    body: bytes = ET.tostring(element, encoding="utf-8")
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + body


def _fill(parent: ET.Element, nodes: Iterable[Node]) -> None:
    for tag, content in nodes:
        if content is None:
            continue
        child = ET.SubElement(parent, tag)
        if isinstance(content, list | tuple):
            _fill(child, content)
        else:
            child.text = str(content)


def xml_reply(root: str, nodes: Iterable[Node]) -> Reply:
    return Reply(200, {"Content-Type": "application/xml"}, document(root, nodes))


def parsed(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)  # noqa: S314 (trusted clients)
    except ET.ParseError:
        raise OssError("MalformedXML", "The XML you provided was not well-formed.") from None


def error_reply(error: OssError, request: Request, request_id: str) -> Reply:
    nodes: list[Node] = [
        ("Code", error.code),
        ("Message", error.message),
        ("RequestId", request_id),
        ("HostId", request.host),
        *error.details.items(),
        ("EC", error.ec or None),
    ]
    body = document("Error", nodes)
    headers = {"Content-Type": "application/xml", **error.headers}
    if error.ec:
        headers["x-oss-ec"] = error.ec
    if request.method == "HEAD":
        headers["x-oss-err"] = base64.b64encode(body).decode()
    return Reply(error.status, headers, b"" if error.status == 304 else body)


def iso(moment: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return f"{whole}.000Z"


def http_date(moment: float) -> str:
    return formatdate(moment, usegmt=True)


def encoder(query: Mapping[str, str]) -> Callable[[str], str]:
    """Return the encoder of names in a listing: `encoding-type=url` percent-encodes them."""
    encoding = query.get("encoding-type", "")
    if encoding not in ("", "url"):
        raise OssError("InvalidArgument", "Invalid Encoding Method specified in Request")
    return (lambda name: quote(name, safe="")) if encoding else (lambda name: name)
