"""Relaxed rules on toys: what each claims there, and what it pays, exactly."""

from __future__ import annotations

from typing import cast

import torch

from specverify.claims import Claim, ClusterLossless
from specverify.evidence.sequences import target_law
from specverify.model import Model
from specverify.report.shape_cells import Price
from specverify.rules import registry
from specverify.rules.clusters import Partition, labels
from specverify.rules.price import Priced, price
from specverify.rules.relaxation import NOTHING, Relaxation
from toymodels.tables import tabulate

PRICES = ("acceptance", "alpha", "gain", "bias", "excess")
LUMPING = 1e-12
"""How far cluster masses may differ, by rounding, on a model whose clusters lump."""


def context(model: Model) -> registry.Context:
    """What a toy has for rules to look at: its embedding and its clusters, where it has them."""
    return registry.Context(getattr(model, "embedding", None), getattr(model, "clusters", None) or None)


def claim_on(judging: Relaxation, model: Model) -> Claim:
    """What a rule claims of a model: a bound on the TV at its length, its clusters where these lump, or nothing."""
    bound = getattr(judging, "bound", None)
    if bound is not None:
        claim: Claim = bound(model.length)
        return claim
    if isinstance(judging.claim, ClusterLossless) and not lumps(model, judging.claim.partition):
        return NOTHING
    return judging.claim


def declared(judging: Relaxation | None, model: Model) -> float | None:
    """The bound on the TV that a rule declares at a model's length; None if it declares none below 1."""
    bound = getattr(judging, "bound", None)
    tv = 1.0 if bound is None else float(bound(model.length).tv)
    return tv if tv < 1 else None


@torch.no_grad()
def lumps(model: Model, partition: Partition) -> bool:
    """Whether cluster masses depend on earlier tokens through their clusters alone.

    Looks at every prefix of a small model, also at those without probability.
    """
    label, vocab = labels(partition), model.vocab
    table = tabulate(model).table
    masses = table.new_zeros(len(table), len(partition)).index_add_(1, label, table)
    first, history = 0, torch.zeros(1, dtype=torch.int64)
    for position in range(model.length):
        here = masses[first : first + vocab**position]
        names, group = history.unique(return_inverse=True)
        least = torch.full((len(names), len(partition)), torch.inf, dtype=here.dtype)
        index = group[:, None].expand_as(here)
        most = (-least).scatter_reduce(0, index, here, "amax")
        if bool((most - least.scatter_reduce(0, index, here, "amin") > LUMPING).any()):
            return False
        first += len(here)
        history = (history[:, None] * len(partition) + label).reshape(-1)
    return True


@torch.no_grad()
def exact_price(judging: Priced, model: Model, draft: Model) -> Price:
    """What a judged token costs, drafted by a second model: `Price`, on average over the prefixes of the target."""
    p, q = (tabulate(each).table for each in (model, draft))
    whole = target_law(model)
    weight = torch.cat([whole.view(model.vocab**n, -1).sum(1) for n in range(model.length)]) / model.length
    found = price(p[:, None], q[:, None], judging)

    return cast("Price", {name: float((getattr(found, name)[:, 0] * weight).sum()) for name in PRICES})
