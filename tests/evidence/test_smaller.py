"""A case that is wrong is made small greedily, and stays wrong."""

from dataclasses import replace

import pytest

from specverify.evidence.cases import Case, Space, Weights
from specverify.evidence.smaller import smaller
from toymodels.tables import prefixes

SPACE = Space(windows=(1, 2, 3, 4), drafts=(True,), initials=("zero", "random"), guided=(False, True))


def scattered(vocab, length, **kind):
    contexts = Weights.laws(vocab, length, kind.get("span"))
    rows = tuple(tuple(1 + (7 * c * c + 3 * x) % 5 for x in range(vocab)) for c in range(contexts))
    return Weights(vocab, length, rows, **kind)


CASES = {
    "a table": Case(scattered(3, 4), scattered(3, 4), 3, "random", "ragged", "float32"),
    "with an end": Case(scattered(3, 4, eos=2), scattered(3, 4, eos=2), 4),
    "by the last token": Case(scattered(3, 6, span=1), None, 2),
    "guided": Case(replace(scattered(2, 3), guide=scattered(2, 3).weights[::-1]), None, 1),
    "with processors": Case(scattered(3, 3, processors="top_k=2"), None, 1),
    "a toy": Case("sparse-3x5", "perturbed", 2),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_anywhere_comes_down_to_the_smallest_case(name):
    small = smaller(CASES[name], SPACE, lambda case: True)
    uniform = Weights(2, 1, ((1, 1),), eos=None)
    assert small.model == uniform
    assert small.draft in (None, uniform)
    assert (small.window, small.arrangement, small.precision) == (1, "together", "float64")
    assert small.initial in (None, "zero")


@pytest.mark.parametrize("name", ["a table", "with an end", "a toy"])
def test_what_it_takes_to_be_wrong_is_kept_and_no_more(name):
    asked = []

    def fails(case):
        asked.append(case)
        laws = {row for row in case.model.weights if min(row) < max(row)}
        return case.model.length >= 2 and case.window >= 2 and case.model.vocab == 3 and len(laws) > 0

    small = smaller(CASES[name], SPACE, fails)
    assert (small.model.vocab, small.model.length, small.window) == (3, 2, 2)
    assert len(set(small.model.weights)) == 1
    assert sorted(small.model.weights[0]) == [1, 1, 2]
    assert len(asked) == len(set(asked)) <= 60
    assert small in asked


def test_each_context_keeps_its_law_when_a_token_goes():
    model = Weights(3, 2, ((1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12)))

    def fails(case):  # as long as a law of the old model is met after the empty prefix, and the last token's
        rows = case.model.weights
        return case.model.vocab == 3 or (len(rows) == 3 and rows[0][:2] == (1, 3) and rows[2] == (10, 12))

    small = smaller(Case(model), replace(SPACE, length=(2, 4)), fails)
    assert small.model.weights[0] == (1, 3)
    assert small.model.weights[2] == (10, 12)


def test_what_lies_in_no_such_space_is_left_to_a_search():
    fair = Case(Weights(2, 2, ((1, 1),) * prefixes(2, 2)))
    assert smaller(fair, replace(SPACE, partition=((0, 1),)), lambda case: True) is None
    assert smaller(fair, SPACE, lambda case: False) is None
    assert smaller(Case("hash-16x24"), SPACE, lambda case: True) is None


def test_a_decoder_that_needs_an_end_or_three_tokens_keeps_them():
    case = CASES["with an end"]
    small = smaller(case, replace(SPACE, vocab=(3, 3), eos=(True,), length=(2, 4), windows=(2, 3)), lambda case: True)
    assert (small.model.vocab, small.model.length, small.model.eos, small.window) == (3, 2, 2, 2)
    assert small.draft.eos == 2
