"""Playing rounds: drafts in, emitted tokens out, and on to the next round from where each row has got to.

What a kernel emits is completed to a fixed number of positions by draws from the target law itself. If the kernel is
lossless the completed sequence has the target law, whatever its acceptance rule is and however many tokens it emits;
that alone is tested, so that a rule that accepts less, or differently, is not taken for a wrong one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from specverify.decoders.protocol import Branch
from specverify.draws import Sampled
from specverify.rules.token import at
from specverify.subjects.rounds.contexts import Contexts, deal, propose
from specverify.subjects.rounds.kernel import NONE, Fault, Kernel, Outcome, Round, certificate
from specverify.verdict import Kind


@dataclass(frozen=True)
class Layout:
    """The rows of one or more batches.

    Attributes:
        context: which context each row is in.
        size: rows of its batch.
        index: its place in the batch.
        lengths: how many drafts each row has; None to draw them.
    """

    context: Int[Tensor, " rows"]
    size: Int[Tensor, " rows"]
    index: Int[Tensor, " rows"]
    lengths: Int[Tensor, " rows"] | None = None

    def place(self, row: int, kernel: Kernel, lengths: Int[Tensor, " rows"]) -> str:
        """Where a row of the first round is in the batch that the function is given, in words; "" where it is alone."""
        size, index = int(self.size[row]), int(self.index[row])
        if kernel.batch == "single":
            return ""
        if kernel.batch == "equal":  # it is called once for each number of drafts
            alike = lengths[row - index : row - index + size] == lengths[row]
            size, index = int(alike.sum()), int(alike[:index].sum())
        return f"row {index} of a batch of {size:,}"


def shuffled(contexts: Contexts, rows: int, draws: Sampled) -> Layout:
    """One batch with `rows` rows of each context, in random order."""
    total = rows * len(contexts.names)
    order = torch.randperm(total, generator=draws.generator)
    context = torch.arange(len(contexts.names)).repeat_interleave(rows)[order]
    return Layout(context, torch.full_like(context, total), torch.arange(total))


@dataclass(frozen=True)
class Played:
    """Completed sequences.

    Attributes:
        context: which context each row was in.
        tokens: its sequence.
        branch: where each token came from: `Branch`, with SAMPLED for the completion.
        lengths: drafts of the row's first round.
        tally: over all rows and rounds, drafts verified, accepted, rejected, and bonus tokens.
    """

    context: Int[Tensor, " rows"]
    tokens: Int[Tensor, "rows depth"]
    branch: Int[Tensor, "rows depth"]
    lengths: Int[Tensor, " rows"]
    tally: Int[Tensor, " four"]

    def counts(self, contexts: Contexts) -> Int[Tensor, "contexts sequences"]:
        """How often each sequence came out in each context."""
        places = contexts.tokens ** torch.arange(contexts.depth - 1, -1, -1)
        sequences = contexts.tokens**contexts.depth
        code = self.context * sequences + (self.tokens * places).sum(1)
        return torch.bincount(code, minlength=len(contexts.names) * sequences).reshape(-1, sequences)


@torch.no_grad()
def play(
    kernel: Kernel,
    contexts: Contexts,
    layout: Layout,
    gamma: int,
    rounds: int,
    draws: Sampled,
    generator: torch.Generator,
    *,
    certain: bool = False,
) -> Played:
    """Play so many rounds from each context.

    Args:
        layout: which rows there are, and how many drafts each has in its first round.
        gamma: slots for drafts.
        rounds: how many are played, as far as there are positions left.
        draws: of drafts, numbers of drafts and completion; never the stream that the kernel gets.
        generator: the kernel's.
        certain: keep q from the kernel.

    Raises:
        Fault: if the kernel breaks its contract, or emits a token that the target law forbids.
    """
    context, total = layout.context, len(layout.context)
    depth, node = torch.zeros(total, dtype=torch.int64), torch.zeros(total, dtype=torch.int64)
    tokens, branch = torch.zeros(total, contexts.depth, dtype=torch.int64), torch.zeros(total, contexts.depth).long()
    tally, first = torch.zeros(4, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    for number in range(rounds):
        live = (depth < contexts.depth).nonzero().squeeze(1)
        if len(live) == 0:
            break
        here, at_node, reached = context[live], node[live], depth[live]
        drafts, lengths = propose(contexts, here, at_node, contexts.depth - reached, gamma, kernel.fewest, draws)
        if number == 0 and layout.lengths is not None:
            lengths = layout.lengths
        given, _ = deal(contexts, here, at_node, drafts, lengths, certain=certain)
        outcome = kernel.verify(given, generator)
        first = lengths if number == 0 else first
        tally += _tally(outcome, lengths)
        block, source = indices(outcome, contexts), sources(outcome, lengths)
        for slot in range(gamma + 1):
            token = block[:, slot]
            emitted = (outcome.tokens[:, slot] != NONE) & (reached < contexts.depth)
            chance = at(contexts.law(contexts.p, here, at_node), token.clamp(min=0))
            if bool((bad := emitted & ((token < 0) | (chance == 0))).any()):
                row = int(bad.nonzero()[0])
                name = contexts.names[int(here[row])]
                where = layout.place(int(live[row]), kernel, lengths) if number == 0 else f"round {number + 1}"
                raise forbidden(given, outcome, row, slot, name, int(source[row, slot]), where)
            place = reached.clamp(max=contexts.depth - 1)
            index = live[emitted]
            tokens[index, place[emitted]] = token[emitted]
            branch[index, place[emitted]] = source[emitted, slot]
            at_node = torch.where(emitted, contexts.child(at_node, token.clamp(min=0)), at_node)
            reached = reached + emitted
        node[live], depth[live] = at_node, reached
    for position in range(contexts.depth):
        left = depth <= position
        token = draws.categorical(contexts.law(contexts.p, context, node), left)
        tokens[:, position] = torch.where(left, token, tokens[:, position])
        branch[:, position] = torch.where(left, int(Branch.SAMPLED), branch[:, position])
        node = torch.where(left, contexts.child(node, token), node)
    return Played(context, tokens, branch, first, tally)


def indices(outcome: Outcome, contexts: Contexts) -> Int[Tensor, "rows slots"]:
    """The tree's token for each emitted id, -1 where it has none."""
    if contexts.vocab == contexts.tokens:
        return outcome.tokens
    known = torch.full((contexts.vocab + 1,), NONE)
    known[contexts.ids] = torch.arange(contexts.tokens)
    return known[outcome.tokens]  # NONE is the last entry


def sources(outcome: Outcome, lengths: Int[Tensor, " rows"]) -> Int[Tensor, "rows slots"]:
    """The `Branch` of each slot, NONE where nothing was emitted."""
    slot = torch.arange(outcome.tokens.shape[1])
    last = torch.where(outcome.accepted < lengths, int(Branch.RECOVERED), int(Branch.BONUS))[:, None]
    branch = torch.where(slot < outcome.accepted[:, None], int(Branch.ACCEPTED), last)
    return branch.where(outcome.tokens != NONE, int(Branch.NONE))


def forbidden(given: Round, outcome: Outcome, row: int, slot: int, context: str, branch: int, place: str) -> Fault:
    """The fault of emitting a token that the target law forbids, in a row at such a place, if that says anything."""
    token, name = int(outcome.tokens[row, slot]), Branch(branch).name.lower()
    greedy = float(given.temperature[row]) == 0
    shown = certificate(given, outcome, row)
    if place:
        shown["where"] = place
    why = "is not the argmax, in a greedy row" if greedy else "has probability 0 under the target law"
    return Fault(
        Kind.REFUTED,
        f"in context '{context}'{place and f', {place}'}: the {name} token {token} in slot {slot} {why}",
        shown,
        {
            "check": "support",
            "context": context,
            "position": slot,
            "prefix": outcome.tokens[row, :slot].tolist(),
            "branch": name,
            "token": token,
            "direction": "emitted although impossible",
            "observed": 1.0,
            "expected": 0.0,
        },
    )


def _tally(outcome: Outcome, lengths: Tensor) -> Int[Tensor, " four"]:
    rejected = outcome.accepted < lengths
    bonus = ~rejected & ((outcome.tokens != NONE).sum(1) > outcome.accepted)
    accepted = outcome.accepted.sum()
    return torch.stack([accepted + rejected.sum(), accepted, rejected.sum(), bonus.sum()])
