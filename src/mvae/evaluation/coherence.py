"""Conditional coherence: do generated examples show their condition, to a classifier that never saw the model?

Log-likelihoods do not show whether a sample given "5" is a five. Conditional coherence is the share of generated
examples in which a classifier sees the condition; compare it with the classifier's own accuracy on real test rows.
Any classifier will do; for images there is a small convolutional network, trained only on the real images and their
labels (or attributes), and selected on validation rows.
"""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvae.data.dataset import Dataset
from mvae.data.table import Table
from mvae.errors import DataError, QueryError, RunError
from mvae.evaluation.rows import given_part, rows_with
from mvae.files import copied, load_state, load_weights, save_state
from mvae.likelihoods import Categorical, Likelihood
from mvae.modality.augment import shifted
from mvae.modality.modes import evaluating
from mvae.models.base import MultimodalVAE
from mvae.models.inputs import Data

__all__ = ["ImageClassifier", "classifier_for", "conditional_coherence", "train_classifier"]

EPOCHS, STEPS = 6, 400  # at least
BATCH = 100
SHIFT = 2  # pixels by which training images are moved at random, each way
ROWS = 250  # generated at once
CLASSIFIED = 1000  # real rows classified at once


@torch.no_grad()
def conditional_coherence(
    model: MultimodalVAE, classifier: Callable[[Tensor], Tensor], data: Data, *, given: str, of: str, seed: int = 0
) -> float:
    """Share of examples E[x_of | z], z ~ q(z | x_given), in which the classifier sees the condition.

    Args:
        model: any model of both modalities.
        classifier: examples of ``of`` → parameters of the likelihood of ``given`` (logits of classes, or of each
            attribute), ``rows …``.
        data: the conditions; one example is generated for each row that has ``given``.
        given: the modality conditioned on, of classes, attributes or strings. Attributes count by the mean share that
            agrees, strings by the mean share of places that agree (including empty places).
        of: the modality generated.
        seed: the seed of the samples of z.

    Raises:
        QueryError: an unknown modality, one whose values are neither classes nor attributes, or one that no row has.
        DataError: data that does not fit the model.
    """
    model.require_known([given], "given")
    model.require_known([of], "of")
    table, likelihood = model.as_table(data), model.modalities[given].likelihood
    conditions = rows_with(table, [given], whole=True)
    generator = torch.Generator(model.device).manual_seed(seed)
    right = 0.0
    for rows in conditions.split(ROWS):
        condition = given_part(model, table, rows, [given])
        examples = model.generate(condition, of=[of], n=1, mean=True, generator=generator)[of][0].cpu()
        wanted = likelihood.prepare(torch.as_tensor(condition.columns[given]), torch.float32).cpu()
        right += _right(classifier, examples, wanted, given, likelihood)
    return right / len(conditions)


class ImageClassifier(nn.Module):
    """3×3 convolutions with batch norm, halving the side to 4 or less, and one hidden layer; → ``rows outputs``.

    >>> ImageClassifier(1, 28, 10)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, channels: int, side: int, outputs: int):
        super().__init__()
        layers: list[nn.Module] = []
        width = 32
        while side > 4:
            layers += [nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels, width, side = width, min(2 * width, 128), (side + 1) // 2
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(
            nn.Dropout(0.3), nn.Linear(channels * side * side, 128), nn.ReLU(), nn.Linear(128, outputs)
        )

    def forward(self, images: Float[Tensor, "rows channels side side"]) -> Float[Tensor, "rows outputs"]:
        """Logits of the classes, or of each attribute."""
        return self.head(self.features(images))


def train_classifier(
    data: Dataset,
    image: str,
    target: str,
    likelihood: Likelihood,
    *,
    epochs: int | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[ImageClassifier, float]:
    """Train a classifier of ``target`` in ``image``; return it and its accuracy on the real test images.

    It is trained on the training rows that have both, with Adam and a one-cycle learning rate; the weights of the best
    epoch on validation rows are kept. ``epochs``: default 6, and more for few rows.

    Raises:
        QueryError: no row has both. DataError: images that are not ``channels side side``.
    """
    both = rows_with(data.train, [image, target], whole=True)
    first, wanted = _prepared(data.train.take(both[:1]), image, target, likelihood)
    if first.dim() != 4 or first.shape[2] != first.shape[3]:
        raise DataError(f"{image} must hold square images, channels × side × side, not {tuple(first.shape[1:])}")
    classes = 1
    if isinstance(likelihood, Categorical):
        classes = 1 + max(int(data.train.select_rows(target, rows).max()) for rows in both.split(CLASSIFIED))
    generator = torch.Generator().manual_seed(0)
    steps = -(-len(both) // BATCH)
    epochs = epochs or max(EPOCHS, STEPS // steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = ImageClassifier(first.shape[1], first.shape[2], wanted[0].numel() * classes)
        optimizer = torch.optim.Adam(classifier.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * steps)
        best, weights = -1.0, {}
        for epoch in range(epochs):
            classifier.train()
            for rows in torch.randperm(len(both), generator=generator).split(BATCH):
                images, wanted = _prepared(data.train.take(both[rows]), image, target, likelihood)
                logits = _logits(classifier, shifted(images, SHIFT, generator), wanted, likelihood)
                optimizer.zero_grad()
                (-likelihood.log_prob(logits, wanted).mean()).backward()
                optimizer.step()
                schedule.step()
            right = classifier_accuracy(classifier, data.validation, image, target, likelihood)
            report(f"classifier of {target}: epoch {epoch + 1}/{epochs}, validation accuracy {right:.4f}")
            if right > best:
                best, weights = right, copied(classifier)
    classifier.load_state_dict(weights)
    return classifier.eval(), classifier_accuracy(classifier, data.test, image, target, likelihood)


@torch.no_grad()
def classifier_accuracy(
    classifier: ImageClassifier, table: Table, image: str, target: str, likelihood: Likelihood
) -> float:
    """Mean accuracy on the rows of a table that have both."""
    both, right = rows_with(table, [image, target], whole=True), 0.0
    with evaluating(classifier):
        for rows in both.split(CLASSIFIED):
            images, wanted = _prepared(table.take(rows), image, target, likelihood)
            right += _right(classifier, images, wanted, target, likelihood)
    return right / len(both)


def classifier_for(
    data: Dataset,
    image: str,
    target: str,
    likelihood: Likelihood,
    path: Path,
    report: Callable[[str], None] = lambda _: None,
    epochs: int | None = None,
) -> tuple[ImageClassifier, float]:
    """The classifier stored at ``path``, or a new one, which is then stored there; with its accuracy on test images.

    Raises:
        RunError: the file is damaged.
    """
    if path.exists():
        tensors, info = load_state(path)
        shape, right = info.get("shape"), info.get("accuracy")
        whole = isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and 0 < n < 10_000 for n in shape)
        if not whole or not isinstance(right, float) or not 0 <= right <= 1:
            raise RunError(f"{path} is damaged (shape {shape!r}, accuracy {right!r}): delete it to train it anew")
        classifier = ImageClassifier(*cast("list[int]", shape))
        load_weights(classifier, tensors, path)
        return classifier.eval(), right
    classifier, right = train_classifier(data, image, target, likelihood, epochs=epochs, report=report)
    column = data.train.columns[image]
    outputs = classifier.head[-1].out_features
    save_state(path, copied(classifier), {"accuracy": right, "shape": [column.shape[1], column.shape[2], outputs]})
    return classifier, right


def _logits(classifier: Callable[[Tensor], Tensor], examples: Tensor, wanted: Tensor, likelihood: Likelihood) -> Tensor:
    """The classifier's outputs; for a string, ``rows length classes``: each place is classified by itself."""
    logits = classifier(examples)
    return logits.reshape(*wanted.shape, -1) if isinstance(likelihood, Categorical) else logits


def _right(
    classifier: Callable[[Tensor], Tensor], examples: Tensor, wanted: Tensor, target: str, likelihood: Likelihood
) -> float:
    """The sum of these rows' accuracies."""
    found = likelihood.accuracy(_logits(classifier, examples, wanted, likelihood), wanted)
    if found is None:
        raise QueryError(f"{target} has neither classes nor attributes: no classifier can recognise it")
    return float(found.sum())


def _prepared(table: Table, image: str, target: str, likelihood: Likelihood) -> tuple[Tensor, Tensor]:
    images = Likelihood().prepare(torch.as_tensor(table.columns[image]), torch.float32)
    return images, likelihood.prepare(torch.as_tensor(table.columns[target]), torch.float32)
