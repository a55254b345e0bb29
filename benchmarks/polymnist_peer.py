"""multivae's models on PolyMNIST: our networks, rows, steps and classifiers, trained with multivae's objectives.

    python benchmarks/polymnist_peer.py [mvtcae mopoe mvae] [--budget laptop] [--results results]

The networks are shared: multivae trains them, then our model of the same name is measured as in `mvae reproduce
polymnist`. Both have the same posterior, which is checked. That command shows these rows (recipe ``multivae``).
"""

import time
from pathlib import Path
from typing import Any

import peer
import timing
import torch

import mvae
from mvae.models.base import MultimodalVAE
from mvae.paper.results import add_rows
from mvae.runs.build import build
from mvae.runs.run import Run
from mvae.runs.source import load
from mvae.studies.polymnist import PEER, SPENDS, Setup, classifiers_of, rows_of

NAMES = {"mvae": "MVAE", "mvtcae": "MVTCAE", "mopoe": "MoPoE"}
OURS = {"mvae": "paper", "mvtcae": "own", "mopoe": "own"}  # the recipe that has the same objective


def theirs(multivae: Any, name: str, model: MultimodalVAE) -> Any:
    """multivae's model of that name with our model's networks, likelihoods and settings."""
    settings = {"mvae": {"k": 1, "warmup": 0}, "mvtcae": {"alpha": getattr(model, "alpha", None), "beta": 1.0}}
    config = getattr(multivae.models, f"{NAMES[name]}Config")(
        n_modalities=len(model.names),
        latent_dim=model.latent_dim,
        input_dims=dict.fromkeys(model.names, (3, 28, 28)),
        decoders_dist=dict.fromkeys(model.names, "laplace"),
        decoder_dist_params={n: {"scale": 0.75} for n in model.names},
        **settings.get(name, {}),
    )
    parts = model.modalities
    return getattr(multivae.models, NAMES[name])(
        config,
        encoders={n: peer.encoder(parts[n], parts[n].encoder, model.latent_dim) for n in model.names},
        decoders={n: peer.decoder(parts[n].decoder, model.latent_dim) for n in model.names},
    )


def trained(multivae: Any, setup: Setup, run: Run) -> float:
    """Train with the declaration's epochs, batch size and learning rates; return the seconds it took."""
    model, table, settings = run.model, run.data.train, run.config.training
    other = theirs(multivae, setup.model, model)
    optimizer = torch.optim.Adam(other.parameters(), lr=settings.learning_rate)
    generator, begun = torch.Generator().manual_seed(setup.seed), time.monotonic()
    per_epoch = -(-len(table) // settings.batch_size)
    left = settings.epochs * per_epoch
    for epoch in range(settings.epochs):
        total = 0.0
        for index in torch.randperm(len(table), generator=generator).split(settings.batch_size):
            share = min(1.0, left / (settings.decay_epochs * per_epoch)) if settings.decay_epochs else 1.0
            optimizer.param_groups[0]["lr"] = settings.learning_rate * share
            data = multivae.data.datasets.base.MultimodalBaseDataset(model.prepare(table.take(index)))
            optimizer.zero_grad()
            loss = other(data, epoch=epoch + 1).loss
            loss.backward()
            optimizer.step()
            total, left = total + float(loss.detach()), left - 1
        print(f"multivae {setup.model}: epoch {epoch + 1}/{settings.epochs}  loss {total / per_epoch:.2f}", flush=True)
    seconds = time.monotonic() - begun
    require_same_posterior(multivae, other.eval(), model.eval(), table.first(8))
    return seconds


@torch.no_grad()
def require_same_posterior(multivae: Any, other: Any, model: MultimodalVAE, table: mvae.Table) -> None:
    """Check that both posteriors have the same mean given two modalities (one for a mixture: multivae samples it)."""
    given = list(model.names[: 1 if type(model) is mvae.MoPoE else 2])
    data = multivae.data.datasets.base.MultimodalBaseDataset(model.prepare(table))
    mean = other.encode(data, cond_mod=given, return_mean=True).z
    torch.testing.assert_close(mean, model.posterior(table, given=given).mean, rtol=1e-3, atol=1e-3)


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(NAMES)}; default all")
    parser.add_argument("--budget", default="laptop", choices=list(SPENDS))
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the classifiers")
    parser.add_argument("--results", type=Path, default=Path("results"))
    args = parser.parse_args()
    multivae = peer.load()
    if multivae is None:
        raise SystemExit(1)
    for name in args.models or NAMES:
        setup = Setup(name, OURS[name], 0, args.budget)
        torch.manual_seed(setup.seed)
        data = load(setup.config, None)
        classifiers, accuracies = classifiers_of(data, SPENDS[args.budget], args.runs)
        run = Run(args.runs / "multivae", setup.config, build(setup.config), data, {})
        run.progress["seconds"] = trained(multivae, setup, run)
        command = f"python benchmarks/polymnist_peer.py {name} --budget {args.budget}"
        found = rows_of(setup, run, data.train, classifiers, accuracies, recipe=PEER, command=command)
        add_rows(args.results / "polymnist.json", list(found))


if __name__ == "__main__":
    main()
