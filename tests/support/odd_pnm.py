"""PBM, PGM and PPM files, plain and raw, with any largest value."""

from collections.abc import Iterator

import numpy as np

from support.odd_picture import HEIGHT, WIDTH, Odd, in_levels, numbers
from support.opencv import by_opencv
from support.tiff_file import pack


def pnms() -> Iterator[Odd]:
    for top in (1, 3, 15, 100, 254, 255, 256, 1000, 1023, 4095, 16383, 65534, 65535):
        for channels, raw, plain in ((1, b"P5", b"P2"), (3, b"P6", b"P3")):
            samples = np.random.default_rng(top).integers(0, top + 1, (HEIGHT, WIDTH, channels))
            samples[0, 0], samples[-1, -1] = 0, top
            head = b"\n# made by hand\n%d %d\n%d\n" % (WIDTH, HEIGHT, top)
            shown = in_levels(samples / top)
            body = samples.astype(">u2" if top > 255 else "u1").tobytes()
            viewers = (by_opencv,) if top == 255 else ()
            yield Odd(
                f"PNM {channels} raw, up to {top}", raw + head + body, shown, within=0.51, viewers=viewers
            )
            text = "\n".join(" ".join(map(str, row)) for row in samples.reshape(HEIGHT, -1)).encode()
            yield Odd(
                f"PNM {channels} plain, up to {top}",
                plain + head + text + b"\n",
                shown,
                within=0.51,
                viewers=viewers,
            )
            yield Odd(
                f"PNM {channels} cut short, up to {top}", raw + head + body[:-1], refused="can't be decoded"
            )
    bits = numbers(1)[..., 0]
    head = b" %d %d\n" % (WIDTH, HEIGHT)
    shown = in_levels(1 - bits[..., None])
    yield Odd("PBM raw", b"P4" + head + pack(bits, 1), shown, viewers=(by_opencv,))
    yield Odd(
        "PBM plain",
        b"P1" + head + "\n".join("".join(map(str, row)) for row in bits).encode(),
        shown,
        viewers=(by_opencv,),
    )
    yield Odd(
        "PFM", b"Pf" + head + b"-1.0\n" + bytes(4 * WIDTH * HEIGHT), refused="floating-point samples (PFM)"
    )
    yield Odd("PAM", b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nENDHDR\n\0", refused="a PAM file")
