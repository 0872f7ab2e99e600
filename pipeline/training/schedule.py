"""The learning rate over a run of training."""

WARM_UP = 0.1  # share of the steps


def schedule(step: int, steps: int, warm_up: float = WARM_UP) -> float:
    """The share of the peak learning rate for step 0..steps-1: a linear climb, then a linear fall to zero."""
    climb = max(1.0, warm_up * steps)
    return min((step + 1) / climb, (steps - step) / max(1.0, steps - climb))
