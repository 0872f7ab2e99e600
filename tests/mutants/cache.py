"""Mutants of cache/, and the test module that should notice each first.

Not among them are checks in hdf5_checks.py behind which there is another: a dataset beyond the end of the file
is refused by HDF5 as well, a size of zero by the header as well.
"""

# ruff: noqa: E501
# A mutant is a line.

import shutil
from pathlib import Path

from mutants.mutant import Mutant

SLOW = ("test_fuzz.py", "test_cut_off.py")

MUTANTS = [
    # writer
    Mutant("cache/writer.py", "begun.state.update(begun.image_digests)", "pass", "tests/cache/test_values.py"),
    Mutant("cache/writer.py", "(rows.start - whole.start) * self._layout.row_bytes", "0", "tests/cache/test_pieces.py"),
    Mutant("cache/journal.py", "disk.write_all(self._fd, digest, self", "disk.write_all(self._fd, b'', self", "tests/cache/test_resume.py"),
    Mutant("cache/writer.py", "block_state(block)", "block_state(0)", "tests/cache/test_resume.py"),
    Mutant("cache/writer.py", "self._missing.remove(begun.block)", "pass", "tests/cache/test_writer.py"),
    Mutant("cache/writer.py", "if self._missing:", "if False:", "tests/cache/test_writer.py"),
    Mutant("cache/writer.py", "kept = set(written) - damaged", "kept = set(written)", "tests/cache/test_resume.py"),
    Mutant("cache/encoding.py", "if not dtype.all_finite(raw):", "if np.isnan(raw).any():", "tests/cache/test_values.py"),
    Mutant("cache/encoding.py", "np.argmin(dtype.finite(raw))", "np.argmax(dtype.finite(raw))", "tests/cache/test_values.py"),
    Mutant("cache/writer.py", "block not in self._missing or begun", "begun", "tests/cache/test_writer.py"),
    Mutant("cache/writer.py", "begun.end != rows.start", "False", "tests/cache/test_pieces.py"),
    Mutant("cache/writer.py", "begun.end == whole.stop", "True", "tests/cache/test_pieces.py"),
    Mutant("cache/writer.py", "digests[rows.start : rows.stop] = 0", "pass", "tests/cache/test_resume.py"),
    Mutant("cache/dtypes.py", "raw.view(f\"<i{size}\")", "raw.view(f\"<u{size}\")", "tests/cache/test_dtypes.py"),
    Mutant("cache/dtypes.py", "< negative_infinity", "<= negative_infinity", "tests/cache/test_dtypes.py"),
    Mutant("cache/dtypes.py", "max(initial=0) < self.exponent", "max(initial=0) <= self.exponent", "tests/cache/test_dtypes.py"),
    Mutant("cache/relabelling.py", "notes=old.notes", "notes=new.notes", "tests/cache/test_relabel.py"),
    Mutant("cache/writer.py", "refuse_if_stale(str(part.path), there.header, self.header)", "pass", "tests/cache/test_other_identity.py"),
    Mutant("cache/writer.py", "if not there.header.labelled_like(self.header):", "if False:", "tests/cache/test_relabel.py"),
    Mutant("cache/relabelling.py", "check_blocks(fd, found.layout, found.digests, (~new.written).nonzero()[0].tolist(), str(path))", "pass", "tests/cache/test_relabel.py"),
    Mutant("cache/writer.py", 'return header.nbytes if status == "relabel" else 0', "return 0", "tests/cache/test_relabel.py"),
    Mutant("cache/writer.py", 'if part and part.header.labelled_like(header) else "relabel"', 'if part else "relabel"', "tests/cache/test_relabel.py"),
    Mutant("cache/partial.py", "disk.write_all(self.fd, images_digest(self.fd, layout), ", "disk.write_all(self.fd, b'', ", "tests/cache/test_format.py"),
    Mutant("cache/digests.py", "[(extent.offset, extent.nbytes)]", "[(extent.offset, 16)]", "tests/cache/test_format.py"),
    # rows by several threads
    Mutant("cache/gather.py", "if len(pieces) > 1 and", "if False and", "tests/cache/test_gather.py"),
    Mutant("cache/gather.py", "slice(at, at + step)", "slice(at, at + step - 1)", "tests/cache/test_gather.py"),
    Mutant("cache/gather.py", "pieces.clear()", "pass", "tests/cache/test_gather.py"),
    Mutant("cache/gather.py", "[outcome.get() for outcome in list(at_work)]", "[]", "tests/cache/test_gather.py"),
    Mutant("cache/gather.py", "raise error", "pass", "tests/cache/test_gather.py"),
    Mutant("cache/gather.py", "suppress(RuntimeError)", "suppress(TypeError)", "tests/cache/test_gather.py"),
    Mutant("cache/gather.py", "after_in_child=_helpers.cache_clear", "after_in_child=int", "tests/cache/test_gather.py"),
    # the file that is being written
    Mutant("cache/partial.py", "if part.is_locked is False:", "if False:", "tests/cache/test_writer.py"),
    Mutant("cache/partial.py", "if disk.is_file_at(part.fd, path):", "if True:", "tests/cache/test_rivals.py"),
    Mutant("cache/partial.py", "disk.allocate(fd, layout.end + TAIL_BYTES)", "os.ftruncate(fd, layout.end + TAIL_BYTES)", "tests/cache/test_full_disk.py"),
    Mutant("cache/partial.py", "os.ftruncate(self.fd, layout.end)", "pass", "tests/cache/test_writer.py"),
    Mutant("cache/partial.py", "disk.sync(self.fd)", "pass", "tests/cache/test_faults.py"),
    Mutant("cache/partial.py", "new_path.unlink(missing_ok=True)", "pass", "tests/cache/test_faults.py"),
    Mutant("cache/partial.py", "if block_digest(block, pieces) != digest:", "if False:", "tests/cache/test_relabel.py"),
    Mutant("cache/disk.py", "view, offset = view[written:], offset + written", "return", "tests/cache/test_faults.py"),
    Mutant("cache/disk.py", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB", "tests/cache/test_writer.py"),
    Mutant("cache/disk.py", "self._last is None or self._last.done()", "True", "tests/cache/test_syncing.py"),
    Mutant("cache/disk.py", "            self._last.result()", "            pass", "tests/cache/test_syncing.py"),
    Mutant("cache/disk.py", "self._thread.shutdown()", "pass", "tests/cache/test_syncing.py"),
    Mutant("cache/writer.py", "            self._journal.sync()", "            pass", "tests/cache/test_syncing.py"),
    Mutant("cache/writer.py", "                journal.sync()", "                pass", "tests/cache/test_syncing.py"),
    Mutant("cache/journal.py", "for block in self._covered + self._since:", "for block in self._since:", "tests/cache/test_syncing.py"),
    Mutant("cache/journal.py", "for block in self._covered + self._since:", "for block in self._covered:", "tests/cache/test_syncing.py"),
    Mutant("cache/journal.py", "self._covered, self._since = self._since, []", "self._covered, self._since = [], []", "tests/cache/test_syncing.py"),
    Mutant("cache/journal.py", "self._covered, self._since = self._since, []", "self._covered = []", "tests/cache/test_syncing.py"),
    Mutant("cache/journal.py", "with suppress(OSError), self._striking_out():", "with suppress(OSError):", "tests/cache/test_syncing.py"),
    Mutant("cache/disk.py", "if error.errno not in _NO_LOCKS:", "if True:", "tests/cache/test_locks.py"),
    Mutant("cache/disk.py", "if error.errno not in _NO_LOCKS:", "if False:", "tests/cache/test_locks.py"),
    Mutant("cache/partial.py", "if part.is_locked is False:", "if not part.is_locked:", "tests/cache/test_locks.py"),
    Mutant("cache/disk.py", "os.fsync(folder)", "pass", "tests/cache/test_faults.py"),
    # reader
    Mutant("cache/reader.py", "blocks = blocks[~self._verified[blocks]]", "blocks = blocks[self._verified[blocks]]", "tests/cache/test_verify.py"),
    Mutant("cache/reader.py", "self._verified[blocks] = True", "pass", "tests/cache/test_verify.py"),
    Mutant("cache/one_file.py", "read_published(fd, str(self.file.path))", "pass", "tests/cache/test_verify.py"),
    Mutant("cache/rows.py", "index = index * views + np", "index = index + np", "tests/cache/test_reader.py"),
    Mutant("cache/rows.py", "or index.max() >= count", "or index.max() > count", "tests/cache/test_reader.py"),
    Mutant("cache/held.py", "if _id(fd) != self._id:", "if False:", "tests/cache/test_one_file.py"),
    Mutant("cache/held.py", "if _id(self._fd) != self._id:", "if False:", "tests/cache/test_one_file.py"),
    Mutant("cache/held.py", "weakref.finalize(self, os.close, self._fd)", "pass", "tests/cache/test_one_file.py"),
    Mutant("cache/held.py", ", found.st_mtime_ns", ", 0", "tests/cache/test_one_file.py"),
    Mutant("cache/held.py", "if fingerprint not in (None, self.contents.fingerprint):", "if False:", "tests/cache/test_one_file.py"),
    Mutant("cache/contents.py", "self.header_digests + self.digests.tobytes()", "self.header_digests", "tests/cache/test_one_file.py"),
    Mutant("cache/contents.py", "self.header_digests + self.digests.tobytes()", "self.digests.tobytes()", "tests/cache/test_one_file.py"),
    Mutant("cache/one_file.py", "mmap.MAP_PRIVATE", "mmap.MAP_SHARED", "tests/cache/test_reader.py"),
    Mutant("cache/contents.py", "if header_digest(layout, parts) != known[:DIGEST_BYTES]:", "if False:", "tests/cache/test_verify.py"),
    Mutant("cache/contents.py", "if found != contents.images:", "if False:", "tests/cache/test_verify.py"),
    Mutant("cache/contents.py", "if size != end:", "if size < end:", "tests/cache/test_hostile_bytes.py"),
    Mutant("cache/contents.py", "if not contents.written.all():", "if not contents.written.any():", "tests/cache/test_reader_refusals.py"),
    Mutant("cache/contents.py", "canonical(value) != provenance", "False", "tests/cache/test_hostile_header.py"),
    Mutant("cache/hdf5_checks.py", "if extents[before].end > extents[after].offset:", "if False:", "tests/cache/test_hostile.py"),
    Mutant("cache/hdf5_checks.py", "(rows, shapes[CLASSES][0])", "shapes[LABELS]", "tests/cache/test_hostile.py"),
    Mutant("cache/hdf5_checks.py", "(rows,) if is_single_label else", "(rows,) if len(shapes[LABELS]) == 1 else", "tests/cache/test_hostile.py"),
    Mutant("cache/digests.py", "{_listed(layout[name].shape)}", "{layout[name].shape[0]}", "tests/cache/test_multi_label.py"),
    Mutant("cache/hdf5_checks.py", "if creation.get_external_count():", "if False:", "tests/cache/test_hostile.py"),
    Mutant("cache/hdf5_checks.py", "if by_offset[-1] != FEATURES:", "if False:", "tests/cache/test_hostile_bytes.py"),
    Mutant("cache/digests.py", "xxhash.xxh3_128(seed=block)", "xxhash.xxh3_128(seed=0)", "tests/cache/test_verify.py"),
    Mutant("cache/digests.py", "(IMAGE_DIGESTS, layout[IMAGE_DIGESTS].shape[1])", "(IMAGE_DIGESTS, 0)", "tests/cache/test_verify.py"),
    # fingerprint and what goes into it
    Mutant("cache/identity.py", "sort_keys=True", "sort_keys=False", "tests/cache/test_fingerprint.py"),
    Mutant("cache/identity.py", 'separators=(",", ":")', 'separators=(", ", ": ")', "tests/cache/test_fingerprint.py"),
    Mutant("cache/header.py", " | stored_as(self.dtype, self.scales)", "", "tests/cache/test_fingerprint.py"),
    Mutant("cache/header.py", '"shape": list(self.shape)', '"shape": list(self.shape)[1:]', "tests/cache/test_fingerprint.py"),
    Mutant("cache/header.py", "Paths.of(self.paths).sha256", "Paths(sorted(self.paths)).sha256", "tests/cache/test_fingerprint.py"),
    Mutant("cache/identity.py", "old.keys() | new.keys()", "old.keys() & new.keys()", "tests/cache/test_fingerprint.py"),
    Mutant("cache/identity.py", "min(len(old), len(new)))", "0)", "tests/cache/test_other_identity.py"),
    Mutant("cache/identity.py", "if type(k) is not str:", "if False:", "tests/cache/test_fingerprint.py"),
    Mutant("cache/identity.py", "not math.isfinite(value)", "value != value", "tests/cache/test_fingerprint.py"),
    Mutant("cache/header.py", "if found.key == wanted.key:", "if found.full_identity.keys() == wanted.full_identity.keys():", "tests/cache/test_other_identity.py"),
    Mutant("cache/header.py", "given.max() >= classes", "given.max() > classes", "tests/cache/test_header.py"),
    Mutant("cache/header.py", "given.min() < -1 or given.max() > 1", "given.min() < -1 or given.max() > 2", "tests/cache/test_header.py"),
    Mutant("cache/header.py", "given.min() < -1 or given.max() > 1", "abs(given).max() > 1 or given.min() < 0", "tests/cache/test_header.py"),
    Mutant("cache/header.py", "given.shape != (images, len(classes))", "len(given) != images", "tests/cache/test_header.py"),
    Mutant("cache/header.py", "_check_multi_label(given, images, classes)", "_check_multi_label(given.astype(np.int8) if given.dtype.kind in 'iu' else given, images, classes)", "tests/cache/test_header.py"),
    Mutant("cache/header.py", "np.array_equal(self.labels, other.labels)", "True", "tests/cache/test_relabel.py"),
]  # fmt: skip


def copy_tree(root: Path, tree: Path) -> list[str]:
    """Copy cache/ and its tests alone, so that no run imports torch; gives the tests that are quick."""
    for name in ("cache", "tests/cache", "tests/support"):
        shutil.copytree(root / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "pyproject.toml", tree)
    hooks = "pytest_runtest_makereport, pytest_terminal_summary, tally"
    quietly = "hypothesis.settings.register_profile('here', deadline=None, database=None)"
    (tree / "tests" / "conftest.py").write_text(
        f"import hypothesis\nfrom support.tally import {hooks}\n{quietly}\nhypothesis.settings.load_profile('here')\n"
    )
    return sorted(f"tests/cache/{p.name}" for p in tree.glob("tests/cache/test_*.py") if p.name not in SLOW)
