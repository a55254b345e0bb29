"""What the studies add to the library: items of `mvae reproduce`, datasets and declarations."""

DATASETS = "mvae.studies.datasets"
DECLARATIONS = "mvae.studies.experiments"

ITEMS: dict[str, str] = {
    "polymnist": "mvae.studies.polymnist:POLYMNIST",
    "cite-seq": "mvae.studies.cite_seq:CITE_SEQ",
    "mfeat": "mvae.studies.mfeat:MFEAT",
    "tables": "mvae.studies.tables:TABLES",
}
