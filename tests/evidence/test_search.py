"""The search for counterexamples: what it draws, what it finds, and that it is the same every time."""

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specverify import defects
from specverify.claims import ClusterLossless, Lossless, Relaxed
from specverify.deadline import Deadline
from specverify.decoders import Jacobi, Speculative, registry
from specverify.errors import InputError
from specverify.evidence.budget import Budget
from specverify.evidence.cases import Case, Space, Weights, lumped
from specverify.evidence.localise import quotient
from specverify.evidence.search import evaluate, explain, search
from specverify.evidence.sequences import target_law
from toymodels import toy
from toymodels.tables import tabulate

SMALL = Space(length=(1, 3), windows=(1, 2), arrangements=("together",), processors=("",), spans=(None,))
quick = settings(max_examples=40, suppress_health_check=list(HealthCheck))
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module inside strategies")


def test_weights_beyond_64_bits_are_laws_too():
    huge = 2**73
    law = target_law(Weights(2, 1, ((1, huge),)).model())
    assert law.tolist() == pytest.approx([1 / huge, 1], rel=1e-12)


def coupled(settings):
    return Speculative(Jacobi("maximal"), settings.window)


RELEASED = defects.get("stale-scores-after-coupling").build


def test_a_right_decoder_has_no_counterexample():
    found = search(coupled, SMALL, Lossless(), examples=40)
    assert found.counterexample is None
    assert found.complete
    assert found.tried >= 20


def test_the_counterexample_is_the_smallest():
    found = search(RELEASED, SMALL, Lossless()).counterexample
    assert found.case == Case(Weights(2, 2, ((1, 1),) * 3), window=2)
    assert found.problem == "law"
    assert found.outcome.tv == pytest.approx(1 / 8, abs=1e-15)
    assert found.outcome.came.tolist() == pytest.approx([1 / 4, 1 / 4, 1 / 8, 3 / 8], abs=1e-15)
    assert found.location.branch == "accepted (redraft)"


@pytest.mark.thinned(2)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_finds_the_same(seed):
    first, second = (search(RELEASED, SMALL, Lossless(), seed=seed) for _ in range(2))
    assert first.counterexample.case == second.counterexample.case
    assert (first.tried, first.refused) == (second.tried, second.refused)
    assert first.counterexample.case.model.length <= 3


def test_a_search_without_time_says_so():
    found = search(RELEASED, SMALL, Lossless(), deadline=Deadline(0.0))
    assert found.counterexample is None
    assert not found.complete
    assert found.tried == 0


def test_a_bound_is_broken_by_as_little_as_it_takes():
    found = search(RELEASED, SMALL, Relaxed(0.1)).counterexample
    assert found.outcome.tv > 0.1
    assert found.outcome.bound == pytest.approx(0.1)
    assert search(RELEASED, SMALL, Relaxed(0.9), examples=30).counterexample is None


class Fragile:
    """Breaks down where token 1 comes twice."""

    name = "fragile"

    def __init__(self, window):
        self.inner = coupled(registry.Settings(window))
        self.claim, self.window = Lossless(), window

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        after, info = self.inner.step(state, model, draws)
        if bool(((after.tokens == 1).sum(1) > 1).any()):
            raise RuntimeError("two ones")
        return after, info


def test_a_decoder_that_breaks_down_is_found_out():
    found = search(lambda settings: Fragile(settings.window), SMALL, Lossless()).counterexample
    assert found.problem == "error"
    assert found.error.startswith("step raised RuntimeError: two ones (test_search.py:")
    assert (found.case.model.vocab, found.case.model.length) == (2, 2)
    assert found.location is None
    only = search(lambda settings: Fragile(settings.window), SMALL, Lossless(), examples=20, problems=("law",))
    assert only.counterexample is None


def test_what_a_decoder_does_not_take_is_passed_over():
    def two_tokens(settings):
        class OnlyTwo:
            inner = coupled(settings)

            def init(self, model, batch, draws):
                if model.vocab > 2:
                    raise InputError("two tokens only")
                return self.inner.init(model, batch, draws)

            def step(self, state, model, draws):
                return self.inner.step(state, model, draws)

        return OnlyTwo()

    found = search(two_tokens, SMALL, Lossless(), examples=40)
    assert found.counterexample is None
    assert found.refused > 0
    assert found.tried > 0


def test_cases_that_are_too_large_are_passed_over():
    found = search(RELEASED, SMALL, Lossless(), budget=Budget(worlds=1), examples=20)
    assert found.counterexample is None
    assert found.refused > 0


class FirstRowOnly:
    """Every row's drafts are judged by the laws of the first."""

    def __init__(self, settings):
        self.inner = coupled(settings)

    def init(self, model, batch, draws):
        return self.inner.init(model, batch, draws)

    def step(self, state, model, draws):
        class First:
            def __init__(self):
                for part in ("name", "vocab", "length", "eos", "dtype", "device", "start", "advance"):
                    setattr(self, part, getattr(model, part))

            def laws(self, context, draft):
                laws = model.laws(context, draft)
                return laws[:1].expand_as(laws).clone()

        return self.inner.step(state, First(), draws)


@pytest.mark.slow
def test_rows_that_look_at_others_are_found_among_others():
    space = Space(vocab=(2, 2), length=(1, 2), windows=(1,), arrangements=("ragged",), processors=("",), spans=(None,))
    found = search(FirstRowOnly, space, Lossless()).counterexample
    assert found.case.arrangement == "ragged"
    alone = evaluate(FirstRowOnly, Case(found.case.model, window=1, arrangement="alone"), Lossless())
    assert not alone.fails


def test_explain_says_when_there_is_nothing_to_explain():
    outcome = explain(coupled, Case(Weights(2, 2, ((1, 1),) * 3), window=2), Lossless())
    assert not outcome.fails
    assert outcome.tv <= 1e-15
    assert outcome.row()["model"] == "drawn, 2 tokens"


@quick
@given(st.data())
def test_drawn_cases_are_small_and_sound(data):
    case = data.draw(Space(drafts=(False, True), initials=(None, "zero")).cases())
    model = case.target()
    assert 2 <= model.vocab <= 3
    assert 1 <= model.length <= 4
    assert case.window in (1, 2, 3)
    assert float(target_law(model).sum()) == pytest.approx(1, abs=1e-12)
    draft = case.settings(model).draft_model
    assert (draft is None) == (case.draft is None)
    if draft is not None:
        assert (draft.vocab, draft.length, draft.eos) == (model.vocab, model.length, model.eos)
    assert len(set(case.model.weights)) <= 4


@quick
@given(st.data())
def test_the_model_has_the_laws_that_its_weights_say(data):
    weights = data.draw(Space(processors=("",)).cases()).model
    table = tabulate(weights.model()).table
    contexts = dict(zip(weights.contexts(), weights.weights, strict=True))
    prefixes = [c for n in range(weights.length) for c in itertools.product(range(weights.vocab), repeat=n)]
    for prefix, law in zip(prefixes, table.tolist(), strict=True):
        context = prefix if weights.span is None else prefix[-weights.span :]
        row = contexts[context]
        assert law == pytest.approx([weight / sum(row) for weight in row], abs=1e-15)


@quick
@given(st.data())
def test_drawn_clusters_have_a_law_of_their_own(data):
    partition = ((0, 2), (1,))
    space = Space(vocab=(3, 3), length=(1, 3), eos=(False,), partition=partition)
    model = data.draw(space.cases()).target()
    number = {0: 0, 2: 0, 1: 1}
    table = tabulate(model).table
    prefixes = [c for n in range(model.length) for c in itertools.product(range(3), repeat=n)]
    laws = {}
    for prefix, row in zip(prefixes, table.tolist(), strict=True):
        clusters = tuple(number[token] for token in prefix)
        total = row[0] + row[2]
        assert laws.setdefault(clusters, total) == pytest.approx(total, abs=1e-12)


def test_lumped_weights_by_hand():
    rows = lumped(((0, 1), (2,)), 1, totals=[(1, 2)], shares=[[(1, 2)], [(5,)]])
    assert rows == ((5, 10, 30),), "totals 15 and 30; shares 1 to 2"


def test_clusters_are_judged_as_clusters():
    """Tokens 0 and 1 change places now and then; the cluster of both never notices."""

    class Swaps:
        name, claim = "swaps", Lossless()
        inner = Speculative(Jacobi(), 1)

        def init(self, model, batch, draws):
            return self.inner.init(model, batch, draws)

        def step(self, state, model, draws):
            after, info = self.inner.step(state, Swapped(model), draws)
            return after, info

    class Swapped:
        def __init__(self, model):
            self.inner = model
            for part in ("name", "vocab", "length", "eos", "dtype", "device", "start", "advance"):
                setattr(self, part, getattr(model, part))

        def laws(self, context, draft):
            return self.inner.laws(context, draft)[..., [1, 0, 2]]

    space = Space(
        vocab=(3, 3), length=(1, 2), windows=(None,), eos=(False,), arrangements=("together",), partition=((0, 1), (2,))
    )
    assert search(lambda settings: Swaps(), space, Lossless()).counterexample is not None
    assert search(lambda settings: Swaps(), space, ClusterLossless(((0, 1), (2,))), examples=40).counterexample is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 0, ()), "a model of 2 tokens, length 0, span None; all are at least 1"),
        ((2, 1, ((1, 1),), 2), "eos 2 is outside the vocabulary 0..1"),
        ((2, 2, ((1, 1),)), "1 laws are given; 2 tokens and length 2 have 3 contexts"),
        ((2, 1, ((1, 1, 1),)), r"\(1, 1, 1\) are no weights: 2 integers of at least 0, not all 0"),
        ((2, 1, ((0, 0),)), r"\(0, 0\) are no weights"),
    ],
)
def test_weights_that_make_no_model_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Weights(*arguments)


def test_a_case_may_name_a_toy():
    case = Case("sparse-3x5", "disjoint", 2)
    assert torch.equal(target_law(case.target()), target_law(toy("sparse-3x5")))
    assert case.settings(case.target()).draft_model.name == "disjoint:sparse-3x5"
    outcome = evaluate(lambda settings: registry.build("sd", settings), case, Lossless())
    assert not outcome.fails
    assert quotient(outcome.exact.law, Lossless(), 3)[0].tolist() == outcome.came.tolist()


def test_what_the_target_never_gives_is_no_rounding():
    """A leak of 6e-8 onto an impossible token is below float32's floor; zeros are exact in every precision."""
    case = Case("sparse-3x5", window=1)
    leaking = explain(defects.get("zero-coin-inclusive").build, case, Lossless(), precision=torch.float32)
    assert leaking.outcome.tv < 1e-6
    assert leaking.outcome.fails
    assert leaking.location is not None
    right = evaluate(lambda s: registry.build("sjd", s), case, Lossless(), precision=torch.float32)
    assert not right.fails
    assert right.rounding > 1e-7
