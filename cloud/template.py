"""Find the faults of an s.yaml offline.

The deployer's own schemas are outdated (GPU types of 2024), accept misspelt keys and do not check
the configuration of triggers. They are applied first, then the rules of this module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import jsonschema

from cloud.machines import CARDS, find_size_fault
from core.settings import SETTINGS, Settings
from handlers.secret_settings import is_reference
from handlers.server.secrecy import NAMES

HERE = Path(__file__).parent
SCHEMAS = {
    name: json.loads((HERE / f"{name}.schema.json").read_text()) for name in ("fc3", "fc3-domain")
}
# Keys that the component reads but that are missing in its schema.
KEYS_MISSING_IN_SCHEMA = {"disableOndemand", "idleTimeout", "disableInjectCredentials"} | {
    "provisionConfig/qualifier"
}
ALIAS = "prod"
SECRET = re.compile(r"LTAI[0-9A-Za-z]{12,}|BEGIN [A-Z ]*PRIVATE KEY|[0-9A-Za-z+/]{43}=")
"""Access keys of the cloud, private keys, and 32 bytes in base64."""
CARD_KEYS = {"gpuConfig/gpuType", "gpuConfig/gpuMemorySize", "memorySize"}
TRIGGER_SCHEMAS = {
    "oss": "IOssTriggerConfig",
    "http": "IHttpTriggerConfig",
    "timer": "ITimerTriggerConfig",
    "eventbridge": "IEventBridge",
    "mns_topic": "IMnsTriggerConfig",
}
WHOLE_OBJECT_EVENTS = {
    f"oss:ObjectCreated:{name}"
    for name in (
        *("PutObject", "PostObject", "CompleteMultipartUpload"),
        *("CopyObject", "AppendObject"),
    )
}
IMAGE = re.compile(r"[\w-]+\.[\w.-]+\.aliyuncs\.com/.+:(?!latest$)[\w.-]+")


def find_faults(template: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """Yield every fault of a parsed s.yaml. `environ` fills its ${env(...)}."""
    if str(template.get("edition")) != "3.0.0":
        yield "edition: must be 3.0.0"
    for name, resource in template["resources"].items():
        component = resource.get("component")
        if component not in SCHEMAS:
            yield f"{name}/component: must be one of {', '.join(SCHEMAS)}"
            continue
        props = resolve_props(template, name, environ)
        yield from (f"{name}/{fault}" for fault in _check_props(component, props))


def resolve_props(
    template: Mapping[str, Any], name: str, environ: Mapping[str, str]
) -> dict[str, Any]:
    """Return the properties of a resource as they are deployed, with all variables filled in."""
    props = template["resources"][name]["props"]
    return dict(resolve(props, template.get("vars", {}), environ))


def _check_props(component: str, props: Mapping[str, Any]) -> Iterator[str]:
    if unfilled := list(_check_placeholders(props)):
        yield from unfilled  # a placeholder may stand for a whole section
        return
    malformed = list(_check_schema(component, props))
    yield from malformed
    yield from _check_keys(component, props)
    kind = component if component != "fc3" else str(props.get("runtime"))
    if props.get("customContainerConfig", {}).get("command") == FRONT_COMMAND:
        kind = "front"
    if kind not in RULES:
        yield "runtime: must be custom-container, or python3.12 for the receiver of alarms"
    elif not malformed:  # the rules rely on keys that the schema requires
        for rule in RULES[kind]:
            yield from rule(props)


def resolve(value: Any, variables: Mapping[str, Any], environ: Mapping[str, str]) -> Any:
    """Fill in ${vars.x}, ${env('X', 'default')} and ${vars[env('X', 'default')].y} as the deployer
    does."""
    if isinstance(value, dict):
        return {key: resolve(item, variables, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, variables, environ) for item in value]
    if not isinstance(value, str):
        return value
    chosen = re.fullmatch(r"\$\{vars\[env\('(\w+)', '(\w+)'\)\]\.(\w+)\}", value)
    if chosen and environ.get(chosen[1], chosen[2]) in variables:
        return resolve(variables[environ.get(chosen[1], chosen[2])][chosen[3]], variables, environ)
    env = r"\$\{env\('(\w+)'(?:,\s*'([^']*)')?\)\}"
    value = re.sub(env, lambda m: environ.get(m[1], m[2] or ""), value)
    named = r"\$\{vars\.(\w+)\}"
    return re.sub(
        named,
        lambda m: str(resolve(variables[m[1]], variables, environ)) if m[1] in variables else m[0],
        value,
    )


def _check_schema(component: str, props: Mapping[str, Any]) -> Iterator[str]:
    card = props.get("gpuConfig", {}).get("gpuType")
    for error in jsonschema.Draft7Validator(SCHEMAS[component]).iter_errors(props):
        path = "/".join(map(str, error.path))
        if not (card in CARDS and path in CARD_KEYS):  # the schema knows only older cards
            yield f"{path}: {_describe_error(error)}"


def _describe_error(error: Any) -> str:
    """Return a sentence about the schema rule that a value violates."""
    if error.validator == "required":
        missing = [name for name in error.validator_value if name not in error.instance]
        return f"missing: {', '.join(missing)}"
    rule = f"{error.validator}: {error.validator_value}"
    return f"{_shorten(str(error.instance), 80)} violates {_shorten(rule, 120)}"


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _check_keys(component: str, props: Mapping[str, Any]) -> Iterator[str]:
    root = SCHEMAS[component]
    for fault in _find_unknown_keys(root, root, props, ""):
        if fault.split(":")[0] not in KEYS_MISSING_IN_SCHEMA:
            yield fault


def _find_unknown_keys(root: Any, schema: Any, value: Any, path: str) -> Iterator[str]:
    while "$ref" in schema:
        schema = root["definitions"][schema["$ref"].rsplit("/", 1)[-1]]
    if "anyOf" in schema:
        choices = [choice for choice in schema["anyOf"] if _is_valid(root, choice, value)]
        yield from min(
            (list(_find_unknown_keys(root, c, value, path)) for c in choices), key=len, default=[]
        )
    elif isinstance(value, dict) and "properties" in schema:
        yield from _unknown_properties(root, schema, value, path)
    elif isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            yield from _find_unknown_keys(root, schema["items"], item, f"{path}{i}/")


def _is_valid(root: Any, schema: Any, value: Any) -> bool:
    schema = schema | {"definitions": root["definitions"]}
    return bool(jsonschema.Draft7Validator(schema).is_valid(value))


def _unknown_properties(root: Any, schema: Any, value: dict[str, Any], path: str) -> Iterator[str]:
    for key, item in value.items():
        if key in schema["properties"]:
            yield from _find_unknown_keys(root, schema["properties"][key], item, f"{path}{key}/")
        elif not schema.get("additionalProperties"):
            yield f"{path}{key}: unknown key"


def _check_placeholders(props: Mapping[str, Any]) -> Iterator[str]:
    text = json.dumps(props)
    names = re.findall(r"\$\{[^}]*\}", text)
    yield from (f"{name}: placeholder without a value" for name in names)


def _check_tls(props: Mapping[str, Any]) -> Iterator[str]:
    tls = props.get("tlsConfig", {})
    if props.get("protocol") != "HTTPS":
        yield "protocol: must be HTTPS"
    if tls.get("minVersion") not in ("TLSv1.2", "TLSv1.3"):
        yield "tlsConfig/minVersion: must be TLSv1.2 or TLSv1.3 (the default is 1.0)"
    for suite in tls.get("cipherSuites", ["(the default list)"]):
        if not re.fullmatch(r"TLS_ECDHE_(RSA|ECDSA)_WITH_(AES_\d+_GCM|CHACHA20_POLY1305).*", suite):
            yield f"tlsConfig/cipherSuites: {suite} lacks forward secrecy or authentication"


def _check_machine(props: Mapping[str, Any]) -> Iterator[str]:
    kind = props.get("gpuConfig", {}).get("gpuType")
    memory, cpu = props.get("memorySize", 0), props.get("cpu", 0)
    if kind is None:
        if not cpu or not 1 <= memory / 1024 / cpu <= 4:
            yield "cpu: must have 1 to 4 GB of memory per core"
    elif kind not in CARDS:
        yield f"gpuConfig/gpuType: must be one of {', '.join(CARDS)}"
    else:
        card = CARDS[kind]
        if props["gpuConfig"].get("gpuMemorySize") != card.memory_gb * 1024:
            yield f"gpuConfig/gpuMemorySize: must be {card.memory_gb * 1024}, all of {kind}"
        if fault := find_size_fault(card, cpu, memory):
            yield fault


def _check_container(props: Mapping[str, Any]) -> Iterator[str]:
    container, hooks = props["customContainerConfig"], props.get("instanceLifecycleConfig", {})
    if not IMAGE.fullmatch(container.get("image", "")):
        yield "customContainerConfig/image: must be in ACR, with a tag other than latest"
    if container.get("healthCheckConfig") and "initializer" not in hooks:
        yield "healthCheckConfig: needs an initializer, or the first check fails"
    calls = str(props.get("environmentVariables", {}).get("VOICEDROP_CALLS") or Settings().calls)
    if str(props.get("instanceConcurrency")) != calls:
        yield f"instanceConcurrency: must be {calls}, as VOICEDROP_CALLS, or calls wait"
    if props.get("logConfig", {}).get("logBeginRule") != "None":
        yield "logConfig/logBeginRule: must be None, or JSON lines are joined into one entry"


def _check_hooks(props: Mapping[str, Any]) -> Iterator[str]:
    for name, hook in props.get("instanceLifecycleConfig", {}).items():
        if ("handler" in hook) == ("command" in hook):
            yield f"instanceLifecycleConfig/{name}: needs either handler or command"
        if not 4 <= hook.get("timeout", 3) <= 300:
            yield f"instanceLifecycleConfig/{name}/timeout: must be 4 to 300 s (the default is 3)"


def _check_environment(props: Mapping[str, Any]) -> Iterator[str]:
    variables = props.get("environmentVariables", {})
    if sum(len(name) + len(str(value)) for name, value in variables.items()) > 4096:
        yield "environmentVariables: must not exceed 4 KB in total"
    if not str(variables.get("VOICEDROP_OSS_ENDPOINT", "")).startswith("https://"):
        yield "environmentVariables/VOICEDROP_OSS_ENDPOINT: must begin with https://"
    buckets = [variables.get(f"VOICEDROP_{n}") for n in ("INBOX", "RESULTS", "CONTROL")]
    if None in buckets or len(set(buckets)) < len(buckets):
        yield "environmentVariables: inbox, results and control must be three different buckets"


def _check_secrets(props: Mapping[str, Any]) -> Iterator[str]:
    """The deployer prints the properties and writes them into its log."""
    secret = {row.variable for row in SETTINGS.values() if row.secret}
    for name, value in props.get("environmentVariables", {}).items():
        text = str(value)
        if is_reference(text):
            continue
        if (name in secret or NAMES.search(name)) and not _is_open_redis(text):
            yield f"environmentVariables/{name}: must be control:KEY or kms:BLOB, not the secret"
        elif SECRET.search(text):
            yield f"environmentVariables/{name}: contains something that looks like a secret"
    others = {name: value for name, value in props.items() if name != "environmentVariables"}
    if SECRET.search(json.dumps(others)):
        yield "contains something that looks like a secret"


def _is_open_redis(text: str) -> bool:
    """Whether this is the address of a Redis without user and password."""
    return re.fullmatch(r"rediss?://[^@,]+", text) is not None


def _check_alias(props: Mapping[str, Any]) -> Iterator[str]:
    """Without an alias, every deployment is live at once and cannot be taken back."""
    places = {f"triggers/{one['triggerName']}": one for one in props.get("triggers", [])}
    places |= {
        name: props[name] for name in ("asyncInvokeConfig", "provisionConfig") if name in props
    }
    for name, place in places.items():
        if place.get("qualifier") != ALIAS:
            yield f"{name}/qualifier: must be {ALIAS}"


def _check_routes(props: Mapping[str, Any]) -> Iterator[str]:
    for route in props.get("routeConfig", {}).get("routes", []):
        if route.get("qualifier") != ALIAS:
            yield f"routeConfig/{route.get('path')}/qualifier: must be {ALIAS}"


def _check_cost_limits(props: Mapping[str, Any]) -> Iterator[str]:
    if "reservedConcurrency" not in props.get("concurrencyConfig", {}):
        yield "concurrencyConfig/reservedConcurrency: must be set, to limit the cost"
    for action in props.get("provisionConfig", {}).get("scheduledActions", []):
        if not re.fullmatch(r"cron\((\S+ ){5}\S+\)", action["scheduleExpression"]):
            yield f"provisionConfig/{action['name']}: scheduleExpression needs six fields"
        if action["startTime"] >= action["endTime"]:
            yield f"provisionConfig/{action['name']}: ends before it starts"
    if "provisionConfig" in props and "scalingConfig" in props:
        yield "scalingConfig: cannot be combined with provisionConfig"


def _check_retries(props: Mapping[str, Any]) -> Iterator[str]:
    config = props.get("asyncInvokeConfig", {})
    if not config.get("destinationConfig", {}).get("onFailure", {}).get("destination"):
        yield "asyncInvokeConfig: needs a failure destination, or notifications can be lost"
    if not 60 <= config.get("maxAsyncEventAgeInSeconds", 0) <= 604800:
        yield "asyncInvokeConfig/maxAsyncEventAgeInSeconds: must be 60 to 604800"


def _check_triggers(props: Mapping[str, Any]) -> Iterator[str]:
    sources: dict[str, list[tuple[str, str, str]]] = {}
    variables = props.get("environmentVariables", {})
    inbox, control = (
        str(variables.get(f"VOICEDROP_{name}", "")).removeprefix("oss://")
        for name in ("INBOX", "CONTROL")
    )
    for trigger in props.get("triggers", []):
        name, kind = trigger["triggerName"], trigger["triggerType"]
        config = trigger["triggerConfig"]
        yield from (f"triggers/{name}/{fault}" for fault in _check_trigger(kind, config))
        if kind == "oss":
            arn = trigger.get("sourceArn", "")
            bucket = arn.rsplit(":", 1)[-1]
            key = config.get("filter", {}).get("key", {})
            shards = bucket == control and key == {"prefix": "work/", "suffix": ".jsonl"}
            if bucket != inbox and not shards:
                yield f"triggers/{name}/sourceArn: must be the inbox, or results start new jobs"
            sources.setdefault(arn, []).append((name, key.get("prefix", ""), key.get("suffix", "")))
    for rules in sources.values():
        if len(rules) > 10:
            yield "triggers: a bucket can have at most ten"
        for (first, prefix1, suffix1), (second, prefix2, suffix2) in combinations(rules, 2):
            same_prefix = _overlap(prefix1, prefix2, str.startswith)
            if same_prefix and _overlap(suffix1, suffix2, str.endswith):
                yield f"triggers: {first} and {second} overlap"


def _overlap(a: str, b: str, test: Callable[[str, str], bool]) -> bool:
    return test(a, b) or test(b, a)


def _check_trigger(kind: str, config: Mapping[str, Any]) -> Iterator[str]:
    if kind not in TRIGGER_SCHEMAS:
        yield f"triggerType: must be one of {', '.join(TRIGGER_SCHEMAS)}"
        return
    definitions = SCHEMAS["fc3"]["definitions"]
    schema = {"$ref": f"#/definitions/{TRIGGER_SCHEMAS[kind]}", "definitions": definitions}
    for error in jsonschema.Draft7Validator(schema).iter_errors(config):
        yield f"{'/'.join(map(str, error.path))}: {_describe_error(error)}"
    yield from _find_unknown_keys(schema, schema, config, "")
    if kind == "oss" and not set(config.get("events", [])) <= WHOLE_OBJECT_EVENTS:
        yield "events: only events that a whole object fires once are allowed"
    if kind == "oss" and not config.get("filter", {}).get("key", {}).get("prefix"):
        yield "filter/key/prefix: must not be empty"
    if kind == "http" and config.get("authType") == "anonymous":
        yield "authType: anonymous calls would start instances at your cost"


def _check_receiver(props: Mapping[str, Any]) -> Iterator[str]:
    """The receiver of alarms is reached by everybody, so little may happen."""
    if props.get("concurrencyConfig", {}).get("reservedConcurrency") != 1:
        yield "concurrencyConfig/reservedConcurrency: must be 1, or two actions overlap"
    if props.get("instanceConcurrency") != 1:
        yield "instanceConcurrency: must be 1, or two actions overlap"
    for name, value in props.get("environmentVariables", {}).items():
        if name in RECEIVER_SECRETS and value and not str(value).startswith("kms:"):
            yield f"environmentVariables/{name}: must be kms:BLOB or empty, not the secret"
    kinds = set()
    for trigger in props.get("triggers", []):
        name, kind, config = (trigger[f"trigger{key}"] for key in ("Name", "Type", "Config"))
        kinds.add(kind)
        if kind == "http" and config.get("methods") != ["POST"]:
            yield f"triggers/{name}/methods: must be POST alone"
    if "timer" not in kinds:
        yield "triggers: needs a timer, or an action lasts when a callback is lost"


def _check_front(props: Mapping[str, Any]) -> Iterator[str]:
    """The front function is reached by everybody, so it has nothing to lose."""
    variables = props.get("environmentVariables", {})
    for name in sorted(KEY_VARIABLES & set(variables)):
        yield f"environmentVariables/{name}: the front function holds no keys"
    if props.get("gpuConfig", {}).get("gpuType"):
        yield "gpuConfig: the front function needs no card"
    if not IMAGE.fullmatch(props["customContainerConfig"].get("image", "")):
        yield "customContainerConfig/image: must be in ACR, with a tag other than latest"
    if int(variables.get("VOICEDROP_TOKENS", 0)) > props.get("instanceConcurrency", 1):
        yield "instanceConcurrency: must be at least VOICEDROP_TOKENS"
    uses_jwt = variables.get("VOICEDROP_API_JWT") == "platform"
    for trigger in props.get("triggers", []):
        name, config = trigger["triggerName"], trigger["triggerConfig"]
        if trigger["triggerType"] != "http" or not config.get("disableURLInternet"):
            yield f"triggers/{name}: must be http, behind a domain with a certificate of yours"
        if uses_jwt and config.get("authType") != "jwt":
            yield f"triggers/{name}/authType: must be jwt, or everybody can name any producer"


FRONT_COMMAND = ["python", "-m", "handlers.api"]
KEY_VARIABLES = {
    *("VOICEDROP_KEK", "VOICEDROP_SIGNING_KEY", "VOICEDROP_WATERMARK_KEY", "VOICEDROP_KMS_KEY"),
}
RECEIVER_SECRETS = {"RECEIVER_TOKEN", "RECEIVER_DINGTALK_URL", "RECEIVER_DINGTALK_SECRET"}
FUNCTION_RULES = [
    _check_machine,
    _check_container,
    _check_hooks,
    _check_environment,
    _check_secrets,
    _check_alias,
    _check_cost_limits,
    _check_retries,
    _check_triggers,
]
RULES: Mapping[str, Sequence[Callable[[Mapping[str, Any]], Iterator[str]]]] = {
    "custom-container": FUNCTION_RULES,
    "front": [
        _check_machine,
        _check_environment,
        _check_secrets,
        _check_cost_limits,
        _check_front,
    ],
    "python3.12": [_check_machine, _check_cost_limits, _check_receiver],
    "fc3-domain": [_check_tls, _check_routes],
}
"""Runtime or component -> its rules."""
