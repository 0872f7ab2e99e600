"""A place in the code, and what breaks it."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One way to break the code."""

    file: str
    """From the top of the repository."""
    old: str
    """What stands there, once."""
    new: str
    tests: str
    """The test module that should notice, from the top of the repository."""
