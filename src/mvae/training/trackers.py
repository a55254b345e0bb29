"""Callbacks for services that keep metrics: Weights & Biases, MLflow and trackio, each imported when it is made."""

import importlib
from collections.abc import Mapping
from typing import Any

from mvae.errors import MissingDependencyError
from mvae.training.callbacks import Callback, Plan

__all__ = ["MLflow", "Trackio", "WandB"]


class _Tracker(Callback):
    """A run of a service, which begins and ends with the training.

    Args:
        project: what the run belongs to.
        name: of the run; None lets the service choose.
        config: settings that are kept beside the metrics, such as ``config.to_dict()`` of a declaration.
        options: of the service's own function that begins a run.

    Raises:
        MissingDependencyError: the service's package is not installed.
    """

    package: str

    def __init__(
        self, project: str, name: str | None = None, config: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        try:
            self._service: Any = importlib.import_module(self.package)
        except ImportError:
            raise MissingDependencyError(f"{self.package} is not installed: pip install {self.package}") from None
        self._project, self._name, self._config, self._options = project, name, dict(config or {}), options


class WandB(_Tracker):
    """Every metric of every epoch in Weights & Biases; ``mode="offline"`` keeps it on this machine."""

    package = "wandb"

    def on_start(self, plan: Plan) -> None:
        """Begin a run."""
        self._run = self._service.init(project=self._project, name=self._name, config=self._config, **self._options)

    def on_epoch(self, values: dict[str, float]) -> None:
        """One point of each curve."""
        self._run.log(values, step=int(values["epoch"]))

    def on_end(self) -> None:
        """End the run."""
        self._run.finish()


class Trackio(WandB):
    """The same in trackio, which keeps its data in a local database."""

    package = "trackio"


class MLflow(_Tracker):
    """Every metric of every epoch in MLflow, as the experiment ``project``.

    Names may have letters, digits and ``_-. :/`` there: other characters become ``_``. It keeps metrics in
    folders by ``/``, of which only the first stays: ``validation/objective/unweighted`` ends in ``objective.unweighted``.
    """

    package = "mlflow"

    def on_start(self, plan: Plan) -> None:
        """Begin a run, with the settings as parameters."""
        self._service.set_experiment(self._project)
        self._service.start_run(run_name=self._name, **self._options)
        self._service.log_params(_flat(self._config))

    def on_epoch(self, values: dict[str, float]) -> None:
        """One point of each curve."""
        named = {_metric(name): value for name, value in values.items()}
        self._service.log_metrics(named, step=int(values["epoch"]))

    def on_end(self) -> None:
        """End the run."""
        self._service.end_run()


def _metric(name: str) -> str:
    """A metric's name, of which no other one is a folder."""
    first, slash, rest = _allowed(name).partition("/")
    return first + slash + rest.replace("/", ".")


def _allowed(name: str) -> str:
    """A metric's name in the characters that MLflow takes.

    >>> _allowed("validation/accuracy image->label")
    'validation/accuracy image-_label'
    """
    return "".join(character if character.isalnum() or character in "_-. :/" else "_" for character in name)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names, which MLflow takes 100 of at once and 500 characters of each."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{_allowed(name)}"
        found |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: str(value)[:500]}
    return found
