"""Are regressions on multiply imputed tables unbiased? Effects pooled by Rubin's rules, and those of complete data.

    python benchmarks/pooling.py [--rows 300] [--tables 12] [--methods mvae,…] [--json]

y depends linearly on x1, x2, a log-normal x3 and a binary s. x2 is missing at random given y; x3 and s are missing
completely at random. Each method fills in the same tables 20 times. The chained equations are scikit-learn's, with
draws from the posterior of each linear regression; s is a number there. ``--json`` adds rows to results/pooling.json.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import timing
import torch
from scipy.stats import t
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer

import mvae
from mvae.paper.results import Row, new_row
from mvae.provenance import circumstances

DRAWS, COMPLETE = 20, "complete rows"
EFFECTS = {"x1": 1.0, "x2": -0.5, "x3": 0.5, "s": 0.7}
Estimate = tuple[np.ndarray, np.ndarray, np.ndarray]  # effects, standard errors, degrees of freedom


def complete(rows: int, random: np.random.Generator) -> pd.DataFrame:
    """A table without missing values."""
    x1 = random.normal(size=rows)
    x2 = 0.5 * x1 + random.normal(0, 0.87, rows)
    x3 = np.exp(0.4 * x1 + 0.4 * random.normal(size=rows))
    s = (random.random(rows) < 1 / (1 + np.exp(-0.8 * x2))).astype(int)
    frame = pd.DataFrame({"x1": x1, "x2": x2, "x3": x3, "s": s})
    return frame.assign(y=frame.to_numpy() @ list(EFFECTS.values()) + 1 + random.normal(size=rows))


def with_holes(frame: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """The table with a third of x2 and a fifth of x3 and s missing."""
    chances = {"x2": 1 / (1 + np.exp(0.8 - 0.5 * (frame["y"] - 2))), "x3": 0.2, "s": 0.2}
    return frame.assign(**{name: frame[name].where(random.random(len(frame)) >= p) for name, p in chances.items()})


def regression(frame: pd.DataFrame) -> Estimate:
    """Least squares of y on all other columns."""
    x = np.column_stack([frame[list(EFFECTS)].to_numpy(float), np.ones(len(frame))])
    effects, *_ = np.linalg.lstsq(x, frame["y"].to_numpy(float), rcond=None)
    free = len(x) - x.shape[1]
    variance = ((frame["y"] - x @ effects) ** 2).sum() / free
    errors = np.sqrt(variance * np.diag(np.linalg.inv(x.T @ x)))
    return effects[:-1], errors[:-1], np.full(len(EFFECTS), float(free))


def pooled(tables: Sequence[pd.DataFrame]) -> Estimate:
    """Rubin's rules (1987, Eq. 3.1.2 to 3.1.6)."""
    effects, errors = (np.array(part) for part in list(zip(*map(regression, tables), strict=True))[:2])
    within, between = (errors**2).mean(0), (1 + 1 / len(tables)) * effects.var(0, ddof=1)
    total = within + between
    return effects.mean(0), np.sqrt(total), (len(tables) - 1) * (total / between) ** 2


def by_mvae(holes: pd.DataFrame, seed: int, **changes: dict[str, Any]) -> list[pd.DataFrame]:
    """Draws of a model with default settings, or with these changes."""
    model = mvae.fit_table(holes, seed=seed, changes=changes, callbacks=[])
    return [part for _, part in model.impute(holes, draws=DRAWS, seed=seed).groupby(".imp")]


def by_chained_equations(holes: pd.DataFrame, seed: int) -> list[pd.DataFrame]:
    """Draws of linear regressions of each column on the others, with x3 on a logarithmic scale."""
    logs = holes.assign(x3=np.log(holes["x3"]))
    tables = []
    for number in range(DRAWS):
        filler = IterativeImputer(sample_posterior=True, random_state=DRAWS * seed + number)
        filled = pd.DataFrame(filler.fit_transform(logs), columns=list(holes))
        tables.append(filled.assign(x3=np.exp(filled["x3"])))
    return tables


METHODS: dict[str, Callable[[pd.DataFrame, int], list[pd.DataFrame]]] = {
    "mvae": by_mvae,
    "mvae with 50 samples": partial(by_mvae, models={"mmvae": {"samples": 50}}),
    "chained equations": by_chained_equations,
}


def main() -> None:
    """Print and record each method's bias and the coverage of its 95 % intervals."""
    parser = timing.parser(__doc__, "--json")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--tables", type=int, default=12)
    parser.add_argument("--methods", default=",".join([*METHODS, COMPLETE]), help="separated by commas")
    args = parser.parse_args()
    biases: dict[str, list[np.ndarray]] = {name: [] for name in args.methods.split(",")}
    covered: dict[str, list[np.ndarray]] = {name: [] for name in biases}
    for seed in range(args.tables):
        random = np.random.default_rng(seed)
        whole = complete(args.rows, random)
        holes = with_holes(whole, random)
        for name in biases:
            whole_rows = name == COMPLETE
            effects, errors, free = regression(holes.dropna()) if whole_rows else pooled(METHODS[name](holes, seed))
            biases[name].append(effects - regression(whole)[0])
            covered[name].append(np.abs(effects - list(EFFECTS.values())) < t.ppf(0.975, free) * errors)
        print(f"table {seed + 1} of {args.tables}", file=sys.stderr)
    rows: list[Row] = []
    for name in biases:
        shared = {"dataset": f"linear, {args.rows} rows", "model": name, "budget": "default", "recipe": "", "seed": 0}
        shared |= {"n": args.tables, "settings": {"draws": DRAWS}, "command": timing.command()}
        shared |= circumstances(torch.device("cpu"))
        bias, hit = np.array(biases[name]), np.mean(covered[name], axis=0)
        for i, effect in enumerate(EFFECTS):
            error = float(bias[:, i].std(ddof=1) / np.sqrt(len(bias)))
            rows.append(new_row("pooling", f"bias of {effect}", float(bias[:, i].mean()), error, shared))
            rows.append(new_row("pooling", f"coverage of {effect}", float(hit[i]), None, shared))
            print(f"{name:18} {effect}: bias {bias[:, i].mean():+.3f} ± {error:.3f}, covered {hit[i]:.0%}")
    if args.json:
        timing.record("pooling", rows)


if __name__ == "__main__":
    main()
