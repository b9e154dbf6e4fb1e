"""Judging an engine by its own log: tokens, and what the target law said of them, at any vocabulary.

A trace is a npz or safetensors file (or a dict of arrays) of S sequences of N positions:

    tokens         Int[S, N]        the emitted tokens
    and one of
    logprobs       Float[S, N, V]   log p of every token at each position, given the tokens before it
    top_ids        Int[S, N, K]     or only the K most probable tokens ...
    top_logprobs   Float[S, N, K]   ... and their log p; the others are then one outcome
    logprob, entropy, variance, pit_low, pit_high
                   Float[S, N]      or only log p(x) of the emitted token x; the mean and the variance of -log p under
                                    p; and F(x) - p(x) and F(x), F adding up p from the most probable token down
    and, if wanted
    lengths        Int[S]           how many tokens of each row count, its end of sequence included; default N
    branch         Int[S, N]        `Branch` of each token: 1 sampled, 2 accepted, 3 recovered, 4 bonus

p is the law after all processors, in nats. Which positions count may depend on earlier tokens alone: a row that is cut
short because of what its next token was biases every test. Written by an engine, the smallest form that tests all:

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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from specverify.claims import Claim, Lossless
from specverify.decoders.protocol import Branch
from specverify.draws import derived_seed
from specverify.errors import InputError
from specverify.evidence.copies import Copies
from specverify.evidence.design import AlphaBudget
from specverify.evidence.pit import PitPairs, PitPositions, PitUniformity
from specverify.evidence.result import KOLMOGOROV, Evidence, check_delta, check_rates
from specverify.evidence.surprisal import Surprisal, Tempering
from specverify.subjects.judgement import Judgement
from specverify.subjects.sampler_checks import repeats
from specverify.subjects.sampler_location import place_in_trace
from specverify.subjects.trace_file import Trace, load
from specverify.verdict import Coverage, Kind, Verdict, judge_evidence

MAIN = "PIT uniformity"


def judge_trace(
    source: str | Path | Mapping[str, Any],
    claim: Claim = Lossless(),  # noqa: B008  (frozen)
    *,
    seed: int = 0,
    delta: float = 0.02,
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
        delta: the Kolmogorov distance of the tokens' transforms from uniform that must be seen for CONSISTENT.
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
    check_delta(delta, KOLMOGOROV)
    if not isinstance(claim, Lossless):
        raise InputError(f"a trace tests losslessness; it cannot judge the claim {claim}")
    trace = load(source, np.random.default_rng(derived_seed(seed)), start + seconds)
    sequences, length = trace.tokens.shape
    checks: dict[str, Any] = {MAIN: PitUniformity(), "PIT by position": PitPositions(length), "surprisal": Surprisal()}
    if length > 1:
        checks["pairs of positions"] = PitPairs()
    if sequences > 1:
        checks["pairs of rows"] = PitPairs(across=True)
    if trace.tempered:
        checks["tempering"] = Tempering()
    budget = AlphaBudget(alpha)
    budget.allocate([*checks, "copies", "repeated rows"])
    evidence: list[Evidence] = [
        check.check(trace.statistics, alpha=budget.spend(what), beta=beta) for what, check in checks.items()
    ]
    if sequences > 1:
        pairs = trace.tokens[: sequences // 2 * 2]
        evidence.append(Copies().check(pairs[0::2], pairs[1::2], alpha=budget.spend("copies"), beta=beta))
        evidence.append(repeats(trace.tokens, trace.log_p, alpha=budget.spend("repeated rows"), beta=beta))
    verdict = judge_evidence(claim, evidence, _coverage(trace), {MAIN: delta})
    called = name or (str(source) if isinstance(source, str | Path) else "arrays")
    return Judgement(
        subject=called,
        level="trace",
        claim=str(claim),
        verdict=Verdict(verdict.kind, _said(verdict, trace)),
        evidence=evidence,
        location=place_in_trace(evidence) if verdict.kind is Kind.REFUTED else None,
        not_covered=_not_covered(trace),
        reproduce=f"judge_trace({called!r}, seed={seed}, delta={delta:g}, alpha={alpha:g}, beta={beta:g})",
        seconds=time.perf_counter() - start,
        notes=(f"{int(trace.counted.sum()):,} tokens of {sequences:,} sequences; {trace.form}", *trace.notes),
    )


def _said(verdict: Verdict, trace: Trace) -> str:
    tokens = int(trace.counted.sum())
    return f"{verdict.reason} ({tokens:,} tokens)" if verdict.kind is Kind.CONSISTENT else verdict.reason


def _coverage(trace: Trace) -> Coverage:
    if trace.branch is None:
        return Coverage(False, 0, 0, 0)
    branch = trace.branch[trace.counted]
    accepted, recovered = (int((branch == kind).sum()) for kind in (Branch.ACCEPTED, Branch.RECOVERED))
    drafts = bool(torch.isin(branch, torch.tensor([Branch.ACCEPTED, Branch.RECOVERED, Branch.BONUS])).any())
    return Coverage(drafts, accepted + recovered, accepted, recovered)


def _not_covered(trace: Trace) -> list[str]:
    notes = ["whether the logged laws are the target's: a trace is judged by its own"]
    if trace.branch is None:
        notes.append("whether a draft was verified or rejected: the trace has no `branch`")
    if not trace.tempered:
        notes.append("tempering: it needs the laws themselves")
    return notes
