"""Judging a round subject: a function that verifies one batch of drafts, in anybody's calling convention.

A complete subject, with its coins as arguments (other conventions are in `rounds/conventions.py`):

    import torch
    from specverify.subjects.round import judge_round

    def kernel(draft, q, p, lengths, coins, pick):
        rows, gamma = draft.shape
        if q is None:
            q = torch.nn.functional.one_hot(draft, p.shape[-1]).to(p)
        ratio = (p[:, :-1] / q).gather(2, draft[..., None])[..., 0]
        kept = (coins < ratio) & (torch.arange(gamma) < lengths[:, None])
        accepted = kept.cumprod(1).sum(1)
        each, slot = torch.arange(rows), accepted.clamp(max=gamma - 1)
        left = (p[each, slot] - q[each, slot]).clamp(min=0)
        edges = torch.where((accepted < lengths)[:, None], left, p[each, accepted]).cumsum(1)
        return accepted, (edges[:, :-1] <= pick[:, None] * edges[:, -1:]).sum(1)

    print(judge_round(kernel).verdict)

The testbed supplies the loop: drafts from laws that it knows, several contexts in one batch, ragged numbers of drafts,
rows in random order, greedy rows among others, rounds that continue where the last one ended. What is tested is
losslessness itself, on the completed sequences (see `rounds/play.py`), so that any acceptance rule can pass; where a
kernel fails, the accepted, recovered and bonus tokens are told apart.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch

from specverify.batteries import calls
from specverify.claims import Claim, Lossless
from specverify.deadline import Deadline
from specverify.errors import InputError
from specverify.evidence.result import aims, check_rates
from specverify.subjects.judgement import Judgement
from specverify.subjects.rounds import words
from specverify.subjects.rounds.conventions import (
    Function,
    as_kernel,
    coins,
    flashinfer,
    plain,
    rectangular,
    transformers,
    vllm,
)
from specverify.subjects.rounds.kernel import Fault, Kernel
from specverify.subjects.rounds.kinds import KINDS
from specverify.subjects.rounds.session import Session
from specverify.verdict import Kind, Verdict

__all__ = ["CHECKS", "Kernel", "coins", "flashinfer", "judge_round", "plain", "rectangular", "transformers", "vllm"]

CHECKS = calls.ASKED
"""The groups of `batteries/calls.py`. `laws`: of what is emitted, by sampling. `independence`: of rows and calls.
`batches`: laws in batches of each size, at each place and of each kind (`rounds/batches.py`). `standard`: these three.
`forced-coins`: coins at the edges, and integrated over, for kernels whose coins are an argument (`rounds/edges.py`,
`rounding.py`, `forced.py`). `nan-rows`: draft laws of NaN; only where asked for, since few kernels claim to take them.
The contract (shapes, ranges, inputs left alone, the generator respected) and what the kernel reports beside its tokens
are checked in any case."""


def judge_round(
    kernel: Kernel | Function,
    claim: Claim = Lossless(),  # noqa: B008  (frozen)
    *,
    gamma: int = 3,
    seed: int = 0,
    alpha: float = 1e-6,
    beta: float = 1e-6,
    delta: float | None = None,
    seconds: float = 60.0,
    checks: Collection[str] = ("standard", "forced-coins"),
    contexts: Collection[str] | None = None,
    rule: str | None = None,
    name: str | None = None,
) -> Judgement:
    """Judge a verification kernel.

    Args:
        kernel: a function (see `rounds/conventions.py`: `plain`, `rectangular` and `coins` are told by their number of
            parameters), or one wrapped in `vllm`, `flashinfer` or `transformers`.
        claim: what it claims; only losslessness can be judged of a round.
        gamma: slots for drafts, 1 to 9; from 5 on the contexts have fewer than 4 tokens. Windows of 8 and 16 are played
            beside, with one or two slots at stake, unless `contexts` are named or the kernel raises for so many.

    Other arguments:
        seed: of everything that the testbed draws.
        alpha: false-alarm rate of the whole judgement.
        beta: miss rate of each check at its delta.
        delta: total variation, of the sequence that is completed from one context, that has to be seen; None to aim
            at 0.02, and to answer with what is reached in time.
        seconds: of the processor. How many rows are played is planned for delta, and cut to what fits into this time;
            ordinary kernels need two thirds of the default.
        checks: of `CHECKS`.
        contexts: which contexts of `rounds/contexts.py` are used; all of them if None.
        rule: "token" for a kernel that says it follows the token rule: then the law of how many drafts it accepts, and
            those of the recovered and of the bonus token, are tested as well. A lossless kernel need not.
        name: how the judgement calls the subject.

    Raises:
        InputError: for arguments that cannot be used. Whatever the kernel does ends in a verdict.
    """
    start = time.perf_counter()
    subject = as_kernel(kernel)
    check_rates(alpha, beta)
    if rule not in (None, "token"):
        raise InputError(f"rule is {rule!r}; it is 'token' or None")
    _check_arguments(claim, gamma, seconds, checks, contexts, subject)
    aim = aims(delta, 0.02)
    wanted = {*checks} | ({*calls.STANDARD} if "standard" in checks else set())
    session = Session(subject, wanted, gamma, seed, alpha, beta, aim, Deadline(seconds), contexts, rule == "token")
    try:
        with _one_thread():
            verdict = session.judge()
    except Fault as fault:
        verdict, session.location, session.certificate = fault.verdict, fault.location, fault.certificate
    if verdict.kind in (Kind.CONSISTENT, Kind.INCONCLUSIVE):
        verdict = Verdict(verdict.kind, f"{verdict.reason}; on {session.box()}")
    shown = _round_shown(session, verdict.kind)
    called = name or subject.name
    return Judgement(
        subject=called,
        level="round",
        claim=str(claim),
        verdict=verdict,
        evidence=session.evidence,
        exact=session.exact,
        location=session.location,
        certificate=session.certificate,
        not_covered=session.not_covered(ended=verdict.kind in (Kind.REFUTED, Kind.ERROR)),
        reproduce=f"judge_round({called}, gamma={gamma}, seed={seed}, alpha={alpha:g}, beta={beta:g}, "
        f"{'' if delta is None else f'delta={delta:g}, '}"
        f"checks={tuple(checks)}, contexts={contexts and tuple(contexts)}, rule={rule!r})",
        seconds=time.perf_counter() - start,
        notes=(*shown, *session.notes),
    )


def _round_shown(session: Session, kind: Kind) -> tuple[str, ...]:
    """The round that refutes a kernel, in words, where there is one."""
    if kind is not Kind.REFUTED:
        return ()
    if session.certificate is not None:
        return (words.describe(session.certificate, session.location),)
    if session.location is not None and "shares" in session.location:
        return (words.describe_many(session.location),)
    return ()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Batches are small: further threads would wait for each other, and spend processor time on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check_arguments(
    claim: Claim,
    gamma: int,
    seconds: float,
    checks: Collection[str],
    contexts: Collection[str] | None,
    kernel: Kernel,
) -> None:
    if not isinstance(claim, Lossless):
        raise InputError(f"a round is judged for losslessness, not for the claim {claim}; judge it within a decoder")
    if isinstance(gamma, bool) or not isinstance(gamma, int) or not 1 <= gamma <= 9:
        raise InputError(f"gamma is {gamma!r}; it is the number of slots for drafts, from 1 to 9")
    if not seconds > 0:
        raise InputError(f"seconds is {seconds}; a judgement takes some time")
    for given, known, what in ((checks, CHECKS, "check"), (contexts, KINDS, "context")):
        unknown = sorted(set(given or ()) - set(known))
        if unknown or (given is not None and not given):
            found = f"unknown {what}s {unknown}" if unknown else f"no {what}s"
            raise InputError(f"{found}; choose from {', '.join(known)}")
    if set(checks) == {"forced-coins"} and kernel.with_coins is None:
        raise InputError(f"{kernel.name} draws its own coins, so they cannot be forced; wrap a kernel in coins()")
