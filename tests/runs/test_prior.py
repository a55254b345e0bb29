"""`mvae fit-prior`: the prior is saved in the run's directory, and used on request."""

import sys
from pathlib import Path

import pytest
import torch

from mvae.errors import MissingDependencyError, QueryError, RunError
from mvae.models.prior import MixturePrior
from mvae.runs import run as runs
from mvae.runs.prior import FILE, fit_run_prior, use_fitted_prior
from mvae.runs.run import Run, open_run
from mvae.runs.saving import load, save
from tests.command import assert_refused, mvae
from tests.declared import changed


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "digits"
    runs.train(changed("digits", epochs=2), directory, device="cpu", callbacks=[])
    return directory


@pytest.fixture
def trained(directory: Path) -> Run:
    return open_run(directory, device="cpu")


def test_missing_fitted_prior_is_reported(directory: Path) -> None:
    (directory / FILE).unlink(missing_ok=True)
    for command in ("sample", "evaluate"):
        assert_refused(mvae(command, directory, "--fitted-prior"), f"no fitted prior: mvae fit-prior {directory}")


def test_fitted_prior_fits_better_and_is_used_on_request(directory: Path) -> None:
    found = mvae("fit-prior", directory, "--components", 3, "--rows", 500, "--json").json()
    assert (found["kind"], found["rows"], found["prior"]) == ("mixture", 500, str(directory / FILE))
    assert found["fitted"] > found["standard"]
    numbers = {}
    for flags in ((), ("--fitted-prior",)):
        result = mvae("evaluate", directory, "--rows", 20, "--samples", 50, "--json", *flags).json()
        numbers[flags] = result["likelihoods"]["log p(x1)"]["mean"]
        picture = mvae("sample", directory, "--of", "label", "--n", 3, *flags)
        assert picture.code == 0
    assert numbers[()] != numbers[("--fitted-prior",)]


def test_prior_is_read_from_its_file(trained: Run) -> None:
    fit_run_prior(trained, components=2, rows=300, seed=3)
    z, prior = torch.randn(4, trained.model.latent_dim), trained.model.prior
    assert isinstance(prior, MixturePrior)
    trained.model.prior = None
    use_fitted_prior(trained)
    assert trained.model.prior is not None
    assert torch.equal(trained.model.prior.log_prob(z), prior.log_prob(z))


def test_model_is_saved_with_its_prior(trained: Run, tmp_path: Path) -> None:
    fit_run_prior(trained, components=2, rows=300)
    z, prior = torch.randn(4, trained.model.latent_dim), trained.model.prior
    save(trained.model, tmp_path / "digits.mvae")
    again = load(tmp_path / "digits.mvae")
    assert prior is not None
    assert again.prior is not None
    assert torch.equal(again.prior.log_prob(z), prior.log_prob(z))
    trained.model.prior = None
    save(trained.model, tmp_path / "digits.mvae")
    assert load(tmp_path / "digits.mvae").prior is None


def test_damage_and_invalid_options_are_refused(trained: Run) -> None:
    with pytest.raises(QueryError, match="rows must be at least 1"):
        fit_run_prior(trained, rows=0)
    (trained.directory / FILE).write_bytes(b"nothing")
    with pytest.raises(RunError):
        use_fitted_prior(trained)
    assert_refused(mvae("fit-prior", trained.directory, "--kind", "vamp"), "is not one of 'mixture', 'flow'")


def test_absent_zuko_is_named_before_the_rows_are_read(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ["zuko", *(name for name in sys.modules if name.startswith("zuko."))]:
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(MissingDependencyError, match=r"pip install 'mvae\[flows\]'"):
        fit_run_prior(trained, "flow", rows=1)  # too few, which is seen when they are read
