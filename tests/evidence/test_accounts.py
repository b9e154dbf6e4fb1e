"""What a step says of itself: each false figure is named with the true one, and honest conventions pass."""

from dataclasses import replace

import pytest
import torch

from specverify import tree
from specverify.decoders import Autoregressive, Branch, DraftModel, Jacobi, MultiDraft, Speculative, commit, registry
from specverify.draws import Sampled
from specverify.errors import ContractError
from specverify.evidence.bare import sequences
from specverify.evidence.guard import Guarded
from specverify.evidence.relay import Watched
from toymodels import draft, toy

MODEL = toy("eos-3x6")


class Subject:
    """Speculative Jacobi decoding, with something wrong in what it says."""

    inner = Speculative(Jacobi(), 2)

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        after, info = self.inner.step(state, model, draws)
        return after, self.said(state, after, info)

    def said(self, state, after, info):
        return info


class Warm(Subject):
    """Looks at an empty window first, and does not say so."""

    def step(self, state, model, draws):
        model.laws(state.context, state.tokens[:, :0])
        return super().step(state, model, draws)


class OverItsOwnReference(Subject):
    """Keeps the model of `init` and asks that one."""

    def init(self, model, batch, draws):
        self.model = model
        return super().init(model, batch, draws)

    def step(self, state, model, draws):
        self.model.laws(state.context, state.tokens[:, :0])
        return super().step(state, model, draws)


class WarmAndSaysSo(Warm):
    def said(self, state, after, info):
        return replace(info, passes=2 * info.passes)


class Idle(Subject):
    def said(self, state, after, info):
        return replace(info, passes=info.passes * 0)


class CountsAll(Subject):
    """Takes every draft of the window as judged."""

    def said(self, state, after, info):
        return replace(info, verified=info.verified + 2 * (info.verified > 0))


class CountsOneBehind(Subject):
    """Takes the draft behind the one that it rejected as judged, too."""

    def said(self, state, after, info):
        return replace(info, verified=info.verified + (info.branch == Branch.RECOVERED).sum(1))


class HidesRejections(Subject):
    def said(self, state, after, info):
        return replace(info, verified=info.accepted)


class AcceptsBehind(Subject):
    """Counts one more draft as accepted than it kept."""

    def said(self, state, after, info):
        return replace(info, accepted=info.accepted + info.passes, verified=info.verified + info.passes)


class NamesReplaced(Subject):
    """Names the tokens that replaced its drafts accepted."""

    def said(self, state, after, info):
        branch = info.branch.where(info.branch != Branch.RECOVERED, int(Branch.ACCEPTED))
        return replace(info, branch=branch, accepted=(branch == Branch.ACCEPTED).sum(1))


class NamesPlain(Subject):
    """Plain decoding that names its tokens so that it looks like speculation."""

    inner = Autoregressive()
    name_of = Branch.ACCEPTED

    def said(self, state, after, info):
        branch = info.branch.where(info.branch == 0, int(self.name_of))
        one = info.passes
        return replace(info, branch=branch, verified=one, accepted=one * (self.name_of == Branch.ACCEPTED))


class NamesPlainRecovered(NamesPlain):
    name_of = Branch.RECOVERED


FALSE = {
    Warm: "Info.passes says 1, but the model was called 2 times in this step",
    OverItsOwnReference: "Info.passes says 1, but the model was called 2 times in this step",
    Idle: "Info.passes says 0, but the model was called 1 times in this step",
    CountsAll: "are those accepted and the one rejected, not those behind it",
    CountsOneBehind: "are those accepted and the one rejected, not those behind it",
    HidesRejections: "and 1 replaced",
    AcceptsBehind: "a draft that was not committed was not accepted",
    NamesReplaced: "ACCEPTED, but the model was shown another draft there",
    NamesPlain: "ACCEPTED, but the model was shown no draft there",
    NamesPlainRecovered: "RECOVERED, but the model was shown no draft there that could be rejected",
}


@pytest.mark.parametrize(("subject", "message"), FALSE.items(), ids=lambda case: getattr(case, "__name__", ""))
def test_a_false_figure_is_named(subject, message):
    with pytest.raises(ContractError) as told:
        sequences(Guarded(subject()), MODEL, 200, 0)
    assert message in str(told.value)


@pytest.mark.parametrize(("model", "window"), [("eos-3x6", 2), ("dense-2x8", 9)])
@pytest.mark.parametrize("name", [name for name in registry.names("ids") if name != "vvs"])  # its context lags behind
def test_the_figures_of_all_decoders_hold(name, window, model):
    model = toy(model)
    other = Watched(draft("perturbed", model))
    guard = Guarded(registry.build(name, registry.Settings(window, "random", other)), other)
    sequences(guard, model, 100, 1)
    assert guard.breach == ""


class Backwards:
    """Its rows lie in another order while they are read."""

    def __init__(self, model):
        self.inner = model

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def laws(self, context, drafts):
        order = torch.arange(len(drafts)).flip(0)
        return self.inner.laws(tree.rows(context, order), drafts[order])[order]


class Anew(Backwards):
    """Nothing is kept: each pass shows all that was committed, and the drafts behind it, on a context of its own."""

    def laws(self, context, drafts):
        tokens, length = self.committed
        place = length[:, None] + torch.arange(drafts.shape[1] + 1)
        whole = torch.cat([tokens, drafts * 0], 1).scatter(1, place[:, :-1], drafts)
        laws = self.inner.laws(self.inner.start(len(drafts)), whole)
        return laws.gather(1, place[..., None].expand(-1, -1, laws.shape[-1]))

    def advance(self, context, tokens, count):
        for slot in range(tokens.shape[1]):
            context = self.inner.advance(context, tokens[:, slot : slot + 1], (count > slot).long())
        return context


class Differently(Subject):
    """Sees its model through another, and says the same of itself; or names of accepted tokens those it replaced."""

    lies = False

    def __init__(self, through):
        self.through = through

    def step(self, state, model, draws):
        seen = self.through(model)
        seen.committed = state.tokens, state.length
        return super().step(state, seen, draws)

    def said(self, state, after, info):
        return NamesReplaced.said(self, state, after, info) if self.lies else info


@pytest.mark.parametrize("through", [Backwards, Anew])
def test_drafts_count_wherever_they_were_shown(through):
    subject = Differently(through)
    assert len(sequences(Guarded(subject), MODEL, 200, 0)) == 200
    subject.lies = True
    with pytest.raises(ContractError, match="ACCEPTED, but the model was shown another draft there"):
        sequences(Guarded(subject), MODEL, 200, 0)


def test_a_second_pass_that_is_counted_is_no_fault():
    assert len(sequences(Guarded(WarmAndSaysSo()), MODEL, 200, 0)) == 200


@pytest.mark.parametrize("wrong", [0, 1, 9])
def test_passes_of_the_draft_model_are_counted_too(wrong):
    class Says(Subject):
        def __init__(self, model):
            self.inner = Speculative(DraftModel(model), 2)

        def said(self, state, after, info):
            return replace(info, draft_passes=info.passes * wrong)

    model = Watched(draft("perturbed", MODEL))
    with pytest.raises(ContractError, match=f"Info.draft_passes says {wrong}, but the draft model was called 3 times"):
        sequences(Guarded(Says(model), model), MODEL, 50, 0)


class Chains(Subject):
    """Two guesses of two tokens, each in a pass of its own; commits one of them."""

    def __init__(self, best, copies=False, last=False):
        self.best, self.copies, self.last = best, copies, last

    def init(self, model, batch, draws):
        return replace(self.inner.init(model, batch, draws), drafting=None)

    def step(self, state, model, draws):
        room = (model.length - state.length).where(~state.done, 0)
        chains = [torch.full((len(room), 2), token) for token in (0, 1)]
        laws = [model.laws(state.context, chain) for chain in chains]
        token = draws.categorical(laws[self.best][:, 0], room > 0)
        kept = chains[self.best]
        hit = token == kept[:, 0]
        behind = draws.categorical(laws[self.best][:, 1], hit & (room > 1) & (token != model.eos))
        if self.last:
            model.laws(state.context, kept)
        block = torch.stack([token, behind], 1)
        after, count = commit(state, model, block, (1 + hit) * (room > 0))
        slot = torch.arange(2)
        name = torch.where(hit[:, None] & (slot == 0), int(Branch.ACCEPTED), int(Branch.BONUS))
        name = torch.where(~hit[:, None], int(Branch.RECOVERED), name) * (slot < count[:, None])
        active = (~state.done).long()
        accepted = (name == Branch.ACCEPTED).sum(1)
        judged = accepted + (name == Branch.RECOVERED).sum(1)
        info = self.inner.step(self.inner.init(model.inner, len(room), Sampled(0)), model.inner, Sampled(0))[1]
        return after, replace(
            info,
            passes=(2 + self.last) * active,
            verified=judged,
            accepted=accepted,
            emitted=count,
            branch=name,
            draft_passes=active * 0,
        )


def test_what_is_committed_was_read_by_the_last_pass():
    dense = toy("dense-2x8")
    guards = [Guarded(Chains(0)), Guarded(Chains(1)), Guarded(Chains(0, last=True))]
    for guard in guards:
        sequences(guard, dense, 50, 0)
    wrong, right, again = (guard.breach for guard in guards)
    assert right == again == ""
    assert "all but the last, [0], must be the draft that the last pass on this context read, but the last" in wrong
    assert "read [1, 1]: a cache holds nothing of them; make the last pass before advance one over the tokens" in wrong


class OnACopy(Subject):
    """Shows its drafts to a copy of the context, and advances the one that nothing was shown to."""

    def step(self, state, model, draws):
        return super().step(state, Copied(model), draws)


class Copied:
    def __init__(self, model, select=lambda context: context):
        self.inner, self.select = model, select
        for part in ("name", "vocab", "length", "eos", "dtype", "device", "start", "advance"):
            setattr(self, part, getattr(model, part))

    def laws(self, context, drafts):
        return self.inner.laws(replace(context, **{k: v.clone() for k, v in vars(context).items()}), drafts)


def test_a_context_that_no_pass_was_given_has_read_nothing():
    guard = Guarded(OnACopy())
    sequences(guard, MODEL, 50, 0)
    assert "but no pass has read this context: a cache holds nothing of them" in guard.breach


def test_rows_selected_from_a_context_take_along_what_it_has_read():
    guard = Guarded(MultiDraft(draft("perturbed", MODEL), 2))
    sequences(guard, MODEL, 50, 0)
    assert guard.breach == ""
    model = Watched(MODEL)
    context = model.start(4)
    drafts = torch.tensor([[0, 1], [1, 0], [0, 0], [1, 1]])
    model.laws(context, drafts)
    some = torch.tensor([2, 0])
    selected = replace(context, **{name: part[some] for name, part in vars(context).items()})
    model.advance(selected, torch.tensor([[0, 0, 1], [0, 1, 1]]), torch.tensor([3, 3]))
    assert model.breach == ""
    model.advance(selected, torch.tensor([[2, 0, 1], [0, 1, 1]]), torch.tensor([3, 3]))
    assert "all but the last, [2, 0], must be the draft" in model.breach
