"""How much memory is free, as the system's files and limits say."""

import contextlib
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.backends import cudnn

from pipeline import device
from pipeline.device import float32_products, free_bytes, products, threads_for

GB = 1 << 30
CPU = torch.device("cpu")


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GB free. Its control groups are to be added."""
    monkeypatch.setattr(device, "PROC", tmp_path / "proc")
    monkeypatch.setattr(device, "CGROUPS", tmp_path / "cgroup")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {8 << 20} kB\nHugePages_Free: 0\n")
    (tmp_path / "proc/self/statm").write_text("1000 1 1 1 0 1 0\n")
    return tmp_path


def group(folder: Path, version: int, limit: str, used: int, idle: int = 0) -> None:
    """A control group's three files."""
    names = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")}
    limit_file, used_file, field = names.get(version, ("memory.max", "memory.current", "inactive_file"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / limit_file).write_text(f"{limit}\n")
    (folder / used_file).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{field} {idle}\nunevictable 0\n")


def test_without_limits_all_that_the_machine_has_available_is_free(system: Path) -> None:
    assert free_bytes(CPU) == 8 * GB


@pytest.mark.parametrize(("version", "said"), [(1, "4:memory:/job/step\n0::/\n"), (2, "0::/job/step\n")])
@pytest.mark.parametrize("limited", ["job/step", "job", ""])
def test_the_limit_of_a_control_group_or_of_one_around_it_counts(
    system: Path, version: int, said: str, limited: str
) -> None:
    (system / "proc/self/cgroup").write_text(said)
    root = system / "cgroup" / ("memory" if version == 1 else "")
    none = str(9223372036854771712) if version == 1 else "max"
    for place in ("job/step", "job", ""):
        group(root / place, version, none, 5 * GB)
    group(root / limited, version, str(4 * GB), 3 * GB, idle=GB // 2)
    assert free_bytes(CPU) == GB + GB // 2
    group(root / limited, version, str(4 * GB), 5 * GB)  # a limit lowered below what is taken
    assert free_bytes(CPU) == 0


def test_a_container_that_sees_its_own_group_as_the_outermost_finds_its_limit(system: Path) -> None:
    (system / "proc/self/cgroup").write_text("9:memory:/docker/0123abcd\n8:cpu,cpuacct:/docker/0123abcd\n")
    group(system / "cgroup/memory", 1, str(2 * GB), GB)
    assert free_bytes(CPU) == GB


@pytest.mark.parametrize("said", ["", "0::/\n", "0::/gone\n", "1:name=systemd:/x\n"])
def test_groups_that_cannot_be_looked_at_limit_nothing(system: Path, said: str) -> None:
    (system / "proc/self/cgroup").write_text(said)
    assert free_bytes(CPU) == 8 * GB


def test_the_address_space_that_is_left_counts(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (GB, GB))
    assert free_bytes(CPU) == GB - 1000 * resource.getpagesize()


def precisions() -> tuple[str, bool, bool]:
    return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.deterministic


def test_training_leaves_a_gpu_s_precision_as_it_found_it() -> None:
    """So that what is scored in the same process is computed exactly; also after an error."""
    before, within = precisions(), []
    for tf32 in (True, False):
        with contextlib.suppress(KeyError), float32_products(torch.device("cuda"), tf32=tf32):
            within.append(precisions())
            raise KeyError
    assert within == [("high", True, False), ("highest", False, True)]
    assert precisions() == before


@pytest.mark.parametrize(("image_px", "count"), [(32, 1), (224, 3)])
def test_small_images_take_one_thread_and_the_others_are_there_afterwards(image_px: int, count: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with contextlib.suppress(RuntimeError), threads_for(image_px):
            assert torch.get_num_threads() == count
            raise RuntimeError("the image is too small for the trunk")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("place", "capability"), [("cpu", (8, 0)), ("cuda", (7, 5)), ("cuda", (9, 0))])
def test_products_have_the_name_of_what_they_are_computed_in(
    place: str, capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    for tf32 in (True, False):
        kinds = ("float32", "bfloat16", "float64")
        named = [products(precision, torch.device(place), tf32=tf32) for precision in kinds]
        assert named == ["TF32" if tf32 and capability == (9, 0) else "float32", "bfloat16", "float64"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="statm is Linux's")
def test_no_more_is_called_free_than_can_be_had_under_ulimit() -> None:
    """In a process with a limit of 8 GB of addresses: all but 64 MB of what is free can be taken."""
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "import mmap, torch; from pipeline.device import free_bytes\n"
        "free = free_bytes(torch.device('cpu')); assert free < 8 << 30, free\n"
        "mmap.mmap(-1, free - (64 << 20)).close()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_that_is_freed_is_kept_for_what_comes_next() -> None:
    """In a process of its own: tensors made and freed again and again touch new pages once only."""
    program = (
        "import ctypes, resource; ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)\n"  # no huge pages, which are few
        "import torch; from pipeline.device import keep_freed_memory\n"
        "def pages():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for mb in range(40, 50): torch.ones(mb << 20, dtype=torch.uint8)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "was = pages(); keep_freed_memory(); pages(); print(was, pages(), resource.getpagesize())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    was, then, size = map(int, done.stdout.split())
    one = (40 << 20) // size
    assert was > 9 * one  # else there would be nothing to win
    assert then < one / 10
