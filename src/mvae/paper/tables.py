"""Tables 1, 2, 3, 6 and 7: the models side by side.

Tables 2 and 3 come from one evaluation (proposal q(z | x1)), Tables 6 and 7 from another (q(z | x1, x2), which not
every model has): the other table of each pair costs nothing.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from torch import nn

from mvae.models.base import MultimodalVAE
from mvae.models.jmvae import JMVAE
from mvae.models.telbo import TELBO
from mvae.paper.cell import Cell, defines, experiment
from mvae.paper.harness import compared, evaluated
from mvae.paper.item import WITH_LONG, Budget, Item, Options, Paths, all_datasets, all_models
from mvae.paper.published import published
from mvae.paper.show import show_comparison
from mvae.runs.build import build

PAPER_MODELS = ("vae", "cvae", "bivcca", "jmvae", "mvae_q", "mvae")
PAPER_DATASETS = ("binary-mnist", "mnist", "fashion-mnist", "multimnist", "celeba")


def inference_parameters(model: MultimodalVAE) -> int:
    """The number of weights of all networks that make a posterior (Table 1).

    >>> inference_parameters(build(Cell.of("mnist", model="jmvae").config))
    2061184
    """
    networks: list[nn.Module] = [modality.encoder for modality in model.modalities.values()]
    if isinstance(model, JMVAE):
        networks.append(model.joint_encoder)
    if isinstance(model, TELBO):
        networks.append(model.unimodal)
    return sum(p.numel() for network in networks for p in network.parameters())


def _counted(item: str, options: Options, paths: Paths) -> list[dict[str, Any]]:
    """Counted and published parameters, a row per model and dataset; for CelebA also those of 19 modalities."""
    rows = []
    for dataset in options.datasets:
        for model in _defined(dataset, options.models):
            value = inference_parameters(build(Cell.of(dataset, model=model).config))
            rows.append((dataset, model, value, published(item, model, dataset), {}))
        if dataset == "celeba":
            for name, value, note in _nineteen_modalities():
                rows.append((dataset, name, value, published(item, name[:-2], dataset), {"note": note}))
    return [dict(zip(("dataset", "model", "value", "paper"), row, strict=True)) | note for *row, note in rows]


def _nineteen_modalities() -> list[tuple[str, int, str]]:
    """(model, parameters, how it was counted) of CelebA with 19 modalities.

    The published MVAE19 has an image encoder and eighteen encoders of all 18 attributes; each of ours takes its own
    attribute. JMVAE19 would need a joint encoder for each subset of the 19 modalities. Sec. 4 does not print its
    architecture, so we assume: the modalities' own encoders without their heads (image → 512, 18 → 512 → 512),
    concatenated, → 512, heads. Summed over all 2^19 subsets, each modality is in half of them.
    """
    together = build(experiment("celeba")).modalities
    image, attributes = (sum(p.numel() for p in m.encoder.parameters()) for m in together.values())
    heads = sum(p.numel() for p in list(together["attributes"].encoder.parameters())[-2:])
    hidden, half = 512, 2**18
    joint = half * (image - heads + 18 * (attributes - heads) + 19 * hidden**2) + 2 * half * (hidden + heads)
    return [
        ("mvae19 a", image + 18 * attributes, "eighteen encoders of all 18 attributes, as published"),
        ("mvae19 b", inference_parameters(build(experiment("celeba19"))), "encoders of one attribute each, as trained"),
        ("jmvae19 a", joint, "assumed: 2^19 joint encoders, each image → 512, 18 → 512 → 512, 512·n → 512, heads"),
    ]


def _defined(dataset: str, models: Sequence[str]) -> Sequence[str]:
    """The models that the paper has for the dataset; if it has none of them, all, for the error that says so."""
    return [model for model in models if defines(dataset, model)] or models


def _cells(joint: bool, options: Options, budget: Budget) -> Iterator[Cell]:
    """Each model of each dataset, the MVAE with each recipe; ``joint``: only those with a posterior given x1 and x2."""
    for dataset in options.datasets:
        training = budget.training(dataset)
        for model in _defined(dataset, options.models):
            for recipe in options.recipes if model == "mvae" else ("paper",):
                cells = [Cell.of(dataset, recipe, seed, model, **training) for seed in range(options.seeds)]
                if not joint or _has_joint(build(cells[0].config)):
                    yield from cells


def _has_joint(model: MultimodalVAE) -> bool:
    return model.joint_posterior and len(model.names) > 1


def _table(name: str, summary: str, *, joint: bool, paired: bool) -> Item:
    return Item(
        name,
        summary,
        ("datasets", "models", "recipes", "seeds", "budget", "jobs"),
        show_comparison,
        needs="MNIST (downloaded where --data-dir has none)",
        defaults={"datasets": ("mnist",), "models": PAPER_MODELS},
        choices={"datasets": all_datasets(), "models": all_models()},
        whole=PAPER_DATASETS,
        cells=partial(_cells, joint),
        measure=partial(evaluated, joint=joint),
        compare=partial(compared, joint=joint) if paired else None,
        budgets=WITH_LONG,
    )


TABLE1 = Item(
    "table1",
    "inference-network parameters of every model (counted, nothing is trained)",
    ("datasets", "models"),
    show_comparison,
    defaults={"datasets": PAPER_DATASETS, "models": PAPER_MODELS},
    choices={"datasets": all_datasets(), "models": all_models()},
    make=_counted,
)
LIKELIHOOD_TABLES = (
    _table("table2", "log p(x1), log p(x1,x2), log p(x1|x2) with proposal q(z|x1)", joint=False, paired=True),
    _table("table3", "variances of the log importance weights with proposal q(z|x1)", joint=False, paired=False),
    _table("table6", "as table2 with proposal q(z|x1,x2)", joint=True, paired=True),
    _table("table7", "as table3 with proposal q(z|x1,x2)", joint=True, paired=False),
)
