"""Names: entries in their order, the nearest names for one that is not known, all of them where none is near."""

import pytest

from specverify.catalogue import Catalogue, near, near_pattern
from specverify.errors import InputError

FRUIT = Catalogue("fruit", {"apple": 1, "pear": 2, "peach": 3})


def test_entries_are_asked_for_by_name_and_keep_their_order():
    assert FRUIT["pear"] == 2
    assert FRUIT.names() == tuple(FRUIT) == ("apple", "pear", "peach")
    assert list(FRUIT.items()) == [("apple", 1), ("pear", 2), ("peach", 3)]
    assert ("pear" in FRUIT, "plum" in FRUIT, len(FRUIT)) == (True, False, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("aple", r"unknown fruit 'aple'; did you mean apple or "),
        ("peac", r"unknown fruit 'peac'; did you mean peach or pear"),
        ("zzz", "unknown fruit 'zzz'; known: apple, pear, peach"),
    ],
)
def test_an_unknown_name_is_answered_with_what_there_is(name, message):
    with pytest.raises(InputError, match=message):
        FRUIT[name]


def test_long_lists_are_cut_where_that_is_asked_for():
    assert near("zzz", FRUIT, "there is", 2) == "there is apple, pear"
    assert near("zzz", [], "there is") == "there is nothing"


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("exact/appel/*", "did you mean apple? names: `list`"),
        ("*/size=3*", "did you mean seize=3 or seize? names: `list`"),
        ("*/pea", "did you mean pear or exact? names: `list`"),
        ("exact/*pea*/x", "names: `list`"),
        ("exact/apple/zzzzz", "names: `list`"),
        ("pear/apple", "names: `list`"),  # each word is known
        ("exact/apple", "did you mean 'exact/apple/*'?"),
    ],
)
def test_a_pattern_that_matches_nothing_is_answered_with_the_first_word_that_is_in_no_id(pattern, said):
    ids = ["exact/apple/seize=3", "exact/pear/w1"]
    assert near_pattern(pattern, ids, "names: `list`") == said
