"""Decoders around the library's own, each with one slip in what it asks, catches, counts or commits; right twins."""

from dataclasses import dataclass, replace

import torch

from specverify.claims import Lossless
from specverify.decoders import Autoregressive, Branch, Info, Jacobi, Speculative, begin, commit
from specverify.draws import Draws
from specverify.evidence.relay import Relay
from specverify.model import row_mask


class Around:
    """A decoder that hands its calls on, through other draws or another account."""

    claim = Lossless()

    def __init__(self, inner):
        self.inner, self.name = inner, type(self).__name__
        if hasattr(inner, "window"):
            self.window = inner.window

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        return self.inner.step(state, model, self.through(draws))

    def through(self, draws):
        return draws


@dataclass(frozen=True)
class ByRace:
    """Plain decoding by a race a token: a fresh one, or the one of the token before."""

    kept: bool
    by_hand: bool = False
    name = "by-race"
    claim = Lossless()

    def init(self, model, batch, draws):
        return begin(model, batch, draws.race(batch, 1, model.vocab))

    def step(self, state, model, draws: Draws):
        law = model.laws(state.context, state.tokens[:, :0])
        active = ~state.done
        race = state.drafting if self.kept else draws.race(len(active), 1, model.vocab)
        if self.by_hand:
            token = torch.where(law > 0, race.log() - law.log(), torch.inf).argmin(-1)
        else:
            token, _ = draws.winner(race, law, active[:, None])
        after, count = commit(state, model, token, active.long())
        none = torch.zeros_like(count)
        return after, Info(count, none, none, count, count[:, None] * Branch.SAMPLED, none)


fresh_race, kept_race, race_by_hand = ByRace(False), ByRace(True), ByRace(False, by_hand=True)


class Patient(Around):
    """Takes the most probable token should drawing fail, which it never does: lossless."""

    caught = Exception

    def through(self, draws):
        def relay(kind, *arguments):
            try:
                return getattr(draws, kind)(*arguments)
            except self.caught:
                if kind != "categorical":
                    raise
                return arguments[0].argmax(-1).where(arguments[1], 0)

        return Relay(relay)


class CatchesAll(Patient):
    caught = BaseException


class Ratios(Around):
    """Asks for acceptance with p / q as it is, without the minimum."""

    def through(self, draws):
        def relay(kind, *arguments):
            if kind == "accept_run":
                arguments = (arguments[0] * 1.5, arguments[1])
            return getattr(draws, kind)(*arguments)

        return Relay(relay)


class Warms(Around):
    """Asks the model once before each step, to warm its cache."""

    says_so = False

    def step(self, state, model, draws):
        model.laws(state.context, state.tokens[:, :0])
        after, info = super().step(state, model, draws)
        return after, replace(info, passes=info.passes * 2) if self.says_so else info


class WarmsAndSaysSo(Warms):
    says_so = True


class CallsItAccepted(Around):
    """Calls the token that replaced a draft accepted too, at every second position."""

    def step(self, state, model, draws):
        after, info = super().step(state, model, draws)
        odd = ((state.length[:, None] + torch.arange(info.branch.shape[1])) % 2 == 1) & (info.branch > Branch.ACCEPTED)
        branch = info.branch.where(~odd, int(Branch.ACCEPTED))
        accepted = (branch == Branch.ACCEPTED).sum(1)
        return after, replace(
            info, branch=branch, accepted=accepted, verified=accepted + (branch == Branch.RECOVERED).sum(1)
        )


@dataclass(frozen=True)
class TwoGuesses:
    """Two guesses, each read by a pass of its own; where the first one's token is not drawn, the second's may be."""

    reads_again: bool
    name = "two-guesses"
    claim = Lossless()

    def init(self, model, batch, draws):
        return begin(model, batch)

    def step(self, state, model, draws):
        room = (model.length - state.length).where(~state.done, 0)
        guesses = [torch.full_like(room, token)[:, None] for token in (0, 1)]
        laws = torch.stack([model.laws(state.context, guess) for guess in guesses], 1)
        first = draws.categorical(laws[:, 0, 0], room > 0)
        hit = (first < 2) & (room > 1)
        if model.eos is not None:
            hit = hit & (first != model.eos)
        which = first.clamp(max=1)
        behind = draws.categorical(laws[torch.arange(len(room)), which, 1], hit)
        if self.reads_again:
            model.laws(state.context, first[:, None])
        after, count = commit(state, model, torch.stack([first, behind], 1), (1 + hit.long()).where(room > 0, 0))
        active = (~state.done).long()
        kept = (first < 2).long() * active
        name = torch.stack([torch.where(kept > 0, int(Branch.ACCEPTED), int(Branch.RECOVERED)), hit * Branch.BONUS], 1)
        name = name * row_mask(count, 2)
        return after, Info((3 if self.reads_again else 2) * active, active, kept, count, name, active * 0)


unread, read_again = TwoGuesses(False), TwoGuesses(True)


class Marks(Around):
    """Carries -1 or 0, where no draft was and where one was: no two states may pass for one."""

    def init(self, model, batch, draws):
        state = super().init(model, batch, draws)
        return replace(state, drafting=(state.drafting, torch.full((batch, 3), -1)))

    def step(self, state, model, draws):
        inner, _ = state.drafting
        after, info = super().step(replace(state, drafting=inner), model, draws)
        mark = torch.stack([-(info.branch[:, 0] == code).long() for code in (1, 2, 3)], 1)
        return replace(after, drafting=(after.drafting, mark.where(~state.done[:, None], state.drafting[1]))), info


class Tires:
    """Sees, from a position on that no enumeration reaches, laws that are sharper than they are."""

    def __init__(self, model, length, from_):
        self.inner, self.reached, self.from_ = model, length, from_
        for part in ("name", "vocab", "length", "eos", "dtype", "device", "start", "advance"):
            setattr(self, part, getattr(model, part))

    def laws(self, context, draft):
        laws = self.inner.laws(context, draft)
        sharp = laws**1.3
        late = self.reached[:, None] + torch.arange(laws.shape[1]) >= self.from_
        return torch.where(late[..., None], sharp / sharp.sum(-1, keepdim=True), laws)


class Tiring(Around):
    def step(self, state, model, draws):
        return super().step(state, Tires(model, state.length, 20), draws)


def _of(kind):
    return lambda window: kind(Speculative(Jacobi(), window))


patient, catches_all, ratios = _of(Patient), _of(CatchesAll), _of(Ratios)
warms, warms_and_says_so, calls_it_accepted = _of(Warms), _of(WarmsAndSaysSo), _of(CallsItAccepted)
tiring = _of(Tiring)
marks, plain_marks = _of(Marks), Marks(Autoregressive())
