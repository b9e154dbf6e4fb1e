"""What the calls of a black box add up to, on one case: counts against a known law, or a trace where rows are long.

A tally takes the tokens of each call and says whether the claim is refuted already; at the end it gives its evidence:

    Counts   every sequence is counted: an e-process at every call, and fixed-n tests at the end
    Bounds   likewise, but bounds on the total variation, for a claim that allows some
    Rows     sequences too many to count: their laws are looked up along each row, and tested as a trace

`independence` and `repeats` ask whether rows are copies of each other, whatever their law.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from specverify import tree
from specverify.batteries import counts, traces
from specverify.errors import InputError
from specverify.evidence.copies import Copies
from specverify.evidence.discrete import ChiSquare, sequence_counts
from specverify.evidence.finite import TotalVariation
from specverify.evidence.ids import Groups
from specverify.evidence.independence import Dispersion
from specverify.evidence.pit import PitUniformity
from specverify.evidence.result import COPIES, Evidence
from specverify.evidence.sequential import EProcess
from specverify.evidence.tokens import TokenStatistics
from specverify.model import Model
from specverify.subjects.sampler_pairs import statistics

Rates = Mapping[str, float]
"""The false-alarm rate of each check, by its name in `checks`."""


@runtime_checkable
class Tally(Protocol):
    """What calls add up to.

    Attributes:
        checks: its checks and the weight that each has in the split of alpha.
        main: which of its evidence must see the delta that is asked for.
        what: of which law.
    """

    checks: Mapping[str, float]
    main: str
    what: str

    def sample_size(self, delta: float, rates: Rates, beta: float) -> int:
        """The number of sequences at which `main` sees delta."""

    def add(self, tokens: Int[Tensor, "rows length"], rates: Rates) -> bool:
        """Take the tokens of one call; whether they and those before them refute the claim."""

    def evidence(self, rates: Rates, beta: float) -> list[Evidence]:
        """The checks, on everything that was added."""


class Counts:
    """Counts of whole sequences against their law.

    Args:
        law: Float[vocab ** length].
        vocab: number of tokens.
        generator: for the checks that draw.
    """

    checks: Mapping[str, float] = {
        "e-process": 4.0, "joint law (g)": 4.0, "next-token laws": 1.0, "total variation": 1.0, "dispersion": 1.0
    }  # fmt: skip
    main = "joint law (g)"
    what = "a law of whole sequences"

    def __init__(self, law: Float[np.ndarray, " sequences"], vocab: int, generator: np.random.Generator) -> None:
        self.law, self.vocab, self.generator = law, vocab, generator
        self.total = np.zeros(len(law), dtype=np.int64)
        self.blocks: list[Int[np.ndarray, " sequences"]] = []
        self.stopped = False

    def sample_size(self, delta: float, rates: Rates, beta: float) -> int:
        """See Tally."""
        return ChiSquare(self.law).sample_size(delta, alpha=rates[self.main], beta=beta)

    def add(self, tokens: Int[Tensor, "rows length"], rates: Rates) -> bool:
        """See Tally. The e-process may be looked at after every call."""
        self.blocks.append(sequence_counts(tokens, self.vocab))
        self.total += self.blocks[-1]
        self.stopped |= EProcess(self.law).log_e(self.total) >= -math.log(rates["e-process"])
        return self.stopped

    def evidence(self, rates: Rates, beta: float) -> list[Evidence]:
        """See Tally. Where the e-process stopped the calls, fixed-n tests of what led to it do not keep their rate."""
        only = ["e-process"] if self.stopped else ["joint law (g)", "next-token laws", "total variation", "e-process"]
        counted = counts.Counted(self.total, self.blocks)
        found = counts.carry_out(self.law, self.vocab, counted, rates, beta, self.generator, only)
        if self.stopped:
            return found
        sizes = [int(block.sum()) for block in self.blocks]
        common = max(set(sizes), key=sizes.count)
        alike = [block for block, size in zip(self.blocks, sizes, strict=True) if size == common]
        return found + dispersion(self.law, alike, alpha=rates["dispersion"], beta=beta)


class Bounds:
    """Bounds on the distance from the law, at every doubling of the number of sequences.

    The look number k has the share 1 / (k (k + 1)) of alpha, so that all looks together keep it.
    """

    checks: Mapping[str, float] = {"total variation": 1.0}
    main = "total variation"
    what = "a law of whole sequences"

    def __init__(
        self, law: Float[np.ndarray, " sequences"], vocab: int, allowed: float, generator: np.random.Generator
    ) -> None:
        self.law, self.vocab, self.allowed, self.generator = law, vocab, allowed, generator
        self.total = np.zeros(len(law), dtype=np.int64)
        self.looks: list[Evidence] = []

    def sample_size(self, delta: float, rates: Rates, beta: float) -> int:
        """See Tally. As many as a test of the law itself needs; a bound as sharp as delta needs several times more."""
        return ChiSquare(self.law).sample_size(delta, alpha=rates["total variation"], beta=beta)

    def add(self, tokens: Int[Tensor, "rows length"], rates: Rates) -> bool:
        """See Tally."""
        self.total += sequence_counts(tokens, self.vocab)
        n = int(self.total.sum())
        return (not self.looks or n >= 2 * self.looks[-1].n) and self._look(rates) > self.allowed

    def evidence(self, rates: Rates, beta: float) -> list[Evidence]:
        """See Tally. One more look unless the last saw everything."""
        if not self.looks or self.looks[-1].n < int(self.total.sum()):
            self._look(rates)
        return self.looks[-1:]

    def _look(self, rates: Rates) -> float:
        k = len(self.looks) + 1
        alpha = rates["total variation"] / (k * (k + 1))
        self.looks.append(TotalVariation(self.law).check(self.total, alpha=alpha, beta=0.5, generator=self.generator))
        interval = self.looks[-1].interval
        assert interval is not None  # this check always has one
        return interval[0]


class Rows:
    """Rows of a model whose sequences are too many to count, as a trace of tokens and laws."""

    of_tokens = (
        "PIT uniformity", "PIT by position", "surprisal", "surprisal by position and entropy", "leaks", "tempering",
        "ids", "repetition", "pairs of positions", "rows with another's noise",
    )  # fmt: skip
    checks: Mapping[str, float] = dict.fromkeys((*of_tokens, "repeated rows"), 1.0)
    main = "PIT uniformity"
    what = "laws of single tokens, on average,"

    def __init__(self, model: Model, generator: np.random.Generator) -> None:
        self.model, self.generator = model, generator
        self.parts: list[TokenStatistics] = []
        self.groups: Groups | None = None
        self.by_id: list[Float[np.ndarray, "rows length"]] = []
        self.tokens: list[Tensor] = []

    def sample_size(self, delta: float, rates: Rates, beta: float) -> int:
        """See Tally."""
        tokens = PitUniformity().sample_size(delta, alpha=rates["PIT uniformity"], beta=beta)
        return math.ceil(tokens / self.model.length)

    def add(self, tokens: Int[Tensor, "rows length"], rates: Rates) -> bool:
        """See Tally. Forbidden tokens and repeated rows refute before the end."""
        trace, by_id, groups = statistics(self.model, tokens, self.generator)
        if self.groups is None:
            self.groups = groups
        else:
            self.groups.join(groups)
        self.parts.append(trace)
        self.by_id.append(by_id)
        self.tokens.append(tokens)
        return bool(self.parts[-1].impossible.any()) or self._repeats(rates, 0.5).rejected

    def evidence(self, rates: Rates, beta: float) -> list[Evidence]:
        """See Tally."""
        trace = tree.join(self.parts)
        transforms = (trace.pit.numpy(), np.concatenate(self.by_id))
        traced = traces.Traced(trace, groups=self.groups, transforms=transforms)
        found = traces.carry_out(traced, {name: rates[name] for name in self.of_tokens}, beta)
        return [*found, self._repeats(rates, beta)]

    def _repeats(self, rates: Rates, beta: float) -> Evidence:
        log_p = [torch.where(part.impossible, -torch.inf, -part.surprisal).sum(1) for part in self.parts]
        return repeats(torch.cat(self.tokens), torch.cat(log_p), alpha=rates["repeated rows"], beta=beta)


INDEPENDENCE: Mapping[str, float] = {
    "copies between calls": 1.0, "copies of neighbours": 1.0, "copies of the next call's neighbours": 1.0
}  # fmt: skip
"""The checks of `independence`, with their weights."""


def independence(calls: Sequence[Int[Tensor, "rows length"]], rates: Rates, beta: float) -> list[Evidence]:
    """Are rows copies: of the row at their place in the next call, of the one beside that, or of the one beside them?

    Args:
        calls: an even number of them, of as many rows each.
        rates: of `INDEPENDENCE`.
        beta: miss rate.
    """
    even, odd, every = list(calls[::2]), list(calls[1::2]), torch.cat(list(calls))
    pairs = {
        "copies between calls": (torch.cat(even), torch.cat(odd)),
        "copies of neighbours": (every[0::2], every[1::2]),
        "copies of the next call's neighbours": (
            torch.cat([call[1:] for call in even]),
            torch.cat([call[:-1] for call in odd]),
        ),
    }
    return [replace(Copies().check(*pair, alpha=rates[name], beta=beta), check=name) for name, pair in pairs.items()]


def dispersion(
    law: Float[np.ndarray, " sequences"], blocks: Sequence[Int[np.ndarray, " sequences"]], *, alpha: float, beta: float
) -> list[Evidence]:
    """Do the counts of calls of one size vary as independent rows would make them?

    Nothing for fewer than four calls, for calls too small to vary, and where a forbidden outcome says enough.
    """
    if len(blocks) < 4 or any(block[law == 0].any() for block in blocks):
        return []
    try:
        check = Dispersion(law, int(blocks[0].sum()))
    except InputError:  # a single cell: nothing can vary
        return []
    return [check.check(np.stack(blocks), alpha=alpha, beta=beta)]


STAKE = 3.0  # how much log e a repeated row earns; each unit of chance costs exp(STAKE) - 1


def repeats(
    tokens: Int[Tensor, "rows length"], log_p: Float[Tensor, " rows"], *, alpha: float, beta: float
) -> Evidence:
    """Does a row repeat any earlier one, of its call or of another, more often than chance?

    A row equals an earlier one with probability M, the sum of p over the distinct earlier rows. With C such rows and A
    the sum of their M, exp(STAKE C - (exp(STAKE) - 1) A) is a supermartingale if rows are independent draws from p, so
    that it ever reaches 1 / alpha with probability at most alpha (Ville's inequality).

    Args:
        tokens: all rows, in the order in which they were drawn.
        log_p: the log-probability of each.
        alpha: false-alarm rate.
        beta: miss rate that delta is stated for: the probability of a row to be a copy.
    """
    _, index = torch.unique(tokens, dim=0, return_inverse=True)
    first = torch.full((int(index.max()) + 1,), len(index)).scatter_reduce(0, index, torch.arange(len(index)), "amin")
    repeated = first[index] < torch.arange(len(index))
    p = log_p.double().exp().where(~repeated, 0.0)
    chance, n, count = float((p.cumsum(0) - p).sum()), len(tokens), int(repeated.sum())
    log_e = STAKE * count - math.expm1(STAKE) * chance
    enough = math.ceil((math.log(1 / alpha) + math.expm1(STAKE) * chance) / STAKE)
    delta = float(stats.beta.isf(beta, enough, n - enough + 1)) if enough <= n else 1.0
    return Evidence(
        check="repeated rows",
        statistic=log_e,
        p_value=math.exp(-max(0.0, log_e)),
        alpha=alpha,
        beta=beta,
        delta=delta,
        metric=COPIES,
        n=n,
        rejected=log_e >= math.log(1 / alpha),
        basis="finite-sample bound",
        power="finite-sample bound",
        vacuous="" if delta < 1 else "rows are too short, or too few, for a repetition to mean anything",
        detail=f"{count} of {n} rows repeat an earlier one, {chance:.3g} expected",
        coverage={"rows": n, "repeated": count},
    )
