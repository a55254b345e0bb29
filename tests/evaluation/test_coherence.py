"""A classifier trained on real images only, and the coherence of generated images measured with it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvae.data.dataset import Dataset
from mvae.data.table import Table
from mvae.errors import RunError
from mvae.evaluation.coherence import (
    ImageClassifier,
    classifier_accuracy,
    classifier_for,
    conditional_coherence,
    train_classifier,
)
from mvae.likelihoods import Bernoulli, Categorical
from mvae.modality.base import Modality
from mvae.models.mvae import MVAE
from mvae.networks.mlp import mlp
from mvae.paper.datasets.digits import load


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load()


@pytest.fixture(scope="module")
def classifier(digits: Dataset) -> tuple[ImageClassifier, float]:
    return train_classifier(digits, "image", "label", Categorical())


def test_the_classifier_recognises_real_digits(classifier: tuple[ImageClassifier, float]) -> None:
    assert classifier[1] > 0.9


class RealImages(nn.Module):
    """A decoder that returns the real image of the class in z."""

    def __init__(self, images: Tensor):
        super().__init__()
        self.images = nn.Parameter(images)

    def forward(self, z: Tensor) -> Tensor:
        return torch.logit(self.images[z[:, 0].round().long().clamp(0, 9)], 1e-4)


class CertainExpert(nn.Module):
    """An expert that is almost certain that z is the class (or, if wrong, class 0)."""

    def __init__(self, wrong: bool):
        super().__init__()
        self.wrong = wrong

    def forward(self, label: Tensor) -> Tensor:
        z = torch.zeros_like(label) if self.wrong else label
        return torch.stack([z.float(), torch.full(label.shape, -14.0)], 1)


@pytest.mark.parametrize("wrong", [False, True])
def test_conditional_coherence_counts_the_images_that_show_their_condition(
    digits: Dataset, classifier: tuple[ImageClassifier, float], wrong: bool
) -> None:
    """Checked for a model that draws the given class and for one that always draws a zero."""
    labels = torch.as_tensor(digits.test.columns["label"])
    pixels = torch.as_tensor(digits.test.columns["image"])
    seen = classifier[0](pixels).argmax(1)
    good = [int(((labels == digit) & (seen == digit)).nonzero()[0, 0]) for digit in range(10)]
    model = MVAE(
        {
            "image": Modality(mlp(64, 2, (4,)), RealImages(pixels[good]), Bernoulli()),
            "label": Modality(CertainExpert(wrong), mlp(1, 10, (4,)), Categorical()),
        },
        latent_dim=1,
        cross_from=(),
    )
    conditions = digits.test.take(slice(0, 100)).select(["label"])
    expected = float((labels[:100] == 0).float().mean()) if wrong else 1.0
    assert conditional_coherence(model, classifier[0], conditions, given="label", of="image") == pytest.approx(expected)
    of_function = conditional_coherence(
        model, lambda x: classifier[0](x), {"label": labels[:100]}, given="label", of="image"
    )
    assert of_function == pytest.approx(expected)


def test_attributes_are_classified_one_by_one() -> None:
    """Each half of an image is bright or dark."""
    generator = torch.Generator().manual_seed(0)
    bright = torch.rand(600, 2, generator=generator) > 0.5
    images = bright[:, None, None].repeat_interleave(4, 3).expand(-1, 1, 8, -1).float() * 0.8
    table = Table({"image": images, "sides": bright})
    train, validation, test = (table.take(slice(*rows)) for rows in ((0, 400), (400, 500), (500, 600)))
    _, right = train_classifier(Dataset("halves", train, validation, test), "image", "sides", Bernoulli())
    assert right > 0.95


def test_a_classifier_is_saved_and_a_damaged_file_refused(digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "classifier.safetensors"
    few = Dataset("few", digits.train.take(slice(0, 100)), digits.validation, digits.test, digits.codecs)
    classifier, right = classifier_for(few, "image", "label", Categorical(), path)
    again, same = classifier_for(few, "image", "label", Categorical(), path)
    assert right == same
    images = torch.rand(3, 1, 8, 8)
    assert torch.equal(classifier.eval()(images), again(images))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match=r"classifier\.safetensors"):
        classifier_for(few, "image", "label", Categorical(), path)


def test_any_square_image_can_be_classified() -> None:
    for side in (8, 28, 50, 64):
        assert ImageClassifier(3, side, 4)(torch.zeros(2, 3, side, side)).shape == (2, 4)


class Reader(ImageClassifier):
    """A classifier that reads the class of each position from the first row of pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return 5 * F.one_hot(images[:, 0, 0, :3].long(), 4).float().flatten(1)


def test_each_position_of_a_string_is_classified() -> None:
    strings = torch.tensor([[0, 1, 3], [2, 3, 3]])
    pictures = torch.zeros(2, 1, 8, 8)
    pictures[:, 0, 0, :3] = strings
    pictures[1, 0, 0, 2] = 1  # one of six positions is misread
    table = Table({"image": pictures, "string": strings})
    assert classifier_accuracy(Reader(1, 8, 12), table, "image", "string", Categorical()) == pytest.approx(5 / 6)
