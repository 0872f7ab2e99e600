"""An extraction that is stopped while processes decode for it, or before they do, leaves none behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

PROGRAM = """
import sys, time
import pipeline.images.pool
from pipeline import cli
from pipeline.extraction import stage, work
from pipeline.config import ExtractConfig

pipeline.images.pool.PROCESS_BYTES = 0
original = {module}.{moment}

def at_the_moment(*arguments):
    print("here", flush=True)
    time.sleep(1)
    return original(*arguments)

{module}.{moment} = at_the_moment
if __name__ == "__main__":
    sys.exit(cli.main(ExtractConfig, "pipeline.extraction.stage:extract"))
"""


@pytest.fixture(
    params=[
        "stage.make",
        *(
            pytest.param(moment, marks=pytest.mark.faults)
            for moment in ("work.trunk_of", "stage.check_parity")
        ),
    ]
)
def program(
    request: pytest.FixtureRequest, photos: Path, weights: Path, tmp_path: Path
) -> Iterator[subprocess.Popen[str]]:
    """An extraction in five processes that has come to this point."""
    script = tmp_path / "program.py"
    module, moment = request.param.split(".")
    script.write_text(PROGRAM.format(module=module, moment=moment))
    flags = {"dataset": f"folder:{photos}", "weights": weights, "cache": tmp_path / "c", "decoders": 5}
    running = subprocess.Popen(
        [sys.executable, str(script), *(word for k, v in flags.items() for word in (f"--{k}", str(v)))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[1:3]))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    assert "here\n" in running.stdout
    yield running
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.communicate(timeout=60)


@pytest.mark.fault("SIGINT, SIGTERM, SIGKILL of an extraction in five processes")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_an_extraction_that_is_stopped(
    stop: signal.Signals, program: subprocess.Popen[str]
) -> None:
    time.sleep(0.2)
    if stop == signal.SIGKILL:
        program.kill()
    else:
        os.killpg(program.pid, stop)  # as from a keyboard: every process of the group gets it
    _, said = program.communicate(timeout=30)  # the pipes are open until the last process is gone
    code = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[stop]
    assert program.returncode == code, said
    assert "Traceback" not in said
