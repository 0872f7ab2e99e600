"""A head as a run of MLflow: its settings as parameters, its curves and scores as metrics.

MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say where to, as for any program; without them it is the folder
mlruns in the working directory, and "tencrop". Which run it is, RUN/mlflow.json remembers.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

QUICK = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a server that is gone would hold up training for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
for _name, _value in QUICK.items():  # read when it is imported
    os.environ.setdefault(_name, _value)

from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Metric, Param  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402

from pipeline.files import read_json, write_json  # noqa: E402

KNOWN = "mlflow.json"
LONGEST = 500
"""Characters of a parameter that every store takes."""
STATES = {"finished": "FINISHED", "interrupted": "KILLED"}


class MLflowRun:
    """A tracker. A run that goes on is the same one of MLflow, and has each step once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = os.environ.get("MLFLOW_TRACKING_URI") or Path("mlruns").absolute().as_uri()
        if self.place.startswith("file:"):  # which MLflow wants to be asked for since it prefers databases
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self.client = MlflowClient(tracking_uri=self.place)
        self.id = ""
        self._logged: dict[str, dict[int, float]] = {}

    def start(self, config: Mapping[str, Any]) -> None:
        """Raises: MlflowException when there is no store, OSError."""
        self.id = self._known()
        if self.id:
            self.client.update_run(self.id, status="RUNNING")
            return
        run = self.client.create_run(self._experiment(), run_name=str(self.folder))
        self.id = run.info.run_id
        params = [Param(name, str(value)[:LONGEST]) for name, value in config.items()]
        self.client.log_batch(self.id, params=params)
        write_json(self.folder / KNOWN, {"run_id": self.id, "tracking_uri": self.place})

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Raises: as `start`."""
        now = int(1000 * time.time())
        new = {name: value for name, value in metrics.items() if self._is_new(name, step, value)}
        self.client.log_batch(self.id, metrics=[Metric(n, v, now, step) for n, v in new.items()])

    def end(self, state: str) -> None:
        """Raises: as `start`."""
        self.client.set_terminated(self.id, STATES.get(state, "FAILED"))

    def _known(self) -> str:
        """The run in this store that the head has, and what it was told; nothing if there is none."""
        if not (self.folder / KNOWN).exists():
            return ""
        found = read_json(self.folder / KNOWN)
        if found.get("tracking_uri") != self.place:
            return ""
        run_id = str(found.get("run_id"))
        try:
            names = self.client.get_run(run_id).data.metrics
        except MlflowException:  # it was removed
            return ""
        for name in names:
            self._logged[name] = {one.step: one.value for one in self.client.get_metric_history(run_id, name)}
        return run_id

    def _is_new(self, name: str, step: int, value: float) -> bool:
        """Whether a step isn't known; a test score also counts when it has changed, by another evaluation."""
        there = self._logged.get(name, {}).get(step)
        return there is None or (name.startswith("test_") and there != value)

    def _experiment(self) -> str:
        """The experiment, which another process may make at the same time."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "tencrop")
        if (found := self.client.get_experiment_by_name(name)) is None:
            try:
                return self.client.create_experiment(name)
            except MlflowException:
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        return found.experiment_id
