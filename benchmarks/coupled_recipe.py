"""Vary the weight of x2 (label or string) in the terms of the recipe `coupled` (docs/research/coupling.md).

    python benchmarks/coupled_recipe.py [--own 50] [--joint 1] [--cross 10] [--epochs 20] [--seed 0] [--pairs 0.01]
    python benchmarks/coupled_recipe.py --dataset multimnist --epochs 2 --share 1

``--joint 50 --cross 1`` is the first version of the recipe. Only validation rows are evaluated, never test rows.
"""

from dataclasses import dataclass
from pathlib import Path

import timing
import torch
from torch import Tensor

from mvae.data.dataset import Dataset
from mvae.data.masking import oversample_complete, pair_fraction
from mvae.evaluation.coherence import classifier_for
from mvae.evaluation.likelihood import log_likelihoods
from mvae.evaluation.validation import validate
from mvae.models.mvae import MVAE
from mvae.models.recipe import Recipe
from mvae.paper.cell import Cell, name_of
from mvae.runs.build import build
from mvae.runs.source import load
from mvae.training.fit import fit
from mvae.training.switches import flushed_denormals, keep_freed_memory

DRAWS = 500  # generated images per digit for the classifier


@dataclass(frozen=True)
class Weighed(Recipe):
    """The recipe `coupled` with other values of λ2."""

    own: float | None = None
    joint_weight: float | None = None
    cross_weight: float | None = None

    def alone(self, own: Tensor) -> Tensor:
        """λ in single terms."""
        return second(super().alone(own), self.own)

    def joint(self, own: Tensor) -> Tensor:
        """λ in the joint term."""
        return second(super().joint(own), self.joint_weight)

    def crossed(self, own: Tensor, rows: Tensor) -> Tensor:
        """λ in the cross term."""
        return second(super().crossed(own, rows), self.cross_weight)


def second(weights: Tensor, value: float | None) -> Tensor:
    """The weights λ with the second one replaced by ``value``, if given."""
    if value is not None:
        weights = weights.clone()
        weights[1] = value
    return weights


def main() -> None:
    """Train, measure and print."""
    parser = timing.parser(__doc__)
    parser.add_argument("--dataset", default="mnist", help="mnist, fashion-mnist or multimnist [default: mnist]")
    parser.add_argument("--own", type=float, help="λ2 in x2's own term [default: the recipe's]")
    parser.add_argument("--joint", type=float, help="λ2 in the joint term [default: the recipe's]")
    parser.add_argument("--cross", type=float, help="λ2 in the cross term [default: the recipe's]")
    parser.add_argument("--share", type=float, help="fraction of λ in the cross term [default: the dataset's]")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=float, help="paired fraction [default: all]")
    parser.add_argument("--repeat", type=int, help="oversampling of pairs [default: the recipe's]")
    parser.add_argument("--noise", type=float, default=0.0, help="noise on the image in training [default: none]")
    parser.add_argument("--no-guesses", action="store_true", help="no pseudo-labels when pairs are few")
    parser.add_argument("--classifier", type=Path, help="[default: runs/classifier-DATASET-label.safetensors]")
    arguments = parser.parse_args()
    dataset = arguments.dataset
    cell = Cell.of(
        dataset,
        "coupled",
        arguments.seed,
        epochs=arguments.epochs,
        pairs=arguments.pairs,
        repeat_pairs=arguments.repeat,
        input_noise=arguments.noise,
        pseudo_labels=False if arguments.no_guesses else None,
        cross_share=arguments.share,
    )
    keep_freed_memory()
    with flushed_denormals():
        splits, model = load(cell.config), build(cell.config)
        assert isinstance(model, MVAE)
        usual = model.recipe
        model.recipe = Weighed(usual.cross_from, usual.share, arguments.own, arguments.joint, arguments.cross)
        train = splits.train
        if cell["pairs"] is not None:
            train = oversample_complete(pair_fraction(train, cell["pairs"], cell.seed), cell["repeat_pairs"])
        fit(model, train, cell.config.training, seed=cell.seed)
        model.eval()
        x2 = model.names[1]
        kept = arguments.classifier or Path(f"runs/classifier-{dataset}-label.safetensors")
        agreement = agreement_of(model, splits, kept)
        queries = {"marginal": (["image"], []), "joint": (["image", x2], [])}
        found = log_likelihoods(model, splits.validation.first(400), queries, proposal=("image",), samples=200)
        seen = validate(model, splits.validation)
    print(
        f"{name_of(cell)}; λ2 own {arguments.own}, joint {arguments.joint}, cross {arguments.cross}: "
        f"log p(x1) {found['marginal'].mean:.2f}  "
        f"joint - marginal {found['joint'].mean - found['marginal'].mean:.2f}  "
        f"{x2} from image {seen[f'accuracy image->{x2}']:.1%}  {agreement}"
        f"KL(all) - KL(image) {seen['kl complete/full'] - seen['kl complete/image']:.2f}"
    )


def agreement_of(model: MVAE, splits: Dataset, path: Path) -> str:
    """How often a classifier recognises the label in images generated from each of ten; empty if x2 is not a label."""
    if model.names[1] != "label":
        return ""
    classifier, _ = classifier_for(splits, "image", "label", model.modalities["label"].likelihood, path)
    label = torch.arange(10).repeat_interleave(DRAWS)
    generator = torch.Generator().manual_seed(0)
    image = model.generate({"label": label}, of=["image"], mean=True, generator=generator)["image"][0]
    with torch.no_grad():
        return f"classifier agrees {(classifier(image).argmax(-1) == label).float().mean():.1%}  "


if __name__ == "__main__":
    main()
