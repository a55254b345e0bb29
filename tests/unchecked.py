"""Without a check of every shape at run time: it takes a quarter of a training, and fixes the sizes that are traced."""

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping
import pytest

__all__ = ["unchecked", "unchecked_shapes"]


@contextmanager
def unchecked() -> Iterator[None]:
    """As a user runs it: otherwise a check of types answers before the library does."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(autouse=True, scope="module")
def unchecked_shapes() -> Iterator[None]:
    """For a file's tests, or by a conftest.py for those of a folder; the library's own tests check shapes."""
    with unchecked():
        yield
