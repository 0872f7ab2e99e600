"""HDF5's checksummed metadata, so that tests can change it by hand and have HDF5 believe it.

HDF5 File Format Specification 3.0, II.A and IV.A. lookup3 is Bob Jenkins' hashlittle.
"""

import re
import struct

MASK = 0xFFFFFFFF
Span = tuple[int, int]


def spans(data: bytes) -> list[Span]:
    """Each structure's first byte and the place of its checksum: the superblock and the object headers."""
    found = [(0, 44)]
    for match in re.finditer(b"OHDR", data):
        at, flags = match.start(), data[match.start() + 5]
        length_at = at + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        length = int.from_bytes(data[length_at : length_at + width], "little")
        found.append((at, length_at + width + length))
    for match in re.finditer(b"OCHK", data):
        ends = range(match.start() + 8, min(match.start() + 400, len(data) - 4))
        found += [(match.start(), end) for end in ends if _is_checksum(data, match.start(), end)]
    return [(start, end) for start, end in found if _is_checksum(data, start, end)]


def mended(data: bytes, where: list[Span]) -> bytes:
    """The same with right checksums at `where`."""
    whole = bytearray(data)
    for start, end in where:
        whole[end : end + 4] = struct.pack("<I", lookup3(whole[start:end]))
    return bytes(whole)


def lookup3(data: bytes | bytearray) -> int:
    """hashlittle(data, 0)."""
    a = b = c = (0xDEADBEEF + len(data)) & MASK
    words = struct.unpack(
        f"<{(len(data) + 11) // 12 * 3}I", bytes(data).ljust((len(data) + 11) // 12 * 12, b"\0")
    )
    for i in range(0, len(words), 3):
        a, b, c = (a + words[i]) & MASK, (b + words[i + 1]) & MASK, (c + words[i + 2]) & MASK
        a, b, c = _mix(a, b, c) if i + 3 < len(words) else _final(a, b, c)
    return c


def _is_checksum(data: bytes, start: int, end: int) -> bool:
    return data[end : end + 4] == struct.pack("<I", lookup3(data[start:end]))


def _rotate(x: int, k: int) -> int:
    return ((x << k) | (x >> (32 - k))) & MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for k1, k2, k3 in ((4, 6, 8), (16, 19, 4)):
        a = ((a - c) & MASK) ^ _rotate(c, k1)
        c = (c + b) & MASK
        b = ((b - a) & MASK) ^ _rotate(a, k2)
        a = (a + c) & MASK
        c = ((c - b) & MASK) ^ _rotate(b, k3)
        b = (b + a) & MASK
    return a, b, c


def _final(a: int, b: int, c: int) -> tuple[int, int, int]:
    c = ((c ^ b) - _rotate(b, 14)) & MASK
    a = ((a ^ c) - _rotate(c, 11)) & MASK
    b = ((b ^ a) - _rotate(a, 25)) & MASK
    c = ((c ^ b) - _rotate(b, 16)) & MASK
    a = ((a ^ c) - _rotate(c, 4)) & MASK
    b = ((b ^ a) - _rotate(a, 14)) & MASK
    c = ((c ^ b) - _rotate(b, 24)) & MASK
    return a, b, c
