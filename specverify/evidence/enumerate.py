"""The exact law of a decoder's output on a toy model.

The decoder's own `step` is run on a batch of distinct states, once for every outcome of its draws (`worlds.py`), so
that after the step each row is one possible world with its probability. Equal worlds are merged. Since worlds are taken
up by how many tokens they have committed, each distinct state is expanded once. What comes out is exact up to rounding:
the law over sequences, the expected forward passes, and how often each branch was taken.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from specverify import tree
from specverify.decoders.protocol import Branch, Decoder, Info, State
from specverify.enumerated import Enumerated
from specverify.evidence import accounts
from specverify.evidence.budget import Budget, Spent
from specverify.evidence.sequences import ExactLaw, check_size, sequence_index
from specverify.evidence.sequences import target_law as target_law  # subjects of others import it from here
from specverify.model import Model
from specverify.worlds import Pace, follow

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """A decoder's state, and what is known of the races in it (see `Enumerated.finish`)."""

    state: State
    known: Float[Tensor, "batch races 2"]


OnStep = Callable[[State, State, Info, Tensor], None]
"""(before, after, what the step did, probability of each row's world)."""


@torch.no_grad()
def enumerate_decoder(
    decoder: Decoder, model: Model, budget: Budget | None = None, on_step: OnStep | None = None
) -> ExactLaw:
    """Run every possible world of a decoder on a model.

    Args:
        decoder: any `init`/`step` over `Draws`.
        model: small enough; float64 laws give a law exact to about 1e-15.
        budget: how much it may take.
        on_step: called after every step with the worlds that went through it.

    Raises:
        BudgetError: if the model or the number of worlds is too large; the message says which size would fit.
        ContractError: if the decoder breaks the protocol.
    """
    check_size(model)
    return _Enumeration(decoder, model, budget or Budget(), on_step).run()


class _Enumeration:
    """One enumeration under way: worlds wait in `waiting`, by length, until their turn to be expanded."""

    def __init__(self, decoder: Decoder, model: Model, budget: Budget, on_step: OnStep | None) -> None:
        self.decoder, self.model, self.budget, self.on_step = decoder, model, budget, on_step
        self.name = decoder.name
        self.law = torch.zeros(model.vocab**model.length, dtype=torch.float64, device=model.device)
        self.totals = torch.zeros(4, dtype=torch.float64, device=model.device)
        self.branches = torch.zeros(len(Branch), dtype=torch.float64, device=model.device)
        self.states, self.spent = 0, Spent(budget, decoder, model)
        known = budget.pace if budget.pace is not None and budget.pace.most == budget.rows else None
        self.pace = known or Pace(budget.rows, timed=budget.deadline is not None)
        self.waiting: dict[int, list[tuple[World, Tensor]]] = defaultdict(list)

    def run(self) -> ExactLaw:
        one = torch.ones(1, dtype=torch.float64, device=self.model.device)
        start = self._follow(lambda _, draws: self.decoder.init(self.model, draws.batch, draws), None, one, None)
        for state, known, _, weight in start:
            self._file(World(state, known), weight)
        for length in range(self.model.length):
            parts = self.waiting.pop(length, [])
            if not parts:
                continue
            world, weight = tree.merged(tree.join([part[0] for part in parts]), torch.cat([part[1] for part in parts]))
            order = tree.hashed(tree.to_bits([x for x in tree.tensors(world) if not x.is_floating_point()])).argsort()
            self.states += len(order)
            # Neighbours in this order differ in their laws only, so that what they lead to merges at once.
            for chunk in order.split(max(1, self.budget.rows // 4)):
                self._expand(tree.rows(world, chunk), weight[chunk])
        accounts.check_mass(self.name, self.law)
        passes, verified, accepted, draft_passes = self.totals.tolist()
        branches = {b.name.lower(): float(self.branches[b]) for b in Branch if b is not Branch.NONE}
        return ExactLaw(self.law, passes, verified, accepted, draft_passes, branches, self.states, self.spent.worlds)

    def _expand(self, world: World, weight: Tensor) -> None:
        found: list[tuple[World, Tensor]] = []
        for (after, info), known, before, mass in self._follow(
            lambda state, draws: self.decoder.step(state, self.model, draws), world.state, weight, world.known
        ):
            accounts.check_progress(self.name, before, after)
            if self.on_step is not None:
                self.on_step(before, after, info, mass)
            spent = torch.stack([info.passes, info.verified, info.accepted, info.draft_passes], 1).double()
            self.totals += mass @ spent
            self.branches.index_add_(0, info.branch.reshape(-1), mass[:, None].expand(info.branch.shape).reshape(-1))
            found.append((World(after, known), mass))
            if sum(len(part) for _, part in found) >= self.budget.rows // 4:
                self._file(*tree.join(found))
                found = []
        if found:
            self._file(*tree.join(found))

    def _file(self, world: World, weight: Tensor) -> None:
        """Add finished worlds to the law and let the others wait for their turn."""
        state, done = world.state, world.state.done
        self.law.index_add_(0, sequence_index(state.tokens[done], self.model.vocab), weight[done])
        active = (~done).nonzero().squeeze(1)
        if len(active) == 0:
            return
        world, weight = tree.merged(tree.rows(world, active), weight[active])
        for length in world.state.length.unique().tolist():
            here = (world.state.length == length).nonzero().squeeze(1)
            self.waiting[length].append((tree.rows(world, here), weight[here]))

    def _follow(
        self, function: Callable[[Any, Enumerated], T], given: Any, weight: Tensor, known: Tensor | None
    ) -> Iterator[tuple[T, Tensor, Any, Tensor]]:
        """As `follow`, within the budget."""
        for found in follow(function, given, weight, known, self.pace, self.spent.look):
            self.spent.take(len(found[3]))
            yield found
