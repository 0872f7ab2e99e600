"""What became of a task, as a value: every engine wraps errors in its own way, and values in none."""

import functools
import pickle
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.engines.passport import Passport
from pipeline.errors import UserError


class Outcome(NamedTuple):
    """What a task gave, or raised."""

    value: Any
    error: Exception | None = None

    def result(self) -> Any:
        """What the task gave. Raises: what it raised; where it was no UserError, with the worker's traceback
        as a note."""
        if self.error is not None:
            raise self.error
        return self.value


Task = Callable[[], Outcome]
"""A picklable call that has everything that it needs, and raises nothing."""


def task_of(passport: Passport, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
    """A task that checks the worker, then makes a call."""
    return functools.partial(_outcome, passport, call, args, kwargs)


def _outcome(passport: Passport, call: Callable[..., Any], args: Any, kwargs: Any) -> Outcome:
    try:
        passport.check()
        return Outcome(call(*args, **kwargs))
    except Exception as error:  # noqa: BLE001 - it is raised where the result is asked for
        return Outcome(None, _picklable(error))


def _picklable(error: Exception) -> Exception:
    where = "".join(traceback.format_exception(error))
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - a class of any library, with a constructor of any kind
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    if not isinstance(error, UserError):
        copy.add_note(f"in a worker:\n{where}")
    return copy
