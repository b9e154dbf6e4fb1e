"""How the probability of every token comes about: by which branch, and from which draft.

While a decoder is enumerated, the probability of every (prefix, token, branch) is added up, and beside it that of every
(prefix, draft) that was judged, as the target model was shown it. A draft is *initial* if no forward pass had looked at
its position before, else a *redraft*. Nothing else is known of the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.claims import Claim
from specverify.decoders.protocol import Branch, Info, State
from specverify.draws import Draws
from specverify.evidence.guard import Guarded
from specverify.model import Model
from toymodels.tables import prefixes, tabulate

DRAFTS = ("initial", "redraft")
SEEN = (*DRAFTS, "unseen")
"""Kinds of judged drafts; *unseen* ones were never shown to the model."""


@dataclass(frozen=True)
class Share:
    """One branch's part in the law at a place; per token (or cluster), given the prefix.

    Attributes:
        branch: sampled, accepted, recovered, bonus, verified, ended, or "earlier tokens" (of a cluster claim).
        draft: "initial" or "redraft" for a judged draft.
        came: the probability that the token is this and this branch decides it.
        due: what that would have to be.
        drafts: for judged drafts, the probability that this one is judged here.
        certain: whether due is the token rule's for drafts that are certain once they are made, such as guesses at
            random, rather than for drafts with a law.
    """

    branch: str
    draft: str | None
    came: tuple[float, ...]
    due: tuple[float, ...]
    drafts: tuple[float, ...] | None = None
    certain: bool = False

    @property
    def name(self) -> str:
        """The branch, with the kind of draft."""
        return f"{self.branch} ({self.draft})" if self.draft else self.branch

    @property
    def error(self) -> float:
        """Half the sum of |came - due|."""
        return sum(abs(a - b) for a, b in zip(self.came, self.due, strict=True)) / 2


@dataclass(frozen=True)
class Trail:
    """What is followed beside a state.

    Attributes:
        drafting: the state's own.
        reach: how many positions any forward pass has looked at.
        seen: the drafts that the last pass judged, -1 where there was none.
    """

    drafting: Any
    reach: Int[Tensor, " batch"]
    seen: Int[Tensor, "batch length"]


class Traced:
    """A decoder whose states carry a trail."""

    def __init__(self, decoder: Guarded) -> None:
        self.decoder, self.name, self.window = decoder, decoder.name, decoder.window
        self.claim: Claim = decoder.claim

    def init(self, model: Model, batch: int, draws: Draws) -> State:
        """See Decoder."""
        state = self.decoder.init(model, batch, draws)
        return replace(state, drafting=Trail(state.drafting, state.length, torch.full_like(state.tokens, -1)))

    def step(self, state: State, model: Model, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        trail: Trail = state.drafting
        after, info = self.decoder.step(replace(state, drafting=trail.drafting), model, draws)
        reach, seen = trail.reach, torch.full_like(state.tokens, -1)
        if (drafts := self.decoder.drafts) is not None:
            size = min(drafts.shape[1], model.length)
            # Drafts behind the last token committed were not judged; to forget them merges more worlds.
            judged = torch.arange(size, device=reach.device) < (after.length - state.length)[:, None]
            seen[:, :size] = drafts[:, :size].where(judged, -1)
            reach = torch.maximum(reach, (state.length + drafts.shape[1] + 1).where(~state.done, 0))
        return replace(after, drafting=Trail(after.drafting, reach, seen)), info


class Flow:
    """The probabilities, added up by `add` while a `Traced` decoder is enumerated; prefixes as numbered in tables."""

    def __init__(self, model: Model) -> None:
        self.vocab, self.length = model.vocab, model.length
        table = tabulate(model).table.double()
        self.laws = table / table.sum(-1, keepdim=True)
        if model.eos is not None:
            for position in range(1, model.length):
                for code in range(self.vocab**position):
                    if model.eos in digits(code, self.vocab, position):
                        self.laws[prefixes(self.vocab, position) + code] = torch.eye(self.vocab).double()[model.eos]
        none = torch.zeros_like(self.laws)
        self.alone = {branch: none.clone() for branch in (Branch.SAMPLED, Branch.BONUS)}
        self.judged = {
            (branch, draft): none.clone() for branch in (Branch.ACCEPTED, Branch.RECOVERED) for draft in SEEN
        }
        self.drafts = {draft: none.clone() for draft in DRAFTS}
        self.mistaken = False
        """Whether a token was accepted that was not the draft shown: what the model was shown is then left aside."""

    def add(self, before: State, after: State, info: Info, mass: Float[Tensor, " batch"]) -> None:
        """Hook of the enumeration."""
        reach, seen = before.drafting.reach, after.drafting.seen
        every = torch.arange(self.length, device=mass.device)
        first = torch.tensor([prefixes(self.vocab, n) for n in range(self.length)], device=mass.device)
        for slot in range(min(info.branch.shape[1], self.length)):
            branch = info.branch[:, slot]
            place = (before.length + slot).clamp(max=self.length - 1)
            # The prefix's rank among those of its length: its tokens as digits.
            power = place[:, None] - 1 - every
            rank = torch.where(power >= 0, after.tokens * self.vocab ** power.clamp(min=0), 0).sum(1)
            node, token = first[place] + rank, after.tokens.gather(1, place[:, None]).squeeze(1)
            draft = seen[:, slot]
            kind = torch.where(draft < 0, SEEN.index("unseen"), (place < reach).long())
            accepted, recovered = branch == Branch.ACCEPTED, branch == Branch.RECOVERED
            self.mistaken |= bool((accepted & (draft >= 0) & (draft != token)).any())

            def put(table: Tensor, where: Tensor, column: Tensor, node: Tensor = node) -> None:
                table.index_put_((node[where], column[where]), mass[where], accumulate=True)

            for which, table in self.alone.items():
                put(table, branch == which, token)
            for (which, name), table in self.judged.items():
                put(table, (branch == which) & (kind == SEEN.index(name)), token)
            for name, table in self.drafts.items():
                put(table, (accepted | recovered) & (kind == SEEN.index(name)), draft)

    def shares(
        self,
        position: int,
        codes: list[int],
        member: Float[Tensor, "vocab symbols"],
        came: Float[Tensor, "prefixes vocab"],
        due: Float[Tensor, "prefixes vocab"],
    ) -> list[Share]:
        """The shares at some prefixes of one length together.

        Args:
            position: the prefixes' length.
            codes: their ranks.
            member: which symbol (token or cluster) each token is.
            came, due: the probability of each prefix and token that came out, and that is due.
        """
        nodes = prefixes(self.vocab, position) + torch.tensor(codes)
        p = self.laws[nodes] @ member
        reached = float(due.sum())

        def plain(part: Tensor) -> tuple[float, ...]:
            return tuple((part.sum(0) / reached).tolist())

        def share(branch: str, draft: str | None, came: Tensor, due: Tensor) -> Share:
            return Share(branch, draft, plain(came), plain(due))

        def whole(branch: str, table: Tensor) -> Share:
            return share(branch, None, table @ member, table.sum(1, keepdim=True) * p)

        def pair(draft: str, kept: Tensor, replaced: Tensor, drawn: Tensor, certain: bool) -> list[Share]:
            both = drawn.sum(1, keepdim=True) * p
            due = drawn * p if certain else torch.minimum(both, drawn)
            return [
                replace(share(branch, draft, came, part), drafts=plain(drawn), certain=certain)
                for branch, came, part in (("accepted", kept, due), ("recovered", replaced, both - due))
            ]

        found = [whole(branch.name.lower(), table[nodes]) for branch, table in self.alone.items()]
        for draft in DRAFTS if not self.mistaken else ():
            kept, replaced, drawn = (
                table[nodes] @ member
                for table in (
                    self.judged[Branch.ACCEPTED, draft],
                    self.judged[Branch.RECOVERED, draft],
                    self.drafts[draft],
                )
            )
            # What is drawn at random may be judged as a draft with a law, or as one that is known: both are right, and
            # meant is that of which one branch is as it should be.
            ways = [pair(draft, kept, replaced, drawn, certain) for certain in (False, True)]
            found += min(ways, key=lambda pair: (not _half_right(*pair), round(sum(one.error for one in pair), 12)))
        unseen = [table[nodes] for (_, draft), table in self.judged.items() if draft == "unseen" or self.mistaken]
        found.append(whole("verified", torch.stack(unseen).sum(0)))
        decided = torch.stack([table[nodes] for table in (*self.alone.values(), *self.judged.values())]).sum(0)
        found.append(whole("ended", (came - decided).clamp(min=0)))
        before = (due.sum(1) - came.sum(1))[:, None] * p
        found.append(share("earlier tokens", None, torch.zeros_like(before), before))
        return found


def _half_right(accepted: Share, recovered: Share) -> bool:
    """Whether drafts are kept as they should be, or replaced from the law that they should be replaced from."""
    came, due = (torch.tensor(law, dtype=torch.float64) for law in (recovered.came, recovered.due))
    alike = min(float(came.sum()), float(due.sum())) > 0 and torch.allclose(came / came.sum(), due / due.sum())
    return alike or accepted.error < 1e-9


def digits(code: int, size: int, count: int) -> tuple[int, ...]:
    """The prefix of `count` symbols that has this rank."""
    return tuple(code // size ** (count - 1 - n) % size for n in range(count))
