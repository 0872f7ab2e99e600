"""Tables of results in Markdown, and means over seeds."""

from collections.abc import Sequence

import numpy as np


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, a line per row."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def spread(values: Sequence[float]) -> str:
    """Mean ± sample deviation of one value per seed; a single one has no deviation."""
    found, mean = deviation(values), f"{np.mean(values):.2f}"
    return mean if found is None else f"{mean} ± {found:.2f}"


def deviation(values: Sequence[float]) -> float | None:
    """Sample deviation over seeds, None for a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
