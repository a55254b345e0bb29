"""Multilayer perceptrons for flat data and labels, as in the paper's MNIST experiment (App. A, Fig. 5)."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mvae.networks.joint import JointEncoder

__all__ = ["ConditionalMLP", "ImageDecoder", "LabelEncoder", "LabelFeatures", "joint_encoder", "looked_up", "mlp"]


def mlp(inputs: int, outputs: int, hidden: Sequence[int] = (512, 512)) -> nn.Sequential:
    """Flatten, then linear layers with swish (SiLU) between them; ``rows event…`` → ``rows outputs``.

    >>> mlp(784, 2 * 64)(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 128])
    """
    layers: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.SiLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class ImageDecoder(nn.Sequential):
    """An MLP from latents to the logits of an image: ``N latent`` → ``N *image``.

    >>> ImageDecoder(64, (1, 28, 28))(torch.zeros(3, 64)).shape
    torch.Size([3, 1, 28, 28])
    """

    def __init__(self, latents: int, image: Sequence[int], hidden: Sequence[int] = (512, 512)):
        super().__init__(*mlp(latents, math.prod(image), hidden), nn.Unflatten(1, tuple(image)))


def looked_up(label: Int[Tensor, "rows"], table: Float[Tensor, "classes outputs"]) -> Float[Tensor, "rows outputs"]:
    """The table's row of each class, as a product with ones and zeros.

    The gradient then is a product too, with the same bits every time; that of a lookup, once compiled, adds up rows in
    whatever order threads finish.

    >>> looked_up(torch.tensor([2, 0]), torch.tensor([[1.0], [2.0], [3.0]]))
    tensor([[3.],
            [1.]])
    """
    return nn.functional.one_hot(label, len(table)).to(table.dtype) @ table


class LabelEncoder(nn.Module):
    """Embedding, swish, one hidden layer, heads (Fig. 5c; 333,440 parameters for 10 classes and 64 latents).

    There are only as many outputs as classes, so they are computed once each and looked up: with 100 rows of
    10 classes that is a tenth of the work, and the gradient is the same sum.

    >>> LabelEncoder(10, 2 * 64)(torch.tensor([3, 3, 7])).shape
    torch.Size([3, 128])
    """

    def __init__(self, classes: int, outputs: int, hidden: int = 512):
        super().__init__()
        self.embedding = nn.Embedding(classes, hidden)
        self.layers = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, outputs))

    def forward(self, label: Int[Tensor, "rows"]) -> Float[Tensor, "rows outputs"]:
        """Heads of each row's class."""
        if len(label) < self.embedding.num_embeddings:
            return self.layers(self.embedding(label))
        return looked_up(label, self.layers(self.embedding.weight))


class ConditionalMLP(nn.Module):
    """An MLP whose input has a condition appended: the CVAE's encoder and decoder (10 × 512 more weights, Table 1).

    >>> ConditionalMLP(784, 10, 128)(torch.zeros(3, 1, 28, 28), torch.zeros(3, 10)).shape
    torch.Size([3, 128])
    """

    def __init__(self, inputs: int, condition: int, outputs: int, hidden: Sequence[int] = (512, 512)):
        super().__init__()
        self.layers = mlp(inputs + condition, outputs, hidden)

    def forward(
        self, x: Float[Tensor, "rows *event"], condition: Float[Tensor, "rows features"]
    ) -> Float[Tensor, "rows outputs"]:
        """Flatten x, append the condition, and go through the layers."""
        return self.layers(torch.cat([x.flatten(1), condition], dim=1))


class LabelFeatures(nn.Module):
    """An embedding with swish: what the JMVAE's joint encoder hears of a label.

    >>> LabelFeatures(10, 512)(torch.tensor([3, 3, 7])).shape
    torch.Size([3, 512])
    """

    def __init__(self, classes: int, outputs: int):
        super().__init__()
        self.embedding = nn.Embedding(classes, outputs)

    def forward(self, label: Int[Tensor, "rows"]) -> Float[Tensor, "rows outputs"]:
        """Features of each row's class."""
        return looked_up(label, nn.functional.silu(self.embedding.weight))


def joint_encoder(pixels: int, classes: int, outputs: int, hidden: int = 512) -> JointEncoder:
    """JMVAE's q(z | image, label): image to 512, label to 512, together to 512, heads (997,504 parameters, Table 1).

    >>> joint_encoder(784, 10, 128)({"image": torch.zeros(3, 784), "label": torch.tensor([0, 1, 2])}).shape
    torch.Size([3, 128])
    """
    image = nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), nn.SiLU())
    return JointEncoder({"image": image, "label": LabelFeatures(classes, hidden)}, 2 * hidden, outputs, hidden)
