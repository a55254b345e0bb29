"""`mvae train DATASET` trains the paper's networks with the paper's settings."""

import math

import pytest
import torch
from torch import nn

from mvae.data.table import Table
from mvae.errors import SettingsError
from mvae.models.jmvae import JMVAE
from mvae.models.mvae import MVAE
from mvae.paper.attributes import ATTRIBUTES
from mvae.paper.cell import JMVAE_ALPHAS, defines, experiment
from mvae.runs.config import Config
from mvae.runs.registry import models
from mvae.runs.source import shipped
from tests.built import built

MODELS = tuple(dict.fromkeys([*models(), *JMVAE_ALPHAS]))


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def schedule(config: Config) -> tuple[int, int, int, float]:
    training = config.training
    return training.epochs, training.anneal_epochs, training.batch_size, training.learning_rate


def test_mnist_settings_match_paper() -> None:
    """App. A and Sec. 4."""
    mnist, model = experiment("mnist"), built("mnist", "paper")
    assert schedule(mnist) == (500, 200, 100, 1e-3)
    assert model.latent_dim == 64
    assert model.names == ("image", "label")
    assert model.weights == (1.0, 50.0)


def test_mnist_inference_networks_match_table_1() -> None:
    """Table 1: 730,240 for the image, 333,440 for the label."""
    modalities = built("mnist").modalities
    assert parameters(modalities["image"].encoder) == 730_240
    assert parameters(modalities["label"].encoder) == 333_440


def test_multimnist_settings_and_networks_match_paper() -> None:
    """App. A ("with the remaining hyperparameters as in MNIST"), Sec. 4, Table 1."""
    config, model = experiment("multimnist"), built("multimnist", "paper")
    assert schedule(config) == (500, 200, 100, 1e-3)
    assert model.latent_dim == 100
    assert model.names == ("image", "string")
    assert model.weights == (1.0, 50.0)
    assert [parameters(m.encoder) for m in model.modalities.values()] == [1_316_936, 525_000]
    assert config.evaluation.show[0] == "string=1773"  # Figure 2


def test_digits_is_small_and_anneals_for_some_epochs() -> None:
    digits = experiment("digits")
    assert 0 < digits.training.anneal_epochs < digits.training.epochs
    assert parameters(built("digits")) < 500_000


def test_recipes_differ_only_in_image_to_all_term() -> None:
    paper, coupled = (built("digits", recipe) for recipe in ("paper", "coupled"))
    assert isinstance(paper, MVAE)
    assert isinstance(coupled, MVAE)
    assert (paper.cross_from, coupled.cross_from) == ((), ("image",))
    for one, other in zip(paper.state_dict().values(), coupled.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("model", MODELS)
def test_initial_weights_depend_only_on_seed(model: str) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    one, same, other = (built("digits", seed=seed, model=model).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def few_rows(name: str) -> Table:
    """Three rows as that dataset's reader returns them."""
    if name.startswith(("celeba", "faces")):
        images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
        attributes = torch.rand(3, 18) < 0.5
        if name.endswith("19"):
            return Table({"image": images} | {a: attributes[:, [i]] for i, a in enumerate(ATTRIBUTES)})
        return Table({"image": images, "attributes": attributes})
    if name == "vision":  # no face was found in the second row
        channels = {"image": 3, "gray": 1, "edges": 1, "mask": 1, "obscured": 3, "watermarked": 3}
        columns = {m: torch.randint(0, 256, (3, n, 64, 64), dtype=torch.uint8) for m, n in channels.items()}
        return Table(columns, present={"mask": [True, False, True]})
    if name == "translation":
        return Table({language: torch.arange(3)[:, None] * torch.tensor([1, 9, 0]) for language in ("en", "vi")})
    side = {"digits": 8, "multimnist": 50}.get(name, 28)
    second = {"label": torch.arange(3)}
    if name == "multimnist":
        second = {"string": torch.tensor([[1, 7, 7, 3], [5, 10, 10, 10], [10, 10, 10, 10]])}
    brightest = 1 if name in ("digits", "binary-mnist") else 255
    return Table({"image": brightest * torch.rand(3, 1, side, side), **second})


# Drawn faces have the networks of photographs. MMVAE's 190 terms with 19 modalities and MoPoE's 63 posteriors with six
# images take long and show nothing new.
LONG = {"celeba19": ("cvae", "jmvae", "mopoe", "mmvae", "mvtcae"), "vision": ("mopoe", "mmvae")}
PAIRS = [
    (name, model)
    for name in shipped()
    if name != "polymnist"  # belongs to a study and is tested there
    for model in MODELS
    if not (name.endswith("faces") or name == "faces19" or model in LONG.get(name, ()))
]


@pytest.mark.parametrize(("name", "model"), PAIRS)
def test_every_model_accepts_data_of_every_experiment(name: str, model: str) -> None:
    if not defines(name, model):
        family = model.partition("_alpha")[0]
        with pytest.raises(SettingsError, match=f"there is no {family} for {name}: the paper defines no networks"):
            built(name, model=model)
        return
    made = built(name, model=model)
    table = few_rows(name)
    made.check(table)
    loss = made(table).loss
    assert loss.isfinite()
    loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in made.parameters())


def test_celeba_settings_and_networks_match_paper() -> None:
    """App. A, Sec. 4 and 5, Table 1."""
    celeba, model = experiment("celeba"), built("celeba", "paper")
    assert schedule(celeba) == (100, 20, 100, 1e-4)
    assert (celeba.evaluation.samples, celeba.evaluation.denominator_samples) == (100, 1000)
    assert (model.latent_dim, model.names, model.weights) == (100, ("image", "attributes"), (1.0, 50.0))
    assert parameters(model.modalities["image"].encoder) == 4_070_472
    assert parameters(model.modalities["attributes"].encoder) == 377_032


def test_celeba19_has_nineteen_modalities_and_21_terms() -> None:
    """Sec. 4: k = 1."""
    model = built("celeba19", "paper")
    assert model.names == ("image", *ATTRIBUTES)
    assert len(model.terms(torch.ones(1, 19, dtype=torch.bool)).names) == 21
    assert set(model.weights[1:]) == {50.0}


def test_vision_settings_and_networks_match_paper() -> None:
    """Sec. 6: 250 latents, k = 1, λ = 1; the same convolutions whatever the channels (App. A)."""
    vision, model = experiment("vision"), built("vision", "paper")
    assert schedule(vision) == (100, 20, 50, 1e-4)
    assert model.latent_dim == 250
    assert model.names == ("image", "gray", "edges", "mask", "obscured", "watermarked")
    assert model.weights == (1.0,) * 6
    assert len(model.terms(torch.ones(1, 6, dtype=torch.bool)).names) == 8
    head = 512 * (500 - 200) + (500 - 200)  # 250 latents instead of 100
    for name, channels in (("image", 3), ("gray", 1), ("edges", 1), ("mask", 1), ("obscured", 3), ("watermarked", 3)):
        first = 32 * 16 * (3 - channels)
        assert parameters(model.modalities[name].encoder) == 4_070_472 + head - first


def test_models_without_published_networks_are_refused() -> None:
    for model in ("cvae", "jmvae"):
        with pytest.raises(SettingsError, match=f"there is no {model} for celeba19"):
            built("celeba19", model=model)
    with pytest.raises(SettingsError, match="19 modalities are too many"):
        built("celeba19", model="mopoe")


def test_weights_can_be_changed_by_modality() -> None:
    assert built("digits", weights={"label": 7.0}).weights == (1.0, 7.0)
    for weight in (-1.0, math.nan, math.inf):
        with pytest.raises(SettingsError, match=r"modalities\.label\.weight must be"):
            built("digits", weights={"label": weight})


@pytest.mark.parametrize(("name", "alpha"), [("jmvae", 0.01), ("jmvae_alpha_0.1", 0.1), ("jmvae_alpha_1", 1.0)])
def test_jmvae_alpha_matches_paper_and_sweep(name: str, alpha: float) -> None:
    """App. H: "JMVAE used identical architectures as the MVAE with a hyperparameter α = 0.01"."""
    made = built("mnist", model=name)
    assert isinstance(made, JMVAE)
    assert made.alpha == alpha


def test_extreme_models_have_only_their_terms() -> None:
    """Sec. 2.2: Eq. 2 alone, or single ELBOs alone; the MVAE-Q of one term has the MVAE-Q's posteriors."""
    table = few_rows("digits")
    for name, names in (
        ("mvae_joint_only", ["full"]),
        ("mvae_q_joint_only", ["full"]),
        ("mvae_singles_only", ["image", "label"]),
    ):
        model = built("digits", model=name)
        assert [*model.terms(table.present).names] == names
        whole = built("digits", model="mvae_q" if "_q_" in name else "mvae", recipe="paper")
        whole.load_state_dict(model.state_dict())
        q, expected = model.posterior(table), whole.posterior(table)
        torch.testing.assert_close(q.stddev, expected.stddev, rtol=0, atol=0)
