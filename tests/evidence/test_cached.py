"""What a cache would not hold is noticed on toys, and nothing that it would."""

from dataclasses import replace

import pytest
import torch

from specverify import tree
from specverify.claims import Lossless
from specverify.deadline import Deadline
from specverify.decoders import Autoregressive, Branch, Info, Jacobi, Speculative, begin, registry, sample
from specverify.decoders.protocol import commit
from specverify.decoders.registry import Settings
from specverify.errors import InputError
from specverify.evidence.cached import Cached, held
from specverify.subjects.continuous import judge_continuous
from specverify.subjects.decoder import judge_decoder
from specverify.verdict import Kind
from toymodels import continuous, continuous_drafts, draft, toy

MODEL = toy("dense-3x6")


class Through:
    """A model whose passes are made in another way."""

    def __init__(self, model):
        self.inner = model
        self.name, self.length, self.dtype, self.device = model.name, model.length, model.dtype, model.device

    def __getattr__(self, name):
        return getattr(self.inner, name)


class OnACopy(Through):
    """A copy of the rows is read, and the rows themselves are advanced."""

    def laws(self, context, drafts):
        return self.inner.laws(tree.rows(context, torch.arange(len(drafts))), drafts)


class InOddBatches(Through):
    """The same where a kernel would have to pad the batch to a multiple of eight."""

    def laws(self, context, drafts):
        rows = torch.arange(len(drafts))
        padded = len(rows) > 1 and len(rows) % 8
        return self.inner.laws(tree.rows(context, rows) if padded else context, drafts)


class InCrowds(Through):
    """The same for more than 200 rows."""

    def laws(self, context, drafts):
        rows = torch.arange(len(drafts))
        return self.inner.laws(tree.rows(context, rows) if len(rows) > 200 else context, drafts)


class BackFirst(Through):
    """Before each pass its context is read over other tokens, which the pass writes over: right."""

    def laws(self, context, drafts):
        self.inner.laws(context, (drafts + 1) % self.vocab)
        return self.inner.laws(context, drafts)


class InParts(Through):
    """Tokens that were read together are committed one after the other: right."""

    def advance(self, context, tokens, count):
        for slot in range(tokens.shape[1]):
            context = self.inner.advance(context, tokens[:, slot : slot + 1], (count > slot).long())
        return context


class Seen:
    """A decoder that sees its model through another one."""

    def __init__(self, inner, through):
        self.inner, self.through, self.claim, self.window = inner, through, Lossless(), getattr(inner, "window", 1)

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        return self.inner.step(state, self.through(model), draws)


def noted(decoder, model, rows=16):
    cached = Cached(model)
    run = sample(decoder, cached, 4 * rows, 0, rows)
    assert torch.equal(run.tokens, sample(decoder, model, 4 * rows, 0, rows).tokens), "it is the model, but for notes"
    return cached.breach


@pytest.mark.parametrize("name", registry.names("ids"))
def test_our_decoders_of_ids_show_their_caches_all(name):
    entered = 0
    for model, window in ((toy("eos-3x6"), 1), (toy("hash-16x24"), 3)):
        for other in (None, draft("perturbed", model)):
            try:
                settings = Settings(window, "repeat-left", other)
                registry.build(name, settings)
            except InputError:
                continue  # with a draft model, or without
            entered += 1
            build = lambda made: registry.build(name, made)  # noqa: E731
            assert held(build, settings, model, (16, 5, 1), 0, Deadline(60)) == ""
    assert entered >= 2


@pytest.mark.parametrize("name", registry.names("vectors"))
def test_our_decoders_of_vectors_show_theirs_all(name):
    of_gaussians = {"sd-reflection", "jacobi-reflection", "jacobi-noise"}  # the other rules take a diffusion head, too
    model = continuous.toy("gauss-2x6" if name in of_gaussians else "chain-3x3")
    other = continuous_drafts.draft("other", model)
    assert noted(registry.build(name, Settings(2, "left-law", other)), model) == ""


@pytest.mark.parametrize(
    ("through", "decoder", "said"),
    [
        (OnACopy, Autoregressive(), "would hold nothing in place of what a sequence begins with, when a context of 1 "),
        (OnACopy, Speculative(Jacobi(), 2), "would hold nothing in place of what a sequence begins with"),
        (BackFirst, Speculative(Jacobi(), 2), ""),
        (InParts, Speculative(Jacobi(), 2), ""),
    ],
)
def test_what_is_committed_must_have_been_shown(through, decoder, said):
    """Each is lossless on toys; going back is no fault where what it wrote over is read anew."""
    for rows in (1, 7):
        breach = noted(Seen(decoder, through), MODEL, rows)
        assert said in breach if said else breach == ""


def test_going_back_and_on_with_the_newer_context_is_noticed():
    cached, tokens = Cached(MODEL), torch.tensor([[0], [1]])
    one = torch.ones(2, dtype=torch.int64)
    first = cached.start(2)
    cached.laws(first, tokens[:, :0])
    second = cached.advance(first, tokens, one)
    cached.laws(second, tokens[:, :0])  # writes the slot of what was committed
    third = cached.advance(second, tokens, one)
    cached.laws(third, tokens[:, :0])
    assert cached.breach == ""
    cached.laws(first, torch.tensor([[0], [2]]))  # the second row's token is written over
    cached.laws(third, tokens[:, :0])
    assert cached.breach.startswith(
        "a cache would hold another token, or this one behind other tokens, in place of the "
    )
    again = Cached(MODEL)
    start = again.start(1)
    again.laws(start, torch.tensor([[2, 2, 2]]))
    back = again.advance(start, torch.tensor([[1]]), one[:1])
    again.laws(back, torch.tensor([[0]]))
    again.laws(again.advance(back, torch.tensor([[0, 2]]), 2 * one[:1]), torch.zeros(1, 0, dtype=torch.int64))
    assert again.breach == "", "what was rejected is written over"


def test_a_token_that_was_read_behind_others_is_noticed():
    """A key and a value were computed from all before them: the token alone is not enough."""
    cached, both = Cached(MODEL), torch.tensor([2])
    start = cached.start(1)
    cached.laws(start, torch.tensor([[0, 1]]))
    cached.laws(start, torch.tensor([[2]]))  # writes the first draft's slot anew, and leaves the second's
    patched = cached.advance(start, torch.tensor([[2, 1]]), both)
    cached.laws(patched, torch.tensor([[0]]))
    cached.laws(cached.advance(patched, torch.tensor([[0]]), both - 1), torch.zeros(1, 0, dtype=torch.int64))
    assert cached.breach == "", "the last token is read again with every pass"
    cached.laws(start, torch.tensor([[0, 1]]))
    cached.laws(start, torch.tensor([[2]]))
    cached.laws(cached.advance(start, torch.tensor([[2, 1, 0]]), both + 1), torch.zeros(1, 0, dtype=torch.int64))
    assert "this one behind other tokens, in place of the token that was committed at position 1," in cached.breach


@pytest.mark.thinned(2)
@pytest.mark.parametrize("through", [InOddBatches, InCrowds])
def test_a_cache_that_is_wrong_in_batches_of_some_sizes_is_an_error(through):
    found = judge_decoder(Seen(Autoregressive(), through), seconds=2, examples=5)
    assert found.verdict.kind is Kind.ERROR
    assert "a cache would hold nothing in place of what a sequence begins with" in found.verdict.reason
    found = judge_continuous(Seen(Autoregressive(), through), toys=["gauss-3x9"], seconds=20)
    assert found.verdict.kind is Kind.ERROR
    assert "a cache would hold nothing in place of what a sequence begins with" in found.verdict.reason


class KeepsTwo(Seen):
    """It reads the one of two names of its context and advances the other: right until rows are dropped."""

    def init(self, model, batch, draws):
        state = begin(model, batch)
        return replace(state, drafting=state.context)

    def step(self, state, model, draws):
        law = model.laws(state.drafting, state.tokens[:, :0])[:, 0]
        count = (~state.done).long()
        after, count = commit(state, model, draws.categorical(law, ~state.done)[:, None], count)
        info = Info(count, count * 0, count * 0, count, (count * Branch.SAMPLED)[:, None], count * 0)
        return replace(after, drafting=after.context), info


def test_rows_that_end_are_dropped_as_runs_drop_them():
    ends, whole = toy("eos-3x6"), toy("dense-3x6")
    build = lambda _: KeepsTwo(None, None)  # noqa: E731
    assert held(build, Settings(1), whole, (32, 32), 0, Deadline(60)) == ""
    assert "would hold nothing" in held(build, Settings(1), ends, (32, 32), 0, Deadline(60))
    assert held(build, Settings(1), ends, (1, 32), 0, Deadline(60)) == "", "of every second batch they are not"


def test_rows_that_have_ended_need_no_cache():
    model = toy("eos-3x6")
    cached, end = Cached(model), torch.tensor([[model.eos]])
    start = cached.start(1)
    cached.laws(start, end[:, :0])
    ended = cached.advance(start, end, torch.ones(1, dtype=torch.int64))
    twice = cached.advance(ended, end, torch.ones(1, dtype=torch.int64))
    cached.laws(twice, end[:, :0])
    assert cached.breach == ""


def test_a_decoder_whose_cache_would_not_hold_what_it_commits_is_in_error():
    judgement = judge_decoder(Seen(Autoregressive(), OnACopy), seconds=2, examples=5)
    assert judgement.verdict.kind is Kind.ERROR
    assert judgement.verdict.reason.startswith("on batches of 1, 1 rows at once, a cache would hold nothing in place")
    vectors = judge_continuous(Seen(Autoregressive(), OnACopy), seconds=2)
    assert vectors.verdict.kind is Kind.ERROR
    assert "a cache would hold nothing in place of what a sequence begins with" in vectors.verdict.reason


def test_a_decoder_that_does_not_run_on_such_a_model_says_so():
    class Peeks(Through):
        def laws(self, context, drafts):
            assert type(context).__name__ != "_Held"
            return self.inner.laws(context, drafts)

    with pytest.raises(AssertionError):
        held(lambda _: Seen(Autoregressive(), Peeks), Settings(1), MODEL, (2,), 0, Deadline(60))
    judgement = judge_decoder(Seen(Autoregressive(), Peeks), seconds=2, examples=5)
    assert judgement.verdict.kind is not Kind.ERROR
    assert any("it raised AssertionError" in note and "whether a cache would" in note for note in judgement.not_covered)


def test_draft_models_have_caches_of_their_own():
    class Draws(Seen):
        def step(self, state, model, draws):
            self.drafts.laws(self.drafts.start(len(state.length)), state.tokens[:, :0])
            start = self.drafts.start(len(state.length))
            moved = self.drafts.advance(start, state.tokens[:, :1] * 0, torch.ones_like(state.length))
            self.drafts.laws(moved, state.tokens[:, :0])
            return super().step(state, model, draws)

    def build(settings):
        made = Draws(Autoregressive(), Through)
        made.drafts = settings.draft_model
        return made

    settings = Settings(1, draft_model=draft("perturbed", MODEL))
    assert held(build, settings, MODEL, (2,), 0, Deadline(60)).startswith("of the draft model, a cache would hold noth")
