"""A head's curves and settings as event files that TensorBoard shows: RUN/tensorboard.

`tensorboard --logdir artifacts/runs` finds every head below, its scalars and, under HPARAMS, its settings.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import (
    Event,  # pyright: ignore[reportAttributeAccessIssue]
    SessionLog,  # pyright: ignore[reportAttributeAccessIssue]
)
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from pipeline.errors import naming

FOLDER = "tensorboard"
NAME = "events.out.tfevents.{:010}.tencrop"


class Events:
    """A tracker. A run that goes on gets a new file, and the old ones go: TensorBoard reads all there are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self.path = self.folder

    def start(self, config: Mapping[str, Any]) -> None:
        """Raises: OSError naming the file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        old = sorted(self.folder.glob(NAME.replace("{:010}", "*")))
        self.path = self.folder / NAME.format(
            1 + max((int(path.name.split(".")[3]) for path in old), default=0)
        )
        restart = SessionLog(status=SessionLog.START)  # for a TensorBoard that is looking at the old one
        settings = hparams_pb(dict(config), trial_id=str(config.get("run")))
        self._write(
            Event(file_version="brain.Event:2"), Event(step=1, session_log=restart), Event(summary=settings)
        )
        for path in old:
            path.unlink()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Raises: OSError naming the file."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._write(Event(step=step, summary=Summary(value=values)))

    def end(self, state: str) -> None:
        """All is written."""

    def _write(self, *events: Event) -> None:
        with naming(self.path), self.path.open("ab") as file:
            writer = RecordWriter(file)
            for event in events:
                event.wall_time = time.time()
                writer.write(event.SerializeToString())
