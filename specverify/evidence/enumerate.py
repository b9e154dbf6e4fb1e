"""The exact law of a decoder's output on a toy model.

The decoder's own `step` is run on a batch of distinct states. At each draw every row is split into all its outcomes
(`draws.Enumerated`), so that after the step each row is one possible world with its probability. Equal worlds are
merged. Since worlds are taken up by how many tokens they have committed, each distinct state is expanded once. What
comes out is exact up to rounding: the law over sequences, the expected number of forward passes, the acceptance rate,
and how often each branch was taken.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify import tree
from specverify.deadline import Deadline
from specverify.decoders.protocol import Branch, Decoder, Info, State
from specverify.enumerated import Chosen, Enumerated, Fork
from specverify.errors import BudgetError, ContractError, InputError
from specverify.model import Model
from specverify.rules.token import total_variation

SEQUENCES = 2**20
"""Most sequences (vocab ** length) that a law is tabulated for."""


@dataclass(frozen=True)
class ExactLaw:
    """What is known exactly of a decoder on a model.

    Attributes:
        law: probability of every sequence; sequence x has index sum_i x_i vocab^(length - 1 - i).
        passes: expected forward passes of the target (NFE) for one sequence.
        verified, accepted: expected draft tokens judged and kept.
        draft_passes: expected forward passes of the draft model.
        branches: expected tokens emitted by each Branch.
        states: distinct states that were expanded.
        worlds: outcomes that were followed (rows that went through a whole step).
    """

    law: Float[Tensor, " sequences"]
    passes: float
    verified: float
    accepted: float
    draft_passes: float
    branches: dict[str, float]
    states: int
    worlds: int

    @property
    def acceptance_rate(self) -> float:
        """Accepted drafts over verified drafts; NaN if none was verified."""
        return self.accepted / self.verified if self.verified > 0 else float("nan")

    def tv(self, other: Float[Tensor, " sequences"]) -> float:
        """Total variation from another law over the same sequences."""
        return float(total_variation(self.law, other.to(self.law)))


@dataclass(frozen=True)
class Budget:
    """How much an enumeration may take.

    Attributes:
        worlds: outcomes followed in all.
        rows: rows per call of `step`; 1 runs every world alone, as a check that rows do not influence each other.
        deadline: when to give up, whatever is left; None for never.
    """

    worlds: int = 20_000_000
    rows: int = 1 << 16
    deadline: Deadline | None = None

    def __post_init__(self) -> None:
        if self.worlds < 1 or self.rows < 1:
            raise InputError(f"an enumeration budget of {self.worlds} worlds and {self.rows} rows; both are at least 1")


def sequence_index(tokens: Int[Tensor, "batch length"], vocab: int) -> Int[Tensor, " batch"]:
    """Each sequence's index in an `ExactLaw`."""
    index = torch.zeros_like(tokens[:, 0])
    for position in range(tokens.shape[1]):
        index = index * vocab + tokens[:, position]
    return index


@torch.no_grad()
def target_law(model: Model) -> Float[Tensor, " sequences"]:
    """The exact law of autoregressive decoding: the product of the model's laws along every sequence.

    Raises:
        BudgetError: if vocab ** length exceeds `SEQUENCES`.
    """
    _check_size(model)
    law = torch.ones(1, dtype=torch.float64, device=model.device)
    ended = torch.zeros(1, dtype=torch.bool, device=model.device)
    context = model.start(1)
    empty = torch.zeros(1, 0, dtype=torch.int64, device=model.device)
    every = torch.arange(model.vocab, device=model.device)
    for position in range(model.length):
        step = model.laws(context, empty)[:, 0].double()
        step = step / step.sum(-1, keepdim=True)
        if model.eos is not None:
            step = torch.where(ended[:, None], (every == model.eos).double(), step)
            ended = (ended[:, None] | (every == model.eos)).reshape(-1)
        law = (law[:, None] * step).reshape(-1)
        if position + 1 < model.length:
            parents = torch.arange(len(law) // model.vocab, device=model.device).repeat_interleave(model.vocab)
            token = every.repeat(len(parents) // model.vocab)[:, None]
            context = model.advance(tree.rows(context, parents), token, torch.ones_like(parents))
            empty = token[:, :0]
    return law


@dataclass(frozen=True)
class World:
    """A decoder's state, and what is known of the races in it (see `Enumerated.finish`)."""

    state: State
    known: Float[Tensor, "batch races 2"]


OnStep = Callable[[State, State, Info, Tensor], None]
"""(state before, state after, what the step did, probability of each row's world)."""


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
    _check_size(model)
    return _Enumeration(decoder, model, budget or Budget(), on_step).run()


class _Enumeration:
    """One enumeration under way: worlds wait in `waiting`, by length, until their turn to be expanded."""

    def __init__(self, decoder: Decoder, model: Model, budget: Budget, on_step: OnStep | None) -> None:
        self.decoder, self.model, self.budget, self.on_step = decoder, model, budget, on_step
        self.law = torch.zeros(model.vocab**model.length, dtype=torch.float64, device=model.device)
        self.spent = torch.zeros(4, dtype=torch.float64, device=model.device)
        self.branches = torch.zeros(len(Branch), dtype=torch.float64, device=model.device)
        self.states = self.worlds = 0
        self.races = False
        self.waiting: dict[int, list[tuple[World, Tensor]]] = defaultdict(list)

    def run(self) -> ExactLaw:
        one = torch.ones(1, dtype=torch.float64, device=self.model.device)
        for state, known, _, weight in self._resolve(
            None, one, lambda _, draws: self.decoder.init(self.model, draws.batch, draws)
        ):
            self._file(World(state, known), weight)
        for length in range(self.model.length):
            parts = self.waiting.pop(length, [])
            if not parts:
                continue
            world, weight = _merge(tree.join([part[0] for part in parts]), torch.cat([part[1] for part in parts]))
            order = tree.hashed(tree.to_bits([x for x in tree.tensors(world) if not x.is_floating_point()])).argsort()
            self.states += len(order)
            # Neighbours in this order differ in their laws only, so that what they lead to merges at once.
            for chunk in order.split(max(1, self.budget.rows // 32)):
                self._expand(tree.rows(world, chunk), weight[chunk])
        missing = abs(float(self.law.sum()) - 1)
        if missing > 1e-9:
            raise ContractError(
                f"decoder {self.decoder.name!r} lost or made probability: its law sums to 1 +- {missing:.3g}"
            )
        passes, verified, accepted, draft_passes = self.spent.tolist()
        branches = {b.name.lower(): float(self.branches[b]) for b in Branch if b is not Branch.NONE}
        return ExactLaw(self.law, passes, verified, accepted, draft_passes, branches, self.states, self.worlds)

    def _expand(self, world: World, weight: Tensor) -> None:
        for (after, info), known, before, mass in self._resolve(
            world, weight, lambda state, draws: self.decoder.step(state, self.model, draws)
        ):
            self._check_progress(before, after)
            if self.on_step is not None:
                self.on_step(before, after, info, mass)
            spent = torch.stack([info.passes, info.verified, info.accepted, info.draft_passes], 1).double()
            self.spent += mass @ spent
            self.branches.index_add_(0, info.branch.reshape(-1), mass[:, None].expand(info.branch.shape).reshape(-1))
            self._file(World(after, known), mass)

    def _file(self, world: World, weight: Tensor) -> None:
        """Add finished worlds to the law and let the others wait for their turn."""
        state, done = world.state, world.state.done
        self.law.index_add_(0, sequence_index(state.tokens[done], self.model.vocab), weight[done])
        active = (~done).nonzero().squeeze(1)
        if len(active) == 0:
            return
        world, weight = _merge(tree.rows(world, active), weight[active])
        for length in world.state.length.unique().tolist():
            here = (world.state.length == length).nonzero().squeeze(1)
            self.waiting[length].append((tree.rows(world, here), weight[here]))

    def _resolve(
        self, world: World | None, weight: Tensor, function: Callable[[Any, Enumerated], Any]
    ) -> Iterator[tuple[Any, Tensor, Any, Tensor]]:
        """Call `function` in every world.

        Yields its results, what is known of their races, the states that they came from, and their weights.
        """
        stack: list[tuple[World | None, Tensor, list[Chosen]]] = [(world, weight, [])]
        while stack:
            world, weight, chosen = stack.pop()
            state, known = (None, None) if world is None else (world.state, world.known)
            draws = Enumerated(len(weight), chosen, self.model.device, known)
            try:
                result, known = draws.finish(function(state, draws))
            except Fork as fork:
                stack.extend(self._split(fork, world, weight, chosen))
            else:
                self._count(len(weight))
                yield result, known, state, weight

    def _split(
        self, fork: Fork, world: World | None, weight: Tensor, chosen: list[Chosen]
    ) -> Iterator[tuple[World | None, Tensor, list[Chosen]]]:
        self.races |= fork.kind.startswith(("winner", "earliest"))
        outcomes = fork.outcomes()
        self._count(int(outcomes.sum()), ahead=True)
        group = (outcomes.cumsum(0) - 1) // self.budget.rows
        for number in group.unique_consecutive().tolist():
            parent, outcome, probability = fork.expand((group == number).nonzero().squeeze(1))
            everything = (
                tree.rows(world, parent),
                weight[parent] * probability,
                [*(tree.rows(earlier, parent) for earlier in chosen), outcome],
            )
            for piece in torch.arange(len(parent), device=parent.device).split(self.budget.rows):
                yield everything if len(piece) == len(parent) else tree.rows(everything, piece)

    def _check_progress(self, before: State, after: State) -> None:
        stuck = after.length <= before.length
        if bool(stuck.any()):
            raise ContractError(
                f"decoder {self.decoder.name!r} committed nothing after {before.tokens[stuck][0].tolist()} "
                f"at length {int(before.length[stuck][0])}; each step must commit at least one token"
            )

    def _count(self, worlds: int, ahead: bool = False) -> None:
        if self.budget.deadline is not None and self.budget.deadline.over:
            raise BudgetError(
                f"enumerating {self.decoder.name!r} on {self.model.name!r} was given up after {self.worlds:,} worlds, "
                "when the time that it had was over; give it more seconds, or a smaller model"
            )
        if not ahead:
            self.worlds += worlds
        if self.worlds + (worlds if ahead else 0) > self.budget.worlds:
            raise BudgetError(
                f"enumerating {self.decoder.name!r} on {self.model.name!r} takes more than {self.budget.worlds:,} "
                f"worlds; {_advice(self.model, self.decoder, self.budget.worlds, self.races)}, or raise the budget"
            )


def _advice(model: Model, decoder: Decoder, worlds: int, races: bool) -> str:
    """Which sizes are certain to fit, by the worst case: every state (prefix, old drafts, drafts) times every outcome.

    What is known of a race depends on the drafts of every pass that its slot was in, at most one per slot.
    """

    def bound(vocab: int, length: int, window: int) -> int:
        reach = [min(window, length - done) for done in range(length)]
        return sum(
            vocab ** (done + 1 + chains * width * (2 + (width if races else 1))) for done, width in enumerate(reach)
        )

    window, chains = getattr(decoder, "window", 1), getattr(decoder, "chains", 1)
    windows = [w for w in range(1, window) if bound(model.vocab, model.length, w) <= worlds]
    lengths = [n for n in range(1, model.length) if bound(model.vocab, n, window) <= worlds]
    fits = []
    if windows:
        fits.append(f"a window of {windows[-1]}")
    if lengths:
        fits.append(f"a length of {lengths[-1]}")
    return f"{' or '.join(fits)} fits for certain" if fits else "a smaller vocabulary may fit"


def _check_size(model: Model) -> None:
    if model.vocab < 1 or model.length < 1:
        raise InputError(
            f"model {model.name!r} has vocabulary {model.vocab} and length {model.length}; both are at least 1"
        )
    if model.vocab**model.length > SEQUENCES:
        fits = max(n for n in range(model.length) if model.vocab**n <= SEQUENCES)
        advice = (
            f"vocabulary {model.vocab} a length of at most {fits}" if fits else f"length 1 a vocabulary of {SEQUENCES}"
        )
        raise BudgetError(
            f"model {model.name!r} has {model.vocab}^{model.length} sequences, too many to tabulate; with {advice} fits"
        )


def _merge(world: World, weight: Tensor) -> tuple[World, Tensor]:
    """Equal worlds become one, with the sum of their weights.

    Rows are grouped by a hash and compared bit by bit; where two of them share a hash, they are grouped by all bits.
    """
    bits = tree.to_bits(world)
    group, first = _grouped(tree.hashed(bits))
    if not torch.equal(bits, bits[first[group]]):
        group, first = _grouped(bits.unique(dim=0, return_inverse=True)[1])
    groups = len(first)
    return tree.rows(world, first), torch.zeros(groups, dtype=weight.dtype, device=weight.device).index_add_(
        0, group, weight
    )


def _grouped(key: Int[Tensor, " batch"]) -> tuple[Int[Tensor, " batch"], Int[Tensor, " groups"]]:
    """Each row's group of equal keys, and one row of each group."""
    _, group = key.unique(return_inverse=True)
    first = torch.zeros(int(group.max()) + 1, dtype=torch.int64, device=group.device)
    first[group] = torch.arange(len(group), device=group.device)
    return group, first
