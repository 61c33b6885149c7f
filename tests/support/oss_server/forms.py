"""PostObject: a form that uploads one object, with a policy instead of a signed request.

Source: OSS documentation, "PostObject".
"""

from __future__ import annotations

import base64
import calendar
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.message import Message
from typing import Any

from tests.support.oss_server.errors import OssError
from tests.support.oss_server.messages import Reply, Request, xml_reply
from tests.support.oss_server.signing import authenticate_form
from tests.support.oss_server.state import State

_CONTENT_TYPE = "multipart/form-data"


@dataclass(frozen=True)
class Form:
    fields: dict[str, str]
    """The fields before the file, with lower-case names."""
    file: bytes


def is_form(request: Request) -> bool:
    sent = request.header("content-type").lower()
    return request.method == "POST" and not request.key and sent.startswith(_CONTENT_TYPE)


def as_put(state: State, request: Request) -> tuple[Request, Form]:
    """Return the PUT request that a form amounts to, after checking its signature and policy."""
    form = _parsed(request)
    fields = form.fields
    if not fields["key"]:
        raise OssError("InvalidArgument", "Bucket POST must contain a field named 'key'.")
    sent_as = fields.get("x-oss-content-type") or fields.get("content-type")
    headers = {name: value for name, value in fields.items() if name not in ("file", "key")}
    headers |= {"content-type": sent_as} if sent_as else {}
    put = replace(request, method="PUT", key=fields["key"], headers=headers, body=form.file)
    put.account = authenticate_form(put, state, state.now())
    if put.account:
        _check_policy(fields | {"bucket": put.bucket}, len(form.file), state.now())
    return put, form


def answer(put: Request, form: Form, stored: Reply) -> Reply:
    """Return the reply to a form, given that to the PUT request."""
    where = form.fields.get("success_action_redirect")
    if where:
        return Reply(303, stored.headers | {"Location": where})
    status = form.fields.get("success_action_status")
    if status != "201":
        return Reply(200 if status == "200" else 204, stored.headers)
    location = f"http://{put.host}/{put.bucket}/{put.key}"
    nodes = [("Bucket", put.bucket), ("Location", location), ("Key", put.key)]
    reply = xml_reply("PostResponse", [*nodes, ("ETag", stored.headers["ETag"])])
    return Reply(201, stored.headers | reply.headers, reply.body)


def _parsed(request: Request) -> Form:
    """Read the fields up to the file; what follows it is ignored, as the service does."""
    boundary = _parameter(request.header("content-type"), "boundary")
    parts = (b"\r\n" + request.body).split(b"\r\n--" + boundary.encode())
    fields: dict[str, str] = {}
    for part in parts[1:] if boundary else []:
        head, found, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        lines = dict(line.partition(":")[::2] for line in head.decode().split("\r\n"))
        about = {name.lower(): value.strip() for name, value in lines.items()}
        disposition = about.get("content-disposition", "")
        name = _parameter(disposition, "name").lower()
        if not found or not name:
            break
        if name == "file":
            fields.setdefault("content-type", about.get("content-type", ""))
            file_name = _parameter(disposition, "filename")
            fields["key"] = fields.get("key", "").replace("${filename}", file_name)
            return Form(fields, content)
        fields[name] = content.decode()
    raise OssError("InvalidArgument", "POST requires exactly one file upload per request.")


def _parameter(header: str, name: str) -> str:
    message = Message()
    message["content-disposition"] = header
    return str(message.get_param(name, "", "content-disposition"))


def _check_policy(values: Mapping[str, str], size: int, now: float) -> None:
    try:
        policy = json.loads(base64.b64decode(values["policy"]))
        moment = re.sub(r"(\.\d+)?Z$", "", policy["expiration"])
        expires = calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%S"))
        conditions = [_as_list(condition) for condition in policy["conditions"]]
    except (ValueError, KeyError, TypeError):
        raise OssError("InvalidPolicyDocument", "The policy is not valid.") from None
    if now > expires:
        raise OssError("AccessDenied", "Invalid according to Policy: Policy expired.")
    for condition in conditions:
        if not _holds(condition, values, size):
            text = json.dumps(condition)
            message = f"Invalid according to Policy: Policy Condition failed: {text}"
            raise OssError("AccessDenied", message)


def _as_list(condition: Any) -> list[Any]:
    if isinstance(condition, dict):
        ((name, value),) = condition.items()
        return ["eq", f"${name}", value]
    return list(condition)


def _holds(condition: list[Any], values: Mapping[str, str], size: int) -> bool:
    kind, first, second = str(condition[0]), *condition[1:]
    if kind == "content-length-range":
        return int(first) <= size <= int(second)
    value = values.get(str(first).removeprefix("$").lower(), "")
    if kind in ("in", "not-in"):
        return (value in list(second)) == (kind == "in")
    text = str(second)
    return value == text if kind == "eq" else kind == "starts-with" and value.startswith(text)
