"""Running means by name, kept on the device where they are computed until they are read."""

import torch
from torch import Tensor

__all__ = ["Means"]


class Means:
    """Sums and counts by name.

    >>> means = Means()
    >>> means.add("kl", torch.tensor(6.0), 2)
    >>> means.add("kl", torch.tensor(3.0), 1)
    >>> means.add("nobody has it", torch.tensor(0.0), 0)
    >>> means.values()
    {'kl': 3.0}
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor | int] = {}

    def add(self, name: str, total: Tensor, count: Tensor | int) -> None:
        """Add the sum of ``count`` values."""
        self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._counts[name] = self._counts[name] + count if name in self._counts else count

    def __contains__(self, name: str) -> bool:
        return name in self._sums

    def __getitem__(self, name: str) -> Tensor:
        """A mean, on its device; for vectors, a vector."""
        return self._sums[name] / self._counts[name]

    def values(self) -> dict[str, float]:
        """The means of single numbers with a count above 0, copied from the device together."""
        if not self._sums:
            return {}
        device = next(iter(self._sums.values())).device
        counts = [torch.as_tensor(count, device=device).double() for count in self._counts.values()]
        means = [self[name].double() for name in self._sums]
        both = torch.stack([torch.stack(means), torch.stack(counts)]).tolist()
        return {name: mean for name, mean, count in zip(self._sums, *both, strict=True) if count}
