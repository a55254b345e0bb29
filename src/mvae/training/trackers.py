"""Callbacks for services that track metrics: Weights & Biases, MLflow and trackio, each imported when created."""

import importlib
from collections.abc import Mapping
from typing import Any

from mvae.errors import MissingDependencyError
from mvae.training.callbacks import Callback, Plan

__all__ = ["MLflow", "Trackio", "WandB"]


class _Tracker(Callback):
    """A run of a service, which begins and ends with the training.

    Args:
        project: project of the run.
        name: name of the run; None lets the service choose.
        config: settings that are kept with the metrics, such as ``config.to_dict()`` of a declaration.
        options: options of the service's own function that begins a run.

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
    """Logs every metric of every epoch to Weights & Biases; ``mode="offline"`` keeps them on this machine."""

    package = "wandb"

    def on_start(self, plan: Plan) -> None:
        """Begin a run."""
        self._run = self._service.init(project=self._project, name=self._name, config=self._config, **self._options)

    def on_epoch(self, values: dict[str, float]) -> None:
        """Add a point to each curve."""
        self._run.log(values, step=int(values["epoch"]))

    def on_end(self) -> None:
        """End the run."""
        self._run.finish()


class Trackio(WandB):
    """The same for trackio, which keeps its data in a local database."""

    package = "trackio"


class MLflow(_Tracker):
    """Logs every metric of every epoch to MLflow, in the experiment ``project``.

    MLflow's names may have letters, digits and ``_-. :/``: other characters become ``_``. It stores ``/`` as folders,
    so only the first one is kept: ``validation/objective/unweighted`` becomes ``validation/objective.unweighted``.
    """

    package = "mlflow"

    def on_start(self, plan: Plan) -> None:
        """Begin a run, with the settings as parameters."""
        self._service.set_experiment(self._project)
        self._service.start_run(run_name=self._name, **self._options)
        self._service.log_params(_flat(self._config))

    def on_epoch(self, values: dict[str, float]) -> None:
        """Add a point to each curve."""
        named = {_metric(name): value for name, value in values.items()}
        self._service.log_metrics(named, step=int(values["epoch"]))

    def on_end(self) -> None:
        """End the run."""
        self._service.end_run()


def _metric(name: str) -> str:
    """A metric's name such that no other metric's name is a folder in it."""
    first, slash, rest = _allowed(name).partition("/")
    return first + slash + rest.replace("/", ".")


def _allowed(name: str) -> str:
    """A metric's name in the characters that MLflow allows.

    >>> _allowed("validation/accuracy image->label")
    'validation/accuracy image-_label'
    """
    return "".join(character if character.isalnum() or character in "_-. :/" else "_" for character in name)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names, each cut to 500 characters; MLflow takes at most 100 at once."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{_allowed(name)}"
        found |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: str(value)[:500]}
    return found
