"""`mvae reproduce figure10`: MVAE19 with k = 0 … 50 random subsets, independent noise per term or shared (App. I).

It shows the effect of k on the joint log-likelihood and on the variance of the log weights. More terms also average
over more noise; with ``shared_noise``, all terms of a row have the same ε, so that only the number of terms changes.
The paper shows plots without numbers, of 3 seeds.

The paper does not say which weights it means: ours are Table 3's for the joint, with proposal q(z | x1); all three
likelihoods' are recorded.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from mvae.paper.coupling import rows_as
from mvae.paper.item import SUBSETS, Budget, Number
from mvae.paper.mvae19 import Panel, draw_panels, item_of_19

__all__ = ["FIGURE10"]

BUDGETS_OF_K = {  # laptop: 35 minutes on one core for all six, with one seed
    "smoke": Budget("", {"epochs": 1, "rows": 60}, 5, 10, None, ("faces19",), (0, 1)),
    "laptop": Budget("", {"epochs": 12, "rows": 1_000}, 100, None, None, ("celeba19",), (0, 1, 10)),
    "paper": Budget("", datasets=("celeba19",), levels=(0, 1, 2, 5, 10, 20, 30, 40, 50)),
}
JOINT, VARIANCE = "log p(x1,x2)", "var log w p(x1,x2)"
_PANELS = (
    Panel("(a) log p(x, y), nats", JOINT, {"shared_noise": False}),
    Panel("(b) variance of log w", VARIANCE, {"shared_noise": False}),
    Panel("(c) variance of log w, one ε for all terms", VARIANCE, {"shared_noise": True}),
)


def _changes(levels: Sequence[Number]) -> list[dict[str, Any]]:
    return [{"random_subsets": k, "shared_noise": shared} for shared in (False, True) for k in levels]


FIGURE10 = item_of_19(
    "figure10",
    "MVAE19 with k = 0 … 50 random subsets, independent noise per term or shared, in RESULTS/figure10.png",
    levels=SUBSETS,
    budgets=BUDGETS_OF_K,
    changes=_changes,
    measure=partial(rows_as, "figure10", tables=("table2", "table3")),
    draw=partial(draw_panels, setting="random_subsets", label="k: random subsets a step", panels=_PANELS),
)
