"""Multilayer perceptrons for flat data and labels (App. A, Fig. 5, 8c and 8d: MNIST, attributes of CelebA)."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from mvae.networks import Shape

__all__ = [
    "ConditionalMLP",
    "Flat",
    "ImageDecoder",
    "LabelEncoder",
    "LabelFeatures",
    "Labels",
    "Perceptrons",
    "flat",
    "looked_up",
    "mlp",
]

HIDDEN = (512, 512)


def flat(x: Shaped[Tensor, "rows *event"]) -> Shaped[Tensor, "rows features"]:
    """Flatten each row's values; a column of single numbers becomes ``rows 1``."""
    return x.flatten(1) if x.dim() > 1 else x[:, None]


class Flat(nn.Flatten):
    """`flat` as a layer."""

    def forward(self, input: Shaped[Tensor, "rows *event"]) -> Shaped[Tensor, "rows features"]:
        """Return a view of the input."""
        return flat(input)


def mlp(inputs: int, outputs: int, hidden: Sequence[int] = HIDDEN, batch_norm: bool = False) -> nn.Sequential:
    """Flatten, then linear layers with swish (SiLU) between them; ``rows event…`` → ``rows outputs``.

    With ``batch_norm``, batch norm precedes each swish (Fig. 8c, 8d: 377,032 parameters from 18 attributes to 2·100
    heads, Table 1).

    >>> mlp(784, 2 * 64)(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 128])
    """
    network = nn.Sequential()
    network.add_module("flat" if batch_norm else "0", Flat())  # keeps the parameter names of older checkpoints
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), *([nn.BatchNorm1d(width)] if batch_norm else []), nn.SiLU()]
        inputs = width
    for i, layer in enumerate([*layers, nn.Linear(inputs, outputs)], 0 if batch_norm else 1):
        network.add_module(str(i), layer)
    return network


class ImageDecoder(nn.Sequential):
    """An MLP from latents to values of any shape: ``N latent`` → ``N *image``.

    >>> ImageDecoder(64, (1, 28, 28))(torch.zeros(3, 64)).shape
    torch.Size([3, 1, 28, 28])
    """

    def __init__(self, latents: int, image: Sequence[int], hidden: Sequence[int] = HIDDEN, batch_norm: bool = False):
        super().__init__(*mlp(latents, math.prod(image), hidden, batch_norm))
        self.append(nn.Unflatten(1, tuple(image)) if image else nn.Flatten(0))


def looked_up(label: Int[Tensor, "rows"], table: Float[Tensor, "classes outputs"]) -> Float[Tensor, "rows outputs"]:
    """Look up the table's row for each class, as a matrix product with one-hot vectors.

    The gradient is then a product too, and bitwise reproducible; the gradient of a compiled lookup adds up rows in the
    order in which threads finish.

    >>> looked_up(torch.tensor([2, 0]), torch.tensor([[1.0], [2.0], [3.0]]))
    tensor([[3.],
            [1.]])
    """
    return nn.functional.one_hot(label, len(table)).to(table.dtype) @ table


class LabelEncoder(nn.Module):
    """Embedding, swish, one hidden layer, heads (Fig. 5c; 333,440 parameters for 10 classes and 64 latents).

    There are only as many different outputs as classes. In larger batches each is computed once and looked up: with 100
    rows of 10 classes that is a tenth of the work, and the gradient is the same sum.

    >>> LabelEncoder(10, 2 * 64)(torch.tensor([3, 3, 7])).shape
    torch.Size([3, 128])
    """

    def __init__(self, classes: int, outputs: int, hidden: int = 512):
        super().__init__()
        self.embedding = nn.Embedding(classes, hidden)
        self.layers = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, outputs))

    def forward(self, label: Int[Tensor, "rows"]) -> Float[Tensor, "rows outputs"]:
        """The heads of each row's class."""
        if len(label) < self.embedding.num_embeddings:
            return self.layers(self.embedding(label))
        return looked_up(label, self.layers(self.embedding.weight))


class ConditionalMLP(nn.Module):
    """An MLP whose input has a condition appended: the CVAE's encoder and decoder (10 × 512 more weights, Table 1).

    >>> ConditionalMLP(784, 10, 128)(torch.zeros(3, 1, 28, 28), torch.zeros(3, 10)).shape
    torch.Size([3, 128])
    """

    def __init__(
        self,
        inputs: int,
        condition: int,
        outputs: int | Shape,
        hidden: Sequence[int] = HIDDEN,
        batch_norm: bool = False,
    ):
        super().__init__()
        self.shape = (outputs,) if isinstance(outputs, int) else outputs
        self.layers = mlp(inputs + condition, math.prod(self.shape), hidden, batch_norm)

    def forward(
        self, x: Float[Tensor, "rows *event"], condition: Float[Tensor, "rows features"]
    ) -> Float[Tensor, "rows *outputs"]:
        """Flatten x, append the condition and apply the layers; a decoder's outputs have the shape of its values."""
        return self.layers(torch.cat([flat(x), condition], dim=1)).unflatten(1, self.shape)


class ConditionalLabelEncoder(ConditionalMLP):
    """A `ConditionalMLP` for class numbers, which are one-hot encoded.

    >>> ConditionalLabelEncoder(3, 4, 128)(torch.tensor([2, 0]), torch.zeros(2, 4)).shape
    torch.Size([2, 128])
    """

    def __init__(self, classes: int, condition: int, outputs: int, hidden: Sequence[int] = HIDDEN):
        super().__init__(classes, condition, outputs, hidden)
        self.classes = classes

    def forward(
        self, x: Int[Tensor, "rows"], condition: Float[Tensor, "rows features"]
    ) -> Float[Tensor, "rows outputs"]:
        """One-hot encode the classes, append the condition and apply the layers."""
        return super().forward(nn.functional.one_hot(x, self.classes).to(condition.dtype), condition)


class LabelFeatures(nn.Module):
    """An embedding with swish: the label's features in the JMVAE's joint encoder.

    >>> LabelFeatures(10, 512)(torch.tensor([3, 3, 7])).shape
    torch.Size([3, 512])
    """

    def __init__(self, classes: int, outputs: int):
        super().__init__()
        self.embedding = nn.Embedding(classes, outputs)

    def forward(self, label: Int[Tensor, "rows"]) -> Float[Tensor, "rows outputs"]:
        """The features of each row's class."""
        return looked_up(label, nn.functional.silu(self.embedding.weight))


class Perceptrons:
    """The network "mlp", for values of any shape."""

    @staticmethod
    def encoder(
        inputs: Shape, outputs: int, condition: int = 0, hidden: Sequence[int] = HIDDEN, batch_norm: bool = False
    ) -> nn.Module:
        """Flattened values → heads."""
        if condition:
            return ConditionalMLP(math.prod(inputs), condition, outputs, hidden, batch_norm)
        return mlp(math.prod(inputs), outputs, hidden, batch_norm)

    @staticmethod
    def decoder(
        inputs: int, outputs: Shape, condition: int = 0, hidden: Sequence[int] = HIDDEN, batch_norm: bool = False
    ) -> nn.Module:
        """Latents → values of shape ``outputs``."""
        if condition:
            return ConditionalMLP(inputs, condition, tuple(outputs), hidden, batch_norm)
        if len(outputs) == 1:
            return mlp(inputs, outputs[0], hidden, batch_norm)
        return ImageDecoder(inputs, outputs, hidden, batch_norm)

    @staticmethod
    def features(inputs: Shape, outputs: int) -> nn.Module:
        """One layer with swish."""
        layers = [nn.Linear(math.prod(inputs), outputs), nn.SiLU()]
        return nn.Sequential(*([] if len(inputs) == 1 else [Flat()]), *layers)


class Labels:
    """The network "label", for class numbers."""

    @staticmethod
    def encoder(inputs: Shape, outputs: int, condition: int = 0, hidden: int = 512) -> nn.Module:
        """See `LabelEncoder`."""
        if condition:
            return ConditionalLabelEncoder(inputs[0], condition, outputs, (hidden, hidden))
        return LabelEncoder(inputs[0], outputs, hidden)

    @staticmethod
    def features(inputs: Shape, outputs: int) -> nn.Module:
        """See `LabelFeatures`."""
        return LabelFeatures(inputs[0], outputs)
