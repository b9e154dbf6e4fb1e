"""What is planned of a sweep of relaxed decoders."""

import math

import pytest

from realmodels import digits
from specverify.errors import InputError
from specverify.tradeoff import measure
from specverify.tradeoff.plan import AR, DRAFTING, LOSSLESS, REAL, Asked, plan


def test_every_rule_is_swept_beside_its_baselines():
    cells = plan()
    ids = [cell.id for cell in cells]
    assert len(set(ids)) == len(ids) > 100
    assert [cell.rule for cell in cells if cell.is_baseline] == [REAL, AR, AR]
    assert {cell.drafting for cell in cells if cell.rule == LOSSLESS} == set(DRAFTING)
    assert {"guidance-1.5/gumbel/gsd/size=10", "guidance-1.5/maximal/gsd-static/clusters=5"} < set(ids)
    model = digits.load()
    assert all(hasattr(measure.build(cell, model), "accept") for cell in cells if not cell.is_baseline)


def test_a_pattern_keeps_its_settings_and_the_baselines():
    asked = Asked(["scaling", "lossless"], ["gumbel"], guidance=(1.0, 2.0), only="*/scaling/omega=2")
    cells = plan(asked)
    assert [cell.id for cell in cells if not cell.is_baseline] == [
        "guidance-1/gumbel/scaling/omega=2",
        "guidance-2/gumbel/scaling/omega=2",
    ]
    assert sum(cell.rule == AR for cell in cells) == 4


def test_rules_are_swept_at_the_middle_window_and_compared_over_all():
    cells = plan(Asked(["gsd", "cool"], ["maximal"], windows=[64, 8, 16]))
    drafted = [cell for cell in cells if not cell.is_baseline]
    assert all(cell.window is None for cell in cells if cell.is_baseline)
    values = {
        size: [cell.value for cell in drafted if (cell.rule, cell.window) == ("gsd", size)] for size in (8, 16, 64)
    }
    assert len(values[16]) > 2
    assert values[8] == values[64] == values[16][len(values[16]) // 2 :][:1]
    assert [cell.window for cell in drafted if cell.rule == LOSSLESS] == [8, 16, 64]
    assert "guidance-1.5/maximal/lossless/window-64" in {cell.id for cell in drafted}
    assert len({cell.id for cell in cells}) == len(cells)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"rules": ["mixtur"]}, "unknown rule 'mixtur'; did you mean mixture"),
        ({"drafting": ["greedy"]}, "unknown drafting 'greedy'; known: independent, maximal, gumbel"),
        ({"drafting": ["maxmal"]}, "unknown drafting 'maxmal'; did you mean maximal?"),
        ({"only": "*/lossles"}, "no setting matches .*; did you mean lossless"),
        ({"guidance": (math.inf,)}, "guidance inf is not a finite number"),
        ({"rules": []}, "needs a rule and a drafting at least"),
        ({"guidance": ()}, "needs a guidance at least"),
        ({"decoders": ["sd"]}, "--decoders are for models of patches"),
        ({"windows": [2, 0]}, "window 0: it is the number of draft tokens per forward pass"),
        ({"windows": []}, "needs a window at least"),
        ({"only": "nothing"}, "no setting matches 'nothing'; ids look like"),
    ],
)
def test_what_cannot_be_planned_is_refused(asked, message):
    with pytest.raises(InputError, match=message):
        plan(Asked(**asked))
