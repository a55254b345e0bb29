"""Models by name, imported lazily."""

import subprocess
import sys

import pytest

import mvae.models
from mvae.errors import SettingsError
from mvae.models import MODELS, MultimodalVAE, get_model_class


def test_registered_models_are_exported_by_class_name() -> None:
    for name in MODELS:
        found = get_model_class(name)
        assert issubclass(found, MultimodalVAE)
        assert getattr(mvae.models, found.__name__) is found
        assert found.__name__ in mvae.models.__all__
        assert found.__name__ in dir(mvae.models)


def test_unknown_name_error_lists_models() -> None:
    with pytest.raises(
        SettingsError, match=r"no model 'jmva' \(did you mean 'jmvae'\?\); there are bivcca, cvae, jmvae"
    ):
        get_model_class("jmva")
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        mvae.models.Nothing  # noqa: B018


def test_importing_the_registry_does_not_import_torch() -> None:
    code = "import sys, mvae.models; mvae.models.MODELS; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
