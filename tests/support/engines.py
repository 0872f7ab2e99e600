"""Engines that can be started here."""

import importlib.util

import pytest

from pipeline.engines.executors import ENGINES


def skip_without(engine: str) -> str:
    """The name of an engine, whose package is installed."""
    package = ENGINES[engine].package
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed")
    return engine
