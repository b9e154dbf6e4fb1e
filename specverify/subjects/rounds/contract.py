"""What every kernel owes whatever its rule is: checked on small batches, without statistics."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from specverify.decoders.protocol import Branch
from specverify.draws import Sampled
from specverify.seeds import derived_seed
from specverify.subjects.rounds.contexts import Contexts, deal, propose
from specverify.subjects.rounds.kernel import Fault, Kernel, Outcome, Round, certificate
from specverify.verdict import Kind

ROWS = 256


def sample_round(
    kernel: Kernel, contexts: Contexts, gamma: int, seed: int, rows: int = ROWS, *, certain: bool = False
) -> Round:
    """A round with so many rows, contexts in turn."""
    draws = Sampled(seed)
    context = torch.arange(rows) % len(contexts.names)
    node = torch.zeros_like(context)
    room = torch.full_like(context, contexts.depth)
    drafts, lengths = propose(contexts, context, node, room, gamma, kernel.fewest, draws)
    return deal(contexts, context, node, drafts, lengths, certain=certain)[0]


def generator(seed: int) -> torch.Generator:
    """A kernel's generator."""
    return torch.Generator().manual_seed(derived_seed(seed, 1))


@torch.no_grad()
def reproducible(kernel: Kernel, contexts: Contexts, gamma: int, seed: int) -> None:
    """The generator alone decides: one state, one outcome; other states, and a second call, other outcomes.

    Two independent rounds of 256 rows with dense laws are equal with probability below 1e-50.

    Raises:
        Fault: if not, or if the kernel breaks its contract otherwise.
    """
    given = sample_round(kernel, contexts, gamma, derived_seed(seed, 2))
    used = generator(seed)
    try:
        first, again, other = kernel.verify(given, used), kernel.verify(given, generator(seed)), generator(seed + 1)
    except Fault as fault:
        if fault.verdict.kind is not Kind.ERROR:
            raise
        reason = f"{fault.verdict.reason}; rows have up to {gamma} drafts: --gamma says another number"
        raise Fault(Kind.ERROR, reason, fault.certificate, fault.location) from fault
    if not same(first, again):
        raise Fault(
            Kind.REFUTED, "the same generator state gave two different outcomes: it draws from something else as well"
        )
    if same(first, kernel.verify(given, other)):
        raise Fault(
            Kind.REFUTED,
            "two different generator states gave the same outcome: it ignores the generator, or reseeds it",
        )
    if same(first, kernel.verify(given, used)):
        raise Fault(Kind.REFUTED, "two calls in a row gave the same outcome: it leaves the generator where it was")


@torch.no_grad()
def refuses_or_survives_nan(kernel: Kernel, contexts: Contexts, gamma: int, seed: int) -> str:
    """Draft laws of NaN, as of masked rows, whose draft is id 0, which p forbids: id 0 may not be emitted.

    Returns:
        what the kernel did, for a note.

    Raises:
        Fault: if it emits a token that the target law forbids.
    """
    given = sample_round(kernel, contexts, gamma, derived_seed(seed, 3))
    assert given.q is not None  # a law was asked for
    masked = (given.lengths > 0).nonzero().squeeze(1)[::2]
    draft, q, p = given.draft.clone(), given.q.clone(), given.p.clone()
    draft[masked, 0], q[masked, 0], p[masked, 0, 0] = 0, torch.nan, 0.0
    p = p / p.sum(-1, keepdim=True)
    given = replace(given, draft=draft, q=q, p=p, raw=p.clone())
    try:
        outcome = kernel.verify(given, generator(seed))
    except Fault as fault:
        if fault.verdict.kind is Kind.ERROR:
            return f"refuses draft laws of NaN: {fault.verdict.reason}"
        raise
    bad = masked[outcome.tokens[masked, 0] == 0]
    if len(bad):
        row = int(bad[0])
        branch = Branch.ACCEPTED if int(outcome.accepted[row]) else Branch.RECOVERED
        raise Fault(
            Kind.REFUTED,
            f"where the draft law is NaN it emits the {branch.name.lower()} token 0, which the target law forbids, in "
            f"{len(bad)} of {len(masked)} such rows",
            certificate(given, outcome, row),
            {"check": "NaN rows", "position": 0, "prefix": [], "branch": branch.name.lower(), "token": 0},
        )
    return "emits possible tokens where the draft law is NaN"


def same(one: Outcome, two: Outcome) -> bool:
    """Whether two outcomes are equal."""
    pairs: tuple[tuple[Tensor, Tensor], ...] = ((one.tokens, two.tokens), (one.accepted, two.accepted))
    return all(torch.equal(a, b) for a, b in pairs)
