"""Do generated images show what was asked for? A classifier that never saw the model says.

Log-likelihoods do not tell whether a sample given "5" is a five. A judge is a small convolutional network trained on
the real images and their labels (or attributes) alone, selected on validation rows; agreement is the share of
generated images in which it sees the condition, to be read beside its own accuracy on real test images.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mvae.data.dataset import Dataset
from mvae.data.table import Table
from mvae.errors import QueryError
from mvae.files import copied, load_state, load_weights, save_state
from mvae.likelihoods import Bernoulli, Categorical, Likelihood
from mvae.modality.augment import shifted
from mvae.models.base import MultimodalVAE, evaluating

__all__ = ["Judge", "agreement", "judge_for", "train_judge"]

EPOCHS, STEPS = 6, 400  # at least
BATCH = 100
SHIFT = 2  # pixels by which training images are moved at random, each way


class Judge(nn.Module):
    """3×3 convolutions with batch norm, halving the side to 4 or less, and one hidden layer; → ``rows outputs``.

    >>> Judge(1, 28, 10)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, channels: int, side: int, outputs: int, width: int = 32):
        super().__init__()
        layers: list[nn.Module] = []
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


def train_judge(
    splits: Dataset,
    image: str,
    target: str,
    likelihood: Likelihood,
    *,
    seed: int = 0,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[Judge, float]:
    """A judge of ``target`` in ``image``, and its accuracy on the real test images.

    Trained on the training rows with Adam and a one-cycle rate; the epoch that is best on validation rows is kept.
    """
    column = splits.train.columns[image]
    examples = torch.as_tensor(splits.train.columns[target])
    classes = int(examples.max()) + 1 if isinstance(likelihood, Categorical) else 1
    outputs = examples[0].numel() * classes
    generator = torch.Generator().manual_seed(seed)
    steps = -(-len(splits.train) // BATCH)
    epochs = max(EPOCHS, STEPS // steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = Judge(column.shape[1], column.shape[2], outputs)
        optimizer = torch.optim.Adam(judge.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * steps)
        best, weights = -1.0, {}
        for epoch in range(epochs):
            judge.train()
            for rows in torch.randperm(len(splits.train), generator=generator).split(BATCH):
                batch = splits.train.take(rows)
                images, wanted = _prepared(batch, image, target, likelihood)
                logits = _logits(judge, shifted(images, SHIFT, generator), wanted, likelihood)
                optimizer.zero_grad()
                (-likelihood.log_prob(logits, wanted).mean()).backward()
                optimizer.step()
                schedule.step()
            right = measure(judge, splits.validation, image, target, likelihood)
            report(f"judge of {target}: epoch {epoch + 1}/{epochs}, validation accuracy {right:.4f}")
            if right > best:
                best, weights = right, copied(judge)
    judge.load_state_dict(weights)
    return judge.eval(), measure(judge, splits.test, image, target, likelihood)


@torch.no_grad()
def measure(judge: Judge, table: Table, image: str, target: str, likelihood: Likelihood, chunk: int = 1000) -> float:
    """Mean accuracy on the rows of a table."""
    right = 0.0
    with evaluating(judge):
        for start in range(0, len(table), chunk):
            images, wanted = _prepared(table.take(slice(start, start + chunk)), image, target, likelihood)
            right += _right(judge, images, wanted, target, likelihood)
    return right / len(table)


@torch.no_grad()
def agreement(
    model: MultimodalVAE, judge: Judge, conditions: Table, image: str, target: str, seed: int = 0, chunk: int = 250
) -> float:
    """Share of images E[x | z], z ~ q(z | condition), one for each row of ``conditions``, in which the judge sees it.

    For attributes, the mean share of attributes that agree; for strings, of places (the empty ones counted too).
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    likelihood = model.modalities[target].likelihood
    right = 0.0
    for start in range(0, len(conditions), chunk):
        given = conditions.take(slice(start, start + chunk))
        images = model.generate(given, of=[image], n=1, mean=True, generator=generator)[image][0].cpu()
        wanted = likelihood.prepare(torch.as_tensor(given.columns[target]), torch.float32)
        right += _right(judge, images, wanted, target, likelihood)
    return right / len(conditions)


def judge_for(
    splits: Dataset,
    image: str,
    target: str,
    likelihood: Likelihood,
    path: Path,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[Judge, float]:
    """The judge kept at ``path``, or a new one, which is then kept there; with its accuracy on real test images.

    Raises:
        RunError: the file is damaged.
    """
    if path.exists():
        tensors, info = load_state(path)
        judge = Judge(*info["shape"])
        load_weights(judge, tensors, path)
        return judge.eval(), float(info["accuracy"])
    judge, right = train_judge(splits, image, target, likelihood, report=report)
    column = splits.train.columns[image]
    outputs = judge.head[-1].out_features
    save_state(path, copied(judge), {"accuracy": right, "shape": [column.shape[1], column.shape[2], outputs]})
    return judge, right


def _logits(judge: Judge, images: Tensor, wanted: Tensor, likelihood: Likelihood) -> Tensor:
    """The judge's outputs; of a string, ``rows length classes``: each place is judged by itself."""
    logits = judge(images)
    return logits.reshape(*wanted.shape, -1) if isinstance(likelihood, Categorical) else logits


def _right(judge: Judge, images: Tensor, wanted: Tensor, target: str, likelihood: Likelihood) -> float:
    """Accuracies of these rows, summed."""
    found = likelihood.accuracy(_logits(judge, images, wanted, likelihood), wanted)
    if found is None:
        raise QueryError(f"nothing can be judged about {target!r}: it is neither classes nor attributes")
    return float(found.sum())


def _prepared(table: Table, image: str, target: str, likelihood: Likelihood) -> tuple[Tensor, Tensor]:
    images = Bernoulli().prepare(torch.as_tensor(table.columns[image]), torch.float32)
    return images, likelihood.prepare(torch.as_tensor(table.columns[target]), torch.float32)
