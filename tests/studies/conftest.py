"""No run-time checks of shapes here, because whole experiments are trained; the other tests check every shape."""

from tests.unchecked import unchecked_shapes as unchecked_shapes
