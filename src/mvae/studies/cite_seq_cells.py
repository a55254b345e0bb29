"""RNA and surface proteins of the same cells: the data of the study `cite-seq`, its model, and its metrics."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor, nn

import mvae
from mvae.errors import DataError
from mvae.likelihoods import Gaussian, NegativeBinomial
from mvae.studies.study import found_folder, perceptron

SOURCE = "the public data of the totalVI study (PBMC10k), saved as pbmc10k.npz with X, Y, genes and proteins"
Counts = np.ndarray


@dataclass(frozen=True, eq=False)
class Cells:
    """Raw counts, a row per cell."""

    rna: Counts
    protein: Counts
    genes: tuple[str, ...]
    proteins: tuple[str, ...]

    def rows(self, index: np.ndarray) -> "Cells":
        """The cells with these indices."""
        return Cells(self.rna[index], self.protein[index], self.genes, self.proteins)

    def columns(self, genes: np.ndarray) -> dict[str, Tensor]:
        """Columns of a table: raw counts of these genes, log1p of the proteins' counts."""
        return {
            "rna": torch.from_numpy(np.ascontiguousarray(self.rna[:, genes])),
            "protein": torch.from_numpy(np.log1p(self.protein).astype(np.float32)),
        }

    def split(self, seed: int) -> tuple["Cells", "Cells"]:
        """Training cells and test cells, which are the first fifth of a random permutation."""
        order = np.random.default_rng(seed).permutation(len(self.rna))
        return self.rows(order[len(order) // 5 :]), self.rows(order[: len(order) // 5])


def read_cells(data_dir: str | Path | None = None) -> Cells:
    """Read PBMC10k of the totalVI study.

    Raises:
        DataError: the file is absent, or holds other arrays.
    """
    path = found_folder(data_dir, "cite-seq-pbmc10k", "pbmc10k.npz", SOURCE) / "pbmc10k.npz"
    with np.load(path) as file:
        if not {"X", "Y", "genes", "proteins"} <= set(file):
            raise DataError(f"{path} lacks X, Y, genes or proteins: get it from {SOURCE}")
        proteins = tuple(str(name).removesuffix("_TotalSeqB") for name in file["proteins"])
        return Cells(file["X"], file["Y"], tuple(map(str, file["genes"])), proteins)


def drawn_cells(cells: int = 300, genes: int = 60) -> Cells:
    """Synthetic cells of three random kinds, which need no download: for a test of the whole study."""
    random, proteins = np.random.default_rng(0), 5
    kind, depth = random.integers(0, 3, cells), np.exp(random.normal(0, 0.3, cells))[:, None]
    rna, protein = (np.exp(random.normal(mean, 1, (3, n))) for mean, n in ((0, genes), (3, proteins)))
    return Cells(
        random.poisson(rna[kind] * depth).astype(np.int32),
        random.poisson(protein[kind] * depth).astype(np.int32),
        tuple(f"gene {i}" for i in range(genes)),
        tuple(f"protein {i}" for i in range(proteins)),
    )


def log_normalised(rna: Counts) -> np.ndarray:
    """log1p of counts, scaled to the median total count of a cell."""
    total = rna.sum(1, keepdims=True)
    return np.log1p(rna / np.maximum(total, 1) * np.median(total)).astype(np.float32)


def variable_genes(rna: Counts, count: int) -> np.ndarray:
    """The indices of the genes whose log-normalised counts vary most."""
    return np.sort(np.argsort(-log_normalised(rna).var(0), kind="stable")[:count])


class Components(nn.Module):
    """The encoder's view of a cell's RNA: principal components of log-normalised counts, and the log of the total.

    Components are divided by the square root of their standard deviation, so that small ones count, but less than
    large ones.
    """

    projection: Tensor
    mean: Tensor
    typical: Tensor

    def __init__(self, rna: Counts, count: int):
        super().__init__()
        from sklearn.decomposition import PCA

        x, total = log_normalised(rna), np.log(np.maximum(rna.sum(1), 1))
        pca = PCA(min(count, *x.shape), svd_solver="randomized", random_state=0).fit(x)
        spread = np.sqrt(np.maximum(pca.explained_variance_, 1e-12))
        projection = pca.components_ / np.sqrt(spread * spread[0])[:, None]
        self.register_buffer("projection", torch.from_numpy(projection.T.astype(np.float32)))
        self.register_buffer("mean", torch.from_numpy(x.mean(0)))
        self.register_buffer(
            "typical", torch.tensor([np.median(rna.sum(1)), total.mean(), 2 * total.std()], dtype=torch.float32)
        )

    def forward(self, x: Float[Tensor, "rows genes"]) -> Float[Tensor, "rows features"]:
        """The components and the standardised log of the total."""
        total = x.sum(1, keepdim=True).clamp(min=1)
        components = (torch.log1p(x / total * self.typical[0]) - self.mean) @ self.projection
        return torch.cat([components, (total.log() - self.typical[1]) / self.typical[2]], 1)

    @property
    def width(self) -> int:
        """The number of features."""
        return self.projection.shape[1] + 1


@dataclass(frozen=True)
class Sizes:
    """Sizes of the model and its training, chosen on a fifth of the training cells of seed 0."""

    genes: int = 1000
    components: int = 100
    latents: int = 32
    hidden: int = 256
    dropout: float = 0.5
    rna_weight: float = 0.1
    protein_weight: float = 100.0
    epochs: int = 60


def model_of(rna: Counts, proteins: int, sizes: Sizes) -> "mvae.MVAE":
    """The model for these training cells' genes."""
    seen, latents = Components(rna, sizes.components), sizes.latents
    genes = rna.shape[1]
    return mvae.MVAE(
        {
            "rna": mvae.Modality(
                perceptron(seen.width, 2 * latents, sizes.hidden, sizes.dropout),
                perceptron(latents, genes, sizes.hidden // 2),
                NegativeBinomial(genes, exposure=True),
                weight=sizes.rna_weight,
                view=seen,
            ),
            "protein": mvae.Modality(
                perceptron(proteins, 2 * latents, sizes.hidden // 2),
                perceptron(latents, proteins, sizes.hidden // 2),
                Gaussian(0.5, learned=True),
                weight=sizes.protein_weight,
            ),
        },
        latents,
        cross_from=["rna"],
        cross_share=1.0,
    )


def metrics_of(truth: Counts, prediction: np.ndarray, draws: np.ndarray | None = None) -> dict[str, float]:
    """Metrics of log1p counts, averaged over proteins; with draws, also the coverage of their 90 % intervals."""
    log = np.log1p(truth)
    found = {
        "Pearson": float(np.mean([np.corrcoef(p, t)[0, 1] for p, t in zip(prediction.T, log.T, strict=True)])),
        "Spearman": float(
            np.mean([stats.spearmanr(p, t).statistic for p, t in zip(prediction.T, log.T, strict=True)])  # pyright: ignore
        ),
        "RMSLE": float(np.sqrt(((prediction - log) ** 2).mean(0)).mean()),
    }
    if draws is not None:
        low, high = np.quantile(draws, [0.05, 0.95], axis=0, method="closest_observation")
        found["coverage of 90 %"] = float(((truth >= low) & (truth <= high)).mean())
    return found
