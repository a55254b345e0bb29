"""Turns off run-time checks of shapes, which take a quarter of the training time and fix the sizes that are traced."""

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping
import pytest

__all__ = ["unchecked", "unchecked_shapes"]


@contextmanager
def unchecked() -> Iterator[None]:
    """Run without the checks, as a user does: otherwise a type check fails before the library's own."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(autouse=True, scope="module")
def unchecked_shapes() -> Iterator[None]:
    """Turn off the checks for the tests of a file, or of a folder from its conftest.py; other tests keep them."""
    with unchecked():
        yield
