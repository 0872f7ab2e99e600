"""How far tasks in other processes have come, told through a pipe and shown as one."""

from collections.abc import Iterable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Self

from pipeline.progress import Progress, report_to


class Reports:
    """A context manager that shows the progress of named tasks, each of which is a `Progress` of that name in
    another process. Give `sender` to the processes as they start, and let them call `send_to` with it.
    """

    def __init__(self, what: str, tasks: Iterable[str], unit: str) -> None:
        self.what, self._shares = what, dict.fromkeys(tasks, 0.0)
        self._progress = Progress(what, len(self._shares), unit)
        self._reader, self.sender = Pipe(duplex=False)

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(self, *stop: object) -> None:
        self._progress.__exit__(*stop)
        self._reader.close()
        self.sender.close()

    def read(self, ended: Iterable[str] = ()) -> None:
        """Show what was reported since the last call. Tasks that have ended count as done."""
        while self._reader.poll():
            task, share = self._reader.recv()
            if task in self._shares:  # of a task's other work, such as reading, nothing is counted
                self._shares[task] = share
        self._shares |= dict.fromkeys(ended, 1.0)
        under_way = [f"{task} {share:.0%}" for task, share in self._shares.items() if 0 < share < 1]
        self._progress.note(", ".join(task.removeprefix(f"{self.what} ") for task in under_way))
        self._progress.advance(sum(self._shares.values()) - self._progress.done)


def send_to(sender: Connection) -> None:
    """Show no progress in this process; send it."""

    def send(task: str, share: float) -> None:
        with suppress(OSError):  # nobody reads any more
            sender.send((task, share))  # short enough to go in one piece, whoever else writes to the pipe

    report_to(send)
