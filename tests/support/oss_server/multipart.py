"""Multipart uploads: begin, put or copy a part, list, complete, abort."""

from __future__ import annotations

import hashlib
import time
import uuid
from dataclasses import replace

from tests.support.oss_server.buckets import page, whole
from tests.support.oss_server.errors import OssError
from tests.support.oss_server.messages import Node, Reply, Request, encoder, iso, parsed, xml_reply
from tests.support.oss_server.objects import (
    check_conditions,
    check_digest,
    check_name,
    check_overwrite,
    copy_source,
    described,
    digest_text,
    span,
    stored_reply,
)
from tests.support.oss_server.state import State, Stored, Upload, crc64, md5

SMALLEST_PART = 100 * 1024


def begin(state: State, request: Request) -> Reply:
    bucket = state.bucket(request.bucket)
    check_name(request.key)
    check_overwrite(bucket, request)
    name = uuid.uuid4().hex.upper()
    template = described(request, bucket, Stored(b"", "", "Multipart"))
    forbid = request.header("x-oss-forbid-overwrite") == "true"
    sequential = "sequential" in request.query
    bucket.uploads[name] = Upload(request.key, time.time(), template, forbid, {}, sequential)
    encode = encoder(request.query)
    nodes = [("Bucket", bucket.name), ("Key", encode(request.key)), ("UploadId", name)]
    return xml_reply("InitiateMultipartUploadResult", nodes)


def put_part(state: State, request: Request) -> Reply:
    check_digest(request)
    _add_part(state, request, request.body)
    crc = str(crc64(request.body))
    return Reply(200, {"ETag": f'"{md5(request.body)}"', "x-oss-hash-crc64ecma": crc})


def copy_part(state: State, request: Request) -> Reply:
    source = copy_source(state, request)
    check_conditions(source, request.headers, "x-oss-copy-source-")
    found = span(request.header("x-oss-copy-source-range"), len(source.data))
    data = source.data[found[0] : found[1]] if found else source.data
    _add_part(state, request, data)
    nodes = [("LastModified", iso(time.time())), ("ETag", f'"{md5(data)}"')]
    reply = xml_reply("CopyPartResult", nodes)
    reply.headers["ETag"] = f'"{md5(data)}"'
    return reply


def complete(state: State, request: Request) -> Reply:
    bucket, upload = state.bucket(request.bucket), _upload(state, request)
    check_overwrite(bucket, request)
    if upload.forbid_overwrite and not bucket.versioning and request.key in bucket.objects:
        raise OssError("FileAlreadyExists", details={"ObjectName": request.key})
    numbers = _part_numbers(request, upload)
    parts = [upload.parts[number][0] for number in numbers]
    if any(len(part) < SMALLEST_PART for part in parts[:-1]):
        raise OssError("EntityTooSmall", "Your proposed upload smaller than the minimum size.")
    joined = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in parts)
    data = b"".join(parts)
    stored = replace(
        upload.template,
        data=data,
        etag=f"{md5(joined)}-{len(parts)}",
        modified=float(int(time.time())),
        content_md5=digest_text(data) if upload.sequential else "",
    )
    state.store(bucket, request.key, stored)
    del bucket.uploads[request.query["uploadId"]]
    nodes = [("Bucket", bucket.name), ("Key", request.key), ("ETag", f'"{stored.etag}"')]
    reply = xml_reply("CompleteMultipartUploadResult", nodes)
    reply.headers |= stored_reply(stored).headers
    return reply


def abort(state: State, request: Request) -> Reply:
    _upload(state, request)
    del state.bucket(request.bucket).uploads[request.query["uploadId"]]
    return Reply(204)


def list_parts(state: State, request: Request) -> Reply:
    upload, encode = _upload(state, request), encoder(request.query)
    marker = int(request.query.get("part-number-marker") or 0)
    limit = whole(request.query, "max-parts", 1000, 1000)
    numbers = sorted(number for number in upload.parts if number > marker)
    shown = numbers[:limit]
    nodes: list[Node] = [
        ("Bucket", request.bucket),
        ("Key", encode(upload.key)),
        ("UploadId", request.query["uploadId"]),
        ("NextPartNumberMarker", shown[-1] if shown else marker),
        ("MaxParts", limit),
        ("IsTruncated", "true" if len(numbers) > limit else "false"),
    ]
    for number in shown:
        data, moment = upload.parts[number]
        about = [("LastModified", iso(moment)), ("ETag", f'"{md5(data)}"'), ("Size", len(data))]
        nodes.append(("Part", [("PartNumber", number), *about]))
    return xml_reply("ListPartsResult", nodes)


def list_uploads(state: State, request: Request) -> Reply:
    bucket, query, encode = state.bucket(request.bucket), request.query, encoder(request.query)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    marker, limit = query.get("key-marker", ""), whole(query, "max-uploads", 1000, 1000)
    # Uploads are sorted by key, then id. They are separated by NUL, which no key contains.
    names = {f"{upload.key}\0{name}": upload for name, upload in bucket.uploads.items()}
    behind = query.get("upload-id-marker", "")
    ended = marker if delimiter and marker.endswith(delimiter) else f"{marker}\0{behind or '~'}"
    found, prefixes, last = page(names, prefix, delimiter, ended if marker else "", limit)
    key, _, name = (last or "").partition("\0")
    nodes: list[Node] = [
        ("Bucket", bucket.name),
        ("EncodingType", query.get("encoding-type")),
        ("KeyMarker", encode(marker)),
        ("UploadIdMarker", behind),
        ("NextKeyMarker", encode(key)),
        ("NextUploadIdMarker", name),
        ("MaxUploads", limit),
        ("IsTruncated", "false" if last is None else "true"),
    ]
    for entry in found:
        about = [("UploadId", entry.partition("\0")[2]), ("Initiated", iso(names[entry].started))]
        nodes.append(("Upload", [("Key", encode(names[entry].key)), *about]))
    nodes += [("CommonPrefixes", [("Prefix", encode(name))]) for name in prefixes]
    return xml_reply("ListMultipartUploadsResult", nodes)


def _upload(state: State, request: Request) -> Upload:
    upload = state.bucket(request.bucket).uploads.get(request.query["uploadId"])
    if upload is None or upload.key != request.key:
        raise OssError("NoSuchUpload", details={"UploadId": request.query["uploadId"]})
    return upload


def _add_part(state: State, request: Request, data: bytes) -> None:
    upload, number = _upload(state, request), whole(request.query, "partNumber", 0, 10000)
    if upload.sequential and number != len(upload.parts) + 1:
        raise OssError("PartNotSequential", "The part number is not sequential.")
    upload.parts[number] = (data, time.time())


def _part_numbers(request: Request, upload: Upload) -> list[int]:
    if request.header("x-oss-complete-all") == "yes":
        return sorted(upload.parts)
    numbers = []
    for node in parsed(request.body).findall("Part"):
        number = int(node.findtext("PartNumber") or 0)
        part = upload.parts.get(number)
        if part is None or (node.findtext("ETag") or "").strip('"') != md5(part[0]):
            raise OssError("InvalidPart", "A part was not found, or its ETag did not match.")
        numbers.append(number)
    if numbers != sorted(set(numbers)) or not numbers:
        raise OssError("InvalidPartOrder", "The parts were not in ascending order.")
    return numbers
