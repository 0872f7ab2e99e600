"""Clusters that somebody else started, as docs/scale-out.md says: each of their processes is one here."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.engines import skip_without
from support.killing import COUNTING, count_computed
from support.sharing import config, contents, flags, make_images

from cache import split_path
from pipeline.extraction.stage import extract

ROOT = Path(__file__).parents[2]
IMAGES = 2500
SAME = "run the same command again"

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_images(tmp_path_factory.mktemp("images"), IMAGES)
    (folder / "trunk.py").write_text(COUNTING)
    extract(config(folder, folder / "one"))
    return folder


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def started(*words: str, **environment: str) -> Iterator[None]:
    """A program, from a folder that isn't this project's, which ends when this does."""
    with subprocess.Popen(
        [sys.executable, "-m", *words],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as program:
        try:
            yield
        finally:
            program.terminate()


@pytest.fixture
def command(images: Path, tmp_path: Path) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Starts an extraction by two workers of an engine's cluster, to `tmp_path/c`."""
    with ExitStack() as stack:
        clusters = {"dask": dask_cluster, "ray": ray_cluster}
        environment = dict[str, str]()

        def start(engine: str) -> "subprocess.Popen[str]":
            if not environment:
                environment.update(stack.enter_context(clusters[engine](tmp_path)))
            asked = config(images, tmp_path / "c", workers=2, engine=engine)
            return subprocess.Popen(
                [sys.executable, str(ROOT / "extract_features.py"), *flags(asked)],
                cwd=tmp_path,
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )

        yield start


@contextmanager
def dask_cluster(home: Path) -> Iterator[dict[str, str]]:
    """A scheduler without this project, and three workers with it."""
    address = f"tcp://127.0.0.1:{(port := free_port())}"
    worker = ("dask", "worker", address, "--nthreads", "1", "--nworkers", "3", "--no-dashboard")
    with (
        started("dask", "scheduler", "--port", str(port), "--host", "127.0.0.1", "--no-dashboard"),
        started(*worker, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1"),
    ):
        yield {"DASK_SCHEDULER_ADDRESS": address}


@contextmanager
def ray_cluster(home: Path) -> Iterator[dict[str, str]]:
    """A head that wants a token, as one does that is started after `--engine ray` was used."""
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").write_text(32 * "ab")
    address, own = f"127.0.0.1:{(port := free_port())}", {"HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0"}
    head = ("ray.scripts.scripts", "start", "--head", "--block", "--port", str(port), "--num-cpus", "2")
    small = ("--object-store-memory", str(80 << 20), "--include-dashboard", "false")
    with started(*head, *small, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", **own):
        until = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)) and time.monotonic() < until:
            time.sleep(0.2)
        yield {"RAY_ADDRESS": address, **own}


def end_of(command: "subprocess.Popen[str]") -> tuple[int, str]:
    said = command.communicate(timeout=180)[1]
    return command.returncode, said


def check_equal(images: Path, made: Path) -> None:
    for split in ("train", "test"):
        assert contents(split_path(made, split)) == contents(images / f"one/{split}.h5")


@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_a_cluster_gives_what_one_process_gives(
    engine: str, command: Callable[[str], "subprocess.Popen[str]"], images: Path, tmp_path: Path
) -> None:
    code, said = end_of(command(skip_without(engine)))
    assert code == 0, said
    check_equal(images, tmp_path / "c")


@pytest.mark.fault("Ctrl-C while workers of somebody else's dask cluster are at work")
def test_tasks_of_a_foreign_dask_cluster_go_on_after_an_interrupt(
    command: Callable[[str], "subprocess.Popen[str]"], images: Path, tmp_path: Path
) -> None:
    skip_without("dask")
    count_computed(images)
    (images / "hold").touch()
    first = command("dask")
    until = time.monotonic() + 120
    while not (images / "computed").exists():
        assert time.monotonic() < until
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGINT)
    code, said = end_of(first)
    assert code == 130, said
    assert SAME in said
    assert "Traceback" not in said
    code, said = end_of(command("dask"))
    assert code == 2, said  # the task of before goes on, and holds its file
    assert "Traceback" not in said
    print(said)
    (images / "hold").unlink()
    while code == 2:
        assert time.monotonic() < until
        code, said = end_of(command("dask"))
    assert code == 0, said
    assert count_computed(images) == IMAGES + 40
    check_equal(images, tmp_path / "c")
