"""Break cache/ in one place at a time and see that a test notices.

    python tests/support/mutants.py            all of them, in a copy, some seconds each
    python tests/support/mutants.py 3 17       these alone

Prints a table and exits with 1 if one survives. A mutant is (file, what stands there once, what replaces it,
the tests that are tried first). Not among them are checks in hdf5_checks.py behind which there is another: a
dataset beyond the end of the file is refused by HDF5 as well, a size of zero by the header as well.
"""

# ruff: noqa: E501
# A mutant is a line.

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SLOW = ("test_fuzz.py", "test_cut_off.py")
SECONDS = 900


class Mutant(NamedTuple):
    file: str
    old: str
    new: str
    first: str
    """The test module that should notice."""


MUTANTS = [
    # writer
    Mutant("writer.py", "begun.state.update(begun.image_digests)", "pass", "values"),
    Mutant("writer.py", "(rows.start - whole.start) * self._layout.row_bytes", "0", "pieces"),
    Mutant("journal.py", "disk.write_all(self._fd, digest, self", "disk.write_all(self._fd, b'', self", "resume"),
    Mutant("writer.py", "block_state(block)", "block_state(0)", "resume"),
    Mutant("writer.py", "self._missing.remove(begun.block)", "pass", "writer"),
    Mutant("writer.py", "if self._missing:", "if False:", "writer"),
    Mutant("writer.py", "kept = set(written) - damaged", "kept = set(written)", "resume"),
    Mutant("writer.py", "if not dtype.all_finite(raw):", "if np.isnan(raw).any():", "values"),
    Mutant("writer.py", "np.argmin(dtype.finite(raw))", "np.argmax(dtype.finite(raw))", "values"),
    Mutant("writer.py", "block not in self._missing or begun", "begun", "writer"),
    Mutant("writer.py", "begun.end != rows.start", "False", "pieces"),
    Mutant("writer.py", "begun.end == whole.stop", "True", "pieces"),
    Mutant("writer.py", "digests[rows.start : rows.stop] = 0", "pass", "resume"),
    Mutant("dtypes.py", "raw.view(f\"<i{size}\")", "raw.view(f\"<u{size}\")", "dtypes"),
    Mutant("dtypes.py", "< negative_infinity", "<= negative_infinity", "dtypes"),
    Mutant("dtypes.py", "max(initial=0) < self.exponent", "max(initial=0) <= self.exponent", "dtypes"),
    Mutant("relabelling.py", "notes=old.notes", "notes=new.notes", "relabel"),
    Mutant("writer.py", "refuse_if_stale(str(part.path), there.header, self.header)", "pass", "other_identity"),
    Mutant("writer.py", "if not there.header.labelled_like(self.header):", "if False:", "relabel"),
    Mutant("relabelling.py", "check_blocks(fd, found.layout, found.digests, (~new.written).nonzero()[0].tolist(), str(path))", "pass", "relabel"),
    Mutant("writer.py", 'return header.nbytes if status == "relabel" else 0', "return 0", "relabel"),
    Mutant("writer.py", 'if part and part.header.labelled_like(header) else "relabel"', 'if part else "relabel"', "relabel"),
    Mutant("partial.py", "disk.write_all(self.fd, images_digest(self.fd, layout), ", "disk.write_all(self.fd, b'', ", "format"),
    Mutant("digests.py", "[(extent.offset, extent.nbytes)]", "[(extent.offset, 16)]", "format"),
    # rows by several threads
    Mutant("gather.py", "if len(pieces) > 1 and", "if False and", "gather"),
    Mutant("gather.py", "slice(at, at + step)", "slice(at, at + step - 1)", "gather"),
    Mutant("gather.py", "pieces.clear()", "pass", "gather"),
    Mutant("gather.py", "[outcome.get() for outcome in list(at_work)]", "[]", "gather"),
    Mutant("gather.py", "raise error", "pass", "gather"),
    Mutant("gather.py", "suppress(RuntimeError)", "suppress(TypeError)", "gather"),
    Mutant("gather.py", "after_in_child=_helpers.cache_clear", "after_in_child=int", "gather"),
    # the file that is being written
    Mutant("partial.py", "if part.is_locked is False:", "if False:", "writer"),
    Mutant("partial.py", "if disk.is_file_at(part.fd, path):", "if True:", "rivals"),
    Mutant("partial.py", "disk.allocate(fd, layout.end + TAIL_BYTES)", "os.ftruncate(fd, layout.end + TAIL_BYTES)", "full_disk"),
    Mutant("partial.py", "os.ftruncate(self.fd, layout.end)", "pass", "writer"),
    Mutant("partial.py", "disk.sync(self.fd)", "pass", "faults"),
    Mutant("partial.py", "new_path.unlink(missing_ok=True)", "pass", "faults"),
    Mutant("partial.py", "if block_digest(block, pieces) != digest:", "if False:", "relabel"),
    Mutant("disk.py", "view, offset = view[written:], offset + written", "return", "faults"),
    Mutant("disk.py", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB", "writer"),
    Mutant("disk.py", "self._last is None or self._last.done()", "True", "syncing"),
    Mutant("disk.py", "            self._last.result()", "            pass", "syncing"),
    Mutant("disk.py", "self._thread.shutdown()", "pass", "syncing"),
    Mutant("writer.py", "            self._journal.sync()", "            pass", "syncing"),
    Mutant("writer.py", "                journal.sync()", "                pass", "syncing"),
    Mutant("journal.py", "for block in self._covered + self._since:", "for block in self._since:", "syncing"),
    Mutant("journal.py", "for block in self._covered + self._since:", "for block in self._covered:", "syncing"),
    Mutant("journal.py", "self._covered, self._since = self._since, []", "self._covered, self._since = [], []", "syncing"),
    Mutant("journal.py", "self._covered, self._since = self._since, []", "self._covered = []", "syncing"),
    Mutant("journal.py", "with suppress(OSError), self._striking_out():", "with suppress(OSError):", "syncing"),
    Mutant("disk.py", "if error.errno not in _NO_LOCKS:", "if True:", "locks"),
    Mutant("disk.py", "if error.errno not in _NO_LOCKS:", "if False:", "locks"),
    Mutant("partial.py", "if part.is_locked is False:", "if not part.is_locked:", "locks"),
    Mutant("disk.py", "os.fsync(folder)", "pass", "faults"),
    # reader
    Mutant("reader.py", "blocks = blocks[~self._verified[blocks]]", "blocks = blocks[self._verified[blocks]]", "verify"),
    Mutant("reader.py", "self._verified[blocks] = True", "pass", "verify"),
    Mutant("reader.py", "read_published(fd, str(self.path))  # header", "pass  # header", "verify"),
    Mutant("reader.py", "index = index * views + np", "index = index + np", "reader"),
    Mutant("reader.py", "or index.max() >= len(self)", "or index.max() > len(self)", "reader"),
    Mutant("held.py", "if _id(fd) != self._id:", "if False:", "one_file"),
    Mutant("held.py", "if _id(self._fd) != self._id:", "if False:", "one_file"),
    Mutant("held.py", "weakref.finalize(self, os.close, self._fd)", "pass", "one_file"),
    Mutant("held.py", ", found.st_mtime_ns", ", 0", "one_file"),
    Mutant("held.py", "if fingerprint not in (None, self.contents.fingerprint):", "if False:", "one_file"),
    Mutant("contents.py", "self.header_digests + self.digests.tobytes()", "self.header_digests", "one_file"),
    Mutant("contents.py", "self.header_digests + self.digests.tobytes()", "self.digests.tobytes()", "one_file"),
    Mutant("reader.py", "mmap.MAP_PRIVATE", "mmap.MAP_SHARED", "reader"),
    Mutant("contents.py", "if header_digest(layout, parts) != known[:DIGEST_BYTES]:", "if False:", "verify"),
    Mutant("contents.py", "if found != contents.images:", "if False:", "verify"),
    Mutant("contents.py", "if size != end:", "if size < end:", "hostile_bytes"),
    Mutant("contents.py", "if not contents.written.all():", "if not contents.written.any():", "reader_refusals"),
    Mutant("contents.py", "canonical(value) != provenance", "False", "hostile_header"),
    Mutant("hdf5_checks.py", "if extents[before].end > extents[after].offset:", "if False:", "hostile"),
    Mutant("hdf5_checks.py", "(rows, shapes[CLASSES][0])", "shapes[LABELS]", "hostile"),
    Mutant("hdf5_checks.py", "(rows,) if is_single_label else", "(rows,) if len(shapes[LABELS]) == 1 else", "hostile"),
    Mutant("digests.py", "{_listed(layout[name].shape)}", "{layout[name].shape[0]}", "multi_label"),
    Mutant("hdf5_checks.py", "if creation.get_external_count():", "if False:", "hostile"),
    Mutant("hdf5_checks.py", "if by_offset[-1] != FEATURES:", "if False:", "hostile_bytes"),
    Mutant("digests.py", "xxhash.xxh3_128(seed=block)", "xxhash.xxh3_128(seed=0)", "verify"),
    Mutant("digests.py", "(IMAGE_DIGESTS, layout[IMAGE_DIGESTS].shape[1])", "(IMAGE_DIGESTS, 0)", "verify"),
    # fingerprint and what goes into it
    Mutant("identity.py", "sort_keys=True", "sort_keys=False", "fingerprint"),
    Mutant("identity.py", 'separators=(",", ":")', 'separators=(", ", ": ")', "fingerprint"),
    Mutant("header.py", '"dtype": self.dtype', '"type": "x"', "fingerprint"),
    Mutant("header.py", '"shape": list(self.shape)', '"shape": list(self.shape)[1:]', "fingerprint"),
    Mutant("header.py", "Paths.of(self.paths).sha256", "Paths(sorted(self.paths)).sha256", "fingerprint"),
    Mutant("identity.py", "old.keys() | new.keys()", "old.keys() & new.keys()", "fingerprint"),
    Mutant("identity.py", "min(len(old), len(new)))", "0)", "other_identity"),
    Mutant("identity.py", "if type(k) is not str:", "if False:", "fingerprint"),
    Mutant("identity.py", "not math.isfinite(value)", "value != value", "fingerprint"),
    Mutant("header.py", "if found.key == wanted.key:", "if found.full_identity.keys() == wanted.full_identity.keys():", "other_identity"),
    Mutant("header.py", "given.max() >= classes", "given.max() > classes", "header"),
    Mutant("header.py", "given.min() < -1 or given.max() > 1", "given.min() < -1 or given.max() > 2", "header"),
    Mutant("header.py", "given.min() < -1 or given.max() > 1", "abs(given).max() > 1 or given.min() < 0", "header"),
    Mutant("header.py", "given.shape != (images, len(classes))", "len(given) != images", "header"),
    Mutant("header.py", "_check_multi_label(given, images, classes)", "_check_multi_label(given.astype(np.int8) if given.dtype.kind in 'iu' else given, images, classes)", "header"),
    Mutant("header.py", "np.array_equal(self.labels, other.labels)", "True", "relabel"),
]  # fmt: skip


def is_noticed(tree: Path, first: str) -> str:
    """The test that fails, or nothing; the likeliest module is tried alone before the others."""
    tests = tree / "tests" / "cache"
    likely = tests / f"test_{first}.py"
    others = sorted(p for p in tests.glob("test_*.py") if p.name not in SLOW and p != likely)
    for modules in ([likely], others):
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-rf", "-p", "no:cacheprovider"]
        try:
            done = subprocess.run(
                [*command, *map(str, modules)],
                cwd=tree,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return ""  # perhaps the machine is busy: try this one alone
        if done.returncode in (1, 2):  # a test failed, or couldn't be imported
            failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
            return failed[0].split("::")[-1].split(" - ")[0] if failed else f"exit code {done.returncode}"
    return ""


def copy_tree(folder: Path) -> Path:
    """cache/ and its tests alone, so that no run imports torch."""
    for name in ("cache", "tests/cache", "tests/support"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml",):
        shutil.copy(ROOT / name, folder / name)
    hooks = "pytest_runtest_makereport, pytest_terminal_summary, tally"
    quietly = "hypothesis.settings.register_profile('here', deadline=None, database=None)"
    (folder / "tests" / "conftest.py").write_text(
        f"import hypothesis\nfrom support.tally import {hooks}\n{quietly}\nhypothesis.settings.load_profile('here')\n"
    )
    return folder


def main(numbers: list[int]) -> int:
    survivors = 0
    with tempfile.TemporaryDirectory() as name:
        tree = copy_tree(Path(name))
        for number in numbers or range(len(MUTANTS)):
            file, old, new, first = MUTANTS[number]
            path = tree / "cache" / file
            good = path.read_text()
            assert good.count(old) == 1, f"{file}: {old!r} stands there {good.count(old)} times"
            path.write_text(good.replace(old, new))
            start = time.perf_counter()
            killer = is_noticed(tree, first)
            path.write_text(good)
            survivors += not killer
            seconds = time.perf_counter() - start
            outcome = f"killed by {killer}" if killer else "SURVIVED"
            print(f"{number:3}  {file}: {old} → {new}: {outcome} ({seconds:.0f} s)", flush=True)
    print(f"{len(numbers or MUTANTS) - survivors} killed, {survivors} survived")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main([int(word) for word in sys.argv[1:]]))
