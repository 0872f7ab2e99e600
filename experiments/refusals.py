"""What an experiment adds to its stages' refusals: flags by the names they have there, and no leaks."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import ConfigError, RunError, UserError
from pipeline.evaluation.logits import open_run, score_images
from pipeline.evaluation.scored import Predictions
from pipeline.evaluation.trained_on import ADVICE, trained_on
from pipeline.wording import flag


@contextmanager
def renamed(flags: Mapping[str, str]) -> Iterator[None]:
    """Name an experiment's flags in the refusals inside: those of a stage that it sets by others.

    Raises: UserError of the same kind.
    """
    try:
        yield
    except UserError as error:
        words, text = "|".join(map(re.escape, flags)), str(error)
        if isinstance(error, ConfigError) and error.field:
            text = f"{flag(error.field.partition('.')[2])}: {error.problem}"
        text = re.sub(rf"(?<![\w-])(?:{words})(?![\w-])", lambda found: flags[found[0]], text)
        raise type(error)(text) from error


def score_unseen(folder: Path, *, device: str = "auto") -> Predictions:
    """Score a head on the test images of its own cache, none of which it may know, as evaluate.py does.

    Raises: RunError when it was trained or validated on some of them; what `open_run` and `score_images`
    raise.
    """
    subject = open_run(folder, device=device)
    try:
        trained_on(subject, allowed=False)
    except RunError as error:
        advice = "take them out of one of the splits"
        raise RunError(str(error).replace(ADVICE, advice)) from error
    return score_images(subject)
