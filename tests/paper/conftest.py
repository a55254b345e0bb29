"""Whole experiments are trained here without shape checks; the library's own tests check every shape."""

from tests.unchecked import unchecked_shapes as unchecked_shapes
