"""How far a stage has come, lines that it says, and what happens to output that can't be written."""

from pipeline.progress.lines import on_terminal, report_to, say, silent, warn
from pipeline.progress.output import lost, secure_output
from pipeline.progress.shown import Progress, over
from pipeline.progress.words import duration, speed

__all__ = [
    "Progress",
    "duration",
    "lost",
    "on_terminal",
    "over",
    "report_to",
    "say",
    "secure_output",
    "silent",
    "speed",
    "warn",
]
