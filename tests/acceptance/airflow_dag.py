"""Carry out the example DAG in the environment of Airflow; `tests.acceptance.recipes` calls it.

    python -P tests/acceptance/airflow_dag.py FOLDER PARAMETERS

FOLDER: that of the DAGs. PARAMETERS: of the run, as JSON. The last line that it prints is a JSON
document: the errors of the import, which tasks follow each task, the state of each after the run,
and what `submit` and `collect` returned. It imports nothing of voicedrop.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import BundleDagBag

DAG = "voicedrop_batch"


def main(folder: str, parameters: dict[str, str]) -> dict[str, Any]:
    bag = BundleDagBag(folder, bundle_path=Path(folder), bundle_name="dags-folder")
    if bag.import_errors or list(bag.dags) != [DAG]:
        return {"errors": bag.import_errors, "dags": list(bag.dags)}
    dag = bag.dags[DAG]
    run = dag.test(run_conf=parameters)
    made = {one.task_id: one for one in run.get_task_instances()}
    return {
        "errors": {},
        "follows": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
        "states": {name: one.state for name, one in made.items()},
        "submitted": made["submit"].xcom_pull("submit"),
        "collected": made["collect"].xcom_pull("collect"),
    }


if __name__ == "__main__":
    document = main(sys.argv[1], json.loads(sys.argv[2]))
    sys.stdout.write("\n" + json.dumps(document) + "\n")
