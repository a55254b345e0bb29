"""The package: its public names, which are imported only when they are used."""

import inspect
import re
import subprocess
import sys

import pytest

import mvae


def test_public_names_exist_and_are_listed() -> None:
    for name in mvae.__all__:
        assert getattr(mvae, name) is not None
        assert name in dir(mvae)
    assert "__version__" in dir(mvae)
    assert re.fullmatch(r"\d+\.\d+\.\d+", mvae.__version__)


def test_public_names_are_the_original_objects() -> None:
    from mvae.data.table import Table
    from mvae.likelihoods.discrete import Bernoulli
    from mvae.models.mvae import MVAE
    from mvae.training.fit import fit

    assert (mvae.Table, mvae.MVAE, mvae.fit) == (Table, MVAE, fit)
    assert mvae.likelihoods.Bernoulli is Bernoulli
    assert mvae.progress.Bar.__module__ == "mvae.training.progress"


def test_rows_of_any_form_are_the_argument_data() -> None:
    """A mapping, a data frame or a `Table` is ``data`` everywhere; ``table`` is a `Table`."""
    takers = [
        function
        for name in mvae.__all__
        if inspect.isfunction(function := getattr(mvae, name)) and "data" in inspect.signature(function).parameters
    ]
    assert {mvae.fit, mvae.fit_prior, mvae.impute, mvae.log_likelihood, mvae.fit_table} <= set(takers)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'mvae' has no attribute 'VEA'"):
        mvae.VEA  # noqa: B018
    assert not hasattr(mvae, "VEA")


def test_import_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, mvae; dir(mvae); print({'torch', 'numpy', 'sklearn', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "set()\n", "")
