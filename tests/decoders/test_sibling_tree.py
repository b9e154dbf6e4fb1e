"""Trees of siblings in Jacobi drafts: lossless on every toy, for every law where siblings may repeat, and faster."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specverify.decoders import Jacobi, Speculative, registry
from specverify.decoders.sibling_tree import sibling_tree
from specverify.errors import InputError
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.exact.box import Box
from specverify.evidence.exact.proof import prove
from specverify.evidence.sequences import target_law
from toymodels import strategies, toy

EXACT = 1e-12
INITIALS = ("repeat-left", "zero", "random", "sample-left")


@cache
def model(name):
    return toy(name)


def assert_lossless(decoder, subject):
    exact = enumerate_decoder(decoder, subject)
    assert exact.tv(target_law(subject)) <= EXACT, f"{decoder} on {subject.name}: {exact.tv(target_law(subject)):.3g}"
    return exact


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["dense-2x8", "sparse-3x5", "eos-3x6", "ties-3x5", "sharp-3x6", "switch-3x6"])
def test_it_is_lossless_and_takes_fewer_passes_the_more_siblings_there_are(name):
    passes = [
        assert_lossless(sibling_tree(2, siblings, depth), model(name)).passes
        for siblings, depth in ((1, 1), (2, 1), (2, 2))
    ]
    assert passes[0] > passes[1] >= passes[2]


@pytest.mark.parametrize("name", ["dense-3x6", "eos-3x6"])
def test_without_siblings_it_is_coupled_jacobi_decoding(name):
    tree, coupled = (
        enumerate_decoder(decoder, model(name))
        for decoder in (sibling_tree(2, 1, 2), Speculative(Jacobi("maximal"), 2))
    )
    for field in ("passes", "verified", "accepted"):
        assert getattr(tree, field) == pytest.approx(getattr(coupled, field), abs=EXACT)
    assert tree.branches == pytest.approx(coupled.branches, abs=EXACT)


@pytest.mark.parametrize("replacement", [False, True], ids=["different", "independent"])
@pytest.mark.parametrize("initial", INITIALS)
def test_initial_drafts_and_repeated_siblings_change_nothing(initial, replacement):
    assert_lossless(sibling_tree(2, 2, 2, initial, replacement), model("sparse-3x5"))


@pytest.mark.parametrize(("siblings", "depth"), [(3, 1), (3, 2), (4, 1), (2, 3)])
def test_more_siblings_than_tokens_and_a_tree_deeper_than_the_window_are_lossless(siblings, depth):
    assert_lossless(sibling_tree(2, siblings, depth), model("sparse-3x5"))


@given(st.data(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.booleans(), st.booleans())
@settings(max_examples=15)
def test_it_is_lossless_on_any_model(data, window, siblings, depth, eos, replacement):
    target = data.draw(strategies.models((2, 3), (2, 3), eos=eos))
    assert_lossless(sibling_tree(window, siblings, depth, replacement=replacement), target)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("box", [Box(2, 3, 2), Box(3, 2, 2)], ids=str)
def test_with_replacement_it_is_proved_for_every_law_at_once(box):
    """Siblings that differ need a law without their elders, which may be none: they are proved case by case."""
    found = prove(lambda s: sibling_tree(s.window, 2, 2, s.initial, replacement=True), box)
    assert found.proved, found.why
    assert not found.orders
    differing = prove(lambda s: sibling_tree(s.window, 2, 2, s.initial), Box(2, 2, 1))
    assert differing.proved, differing.why
    assert differing.orders


def test_the_registry_has_two_siblings_in_two_columns():
    built = registry.build("sjd-tree", registry.Settings(window=2))
    assert (built.branching.siblings, built.branching.depth, built.branching.chains) == (2, 2, 4)
    assert built == sibling_tree(2)


@pytest.mark.parametrize(("arguments", "message"), [((2, 0), "siblings 0"), ((2, 2, 0), "depth 0"), ((0,), "window 0")])
def test_what_cannot_be_built_says_so(arguments, message):
    with pytest.raises(InputError, match=message):
        sibling_tree(*arguments)
