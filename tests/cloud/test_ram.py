"""Every role has the permissions that it needs and no others."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cloud import check, ram, template
from core.consent import records
from core.crypto import sealing
from core.settings import Settings
from core.storage import object_keys as keys
from handlers import jobs
from handlers.cli.app import app
from handlers.cli.audit import AuditRequest, audit_results
from handlers.cli.erase import erase_job
from handlers.cli.protect import protect_app
from handlers.cli.screen import Progress
from handlers.cli.trace import trace_clips
from tests.support.audited_bucket import (
    fill_bucket,
    fill_bucket_with_joined_files,
    integrate_log,
)
from tests.support.oss_server import OssServer
from tests.support.policies import NAMES, POLICIES, ROOT, PolicyCheck, granted_permissions
from tests.support.runtime import REFERENCE, consent_record, create_keyring, local_runtime

PEOPLE = sorted(set(ram.PERMISSIONS) - ram.SERVICES)


def function_properties() -> dict[str, Any]:
    s_yaml = yaml.safe_load((ROOT / "s.yaml").read_text(encoding="utf-8"))
    return template.resolve_props(s_yaml, "worker", {})


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_policies_have_no_fault(name: str) -> None:
    assert list(ram.find_faults(name, POLICIES[name])) == []


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_placeholder_is_filled(name: str) -> None:
    assert "$" not in Template(POLICIES[name]).substitute(NAMES)


def test_no_role_is_without_a_policy() -> None:
    assert {f"{role}.json" for role in [*ram.PERMISSIONS, *ram.TRUSTED_SERVICES]} == set(POLICIES)


def test_the_worker_has_the_permissions_that_the_store_needs() -> None:
    needed = {
        ("oss:GetObject", "voicedrop-inbox/*"),
        ("oss:GetObject", "voicedrop-results/*"),
        ("oss:PutObject", "voicedrop-results/*"),
        ("oss:DeleteObject", "voicedrop-results/out/*.sealed"),
        ("oss:ListObjects", "voicedrop-results"),
        ("oss:GetBucketVersioning", "voicedrop-results"),
        ("oss:GetObject", "voicedrop-control/*"),
        ("oss:ListObjects", "voicedrop-control"),
        ("oss:GetBucketInfo", "voicedrop-control"),
    }
    assert needed <= {
        (action, resource.split(":", 4)[4]) for action, resource in granted_permissions("worker")
    }


def test_the_worker_can_keep_everything_in_the_control_bucket_but_protections() -> None:
    allowed = PolicyCheck("worker")
    digest = "a" * 64
    kept = [
        *(keys.lease_key("a"), keys.reason_key("a"), keys.dead_letter_key("a")),
        *(keys.pending_key("refs/a.wav", "a"), keys.quota_key("2026-01-01"), keys.plan_key("a")),
        *(keys.shard_key("a", 1), keys.queue_key("a"), keys.LOG_REFUSED + "a"),
        *(keys.voice_key_key(digest), keys.cached_key(digest, f"{keys.SPOKEN}a")),
        *(
            keys.statement_check_key(digest, digest, "mix", "best"),
            keys.unbound_voiceprint_key("a"),
        ),
    ]
    for action in ("oss:GetObject", "oss:PutObject", "oss:DeleteObject"):
        assert all(allowed(action, f"voicedrop-control/{key}") for key in kept)
    protected = f"voicedrop-control/{keys.protection_key(digest)}"
    assert allowed("oss:GetObject", protected)
    assert not allowed("oss:PutObject", protected)
    assert not allowed("oss:DeleteObject", protected)


@pytest.mark.slow
def test_a_protector_can_protect_voices_and_nothing_else(
    cloud: OssServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = PolicyCheck("protector")
    cloud.add_key("somebody", "secret", policy=allowed)
    create_keyring(tmp_path / "keys")
    monkeypatch.setenv("VOICEDROP_KEYS", str(tmp_path / "keys"))
    runner = CliRunner()
    recording = str(REFERENCE)
    digest = hashlib.sha256(REFERENCE.read_bytes()).hexdigest()
    for command in (["add", recording, "--label", "a"], ["list"], ["remove", digest[:8]]):
        done = runner.invoke(protect_app, command)
        assert done.exit_code == 0, done.output
    assert (allowed.denied, allowed.idle) == (set(), set())


def test_only_producers_and_the_front_can_write_the_inbox_and_nobody_can_delete_a_result() -> None:
    for role in ram.PERMISSIONS:
        for action, resource in granted_permissions(role):
            if action == "oss:DeleteObject":
                is_output = resource.endswith("voicedrop-results/out/*.sealed")
                assert is_output or "voicedrop-control/" in resource
            if action == "oss:PutObject" and "voicedrop-inbox" in resource:
                assert role in ("producer", "front")


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OssServer]:
    """An OSS server with three buckets, and environment variables with the keys of one role."""
    for name in list(os.environ):
        if name.startswith(("VOICEDROP_", "OSS_", "ALIBABA_")):
            monkeypatch.delenv(name)
    with OssServer() as server:
        for name in ("INBOX", "RESULTS", "CONTROL"):
            server.create_bucket(NAMES[name])
            monkeypatch.setenv(f"VOICEDROP_{name}", f"oss://{NAMES[name]}")
        monkeypatch.setenv("VOICEDROP_OSS_ENDPOINT", server.endpoint)
        monkeypatch.setenv("VOICEDROP_OSS_REGION", server.region)
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", "somebody")
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "secret")
        yield server


def upload(
    root: Path, cloud: OssServer, allowed: PolicyCheck, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Copy folders to the server; return the settings of somebody who is allowed this much."""
    cloud.add_key("somebody", "secret", policy=allowed)
    for name in ("INBOX", "RESULTS", "CONTROL"):
        folder = root / name.lower()
        for path in folder.rglob("*"):
            if path.is_file() and ".meta" not in path.parts:
                cloud.place(NAMES[name], path.relative_to(folder).as_posix(), path.read_bytes())
    monkeypatch.setenv("VOICEDROP_KEYS", str(root / "keys"))
    return Settings.from_environ(os.environ)


@pytest.mark.slow
def test_an_auditor_can_audit_and_trace_and_nothing_else(
    cloud: OssServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "bucket"
    fill_bucket_with_joined_files(root)
    filled = local_runtime(root)
    filled.consents.withdraw(records.format_consent(consent_record(b"another recording")), 1e9)
    filled.inbox.put("audit/clip.wav", b"no audio")
    jobs.trace_clip("audit/clip.wav", filled)
    integrate_log(filled)
    allowed = PolicyCheck("auditor")
    settings = upload(root, cloud, allowed, monkeypatch)
    request = AuditRequest(out=tmp_path / "audit")
    found = audit_results(settings, request, Progress(quiet=True))
    assert found.data["verdict"] == "clean", found.lines
    # Without these permissions, the audit skips some checks.
    assert allowed.denied == {
        ("oss:ListObjects", NAMES["INBOX"]),
        ("oss:ListObjects", NAMES["CONTROL"]),
    }
    checks = {check["name"]: check for check in found.data["checks"]}
    assert all(checks[n]["passed"] for n in ("object", "plaintext", "watermark", "inclusion"))

    runtime = local_runtime(root)
    item = next(i for i in runtime.results.list("out/") if i.key.endswith("i0.wav.sealed"))
    body = runtime.results.get(item.key, limit=10**8)
    envelope = sealing.envelope_from_metadata(body.info.metadata)
    clip = tmp_path / "clip.wav"
    clip.write_bytes(sealing.open_sealed(body.data, envelope, runtime.keys.wrapping))
    (traced,) = trace_clips(settings, [clip], None, Progress(quiet=True)).data["traces"]
    assert traced["findings"][0]["item"] == "i0"
    assert allowed.idle == set()


@pytest.mark.slow
def test_an_eraser_can_erase_and_withdraw_and_nothing_else(
    cloud: OssServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "bucket"
    filled = fill_bucket(root, [0, 1])
    record = filled.inbox.get("consent/alice.json", limit=10**6).data
    (recording,) = records.parse_consent(record).ref_audio_sha256
    for kept in (keys.voice_key_key(recording), keys.unbound_voiceprint_key("a" * 64)):
        filled.control.put(kept, b"kept")
    allowed = PolicyCheck("eraser")
    settings = upload(root, cloud, allowed, monkeypatch)
    first, second = sorted({keys.job_id_of(info.key) for info in filled.results.list("out/")})
    assert erase_job(settings, first, None, "asked to").data["tombstones"]
    command = ["consent", "withdraw", "consent/alice.json", "--erase-outputs", "--json"]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.output
    assert [one["job_id"] for one in json.loads(ran.output)["tombstones"]] == [second]
    stored = [*cloud.objects(NAMES["RESULTS"]), *cloud.objects(NAMES["CONTROL"])]
    assert not [key for key in stored if key.endswith(".sealed") or key.startswith("voice")]
    assert (allowed.denied, allowed.idle) == (set(), set())


def test_the_auditor_decrypts_and_writes_nothing() -> None:
    assert {action for action, _ in granted_permissions("auditor")} == {
        "oss:GetObject",
        "oss:ListObjects",
    }


def test_the_producer_reads_nothing() -> None:
    assert {action for action, _ in granted_permissions("producer")} == {
        "oss:PutObject",
        "oss:AbortMultipartUpload",
    }


def test_the_policies_and_the_template_name_the_same_resources() -> None:
    props = function_properties()
    resources = {resource for _, resource in granted_permissions("worker")}
    assert props["asyncInvokeConfig"]["destinationConfig"]["onFailure"]["destination"] in resources
    log = props["logConfig"]
    assert any(
        r.endswith(f"project/{log['project']}/logstore/{log['logstore']}") for r in resources
    )
    assert props["role"].endswith(":role/voicedrop-worker")
    invoked = {resource for _, resource in granted_permissions("oss-notification")}
    assert any(resource.endswith(f"functions/{props['functionName']}") for resource in invoked)


def make_policy(action: str, resource: str, **more: str) -> str:
    statement = {"Effect": "Allow", "Action": [action], "Resource": [resource], **more}
    return json.dumps({"Version": "1", "Statement": [statement]})


OSS_ARN = "acs:oss:*:${ACCOUNT}:"
FC_ARN = "acs:fc:${REGION}:${ACCOUNT}:functions/"
ROLE_ARN = "acs:ram:*:${ACCOUNT}:role/"


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("worker", make_policy("oss:*", OSS_ARN + "${INBOX}/*"), "more than this role needs"),
        ("worker", make_policy("oss:GetObject", "*"), "not a resource of this account"),
        (
            "worker",
            make_policy("oss:GetObject", "acs:oss:*:*:${INBOX}/*"),
            "not a resource of this",
        ),
        (
            "worker",
            make_policy("oss:GetObject", "acs:kms:*:${ACCOUNT}:${INBOX}/*"),
            "not a resource",
        ),
        (
            "worker",
            make_policy("oss:PutObject", OSS_ARN + "${INBOX}/*"),
            "more than this role needs",
        ),
        (
            "worker",
            make_policy("oss:DeleteObject", OSS_ARN + "${RESULTS}/*"),
            "more than this role needs",
        ),
        ("worker", make_policy("oss:GetObject", OSS_ARN + "other/*"), "more than this role needs"),
        ("worker", make_policy("oss:PutObject", OSS_ARN + "${CONTROL}/*"), "more than this role"),
        (
            "worker",
            make_policy("oss:DeleteObject", OSS_ARN + "${CONTROL}/protected/*"),
            "more than this role needs",
        ),
        (
            "worker",
            make_policy("oss:GetObject", OSS_ARN + "${INBOX}-2/*"),
            "more than this role needs",
        ),
        ("worker", make_policy("oss:GetObject", OSS_ARN + "${INBOX}"), "objects are bucket/..."),
        (
            "worker",
            make_policy("oss:ListObjects", OSS_ARN + "${INBOX}/*"),
            "objects are bucket/...",
        ),
        (
            "auditor",
            make_policy("oss:PutObject", OSS_ARN + "${RESULTS}/*"),
            "more than this role needs",
        ),
        (
            "producer",
            make_policy("oss:GetObject", OSS_ARN + "${INBOX}/*"),
            "more than this role needs",
        ),
        (
            "worker-kms",
            make_policy("kms:GenerateDataKey", "acs:kms:*:${ACCOUNT}:key/${KMS_KEY}"),
            "more than",
        ),
        ("worker", make_policy("oss:GetObject", "x", Principal="*"), "optionally Condition"),
        ("worker", make_policy("oss:GetObject", "x", Effect="Deny"), "must be Effect Allow"),
        ("worker", '{"Version": "2", "Statement": []}', '"Version": "1"'),
        ("worker", '{"Version": "1"}', '"Version": "1"'),
        (
            "deployer",
            make_policy("fc:DeleteFunction", FC_ARN + "${FUNCTION}"),
            "more than this role",
        ),
        (
            "deployer",
            make_policy("fc:InvokeFunction", FC_ARN + "${FUNCTION}"),
            "more than this role",
        ),
        ("deployer", make_policy("fc:UpdateFunction", FC_ARN + "another"), "more than this role"),
        ("deployer", make_policy("ram:PassRole", ROLE_ARN + "admin"), "more than this role needs"),
        (
            "operator",
            make_policy("fc:UpdateFunction", FC_ARN + "${FUNCTION}"),
            "more than this role",
        ),
        ("operator", make_policy("oss:GetObject", OSS_ARN + "${RESULTS}/out/*"), "more than this"),
        ("operator", make_policy("oss:GetObject", OSS_ARN + "${CONTROL}/keys/*"), "more than this"),
        ("operator", make_policy("fc:InvokeFunction", "*"), "not a resource of this account"),
        ("alarms", make_policy("fc:UpdateAlias", FC_ARN + "${FUNCTION}/aliases/cpu"), "more than"),
        ("alarms", make_policy("cms:DescribeMetricList", "*"), "not a resource of this account"),
        (
            "worker",
            make_policy("cms:DescribeMetricRuleList", "*"),
            "not a resource of this account",
        ),
        ("stranger", '{"Version": "1", "Statement": []}', "no permissions are defined"),
        ("worker.trust", '{"Version": "1", "Statement": []}', "only fc.aliyuncs.com"),
        ("oss-notification.trust", POLICIES["worker.trust.json"], "only oss.aliyuncs.com"),
    ],
)
def test_excessive_permissions_are_found(name: str, text: str, fault: str) -> None:
    found = list(ram.find_faults(f"{name}.json", text))
    assert any(fault in line for line in found), found


@pytest.mark.parametrize("person", PEOPLE)
def test_a_policy_for_people_grants_nothing_outside_the_office(person: str) -> None:
    policy = json.loads(POLICIES[f"{person}.json"])
    for statement in policy["Statement"]:
        assert statement["Condition"]["IpAddress"] == {"acs:SourceIp": ["${OFFICE}"]}
        for wrong in ({}, {"IpAddress": {"acs:SourceIp": ["0.0.0.0/0"]}}):
            changed = {**policy, "Statement": [statement | {"Condition": wrong}]}
            (fault,) = ram.find_faults(f"{person}.json", json.dumps(changed))
            assert "Condition/IpAddress: must be" in fault


@pytest.mark.parametrize("service", sorted(ram.SERVICES))
def test_a_service_is_not_bound_to_the_addresses_of_people(service: str) -> None:
    policy = json.loads(POLICIES[f"{service}.json"])
    policy["Statement"][0]["Condition"] = {"IpAddress": ram.FROM_OFFICE}
    (fault,) = ram.find_faults(f"{service}.json", json.dumps(policy))
    assert "a service has the addresses of the platform" in fault


def test_whoever_deploys_may_do_what_the_template_needs() -> None:
    s_yaml = yaml.safe_load((ROOT / "s.yaml").read_text(encoding="utf-8"))
    granted = {action: set[str]() for action, _ in granted_permissions("deployer")}
    for action, resource in granted_permissions("deployer"):
        granted[action].add(resource.split(":", 4)[4])
    needs: set[tuple[str, str]] = set()
    for name in s_yaml["resources"]:
        props = template.resolve(s_yaml["resources"][name]["props"], s_yaml["vars"], {})
        needs |= needs_of_domain(props) if name == "domain" else needs_of_function(props)
    assert len(needs) > 25
    for action, resource in sorted(needs):
        places = granted[action]
        assert resource in places or f"{resource.rsplit('/', 1)[0]}/*" in places, (action, resource)


def needs_of_function(props: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the actions by which the deployer creates and updates a function, with resources."""
    function = f"functions/{props['functionName']}"
    needs = {(f"fc:{verb}Function", function) for verb in ("Create", "Get", "Update")}
    needs.add(("ram:PassRole", props["role"].split(":", 4)[4]))
    for key, actions in {
        "concurrencyConfig": ("GetConcurrencyConfig", "PutConcurrencyConfig"),
        "provisionConfig": ("GetProvisionConfig", "PutProvisionConfig"),
        "asyncInvokeConfig": ("GetFunctionAsyncInvokeConfig", "PutFunctionAsyncInvokeConfig"),
    }.items():
        needs |= {(f"fc:{action}", function) for action in actions if key in props}
    for trigger in props["triggers"]:
        place = f"{function}/triggers/{trigger['triggerName']}"
        needs |= {(f"fc:{verb}Trigger", place) for verb in ("Create", "Get", "Update")}
        if trigger["triggerType"] == "oss":
            bucket = trigger["sourceArn"].rsplit(":", 1)[1]
            needs |= {(f"oss:{verb}BucketEventNotification", bucket) for verb in ("Get", "Put")}
            needs.add(("ram:PassRole", trigger["invocationRole"].split(":", 4)[4]))
        if trigger["qualifier"] != "LATEST":
            needs |= {("fc:UpdateAlias", f"{function}/aliases/{trigger['qualifier']}")}
            needs |= {("fc:PublishFunctionVersion", f"{function}/versions")}
    return needs


def needs_of_domain(props: dict[str, Any]) -> set[tuple[str, str]]:
    domain = f"custom-domains/{props['domainName']}"
    return {(f"fc:{verb}CustomDomain", domain) for verb in ("Create", "Get", "Update")}


def test_every_policy_for_people_is_attached_and_every_role_created_by_the_instructions() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    people = re.search(r"for person in ([^;]+); do(.*?)done", text, re.DOTALL)
    roles = re.search(r"for role in ([^;]+); do(.*?)done", text, re.DOTALL)
    assert people
    assert roles
    assert set(people[1].split()) == {name for name in PEOPLE if not name.endswith("-kms")}
    assert "AttachPolicyToGroup" in people[2]
    assert set(roles[1].split()) == {name.removesuffix(".trust") for name in ram.TRUSTED_SERVICES}
    assert "AttachPolicyToRole" in roles[2]
    assert all(f"`{name}.json`" in text for name in ram.PERMISSIONS)


def test_the_command_checks_the_policies_too(tmp_path: Path) -> None:
    for name, text in POLICIES.items():
        (tmp_path / name).write_text(re.sub(r"oss:GetBucketInfo", "oss:PutBucketAcl", text))
    found = list(check.find_faults(ROOT / "s.yaml", tmp_path))
    assert len(found) == 3
    assert all("oss:PutBucketAcl" in fault for fault in found)
