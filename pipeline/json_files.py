"""JSON on disk: whole files or none, and logs of one line each."""

import json
from pathlib import Path
from typing import Any

from pipeline.errors import RunError, naming
from pipeline.replacing import write_text


def write_json(path: Path, value: Any) -> None:
    """Indented JSON, whole or not at all; what isn't finite becomes null."""
    write_text(path, json.dumps(_finite(value), indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Raises: RunError when the file is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: can't be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value


def append_line(path: Path, line: dict[str, Any]) -> None:
    """One line of JSON, flushed."""
    with naming(path), open(path, "a", encoding="utf-8") as log:
        log.write(json.dumps(_finite(line), allow_nan=False) + "\n")


def keep_lines(path: Path, count: int) -> None:
    """Cut a log to its first lines: those of the epochs before a checkpoint."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    write_text(path, "".join(lines[:count]))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
