"""The first directory of tags in a TIFF file, or in EXIF data, which has the same form.

Source: TIFF 6.0, section 2, and the BigTIFF design. Values are read when they are asked for, so tags that
nobody asks for may hold anything.
"""

import struct
from collections.abc import Mapping, Sequence

STARTS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
"""The first bytes of a file, and their order in numbers; those with + are BigTIFF."""
UNSIGNED = {1: "B", 3: "H", 4: "I", 7: "B", 13: "I", 16: "Q", 18: "Q"}
"""Types of tags that hold whole numbers, as struct writes them."""
LONG, UNDEFINED = 4, 7
JPEG_TABLES = 347
"""A tag of bytes, where all others here hold numbers."""


class Directory:
    """Tags by their number, with the data they refer to."""

    def __init__(self, data: bytes) -> None:
        """Raises: ValueError when there is no directory. One that is cut short has the tags that are left."""
        if data[:4] not in STARTS:
            raise ValueError("no TIFF header")
        self.data = data
        self.order = STARTS[data[:4]]
        self.is_big = data[2:4] in (b"+\0", b"\0+")
        self._offset = "Q" if self.is_big else "I"
        at = self._number(self._offset, 8 if self.is_big else 4)
        first = at + (8 if self.is_big else 2)
        size = 20 if self.is_big else 12
        last = min(first + size * self._number("Q" if self.is_big else "H", at), len(data) - size + 1)
        self._entries: dict[int, bytes] = {}
        for start in range(first, last, size):
            self._entries.setdefault(self._number("H", start), data[start : start + size])

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def numbers(self, tag: int, default: Sequence[int] = ()) -> tuple[int, ...]:
        """The whole numbers of a tag. Raises: ValueError when it has others, or they are not in the file."""
        if tag not in self._entries:
            return tuple(default)
        entry = self._entries[tag]
        kind, count = struct.unpack_from(f"{self.order}2xH{self._offset}", entry)
        if kind not in UNSIGNED:
            raise ValueError(f"the numbers of tag {tag} are of type {kind}")
        size = count * struct.calcsize(UNSIGNED[kind])
        room = len(entry) // 20 * 4 + 4  # 4 bytes, 8 in BigTIFF
        at = struct.unpack_from(f"{self.order}{self._offset}", entry, len(entry) - room)[0]
        values = entry[-room:][:size] if size <= room else self.data[at : at + size]
        if len(values) != size:
            raise ValueError(f"the file ends before the numbers of tag {tag}")
        return struct.unpack(f"{self.order}{count}{UNSIGNED[kind]}", values)

    def file_with(self, tags: Mapping[int, Sequence[int]]) -> bytes:
        """The same file with a directory of these tags alone, no BigTIFF: Pillow reads half of those."""
        start = len(self.data) + len(self.data) % 2
        beside = start + 2 + 12 * len(tags) + 4
        entries, numbers = bytearray(), bytearray()
        for tag, values in sorted(tags.items()):
            kind = UNDEFINED if tag == JPEG_TABLES else LONG
            packed = struct.pack(f"{self.order}{len(values)}{UNSIGNED[kind]}", *values)
            entries += struct.pack(f"{self.order}HHI", tag, kind, len(values))
            if len(packed) > 4:
                entries += struct.pack(f"{self.order}I", beside + len(numbers))
                numbers += packed
            else:
                entries += packed.ljust(4, b"\0")
        head = self.data[:2] + struct.pack(f"{self.order}HI", 42, start)
        padding = bytes(start - len(self.data))
        count = struct.pack(f"{self.order}H", len(tags))
        return b"".join([head, self.data[8:], padding, count, entries, bytes(4), numbers])

    def _number(self, form: str, at: int) -> int:
        try:
            return struct.unpack_from(self.order + form, self.data, at)[0]
        except struct.error as error:
            raise ValueError("the file ends before its directory") from error
