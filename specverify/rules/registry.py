"""Relaxed rules by name, each with the one parameter that turns it up, for sweeps and for the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from specverify.catalogue import Catalogue
from specverify.errors import InputError
from specverify.rules.clusters import Clusters, Partition
from specverify.rules.grouped import Grouped
from specverify.rules.lantern import Lantern
from specverify.rules.mixture import Mixture
from specverify.rules.relaxation import Relaxation
from specverify.rules.scaling import CoolSchedule, EntropyScaling, Scaling
from specverify.rules.threshold import Threshold
from specverify.rules.typical import Typical


@dataclass(frozen=True, eq=False)
class Context:
    """What a model has for rules to look at.

    Attributes:
        embedding: a row per token.
        partition: clusters of tokens, or the cluster of each.
    """

    embedding: Float[Tensor, "vocab dim"] | None = None
    partition: Partition | Int[Tensor, " vocab"] | None = None


@dataclass(frozen=True)
class Rule:
    """A relaxed rule that can be asked for by name.

    Attributes:
        name: how it is asked for.
        summary: one line.
        source: where it was published.
        parameter: what turns it up, and is swept; None if there is nothing.
        default: the parameter's value if none is given; 0 where there is no parameter.
        sweep: values from timid to bold; none where there is no parameter.
        needs: what `Context` must hold.
        make: builds it.
    """

    name: str
    summary: str
    source: str
    parameter: str | None
    default: float
    sweep: tuple[float, ...]
    needs: tuple[Literal["embedding", "partition"], ...]
    make: Callable[[float, Context], Relaxation]

    def build(self, value: float | None = None, context: Context | None = None) -> Relaxation:
        """The rule at a value of its parameter.

        Raises:
            InputError: the context lacks what it needs, or the value is impossible or not asked for.
        """
        context = context or Context()
        if value is not None and self.parameter is None:
            raise InputError(f"rule {self.name!r} has no parameter, but was given {value}; leave it out")
        for need in self.needs:
            if getattr(context, need) is None:
                raise InputError(f"rule {self.name!r} needs the {need} of the vocabulary; pass Context({need}=...)")
        return self.make(self.default if value is None else value, context)


_GSD, _LANTERN, _COOL = "GSD, arXiv 2508.07747", "LANTERN, arXiv 2410.03355", "Cool-SD, arXiv 2601.09212"


def _static(context: Context, residual: Literal["token", "cluster"]) -> Relaxation:
    assert context.partition is not None  # `needs` has seen to it
    return Clusters(context.partition, residual)


def _lantern(context: Context, k: int, delta: float = 0.1, odds: float | None = None) -> Relaxation:
    assert context.embedding is not None  # `needs` has seen to it
    return Lantern(context.embedding, k, delta, odds)


def _grouped(size: float, context: Context, at_least_token: bool = False) -> Relaxation:
    if size != int(size):
        raise InputError(f"size = {size}: the number of neighbours in a group is an integer")
    return Grouped.paper(int(size), embedding=context.embedding, at_least_token=at_least_token)


def _threshold(tau: float, context: Context) -> Relaxation:
    assert context.embedding is not None  # `needs` has seen to it
    return Threshold(context.embedding, tau)


_RULES = Catalogue(
    "rule",
    {
        rule.name: rule
        for rule in (
            Rule(
                "gsd-static",
                "clusters of a partition, replaced token by token",
                _GSD,
                None,
                0.0,
                (),
                ("partition",),
                lambda _, context: _static(context, "token"),
            ),
            Rule(
                "gsd-clusters",
                "clusters of a partition, replaced cluster by cluster: keeps the clusters' masses",
                _GSD,
                None,
                0.0,
                (),
                ("partition",),
                lambda _, context: _static(context, "cluster"),
            ),
            Rule(
                "gsd",
                "a window of ranks around the draft, filtered by probability and, with an embedding, by distance",
                _GSD,
                "size",
                10.0,
                (2.0, 4.0, 10.0, 25.0, 50.0),
                (),
                _grouped,
            ),
            Rule(
                "gsd-max",
                "gsd, but never accepting less than the token rule",
                _GSD,
                "size",
                10.0,
                (2.0, 4.0, 10.0, 25.0, 50.0),
                (),
                lambda size, context: _grouped(size, context, at_least_token=True),
            ),
            Rule(
                "gsd-gap",
                "gsd with ten neighbours, and how far their probabilities may be from the draft's",
                _GSD,
                "gap",
                0.15,
                (0.02, 0.05, 0.15, 0.3, 1.0),
                (),
                lambda gap, context: Grouped.paper(gap=gap, embedding=context.embedding),
            ),
            Rule(
                "gsd-released",
                "gsd as its code has it: ranks -7..+6, the token rule at the lower edge",
                _GSD,
                None,
                0.0,
                (),
                (),
                lambda _, context: Grouped.released(context.embedding),
            ),
            Rule(
                "lantern",
                "credits the draft with up to `delta` of the probability of its nearest tokens",
                _LANTERN,
                "delta",
                0.1,
                (0.01, 0.05, 0.1, 0.2, 0.4),
                ("embedding",),
                lambda delta, context: _lantern(context, 1000, delta=delta),
            ),
            Rule(
                "lantern++",
                "credits the draft with up to `odds` times its own probability, from ten nearest tokens",
                "LANTERN++, arXiv 2502.06352",
                "odds",
                5.0,
                (1.5, 2.0, 5.0, 10.0, 20.0),
                ("embedding",),
                lambda odds, context: _lantern(context, 10, odds=odds),
            ),
            Rule(
                "scaling",
                "accepts as if p were `omega` times as large",
                "lenience, arXiv 2211.17192",
                "omega",
                1.5,
                (1.1, 1.25, 1.5, 2.0, 4.0),
                (),
                lambda omega, _: Scaling(omega),
            ),
            Rule(
                # The paper tabulates "Amplify k" without a formula that is known here; this is its plainest reading.
                "amplify",
                "the baseline 'Amplify k' of GSD's tables, read as ratio scaling by k (an assumption)",
                _GSD,
                "k",
                3.0,
                (2.0, 3.0, 4.0),
                (),
                lambda k, _: Scaling(k),
            ),
            Rule(
                "cool",
                "ratio scaling that is withdrawn along the window",
                _COOL,
                "delta",
                1.1,
                (1.1, 1.5, 2.0, 4.0),
                (),
                lambda delta, _: CoolSchedule(delta),
            ),
            Rule(
                "entropy",
                "accepts as if p were larger by a factor that falls with the entropy of p, down from 1 / `floor`",
                "arXiv 2510.09012",
                "floor",
                0.05,
                (0.05, 0.5),
                (),
                lambda floor, _: EntropyScaling(floor),
            ),
            Rule(
                "mixture",
                "the exact rule to (1 - share) p + share q",
                "DIVERSE, arXiv 2604.07622",
                "share",
                0.1,
                (0.05, 0.1, 0.2, 0.4, 0.8),
                (),
                lambda share, _: Mixture(share),
            ),
            Rule(
                "typical",
                "accepts tokens above a threshold that falls with the entropy of p",
                "Medusa, arXiv 2401.10774",
                "delta",
                0.3,
                (0.1, 0.3, 0.6),
                (),
                lambda delta, _: Typical(delta=delta),
            ),
            Rule(
                "threshold",
                "accepts, without a coin, if the two codes nearest to the draft have at least `tau`; redraws from p",
                "MuLo-SD, arXiv 2601.05149",
                "tau",
                0.5,
                (0.2, 0.5),
                ("embedding",),
                _threshold,
            ),
        )
    },
)


def names() -> tuple[str, ...]:
    """All relaxed rules."""
    return _RULES.names()


def rule(name: str) -> Rule:
    """What is known of a rule.

    Raises:
        InputError: for an unknown name, with the nearest known ones.
    """
    return _RULES[name]


def build(name: str, value: float | None = None, context: Context | None = None) -> Relaxation:
    """A rule by name."""
    return rule(name).build(value, context)
