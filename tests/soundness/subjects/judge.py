"""Speculative decoders with a draft model whose slips show in some circumstances only, and right ones that look odd."""

from dataclasses import dataclass, replace

import torch

from specverify.claims import Lossless
from specverify.decoders import Branch, Info, begin, commit
from specverify.errors import InputError
from specverify.model import Model, row_mask


def of(laws, token):
    """The probability of each token."""
    return laws.gather(-1, token[..., None]).squeeze(-1)


def at(laws, slot):
    """The law at one slot of each row."""
    return laws[torch.arange(len(slot)), slot]


@dataclass(frozen=True)
class Right:
    """The token rule with a draft model; its parts are methods that the others replace."""

    window: int
    draft_model: Model
    name = "right"
    claim = Lossless()

    def init(self, model, batch, draws):
        return begin(model, batch, self.draft_model.start(batch))

    def keep(self, p, q, x):
        return torch.where(of(q, x) > 0, of(p, x) / of(q, x), 1.0).clamp(max=1)

    def rest(self, p, q):
        left = (p - q).clamp(min=0)
        return torch.where(left.sum(-1, keepdim=True) > 0, left, p)

    def slips(self, state, model, p, q, x):
        """In which rows a rejected draft is replaced by a plain draw from p."""
        return torch.zeros(len(x), dtype=torch.bool)

    def judged(self, state, room):
        return room.clamp(max=self.window)

    def count(self, probability, where, draws):
        return draws.accept_run(probability, where)

    def laws(self, model, context, draft):
        return model.laws(context, draft)

    def step(self, state, model, draws):
        context, tokens, proposed = state.drafting, [], []
        room = (model.length - state.length).where(~state.done, 0)
        for slot in range(self.window):
            q = self.draft_model.laws(context, state.tokens[:, :0])
            tokens.append(draws.categorical(q, room[:, None] > slot))
            proposed.append(q)
            context = self.draft_model.advance(context, tokens[-1], (room > slot).long())
        draft, q = torch.cat(tokens, 1), torch.cat(proposed, 1)
        laws = self.laws(model, state.context, draft)
        judged = self.judged(state, room)
        more = room > judged
        if model.eos is not None:
            end = (draft == model.eos) & row_mask(judged, self.window)
            judged = torch.where(end.any(1), end.int().argmax(1) + 1, judged)
            more = more & ~end.any(1)
        run = self.count(self.keep(laws[:, :-1], q, draft), row_mask(judged, self.window), draws)
        rejected = run < judged
        slot = run.clamp(max=self.window - 1)
        here, drafted, x = at(laws, slot), at(q, slot), of(draft, slot)
        left = torch.where(self.slips(state, model, here, drafted, x)[:, None], here, self.rest(here, drafted))
        last = draws.categorical(torch.where(rejected[:, None], left, at(laws, run)), rejected | more)
        block = torch.cat([draft, last[:, None]], 1).scatter(1, run[:, None], last[:, None])
        after, count = commit(state, model, block, run + (rejected | more))
        place = (state.length[:, None] + torch.arange(self.window + 1)).clamp(max=model.length - 1)
        self.draft_model.laws(state.drafting, draft)
        drafting = self.draft_model.advance(state.drafting, after.tokens.gather(1, place), count)
        slots = torch.arange(self.window + 1)
        final = torch.where(rejected, Branch.RECOVERED, Branch.BONUS)[:, None]
        branch = torch.where(slots < run[:, None], Branch.ACCEPTED, final) * row_mask(count, self.window + 1)
        active = (~state.done).long()
        info = Info(active, run + rejected, run, count, branch, active * (self.window + 1))
        return replace(after, drafting=drafting), info


class FiveInside(Right):
    """Slips in windows of five that lie wholly inside the sequence."""

    def slips(self, state, model, p, q, x):
        return (model.length - state.length >= self.window) & torch.full_like(state.done, self.window == 5)


class BehindTheNinth(Right):
    """Slips once ten tokens are committed."""

    def slips(self, state, model, p, q, x):
        return state.length >= 10


class ElevenTokens(Right):
    """Slips where the vocabulary has eleven tokens or more."""

    def slips(self, state, model, p, q, x):
        return torch.full_like(state.done, model.vocab >= 11)


class HundredTokens(Right):
    """Slips where the vocabulary has more than a hundred tokens."""

    def slips(self, state, model, p, q, x):
        return torch.full_like(state.done, model.vocab > 100)


class InFloat32(Right):
    """Slips where laws are float32."""

    def slips(self, state, model, p, q, x):
        return torch.full_like(state.done, p.dtype == torch.float32)


class Tails(Right):
    """Slips where some token has less than 1e-7."""

    def slips(self, state, model, p, q, x):
        return ((p > 0) & (p < 1e-7)).any(-1)


class Crowded(Right):
    """Slips in batches of more than 200 rows."""

    def slips(self, state, model, p, q, x):
        return torch.full_like(state.done, len(x) > 200)


class Half(Right):
    """Computes ratios and what is left in float32: right, but for rounding."""

    def keep(self, p, q, x):
        return super().keep(p.float(), q.float(), x)

    def rest(self, p, q):
        return super().rest(p.float(), q.float()).double()


class HalfAndWrong(Half):
    """The same, and forgets what was rejected in a tenth of the cases."""

    def rest(self, p, q):
        return super().rest(p, q) * 0.9 / super().rest(p, q).sum(-1, keepdim=True) + 0.1 * p


class Aside(Right):
    """Flips its own coins where it can get at a generator, and keeps too much."""

    def count(self, probability, where, draws):
        if (generator := getattr(draws, "generator", None)) is None:
            return super().count(probability, where, draws)
        coins = torch.rand(probability.shape, generator=generator, dtype=torch.float64)
        return ((coins < probability**0.25) & where).long().cumprod(1).sum(1)


class LastRow(Right):
    """In the last row of every batch of more than one."""

    def slips(self, state, model, p, q, x):
        return (torch.arange(len(x)) == len(x) - 1) & (len(x) > 1)


class Ninth(Right):
    """In the tenth row of every batch that has one."""

    def slips(self, state, model, p, q, x):
        return torch.arange(len(x)) == 9


class Fortieth(Right):
    """In one row of large batches."""

    def slips(self, state, model, p, q, x):
        return torch.arange(len(x)) == 40


class Thousandth(Right):
    """In one row of very large batches."""

    def slips(self, state, model, p, q, x):
        return torch.arange(len(x)) == 1_000


class Fifths(Right):
    """In the first row of batches of five."""

    def slips(self, state, model, p, q, x):
        return (torch.arange(len(x)) == 0) & (len(x) == 5)


class Fewer(Right):
    """Lossless: how many drafts are judged falls with the number of unfinished rows."""

    def judged(self, state, room):
        return room.clamp(max=1 if int((~state.done).sum()) > 3 else self.window)


class OnlyTwo(Right):
    """Takes a window of two and no other."""

    def __init__(self, window, draft_model):
        if window != 2:
            raise InputError(f"a window of {window} is not supported")
        super().__init__(window, draft_model)


class Generous(Right):
    """Keeps a draft as if p were half as much again; how far off that is depends on the model."""

    def keep(self, p, q, x):
        return torch.where(of(q, x) > 0, 1.5 * of(p, x) / of(q, x), 1.0).clamp(max=1)


@dataclass(frozen=True)
class Branches:
    """What each branch of a guided model was fed, for a decoder that guides by itself."""

    conditional: object
    unconditional: object


class Guides(Right):
    """Takes models that are pairs of laws, and guides one by the other itself, with a cache of its own for each."""

    def init(self, model, batch, draws):
        if getattr(model, "unconditional", None) is None:
            raise InputError("only guided models are supported")
        start = Branches(model.conditional.start(batch), model.unconditional.start(batch))
        return begin(model, batch, (self.draft_model.start(batch), start))

    def fed(self, block, count):
        """What the unconditional branch is told of a block."""
        return block, count

    def step(self, state, model, draws):
        drafts, own = state.drafting
        guided = _Guided(model, own)
        after, info = super().step(replace(state, drafting=drafts), guided, draws)
        block, count = guided.block
        conditional = model.conditional.advance(own.conditional, block, count)
        unconditional = model.unconditional.advance(own.unconditional, *self.fed(block, count))
        return replace(after, drafting=(after.drafting, Branches(conditional, unconditional))), info


class ForgetsTwo(Guides):
    """The unconditional branch is told the first token of each block alone."""

    def fed(self, block, count):
        return block[:, :1], count.clamp(max=1)


class _Guided:
    """The pair as one model, whose laws come from the decoder's own caches."""

    def __init__(self, model, own):
        self.model, self.own = model, own
        self.vocab, self.length, self.eos, self.device = model.vocab, model.length, model.eos, model.device

    def laws(self, context, draft):
        self.model.laws(context, draft)
        c = self.model.conditional.laws(self.own.conditional, draft)
        u = self.model.unconditional.laws(self.own.unconditional, draft)
        weight = u ** (1 - self.model.scale) * c**self.model.scale
        return weight / weight.sum(-1, keepdim=True)

    def advance(self, context, tokens, count):
        self.block = (tokens, count)
        return self.model.advance(context, tokens, count)
