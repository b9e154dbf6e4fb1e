"""Judging an engine by its own log: tokens, and what the target law said of them, at any vocabulary.

A trace is a npz or safetensors file (or a dict of arrays) of S sequences of N positions:

    tokens         Int[S, N]        the emitted tokens
    and one of
    logprobs       Float[S, N, V]   log p of every token at each position, given the tokens before it
    top_ids        Int[S, N, K]     or only the K most probable tokens ...
    top_logprobs   Float[S, N, K]   ... and their log p (id -1 and -inf fill a list up); the others are one outcome
    logprob, entropy, variance, pit_low, pit_high
                   Float[S, N]      or only log p(x) of the emitted token x; the mean and the variance of -log p under
                                    p; and F(x) - p(x) and F(x), F adding up p from the most probable token down
    and, if wanted
    lengths        Int[S]           how many tokens of each row count, its end of sequence included; default N
    below          Float[S, N]      beside the last form: the mass of smaller ids under p
    branch         Int[S, N]        `Branch` of each token: 1 sampled, 2 accepted, 3 recovered, 4 bonus
    logprob        Float[S, N]      beside logprobs or top_logprobs: what is reported of the emitted token, to compare

p is the law after all processors, in nats. Which positions count may depend on earlier tokens alone: a row that is cut
short because of what its next token was biases every test. Lists of the most probable tokens must be the same whichever
token was drawn. Rows may come in any order. What is counted are the tokens whose law left a choice: a token that is
logged as certain shows nothing. With laws, or lists of the most probable tokens, each group of ids is counted; the last
form sees by `below` what one part of the vocabulary lacks, and no more. It is the smallest, and written by an engine:

    import numpy as np

    def reduced(logprobs, token):                      # one position: Float[V], int
        p = np.exp(logprobs.astype(np.float64))
        p /= p.sum()
        surprisal = np.where(p > 0, -np.log(np.maximum(p, 1e-300)), 0.0)
        entropy = (p * surprisal).sum()
        ahead = p[p > p[token]].sum() + p[:token][p[:token] == p[token]].sum()
        return {
            "logprob": np.log(p[token]) if p[token] else -np.inf,
            "entropy": entropy,
            "variance": (p * (surprisal - entropy) ** 2).sum(),
            "pit_low": ahead,
            "below": p[:token].sum(),
            "pit_high": ahead + p[token],
        }

    def write(path, tokens, logprobs):                 # Int[S, N], Float[S, N, V]
        rows = [[reduced(l, x) for l, x in zip(*row)] for row in zip(logprobs, tokens)]
        names = rows[0][0]
        np.savez(path, tokens=tokens, **{k: np.array([[at[k] for at in row] for row in rows]) for k in names})
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from specverify import tree
from specverify.batteries import traces
from specverify.claims import Claim, Lossless
from specverify.decoders.protocol import Branch
from specverify.errors import InputError, number_of
from specverify.evidence import branches
from specverify.evidence.design import AlphaBudget
from specverify.evidence.result import KOLMOGOROV, Evidence, aims, check_delta, check_rates
from specverify.evidence.tokens import by_id
from specverify.judge import Coverage, coarsest, judge_evidence
from specverify.seeds import derived_seed
from specverify.subjects.judgement import Judgement
from specverify.subjects.sampler_location import place_in_trace
from specverify.subjects.sampler_logs import CHECK as LOG_CHECK
from specverify.subjects.trace_file import Trace, load
from specverify.verdict import Kind, Verdict

MAIN = "PIT uniformity"
USUAL = 0.02
"""What is aimed at where nobody says what must be seen."""
FEW = 20
"""Tokens of a position or a branch that are not too few to say that none of them had a choice."""


def judge_trace(
    source: str | Path | Mapping[str, Any],
    claim: Claim = Lossless(),  # noqa: B008  (frozen)
    *,
    seed: int = 0,
    delta: float | None = None,
    alpha: float = 1e-6,
    beta: float = 1e-6,
    seconds: float = math.inf,
    name: str | None = None,
) -> Judgement:
    """Judge the claim that the tokens of a trace were drawn from the laws in it.

    Args:
        source: a file, or arrays by name.
        claim: only losslessness can be judged by a trace.
        seed: of the uniform numbers that make the transforms continuous.

    Other args:
        delta: the Kolmogorov distance of the tokens' transforms from uniform that must be seen for CONSISTENT; None for
            what so many tokens show, up to 0.1, which the verdict states.
        alpha: probability of refuting a perfect engine.
        beta: probability of missing a discrepancy of delta.
        seconds: how long reading may take.
        name: what to call it; by default the file's name.

    Raises:
        InputError: for a source that is no trace, naming the array and the value; and for another claim.
        BudgetError: when the time is up.
    """
    start = time.perf_counter()
    check_rates(alpha, beta)
    if delta is not None:
        check_delta(delta, KOLMOGOROV)
    aim, slack = aims(delta, USUAL)
    if not isinstance(claim, Lossless):
        raise InputError(f"a trace tests losslessness; it cannot judge the claim {claim}")
    generator = np.random.default_rng(derived_seed(seed))
    trace = load(source, generator, start + seconds)
    evidence = examine(trace, generator, alpha=alpha, beta=beta)
    verdict = _judged(claim, evidence, trace, aim, slack)
    called = name or (str(source) if isinstance(source, str | Path) else "arrays")
    return Judgement(
        subject=called,
        level="trace",
        claim=str(claim),
        verdict=verdict,
        evidence=evidence,
        location=place_in_trace(evidence) if verdict.kind is Kind.REFUTED else None,
        not_covered=not_covered(trace, evidence),
        reproduce=f"judge_trace({called!r}, seed={seed}, delta={delta}, alpha={alpha:g}, beta={beta:g})",
        seconds=time.perf_counter() - start,
        notes=(_box(trace), *_findings(trace, evidence, verdict), *trace.notes),
    )


def examine(trace: Trace, generator: np.random.Generator, *, alpha: float, beta: float) -> list[Evidence]:
    """The checks of a trace.

    Rows are permuted first, but for the one check that asks for their order: a log that is sorted, by length or by when
    its rows were done, is no less right.
    """
    order = generator.permutation(len(trace.tokens))
    mixed = tree.rows(trace, torch.from_numpy(order))
    transforms = [mixed.statistics.pit.numpy()]
    if mixed.below is not None:
        transforms.append(by_id(mixed.statistics, mixed.below, generator))
    traced = traces.Traced(
        mixed.statistics,
        rows=(mixed.tokens, mixed.log_p),
        masses=mixed.masses,
        groups=trace.groups,
        kinds=None if mixed.branch is None else branches.kinds(mixed.branch, mixed.statistics.choice),
        logged=trace.statistics,
        order=order,
        transforms=tuple(transforms),
        tempered=trace.tempered,
        closed=True,
        finest=trace.finest,
    )
    names = traces.names(traced)
    budget = AlphaBudget(alpha)
    budget.allocate([*names, *(["reported"] if trace.misreported is not None else [])])
    evidence = traces.carry_out(traced, {name: budget.spend(name) for name in names}, beta)
    if trace.misreported is not None:
        evidence.append(reported(*trace.misreported, alpha=budget.spend("reported"), beta=beta))
    return evidence


def reported(n: int, wrong: int, largest: float, *, alpha: float, beta: float) -> Evidence:
    """Are the log-probabilities of the emitted tokens what the laws beside them say? Of n, so many are not."""
    return Evidence(
        check=LOG_CHECK,
        statistic=float(wrong),
        p_value=0.0 if wrong else 1.0,
        alpha=alpha,
        beta=beta,
        delta=-math.expm1(math.log(beta) / max(n, 1)),
        metric="share of tokens whose log-probability is wrong",
        n=n,
        rejected=wrong > 0,
        basis="exact",
        power="finite-sample bound",
        estimate=wrong / max(n, 1),
        vacuous="" if n else "no emitted token's law is logged",
        detail=f"the log is wrong, whatever the tokens are: of {n:,} log-probabilities of emitted tokens {wrong:,} are "
        f"not what the laws logged beside them say, by up to {largest:.3g} nats",
    )


def _judged(claim: Claim, evidence: list[Evidence], trace: Trace, aim: float, slack: float) -> Verdict:
    if trace.named and _always_named(evidence) and not bool(trace.statistics.impossible.any()):
        return Verdict(
            Kind.INCONCLUSIVE,
            "one place of top_ids is the emitted token everywhere, or wherever it holds any, so that the lists were "
            "made after it was drawn: they are no laws that it could be tested by; log the most probable tokens alone, "
            f"whichever was drawn {_counts(trace)}",
        )
    verdict = judge_evidence(claim, traces.telling(evidence), _coverage(trace), {MAIN: aim}, slack)
    if verdict.kind is Kind.INCONCLUSIVE and (remedy := _remedy(evidence, coarsest(aim, slack))):
        return Verdict(verdict.kind, f"{verdict.reason}: {remedy} {_counts(trace)}")
    if verdict.kind is Kind.CONSISTENT and 2 * trace.unlisted > int(trace.counted.sum()):
        return Verdict(Kind.INCONCLUSIVE, f"most tokens were in no list, and not tested: list more {_counts(trace)}")
    if verdict.kind is Kind.CONSISTENT and (certain := _certain(trace)):
        return Verdict(Kind.INCONCLUSIVE, certain)
    reason = verdict.reason
    if bool((impossible := trace.statistics.impossible).any()):
        row, position = (int(i) for i in impossible.nonzero()[0])
        count = int(impossible.sum())
        reason = (
            f"{number_of(count, 'token')} of probability 0 in the log, first in row {row} at position "
            f"{position}; {reason}"
        )
    return Verdict(verdict.kind, f"{reason} {_counts(trace)}")


def _remedy(evidence: list[Evidence], delta: float) -> str:
    """What would make the test of all tokens see delta; empty if it does, or if nothing would."""
    main = next(item for item in evidence if item.check == MAIN)
    if main.vacuous or main.delta <= delta:
        return ""
    # What is seen falls with the square root of n, or a little faster.
    enough = math.ceil(main.n * (main.delta / delta) ** 2)
    return f"some {enough:,} tokens that had a choice would do, or --delta {math.ceil(1000 * main.delta) / 1000:g}"


def _always_named(evidence: list[Evidence]) -> bool:
    """Whether the place that always names the token was due to miss it: else the laws were certain, and it was not."""
    return not any(item.check == "ranks" and item.vacuous for item in evidence)


def _counts(trace: Trace) -> str:
    choice, counted = int(trace.statistics.choice.sum()), int(trace.counted.sum())
    unlisted = f"; {trace.unlisted:,} were in no list, as one outcome" if trace.unlisted else ""
    return f"({number_of(counted, 'token')}, of which {choice:,} had a choice{unlisted})"


def _certain(trace: Trace) -> str:
    """A position, or a branch, all of whose tokens are logged as certain although they differ, or an empty string."""
    choice = trace.statistics.choice
    parts = [(f"position {t}", trace.counted[:, t], trace.tokens[:, t], choice[:, t]) for t in range(choice.shape[1])]
    if trace.branch is not None:
        for kind in Branch:
            here = trace.counted & (trace.branch == int(kind))
            parts.append((f"branch {int(kind)} ({kind.name.lower()})", here, trace.tokens, choice))
    for name, here, tokens, free in parts:
        if int(here.sum()) >= FEW and not bool((free & here).any()) and len(tokens[here].unique()) > 1:
            return (
                f"every one of the {int(here.sum()):,} tokens of {name} is logged as certain, and they differ: what is "
                f"certain cannot be tested, and was perhaps not logged {_counts(trace)}"
            )
    return ""


def _box(trace: Trace) -> str:
    sequences = len(trace.tokens)
    counted, choice = int(trace.counted.sum()), int(trace.statistics.choice.sum())
    return f"{number_of(counted, 'token')} of {number_of(sequences, 'sequence')}, {choice:,} had a choice; {trace.form}"


def _findings(trace: Trace, evidence: list[Evidence], verdict: Verdict) -> Iterator[str]:
    """What else was found: an order of the rows that is no fault, and what a log is wrong in rather than its tokens."""
    found = {item.check: item for item in evidence}
    rows = found.get("neighbouring rows")
    if verdict.kind is not Kind.REFUTED:
        if rows is not None and rows.coverage["ordered"]:
            yield f"the rows depend on their order, as sorted ones do, and were permuted: {rows.detail}"
        return
    if found["leaks"].rejected:
        yield _first_leak(trace, found["leaks"])
    same = _same_laws(trace)
    if same > len(trace.tokens) / 10:
        yield (
            f"the log rather than the tokens may be wrong: {same:,} rows log exactly the laws of the row before them, "
            "after other tokens"
        )
    if not bool(trace.counted.all()) and any(item.rejected and item.check == "ids" for item in evidence):
        yield "an id that ends rows looks so, too, where `lengths` leave it out, or rows were chosen by how they ended"
    surprisal = found["surprisal"]
    if surprisal.rejected and (surprisal.estimate or 0.0) < 0 and not surprisal.coverage["impossible"]:
        yield (
            "the log rather than the tokens may be wrong: laws that are logged before temperature or cuts are flatter "
            "than those that tokens are drawn from; log them after all processors"
        )


def _first_leak(trace: Trace, leaks: Evidence) -> str:
    """The first of the tokens that leaked, by its row and position in the log."""
    level = leaks.data["worst"]
    among = (trace.statistics.pit >= 1 - level) & trace.statistics.choice
    leaked = among | trace.statistics.impossible
    row, position = (int(i) for i in leaked.nonzero()[0])
    return (
        f"leaks: the first token among the least likely {level:.3g} of its law is {int(trace.tokens[row, position])}, "
        f"in row {row} at position {position}"
    )


def _same_laws(trace: Trace) -> int:
    """Rows whose laws are those of the row before them, as far as entropies tell, though their tokens differ."""
    entropy, tokens = trace.statistics.entropy[:, 1:], trace.tokens[:, :-1]
    alike = (entropy[1:] == entropy[:-1]).all(1) & trace.statistics.choice[1:, 1:].any(1)
    return int((alike & (tokens[1:] != tokens[:-1]).any(1)).sum()) if entropy.shape[1] else 0


def _coverage(trace: Trace) -> Coverage:
    if trace.branch is None:
        return Coverage(False, 0, 0, 0)
    branch = trace.branch[trace.counted]
    accepted, recovered = (int((branch == kind).sum()) for kind in (Branch.ACCEPTED, Branch.RECOVERED))
    drafts = bool(torch.isin(branch, torch.tensor([Branch.ACCEPTED, Branch.RECOVERED, Branch.BONUS])).any())
    return Coverage(drafts, accepted + recovered, accepted, recovered)


def not_covered(trace: Trace, evidence: Sequence[Evidence]) -> list[str]:
    """What a trace says nothing about; never empty."""
    sequences, length = trace.tokens.shape
    closed = int(trace.counted.sum()) - int(trace.statistics.choice.sum())
    notes = [
        "whether the logged laws are the target's: a trace is judged by its own; where tokens and laws do not belong "
        "together, which of them is wrong it cannot tell",
        f"lengths above {length} tokens, other settings than those of these {number_of(sequences, 'sequence')}",
    ]
    if trace.groups is None:
        seen = "" if trace.below is None else ", but for neighbours that have a share of all mass"
        notes.append(
            f"ids that come too often or too rarely, and tokens that came before{seen}: it needs logprobs, or top_ids"
        )
    if trace.below is None:
        notes.append("numbers that are used again to draw by id, under laws that differ: it needs `below`")
    if trace.unlisted:
        share = trace.unlisted / int(trace.counted.sum())
        notes.append(f"which ids came where they were in no list, as {share:.1%} of the tokens, but for single ones")
    if closed:
        notes.append(
            f"{number_of(closed, 'token')} logged as certain, or as good as certain: nothing tests that they were"
        )
    if length > 1:
        alone = next(item.delta for item in evidence if item.check == "PIT by position")
        notes.append(f"one position alone, where the transforms of its tokens are off by less than {alone:.2g}")
    if trace.branch is None:
        notes.append("bonus tokens and slots of a window apart, and whether a draft was verified: it has no `branch`")
    else:
        notes += ["whether `branch` says what was done: it is taken at its word", *branches.unseen(evidence)]
    if not trace.tempered:
        notes.append("tempering and the masses of ranks: they need the laws themselves")
    return notes
