"""The encoder's input for a modality of columns: its values as numbers, zeros where they are missing, and the mask."""

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvae.data.fields import Field

__all__ = ["ColumnFeatures"]

ONE_HOT = 30  # largest number of classes that are one-hot encoded; more classes are embedded
FARTHEST = 10.0  # standard deviations at which an encoder's inputs are clamped
PERIODS = (365.2425 * 86400, 7 * 86400, 86400)  # seconds of a year, a week and a day


class ColumnFeatures(nn.Module):
    """Features of columns: ``rows fields`` with NaN where a value is missing → ``rows size``.

    A number (or ordered class) is one feature. A categorical field is one-hot, or a learned embedding if it has more
    than 30 classes. A date is one feature, plus the sine and cosine of its position in the year, the week and the day.
    The last features are the mask: whether each field is observed.

    Attributes:
        size: the number of features.

    >>> features = ColumnFeatures([Field("hb"), Field("sex", "categorical", classes=2)])
    >>> values = torch.tensor([[0.5, 1.0], [float("nan"), 0.0]])
    >>> features(values, values)
    tensor([[0.5000, 0.0000, 1.0000, 1.0000, 1.0000],
            [0.0000, 1.0000, 0.0000, 0.0000, 1.0000]])
    """

    def __init__(self, fields: Sequence[Field]):
        super().__init__()
        classes = {i: f.classes or 0 for i, f in enumerate(fields) if f.kind == "categorical"}
        one_hot = [(i, c) for i, k in classes.items() if k <= ONE_HOT for c in range(k)]  # a feature's field and class

        def numbers(found: Iterable[int]) -> nn.Buffer:  # not a list: a GPU would wait for it at each step
            return nn.Buffer(torch.tensor([*found], dtype=torch.long), persistent=False)

        self.numbers = numbers(i for i, f in enumerate(fields) if f.kind != "categorical")
        self.dates = numbers(i for i, f in enumerate(fields) if f.kind == "date")
        self.one_hot, self.one_class = numbers(i for i, _ in one_hot), numbers(c for _, c in one_hot)
        self.embedded = [i for i, k in classes.items() if k > ONE_HOT]
        widths = [min(50, math.ceil(1.6 * classes[i] ** 0.56)) for i in self.embedded]
        self.embeddings = nn.ModuleList(
            nn.Embedding(classes[i], width) for i, width in zip(self.embedded, widths, strict=True)
        )
        parts = 2 * len(PERIODS) * len(self.dates)
        self.size = len(self.numbers) + parts + len(one_hot) + sum(widths) + len(fields)

    def forward(
        self, standardised: Float[Tensor, "rows fields"], x: Float[Tensor, "rows fields"]
    ) -> Float[Tensor, "rows size"]:
        """The features of standardised values, and of unstandardised class numbers and seconds (``x``)."""
        missing = x.isnan()
        seen, x = standardised.masked_fill(missing, 0.0).clamp(-FARTHEST, FARTHEST), x.masked_fill(missing, -1.0)
        # −1 is no class.
        mask, found = (~missing).to(seen.dtype), [seen.index_select(1, self.numbers)]
        if len(self.dates):
            seconds, known = x.index_select(1, self.dates).double(), mask.index_select(1, self.dates)[..., None]
            turns = torch.stack([seconds / period for period in PERIODS], 2)
            angles = 2 * math.pi * (turns - turns.floor())  # kept small, because onnxruntime computes sines in float32
            found.append((torch.cat([angles.sin(), angles.cos()], 2) * known).flatten(1).to(seen.dtype))
        if len(self.one_hot):
            found.append((x.index_select(1, self.one_hot).long() == self.one_class).to(seen.dtype))
        for i, embedding in zip(self.embedded, self.embeddings, strict=True):
            found.append(embedding(x[:, i].long().clamp(min=0)) * mask[:, i, None])
        return torch.cat([*found, mask], 1).to(seen.dtype)
