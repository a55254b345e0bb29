"""What the studies add to the library: items of `mvae reproduce`, and in time datasets, declarations and models."""

__all__ = ["ITEMS"]

ITEMS: dict[str, str] = {}
