"""Every table and figure that can be made: those of the paper, and those of further studies."""

from mvae.paper.coupling import LAMBDA
from mvae.paper.few_pairs import FEW_PAIRS
from mvae.paper.figure2 import FIGURE2
from mvae.paper.figure3 import FIGURE3
from mvae.paper.item import Item
from mvae.paper.mvae19 import FIGURE9, FIGURE10
from mvae.paper.tables import LIKELIHOOD_TABLES, TABLE1
from mvae.paper.translation import SENTENCES, TABLE4
from mvae.paper.vision import TRANSFORMATIONS
from mvae.runs import registry

ITEMS: dict[str, Item] = {
    item.name: item
    for item in (
        TABLE1,
        *LIKELIHOOD_TABLES,
        FIGURE2,
        TABLE4,
        *SENTENCES,
        *TRANSFORMATIONS,
        *FEW_PAIRS,
        FIGURE3,
        FIGURE9,
        FIGURE10,
        LAMBDA,
    )
}


def all_items() -> dict[str, Item]:
    """The paper's items and those that plug-ins define, by name."""
    return ITEMS | {name: registry.imported(path) for name, path in registry.items().items()}
