"""The official SDK of Alibaba Cloud calls the small server of alarm services:

    python -m tests.acceptance.alarms PYTHON

PYTHON has the packages alibabacloud-fc20230330 and alibabacloud-cms20190101. That server verifies
the signatures of the receiver of alarms; that it accepts those of another client shows that it asks
for the right ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support import alarm_services
from tests.support.kms_server import SECRET

PROGRAM = """
import sys
from alibabacloud_cms20190101 import models as cms_models
from alibabacloud_cms20190101.client import Client as Monitor
from alibabacloud_fc20230330 import models
from alibabacloud_fc20230330.client import Client
from alibabacloud_tea_openapi.models import Config

endpoint, secret, function = sys.argv[1:]
config = dict(access_key_id="STS.sdk", security_token="token", endpoint=endpoint, protocol="HTTPS")
client = Client(Config(access_key_secret=secret, **config))
assert client.get_alias(function, "cpu").body.version_id == "4"
alias = models.UpdateAliasInput(version_id="4", description="sdk", additional_version_weight={})
client.update_alias(function, "prod", models.UpdateAliasRequest(body=alias))
assert client.get_alias(function, "prod").body.description == "sdk"
action = models.ScheduledAction(
    name="voicedrop-alarm", start_time="2026-12-01T00:00:00", end_time="2026-12-01T01:00:00",
    schedule_expression="at(2026-12-01T00:00:00)", target=2, time_zone="UTC",
)
minimum = models.PutProvisionConfigInput(
    default_target=0, always_allocate_cpu=False, always_allocate_gpu=False,
    scheduled_actions=[action],
)
request = models.PutProvisionConfigRequest(body=minimum, qualifier="prod")
client.put_provision_config(function, request)
request = models.GetProvisionConfigRequest(qualifier="prod")
found = client.get_provision_config(function, request).body
assert (found.default_target, found.target) == (0, 2), found
assert found.scheduled_actions[0].schedule_expression == "at(2026-12-01T00:00:00)"
monitor = Monitor(Config(access_key_secret=secret, **config))
rules = monitor.describe_metric_rule_list(
    cms_models.DescribeMetricRuleListRequest(rule_name="voicedrop-", alert_state="ALARM")
).body
assert [rule.rule_name for rule in rules.alarms.alarm] == ["voicedrop-gpu"]
try:
    Client(Config(access_key_secret="wrong", **config)).get_alias(function, "cpu")
except Exception as error:
    assert "SignatureDoesNotMatch" in str(error), error
else:
    raise SystemExit("a wrong secret was accepted")
print("the SDK was understood")
"""


def main(python: str) -> int:
    with (
        tempfile.TemporaryDirectory() as folder,
        alarm_services.running(Path(folder)) as services,
    ):
        services.firing = {"voicedrop-gpu"}
        done = subprocess.run(
            [python, "-c", PROGRAM, services.endpoint, SECRET, alarm_services.FUNCTION],
            env=os.environ
            | {"REQUESTS_CA_BUNDLE": services.ca_file, "SSL_CERT_FILE": services.ca_file},
            check=False,
            timeout=120,
        )
        return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
