"""Tables on the terminal: names are whole at every width, and what matters less goes first."""

import io

import pytest
from rich.console import Console
from rich.padding import Padding

from specverify.report.listing import listing

NAMES = ("short", "sparse-3x5[:4] (independent draft): copies of the next call's neighbours")
ROWS = [(name, "16,384", "7.6e-21", "2e-08", "not rejected") for name in NAMES]
HEADINGS = ("check", "n", "p", "alpha", "found")


def _lines(table, width):
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(Padding(table, (0, 0, 0, 4), expand=False))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_no_name_is_cut_at_any_width(width):
    lines = _lines(listing(ROWS, HEADINGS, ("alpha", "n")), width)
    assert max(map(len, lines)) <= width
    words = "".join("".join(lines).split())
    assert all(word in words for word in ("neighbours", "independent", "copies"))


def test_less_important_columns_go_first_and_only_where_there_is_no_room():
    assert "alpha" in _lines(listing(ROWS, HEADINGS, ("alpha", "n")), 130)[0]
    narrow = _lines(listing(ROWS, HEADINGS, ("alpha", "n")), 110)[0]
    assert ("alpha" in narrow, " n " in narrow) == (False, True)
    assert "alpha" in _lines(listing(ROWS[:1], HEADINGS, ("alpha", "n")), 80)[0]


def test_names_that_fit_stay_on_one_line_and_the_last_column_takes_the_rest():
    lines = _lines(listing([("a" * 45, "lossless", "because " * 12)], ("decoder", "claim", "why")), 120)
    assert lines[1].startswith("    " + "a" * 45 + "  lossless  because because")
    assert max(map(len, lines)) > 110
