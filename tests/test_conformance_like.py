"""What a model says of itself, what `like` does to it, which conditions are one, and how many rows are begun."""

import dataclasses
import types

import numpy as np
import pytest
import torch
from changed import Changed
from findings import checks_of
from guided import Guided

from specverify.conformance import conformance
from specverify.conformance_like import same_condition
from specverify.errors import InputError
from specverify.processors import parse_processors


class Itself(Guided):
    def like(self, **settings):
        vars(self).update(settings)
        return self


class Shares(Guided):
    """Its settings lie in a record that a shallow copy shares."""

    held = None
    conditions = property(lambda self: self.held["c"], lambda self, value: self.held.__setitem__("c", value))
    guidance = property(lambda self: self.held["g"], lambda self, value: self.held.__setitem__("g", value))

    def __init__(self, **settings):
        self.held = {}
        super().__init__()
        self.guidance = settings.get("guidance", 1.0)

    def like(self, **settings):
        other = super().like()
        for name, value in settings.items():
            setattr(other, name, value)
        return other


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Itself(), "like(conditions=...) changed conditions of"),
        (Itself(processors=parse_processors("top_k=3")), "like(processors=...) changed processors of"),
        (Itself(guidance=3.0, conditions=(1,)), "like(guidance=...) changed guidance of"),
        (Shares(), "like(conditions=...) changed conditions of"),
        (Shares(guidance=3.0), "like(conditions=...) changed conditions of"),
    ],
)
def test_a_like_that_changes_its_own_model_is_named_and_what_it_changed_put_back(model, said):
    before = model.conditions, model.guidance, model.processors
    found = conformance(model)
    (sentence,) = found.findings
    assert sentence.startswith(f"like: {said} the model itself, which is the caller's")
    assert (found.checks, found.passes) == (("like",), found.findings)
    assert (model.conditions, model.guidance, model.processors) == before


def test_a_like_that_gives_no_other_model_or_none_at_all_is_named():
    class Same(Guided):
        def like(self, **settings):
            return self

    class Few(Guided):
        def like(self, *, guidance=None, conditions=None):
            return self

    assert conformance(Same()).findings[0].startswith("like: like(conditions=...) gave the model itself")
    assert conformance(Few()).findings[0].startswith("like: like(processors=...) raised TypeError: ")


@dataclasses.dataclass
class Map:
    labels: torch.Tensor


def big(value):
    found = torch.zeros(40, 40)
    found[20, 20] = value
    return found


def within_itself():
    found = Plain(name="a")
    found.own = found
    return found


class Plain(types.SimpleNamespace):
    __eq__ = object.__eq__
    __hash__ = object.__hash__


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (big(1), big(1), True),
        (big(1), big(2), False),
        (big(1), big(1).double(), False),
        (big(torch.nan), big(torch.nan), True),
        (big(1).numpy(), big(2).numpy(), False),
        (np.arange(3), np.arange(3), True),
        ([big(1), "a"], (big(1), "a"), True),
        ([1], [1, 2], False),
        ({"a": big(1)}, {"a": big(2)}, False),
        (Map(big(1)), Map(big(1)), True),
        (Map(big(1)), Map(big(2)), False),
        (Plain(c=1), Plain(c=1), True),
        (Plain(c=1), Plain(c=2), False),
        (within_itself(), within_itself(), True),
        (object(), object(), False),
        (1, True, True),
        (1, "1", False),
        (big(1), None, False),
    ],
)
def test_conditions_are_one_by_what_they_hold(one, other, same):
    assert same_condition(one, one)
    assert same_condition(one, other) is same


def test_conditions_that_print_alike_are_told_apart():
    class Maps(Guided):
        heeds = True

        def number(self, condition):
            return int(condition[20, 20]) * self.heeds

    assert conformance(Maps(conditions=list(map(big, range(4))))).ok
    found = conformance(Maps(conditions=list(map(big, range(4))), heeds=False))
    assert checks_of(found) == {"conditions"}
    again = conformance(Maps(conditions=[big(1), big(1)]))
    assert again.ok, str(again)
    assert "4 rows of one condition" in str(again)


class Repeats(Guided):
    """As many rows of each prompt as there are images of it: 0, 0, 1, 1 and so on."""

    def given(self, batch):
        each = -(-batch // len(self.conditions))
        return [condition for condition in self.conditions for _ in range(each)][:batch]


class Padded(Guided):
    def start(self, batch):
        sums, place, numbers = super().start(batch)
        return sums, place, torch.where(torch.arange(batch) < 6, numbers, numbers[:1])


class AloneWrong(Changed):
    def start(self, batch):
        sums, place = super().start(batch)
        return sums + (batch == 1), place


@pytest.mark.parametrize(
    ("model", "row", "rows"),
    [(Repeats(), 1, 5), (Padded(), 6, 7), (Padded(conditions=tuple(range(9))), 6, 7), (AloneWrong(), 0, 1)],
)
def test_every_number_of_rows_is_begun(model, row, rows):
    (sentence,) = conformance(model).findings
    assert sentence.startswith(f"starts: at position 0 of row {row} the law in a window of 5 that were all kept, ")
    assert f", of {rows} begun at once, differs" in sentence


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("length", "grid", "columns"),
    [
        (1024, (4, 4), 32),
        (1056, (32, 32), 33),
        (2304, (48, 48), 48),
        (960, (20, 48), 48),
        (1280, (32, 32), 32),
        (1024, None, 32),
    ],
)
def test_a_window_crosses_the_end_of_an_image_row(length, grid, columns):
    def at_the_first_ones_row(laws, place):
        late = place // columns != place[:, :1] // columns
        return torch.where(late[..., None], laws.flip(-1), laws)

    for seed in range(3):
        model = Changed(at_the_first_ones_row)
        model.length = length
        if grid:
            model.description = types.SimpleNamespace(grid=grid)
        right = Changed()
        right.length = length
        assert "windows" in checks_of(conformance(model, batch=2, seed=seed))
    assert conformance(right, batch=2).ok


def test_where_no_grid_is_known_the_middle_is_drawn_by_the_seed():
    model = Changed()
    model.length = 1030
    looked = {conformance(model, batch=2, positions=4, seed=seed).looked for seed in (0, 0, 1)}
    assert len(looked) == 2


def test_methods_in_inference_mode_are_judged_as_others():
    class Inference(Guided):
        start, laws, advance = (torch.inference_mode()(getattr(Guided, name)) for name in ("start", "laws", "advance"))

    found = conformance(Inference(guidance=3.0))
    assert found.ok, str(found)

    remembered = {}

    class Kept(Inference):
        """Laws that are written to come again."""

        def laws(self, context, draft):
            key = str((context, draft))
            if key not in remembered:
                remembered[key] = super().laws(context, draft)
            return remembered[key]

    assert "own: laws of 1 rows over 0 drafts that the caller wrote to" in str(conformance(Kept()))


@pytest.mark.parametrize("precision", [torch.float8_e4m3fn, torch.int8, "bfloat16"])
def test_a_precision_of_which_no_rounding_is_known_is_refused_by_name(precision):
    model = Guided(precision=precision)
    with pytest.raises(InputError, match=rf"^precision '?{precision}'?: .*tolerance="):
        conformance(model)
    assert conformance(model, tolerance=1e-3).ok


@pytest.mark.parametrize("tolerance", [float("nan"), -1.0, 1.0])
def test_a_tolerance_that_finds_nothing_is_refused(tolerance):
    with pytest.raises(InputError, match="tolerance is "):
        conformance(Changed(), tolerance=tolerance)


def test_what_lacks_an_end_or_conditions_is_refused_by_name():
    model = Changed()
    del model.eos
    with pytest.raises(InputError, match=r"Changed is no model: it has no eos \(None, if no id ends"):
        conformance(model)
    for conditions in ((), None, torch.zeros(0)):
        with pytest.raises(InputError, match=r"^conditions of Guided is "):
            conformance(Guided(conditions=conditions))
