"""A Jacobi-style scheduler, as papers release it, as a decoder: its verification is judged exactly.

    # theirs.py
    from specverify.integrations.schedulers import window
    from their_clone.scheduler import verify

    decoder = window(verify)

    specverify validate theirs.py:decoder

What such a scheduler decides is a function of one window: which drafts stay, what replaces the first that does not, and
what is drafted for the places behind. This function is theirs; the loop around it (forward passes, first drafts, what
is committed and what is carried to the next window) is done here.

    verify(ids, logits, q) -> (matched, tokens, scores)

    ids      Int[1, w + 1]            the last committed token, then w drafts, at least one
    logits   Float[1, w + 1, vocab]   of the place behind each of ids: row k judges draft k + 1, the last a bonus token
    q        Float[1, w + 1, vocab]   the law that each of ids was drawn from; of a first draft, and row 0, one-hot
    matched  int                      how many of `tokens` to commit: the accepted drafts and the one behind them
    tokens   Int[1, n]                what to commit, then drafts for the places behind: matched <= n <= w + 1
    scores   Float[1, n, vocab]       the law that each token was drawn from: what becomes q, one window later

It draws with torch, and is a function of its arguments otherwise. Where a judgement enumerates, its draws are followed
and what it may return is one draw (`verification.py`); where it samples, the function just runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.claims import Claim, Lossless
from specverify.decoders.judging import check_window
from specverify.decoders.protocol import Branch, Info, State, begin, commit
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.integrations.unprocessed import Processing
from specverify.integrations.verification import Asked, Outcomes, Verification, Verified, Verify, seeded
from specverify.laws import at
from specverify.laws import window as from_slot
from specverify.model import row_mask

First = Literal["repeat-left", "zero", "random", "last"]
_FANOUT, _SPANS = 64, (4_096, 64, 1)
"""An outcome is chosen digit by digit, so that every draw has as many options whatever the other rows hold."""


@dataclass(frozen=True)
class Carried:
    """Drafts for the next window; 0 beyond `count`.

    Attributes:
        token: the drafts.
        law: what each was drawn from, as the scheduler said.
        count: how many there are.
    """

    token: Int[Tensor, "batch window"]
    law: Float[Tensor, "batch window vocab"]
    count: Int[Tensor, " batch"]


@dataclass(frozen=True)
class Window:
    """A decoder whose windows are verified by somebody's function; made by `window`.

    Attributes:
        verification: the function.
        window: drafts per forward pass.
        first: what stands where there is no draft yet.
        plain_first: whether the first token is drawn from p, without a window.
        processing: what the function does to logits.
        claim: what is claimed.
    """

    verification: Verification
    window: int
    first: First
    plain_first: bool
    processing: Processing
    claim: Claim

    draws_with_torch = True
    """Where a judgement samples, the guard lends it the generator (see `Guarded`)."""

    def __post_init__(self) -> None:
        check_window(self.window)
        if self.first not in get_args(First):
            raise InputError(f"first drafts {self.first!r}: a window takes {', '.join(get_args(First))}")

    @property
    def name(self) -> str:
        """The function's."""
        return self.verification.name

    def init(self, model: Any, batch: int, draws: Draws) -> State:
        """See Decoder."""
        token = torch.zeros(batch, self.window, dtype=torch.int64, device=model.device)
        law = torch.zeros(batch, self.window, model.vocab, dtype=model.dtype, device=model.device)
        return begin(model, batch, Carried(token, law, torch.zeros_like(token[:, 0])))

    def step(self, state: State, model: Any, draws: Draws) -> tuple[State, Info]:
        """See Decoder."""
        room = (model.length - state.length).where(~state.done, 0)
        plain = (state.length == 0) & self.plain_first
        judged = room.clamp(max=self.window).where(~plain, 0)
        token, law = self._drafts(state, judged, draws)
        laws = model.laws(state.context, token[:, : int(judged.max())])
        alone = draws.categorical(laws[:, 0], plain & ~state.done)

        asked = [self._asked(state, model, row, int(judged[row]), token, law, laws) for row in range(len(room))]
        found = self._verified(asked, draws)
        nothing = Verified(0, 1, token.new_zeros(1), law.new_zeros(1, model.vocab))
        results = [nothing if one is None else one for one in found]
        block = _padded([one.tokens for one in results], self.window + 1)
        block = torch.where(plain[:, None] & (torch.arange(self.window + 1) == 0), alone[:, None], block)
        scores = _padded([one.scores for one in results], self.window + 1)
        accepted, matched, size = (
            torch.tensor(list(column), dtype=torch.int64, device=room.device)
            for column in zip(*((one.accepted, one.matched, len(one.tokens)) for one in results), strict=True)
        )
        after, count = commit(state, model, block, matched)
        left = (size - matched).where(~after.done & (judged > 0), 0)
        after = replace(after, drafting=_carried(block, scores, matched, left, self.window))
        return after, _info(state, judged, accepted, count, self.window + 1)

    def _drafts(
        self, state: State, judged: Int[Tensor, " batch"], draws: Draws
    ) -> tuple[Int[Tensor, "batch window"], Float[Tensor, "batch window vocab"]]:
        """The drafts of this window: those that were carried, and first drafts, whose law is one-hot."""
        old: Carried = state.drafting
        inside, kept = row_mask(judged, self.window), row_mask(old.count, self.window)
        new = inside & ~kept
        committed = at(state.tokens, (state.length - 1).clamp(min=0))
        if self.first == "random":
            fill = draws.categorical(torch.ones_like(old.law), new)
        elif self.first == "zero":
            fill = torch.zeros_like(old.token)
        else:
            left = torch.where(old.count > 0, at(old.token, (old.count - 1).clamp(min=0)), committed)
            fill = (committed if self.first == "last" else left)[:, None].expand_as(old.token)
        token = torch.where(new, fill, old.token).where(inside, 0)
        sure = torch.nn.functional.one_hot(token, old.law.shape[-1]).to(old.law)
        return token, torch.where(new[..., None], sure, old.law).where(inside[..., None], 0)

    def _asked(
        self, state: State, model: Any, row: int, judged: int, token: Tensor, law: Tensor, laws: Tensor
    ) -> Asked | None:
        """What the function is asked in one row; None where it is not."""
        if judged == 0:
            return None
        length = int(state.length[row])
        last = state.tokens[row, length - 1 : length] if length else token.new_zeros(1)  # a prompt ends with some id
        sure = torch.nn.functional.one_hot(last, model.vocab).to(law)
        return Asked(
            torch.cat([last, token[row, :judged]]),
            self.processing.logits(laws[row, : judged + 1]),
            torch.cat([sure, law[row, :judged]]),
            model.length - length,
            model.eos,
        )

    def _verified(self, asked: list[Asked | None], draws: Draws) -> list[Verified | None]:
        generator = getattr(draws, "generator", None)
        if generator is not None:
            with seeded(generator):
                return [None if one is None else self.verification.run(one) for one in asked]
        found = [None if one is None else self.verification.outcomes(one) for one in asked]
        which = _choose(found, draws)
        return [None if one is None else one.results[place] for one, place in zip(found, which, strict=True)]


class Scheduler:
    """What makes a `Window` for every setting; made by `window`.

    Attributes:
        name: the function's.
        target_processors: what target laws are made by, for the function's own processors to have something to cut.
    """

    draws_with_torch = True

    def __init__(self, made: Window) -> None:
        self._made, self.name, self.claim = made, made.name, made.claim
        self.target_processors = made.processing.cuts

    def __call__(self, window: int) -> Window:
        """The decoder with windows of so many drafts."""
        return replace(self._made, window=window)

    def __getattr__(self, name: str) -> Any:
        if name in ("init", "step"):
            raise AttributeError(
                f"window({self.name}) makes decoders and is none: call it with how many drafts a pass verifies, as in "
                f"sample(window({self.name})(4), toy, n=3, seed=0)"
            )
        raise AttributeError(name)


class AnyFirst(Scheduler):
    """The same, for any first drafts."""

    def __call__(self, window: int, initial: Any = "repeat-left") -> Window:
        """The decoder with such first drafts; see `factory.py`."""
        return replace(self._made, window=window, first=initial)


def window(
    verify: Verify,
    *,
    first: First | None = None,
    plain_first: bool = True,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    claim: Claim = Lossless(),  # noqa: B008  (frozen)
    name: str | None = None,
    budget: int = 5_000,
) -> Scheduler:
    """A function that verifies a window, as what makes a decoder of every window, which `specverify validate` judges.

    Args:
        verify: (ids, logits, q) -> (matched, tokens, scores); see above.

    Other args:
        first: what stands where no pass has drafted yet: "random" tokens, the token on the left ("repeat-left"), the
            "last" committed one, or "zero"; None to judge the first two and the last; a decoder that is made with no
            more than a window begins with the token on the left then.
        plain_first: whether the first token of a sequence is drawn from p, as behind a prompt, and not verified.
        temperature, top_k, top_p: what the function itself does to `logits`, in this order. It then gets logits of
            which the target law is what these make; where a law cannot be made by them (it has more than `top_k`
            tokens) the model is not judged, and the judgement says so.
        claim: what is claimed of the law of sequences.
        name: how to call it; by default as the function.
        budget: most worlds of one window that are followed.

    Raises:
        InputError: for a setting that there is not.
    """
    if not callable(verify):
        raise InputError(f"{verify!r} is no function of (ids, logits, q)")
    called = name or str(getattr(verify, "__name__", type(verify).__name__))
    processing = Processing(temperature, top_k, top_p)
    made = Window(Verification(verify, called, budget), 1, first or "repeat-left", plain_first, processing, claim)
    return AnyFirst(made) if first is None else Scheduler(made)


def _padded(rows: list[Tensor], size: int) -> Tensor:
    """Rows of different lengths, with zeros behind them."""
    return torch.stack([torch.cat([row, row.new_zeros(size - len(row), *row.shape[1:])]) for row in rows])


def _carried(block: Tensor, scores: Tensor, matched: Tensor, left: Tensor, window: int) -> Carried:
    """What was drafted behind the tokens that were committed."""
    keep = row_mask(left, window)
    token, law = from_slot(block, matched, window), from_slot(scores, matched, window)
    return Carried(token.where(keep, 0), law.where(keep[..., None], 0), left)


def _info(state: State, judged: Tensor, accepted: Tensor, count: Tensor, size: int) -> Info:
    last = torch.where(accepted < judged, int(Branch.RECOVERED), int(Branch.BONUS))
    last = torch.where(judged > 0, last, int(Branch.SAMPLED))[:, None]
    branch = torch.where(row_mask(accepted, size), int(Branch.ACCEPTED), last) * row_mask(count, size)
    kept, lost = (branch == Branch.ACCEPTED).sum(1), (branch == Branch.RECOVERED).sum(1)
    return Info((~state.done).long(), kept + lost, kept, count, branch, torch.zeros_like(count))


def _choose(found: list[Outcomes | None], draws: Draws) -> list[int]:
    """Which outcome each row takes."""
    place = [0] * len(found)
    for span in _SPANS:
        weights, where = torch.zeros(len(found), _FANOUT, dtype=torch.float64), [False] * len(found)
        for row, one in enumerate(found):
            here = torch.zeros(0) if one is None else one.chance[place[row] : place[row] + _FANOUT * span]
            where[row] = len(here) > span
            if where[row]:
                whole = torch.cat([here, here.new_zeros(_FANOUT * span - len(here))])
                weights[row] = whole.reshape(_FANOUT, span).sum(1)
        digit = draws.categorical(weights, torch.tensor(where))
        place = [at + span * d for at, d in zip(place, digit.tolist(), strict=True)]
    return place
