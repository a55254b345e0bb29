"""What the studies add to the library: items of `mvae reproduce`, datasets and declarations."""

__all__ = ["DATASETS", "DECLARATIONS", "ITEMS"]

DATASETS = "mvae.studies.datasets"
DECLARATIONS = "mvae.studies.experiments"

ITEMS = {"polymnist": "mvae.studies.polymnist:POLYMNIST"}
