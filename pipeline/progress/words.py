"""Times, rates and counts in words."""


def duration(seconds: float) -> str:
    """A time in words, in two units at most: 40 s, 24 min, 2 h 10 min, 3 d 4 h."""
    for size, large, small, step in ((86400, "d", "h", 3600), (3600, "h", "min", 60)):
        if seconds >= 1.5 * size:
            whole, rest = divmod(round(seconds / step) * step, size)
            return f"{whole} {large}" + (f" {rest // step} {small}" if rest else "")
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def speed(rate: float, unit: str) -> str:
    """Units a second, a minute or an hour, whichever is a number above one."""
    for seconds, name in ((1, "s"), (60, "min")):
        if rate * seconds >= 1:
            return f"{rate * seconds:,.{0 if rate * seconds >= 10 else 1}f} {unit}/{name}"
    return f"{rate * 3600:,.1f} {unit}/h"


def count_text(number: float) -> str:
    """A count with commas, and one decimal where it is none."""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.1f}"
