"""A GPU computes what a CPU computes, and a recorded step matches an eager one. Skipped without a GPU."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import mvae
from mvae.data.table import Table
from mvae.evaluation.prediction import prediction_accuracy
from mvae.evaluation.validation import validate
from mvae.modality.augment import Noise
from mvae.models.base import MultimodalVAE
from mvae.paper.attributes import ATTRIBUTES
from mvae.paper.datasets import digits
from mvae.runs.sweep import sweep
from mvae.training.callbacks import Callback
from mvae.training.settings import TrainingSettings
from mvae.training.step import Step
from tests.built import built
from tests.small_training import incomplete

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

ROWS, BATCH = 60, 20
MODELS = ("mvae", "vae", "cvae", "bivcca", "jmvae", "mvae_q", "telbo", "mmvae", "mopoe", "mvtcae", "nn", "ae")


def random_rows(dataset: str) -> Table:
    """Random values like those of the dataset, so that no data is read."""
    g = torch.Generator().manual_seed(0)

    def levels(*shape: int) -> Tensor:
        return torch.randint(256, (ROWS, *shape), dtype=torch.uint8, generator=g)

    match dataset:
        case "digits":
            return Table({"image": levels(1, 8, 8) / 255, "label": torch.randint(10, (ROWS,), generator=g)})
        case "multimnist":
            text = torch.randint(10, (ROWS, 4), generator=g)
            lengths = torch.randint(5, (ROWS, 1), generator=g)
            return Table({"image": levels(1, 50, 50), "text": torch.where(torch.arange(4) < lengths, text, 10)})
        case "celeba19":
            return Table({"image": levels(3, 64, 64)} | {name: levels(1) > 128 for name in ATTRIBUTES})
        case _:
            return Table({"image": levels(1, 28, 28), "label": torch.randint(10, (ROWS,), generator=g)})


def few_pairs(table: Table) -> Table:
    """A third of the rows is complete; the others have only the image or the label."""
    third = torch.arange(len(table)) % 3
    first, second = table.names[:2]
    return Table(dict(table.columns), {first: third != 1, second: third != 2})


def step_of(model: MultimodalVAE, table: Table, recorded: bool) -> Step:
    settings = TrainingSettings(batch_size=BATCH, learning_rate=1e-3)
    step = Step(model.cuda().train(), table.to("cuda"), settings, seed=0)
    if recorded:
        step.plan(0)
    return step


def learned(make: Callable[[], MultimodalVAE], table: Table, recorded: bool) -> tuple[dict[str, Tensor], Step]:
    step = step_of(make(), table, recorded)
    for beta in (0.0, 0.5, 1.0, 1.0):
        for index in torch.arange(len(table), device="cuda").split(BATCH):
            step(index, beta, 1e-3 if beta < 1 else 5e-4)
    assert (step._graph is not None) == (step.way == "recorded")
    return step.model.state_dict(), step


@pytest.mark.parametrize("pairs", ["all", "few"])
@pytest.mark.parametrize(
    ("dataset", "model", "recipe"),
    [("digits", name, "paper") for name in MODELS]
    + [(dataset, "mvae", "coupled") for dataset in ("digits", "mnist", "fashion-mnist", "multimnist", "celeba19")],
)
def test_recorded_step_matches_an_eager_one(dataset: str, model: str, recipe: str, pairs: str) -> None:
    table = random_rows(dataset)
    if pairs == "few":
        if model in ("vae", "cvae", "jmvae", "telbo", "nn", "ae", "mopoe", "mvtcae", "mmvae") or dataset == "celeba19":
            pytest.skip("needs complete rows")
        table = few_pairs(table)

    def make() -> MultimodalVAE:
        guesses = pairs == "few" and recipe == "coupled"
        return built(dataset, recipe, model=model, pseudo_labels=guesses)

    recorded, step = learned(make, table, recorded=True)
    eager_only = dataset == "celeba19" or (dataset, pairs) == ("multimnist", "few")  # random subsets; masked batch norm
    assert (step.way == "recorded") == (not eager_only)
    if eager_only:
        pytest.skip("its steps are not recorded")
    eager, other = learned(make, table, recorded=False)
    for name, value in eager.items():  # rounding decides Adam's direction where a gradient is near zero
        far = ((recorded[name] - value).abs() > 2e-3 + 2e-2 * value.abs()).double().mean()
        assert far < 0.02, f"{name}: {far:.1%} of the weights are far apart"
    for name, value in other.means().items():
        assert step.means()[name] == pytest.approx(value, rel=1e-2, abs=1e-2), name


@pytest.mark.parametrize("dataset", ["digits", "fashion-mnist", "multimnist", "celeba19"])
@pytest.mark.parametrize("pairs", ["all", "few"])
def test_objective_matches_the_cpu(dataset: str, pairs: str) -> None:
    table = random_rows(dataset) if pairs == "all" else few_pairs(random_rows(dataset))
    model = built(dataset, random_subsets=0).double()
    terms = model.terms(table.presence(model.names))
    noise = torch.randn(len(terms.names), len(table), model.latent_dim, dtype=torch.float64)
    losses, gradients = [], []
    for device in ("cpu", "cuda"):
        model = model.to(device)
        model.zero_grad()
        loss = model(table, terms, beta=0.7, noise=noise.to(device)).loss
        loss.backward()
        losses.append(loss.item())
        gradients.append({n: p.grad.cpu().clone() for n, p in model.named_parameters() if p.grad is not None})
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=1e-5, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("stop", [4, 11])
def test_resumed_run_matches_an_uninterrupted_one(tmp_path: Path, stop: int) -> None:
    """Same order, noise and random draws of the networks; equal up to the order of a GPU's additions."""

    class Stops(Callback):
        def on_epoch(self, values: dict[str, float]) -> None:
            if values["epoch"] == stop:
                raise KeyboardInterrupt

    def fresh() -> MultimodalVAE:
        model = built("digits").cuda()
        model.modalities["image"].augment = (Noise(0.3),)
        return model

    table = few_pairs(random_rows("digits"))
    settings = {"epochs": 15, "anneal_epochs": 5, "batch_size": BATCH, "checkpoint_seconds": 0.0}
    whole, parts = fresh(), fresh()
    mvae.fit(whole, table, callbacks=[], **settings)
    with pytest.raises(KeyboardInterrupt):
        mvae.fit(parts, table, run_dir=tmp_path, callbacks=[Stops()], **settings)
    parts = fresh()
    mvae.fit(parts, table, run_dir=tmp_path, resume=True, callbacks=[], **settings)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: n + m)


def test_incomplete_rows_train_and_are_queried() -> None:
    model = built("celeba19", "paper", model="mvae").cuda()
    g = torch.Generator().manual_seed(1)
    table = random_rows("celeba19")
    table = Table(dict(table.columns), {n: (torch.rand(ROWS, generator=g) < 0.5) | (n == "image") for n in table.names})
    history = mvae.fit(model, table, epochs=1, batch_size=BATCH, validation=table, callbacks=[])
    assert all(torch.tensor(value).isfinite() for value in history.epochs[0].values())
    assert model.generate({"Male": torch.ones(2, 1)}, n=3)["image"].shape == (3, 2, 3, 64, 64)


def test_likelihoods_match_the_cpu_within_their_error() -> None:
    from mvae.evaluation.likelihood import log_likelihoods

    model = built("digits")
    table = digits.load().train.first(300)
    mvae.fit(model, table, epochs=30, callbacks=[])
    test = table.first(50)
    queries = {"joint": (["image", "label"], []), "conditional": (["image"], ["label"])}
    found = [
        log_likelihoods(model.to(device), test, queries, proposal=("image",), samples=2_000, seed=seed)
        for device, seed in (("cpu", 0), ("cpu", 1), ("cuda", 0))
    ]
    for name in queries:
        cpu, again, gpu = (f[name].mean for f in found)
        assert abs(gpu - cpu) <= max(1.0, 4 * abs(again - cpu)), (name, cpu, again, gpu)
    cpu, gpu = (validate(model.to(device), test)["objective"] for device in ("cpu", "cuda"))
    assert gpu == pytest.approx(cpu, rel=0.05)
    right = [prediction_accuracy(model.to(device), test, ["image"], "label")[""].mean for device in ("cpu", "cuda")]
    assert right[0] == pytest.approx(right[1], abs=0.02)


def test_small_incomplete_modalities_train(tmp_path: Path) -> None:
    from tests.small_training import model

    net = model().cuda()
    mvae.fit(net, incomplete(), epochs=3, batch_size=5, run_dir=tmp_path, callbacks=[])
    assert all(p.isfinite().all() for p in net.parameters())


def test_concurrent_recording_threads_match_sequential_runs() -> None:
    """Each has its own stream, noise and initial weights; noise on the inputs does not use a shared generator."""

    def trained(seed: int) -> dict[str, Tensor]:
        model = built("mnist", seed=seed, pseudo_labels=True).cuda()
        model.modalities["image"].augment = (Noise(0.5),)
        table = few_pairs(random_rows("mnist"))
        mvae.fit(model, table, epochs=8, anneal_epochs=2, batch_size=BATCH, seed=seed, callbacks=[])
        return {name: value.clone() for name, value in model.state_dict().items()}

    jobs = {str(seed): seed for seed in range(20)}
    alone = dict(sweep(trained, jobs))
    together = dict(sweep(trained, jobs, workers=6, threads_on=torch.device("cuda")))
    for seed, weights in alone.items():
        for name, value in weights.items():
            far = ((together[seed][name] - value).abs() > 2e-3 + 2e-2 * value.abs()).double().mean()
            assert far < 0.02, f"seed {seed}, {name}: {far:.1%} of the weights are far apart"


def test_thread_keeps_its_stream() -> None:
    """PyTorch hands out 32 streams in turn: with a new one for each run, two threads would share one and hang."""

    def stream(_: int) -> int:
        return torch.cuda.current_stream().cuda_stream

    jobs = {str(number): number for number in range(100)}
    found = set(dict(sweep(stream, jobs, workers=4, threads_on=torch.device("cuda"))).values())
    assert 1 <= len(found) <= 4
    assert torch.cuda.default_stream().cuda_stream not in found


def test_more_runs_than_streams_finish() -> None:
    def trained(seed: int) -> bool:
        model = built("mnist", seed=seed).cuda()
        history = mvae.fit(model, random_rows("mnist"), epochs=100, batch_size=BATCH, seed=seed, callbacks=[])
        return len(history.epochs) == 100

    jobs = {str(seed): seed for seed in range(40)}
    assert all(dict(sweep(trained, jobs, workers=8, threads_on=torch.device("cuda"))).values())
