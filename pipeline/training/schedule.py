"""The learning rate over a run of training."""

WARM_UP = 0.1  # share of the steps


def schedule(step: int, steps: int, warm_up: float = WARM_UP) -> float:
    """The share of the peak learning rate for step 0..steps-1: a linear climb to 1, then a linear fall.

    The climb takes whole steps, so that its last one is at the peak and none is above. Zero comes right after
    the last step.
    """
    climb = max(1, round(warm_up * steps))
    return min((step + 1) / climb, (steps - step) / max(1, steps - climb))
