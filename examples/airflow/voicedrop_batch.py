"""Have a table of texts spoken: submit -> wait -> collect.

Put this file and voicedrop_producer.py into the folder of the DAGs, and install
apache-airflow-providers-alibaba. The connection `oss_default` is of the type `oss`; its extra is

    {"auth_type": "AK", "access_key_id": "...", "access_key_secret": "...", "region": "cn-hangzhou"}

and, for another address than the public one, `"endpoint"`. The key is that of a RAM user with the
policies producer.json and consumer.json (docs/deploy.md). VOICEDROP_INBOX_BUCKET,
VOICEDROP_RESULTS_BUCKET and VOICEDROP_OSS_REGION name the buckets and their region.

`submit` may be repeated: the same files are the same job. If items failed, `collect` fails without
a retry and names them; correct them and start a run with the parameter `retry_of`.
"""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import voicedrop_producer as producer
from airflow.providers.alibaba.cloud.hooks.oss import OSSHook
from airflow.providers.alibaba.cloud.sensors.oss_key import OSSKeySensor
from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException

INBOX = os.environ.get("VOICEDROP_INBOX_BUCKET", "voicedrop-inbox")
RESULTS = os.environ.get("VOICEDROP_RESULTS_BUCKET", "voicedrop-results")
REGION = os.environ.get("VOICEDROP_OSS_REGION", "cn-hangzhou")
NAMED_FAILURES = 20

log = logging.getLogger(__name__)


@dag(
    schedule=None,
    tags=["voicedrop"],
    doc_md=__doc__,
    params={
        "name": Param("nightly/texts", type="string", description="of the batch"),
        "texts": Param("/data/texts.csv", type="string", description="with columns id and text"),
        "recording": Param("/data/reader.flac", type="string"),
        "consent": Param("/data/reader.json", type="string", description="consent record"),
        "language": Param("en", type="string", description="of the recording"),
        "public_key": Param("/data/sign-001.pub.pem", type="string"),
        "retry_of": Param("", type="string", description="job whose successful items are kept"),
    },
)
def voicedrop_batch() -> None:
    @task(retries=3, retry_delay=timedelta(minutes=1))
    def submit(params: dict[str, Any] | None = None) -> dict[str, str]:
        """Upload the recording, the consent record and, last, the manifest."""
        given = params or {}
        voice, files = producer.describe_voice(
            Path(given["recording"]), Path(given["consent"]), given["language"]
        )
        batch = producer.make_batch(
            producer.read_items(Path(given["texts"])),
            bucket=INBOX,
            name=given["name"],
            voice=voice,
            retry_of=given["retry_of"],
        )
        oss = OSSHook(region=REGION)
        for key, path in files.items():
            oss.upload_local_file(bucket_name=INBOX, key=key, file=str(path))
        oss.load_string(bucket_name=INBOX, key=batch.key, content=batch.data.decode())
        return {"job": batch.job, "result_key": producer.result_key(batch.job)}

    @task(retries=3, retry_delay=timedelta(minutes=1))
    def collect(job: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Verify the result and return its totals. Raises AirflowFailException if items failed."""
        oss = OSSHook(region=REGION)

        def get(key: str) -> bytes:
            return oss.read_key(bucket_name=RESULTS, key=key).encode()

        keys = producer.read_public_keys([Path((params or {})["public_key"]).read_bytes()])
        key = producer.result_key(job)
        result = producer.read_result(job, get(key), keys)
        made = [{"id": "the job", **result}, *producer.finished_items(result, get)]
        failed = [one for one in made if one["error"]]
        for one in failed[:NAMED_FAILURES]:
            log.error("%s: %s", one["id"], producer.explain(one["error"]))
        if result["status"] != "succeeded":
            message = f"{result['status']}, {len(failed)} errors. To retry: retry_of={job}"
            raise AirflowFailException(message)
        return {"job": job, "result_key": key, **result["totals"]}

    submitted = submit()
    waiting = OSSKeySensor(
        task_id="wait",
        bucket_name=RESULTS,
        bucket_key=submitted["result_key"],
        region=REGION,
        mode="reschedule",  # takes no slot of a worker between two looks
        poke_interval=30,
        timeout=timedelta(hours=6).total_seconds(),
    )
    waiting >> collect(submitted["job"])


voicedrop_batch()
