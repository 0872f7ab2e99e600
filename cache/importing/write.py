"""A source of features → a cache, a piece at a time, to be continued after an interruption as any other."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from xxhash import xxh3_128_digest

from cache.dtypes import Values
from cache.errors import CacheError
from cache.header import CacheHeader
from cache.importing.labels import encoded
from cache.importing.source import Source
from cache.paths import Paths
from cache.relabelling import relabel
from cache.scales import Scales, fit_scales, sample_rows
from cache.writer import CacheWriter

PIECE_BYTES = 32 << 20
UNSAID = "not said"


def write(
    source: Source,
    path: Path,
    *,
    split: str,
    made_by: str | None = None,
    dtype: str | None = None,
    watch: Callable[[float], object] = lambda share: None,
) -> str:
    """Make the cache `path` of a source, or relabel the one that is there; gives a line about it.

    Args:
        split: train or test.
        made_by: what made the features, in words; training and test maps have to agree in it.
        dtype: how numbers are stored; None: as they are, 64 bits as float32.
        watch: told now and then which share is written.

    Raises: CacheError when labels and features don't fit, or a number isn't finite; StaleCacheError.
    """
    header = header_of(source, split, made_by or UNSAID, dtype)
    status = CacheWriter.status(path, header)
    if status == "relabel":
        relabel(path, header)
    elif status != "complete":
        with CacheWriter(path, header) as writer:
            for rows in writer.missing:
                _write_block(source, writer, rows)
                watch(rows.stop / header.shape[0])
            writer.publish()
    images, views, *sizes = header.shape
    what = {"complete": ", there already", "relabel": ", relabelled"}.get(status, "")
    said = f"made by {made_by}, by somebody's word" if made_by else "what made them is not said (--made-by)"
    return (
        f"{path}: {images:,} rows × {views} view{'s' * (views > 1)} of {'×'.join(map(str, sizes))} "
        f"{header.dtype}, {len(header.classes)} classes{what}; imported: {said}"
    )


def header_of(source: Source, split: str, made_by: str, dtype: str | None) -> CacheHeader:
    """The header of a source's cache. Raises: CacheError."""
    if source.labels is None:
        raise CacheError(
            f"{source.name}: has no labels; name a .npy or CSV file by --labels, or the key by --labels-key"
        )
    images, views, *_ = source.shape
    labels, classes = encoded(source.labels, source.classes, images, source.name)
    if not 0 <= source.val_rows < images:
        raise CacheError(
            f"{source.name}: expected fewer validation rows than {images:,}, found {source.val_rows:,}"
        )
    width = len(str(images - 1))
    stored = dtype or ("float32" if source.dtype == "float64" else source.dtype)
    return CacheHeader(
        shape=source.shape,
        dtype=stored,
        scales=_scales(source) if stored == "int8" else None,
        labels=labels,
        classes=classes,
        paths=source.paths or Paths(f"{split}/{row:0{width}}" for row in range(images)),
        identity={
            "split": split,
            "imported": {"made_by": made_by},
            "source": {"sha256": digest_of(source.files), "dtype": source.dtype},
            **({"views": f"augment:{views - 1}"} if views > 1 else {}),
            **({"val_rows": source.val_rows} if source.val_rows else {}),
        },
        notes={"provenance": "imported: what made the features is somebody's word", "source": source.name},
    )


def _scales(source: Source) -> Scales:
    """Scales of a sample spread evenly over the rows. Raises: CacheError."""

    def read(row: int) -> Values:
        values = source.read(range(row, row + 1))
        _refuse_infinite(source.name, range(row, row + 1), values)
        return values

    return fit_scales(map(read, sample_rows(source.shape[0])))


def digest_of(files: Sequence[Path]) -> str:
    """SHA-256 over the SHA-256 of each file, in hexadecimal. Raises: CacheError."""
    whole = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise CacheError(f"{path}: can't be read: {error.strerror}") from error
    return whole.hexdigest()


def _write_block(source: Source, writer: CacheWriter, rows: range) -> None:
    dtype = writer.header.storage
    step = max(1, PIECE_BYTES // (8 * int(np.prod(source.shape[1:]))))
    for start in range(rows.start, rows.stop, step):
        some = range(start, min(start + step, rows.stop))
        values = source.read(some)
        _refuse_infinite(source.name, some, values, writer.header)
        raw = dtype.encode(values).reshape(len(some), -1)
        digests = b"".join(xxh3_128_digest(row.tobytes()) for row in raw)
        writer.write(some, values, np.frombuffer(digests, np.uint8).reshape(-1, 16))


def _refuse_infinite(name: str, rows: range, values: Values, header: CacheHeader | None = None) -> None:
    good = np.isfinite(values).reshape(len(rows), -1).all(1)
    if not good.all():
        row = rows[int(good.argmin())]
        which = f" ({header.paths[row]})" if header else ""
        raise CacheError(
            f"{name}: row {row}{which}: features: expected finite numbers, found "
            "NaN or infinity; leave the row out or compute it again"
        )
