"""Guidance, averages and conditions: slips that no single law shows, and right models beside them."""

import pytest
import torch
from findings import checks_of
from guided import Guided

from specverify.conformance import conformance

SLIPS = {
    "with the two rows swapped": lambda c, u, s: c + s * (u - c),
    "without guidance": lambda c, u, s: c,
    "with the scale one more": lambda c, u, s: u + (s + 1) * (c - u),
    "with the scale one less": lambda c, u, s: u + (s - 1) * (c - u),
}
SMALL = {"batch": 2, "positions": 4, "widest": 5}


def slipping(slip, **settings):
    class Slips(Guided):
        def guide(self, c, u, scale):
            return (slip if scale not in (0, 1) else super().guide)(c, u, scale)

    return Slips(**settings)


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("precision", "scale"), [(torch.bfloat16, 1.5), (torch.bfloat16, 10.0), (torch.float16, 5.0)])
def test_the_scale_that_guided_laws_fit_is_named_in_every_precision(precision, scale):
    right = conformance(Guided(guidance=scale, precision=precision), **SMALL)
    assert right.ok, str(right)
    for name, slip in SLIPS.items():
        found = conformance(slipping(slip, guidance=scale, precision=precision), **SMALL)
        assert checks_of(found) == {"guidance"}, name
        assert f"they fit the law {name}" in found.findings[0]
        assert " laws they differ by " in found.findings[0]


def test_rounding_fits_no_other_scale():
    noise = torch.Generator().manual_seed(0)

    def rounded(laws, _):
        return (laws.log() + 0.05 * torch.randn(laws.shape, generator=noise, dtype=laws.dtype)).softmax(-1)

    for scale in (1.5, 10.0):
        found = conformance(Guided(rounded, guidance=scale, precision=torch.bfloat16), **SMALL)
        assert "guidance" not in checks_of(found), str(found)


def test_a_scale_that_counts_from_the_conditional_law_is_found_by_what_is_left_at_0():
    class OneMore(Guided):
        def guide(self, c, u, scale):
            return c + scale * (c - u)

    (sentence,) = conformance(OneMore(guidance=3.0)).findings
    assert sentence.startswith(
        "guidance: behind the same 16 tokens laws of rows that have different conditions differ by"
    )
    assert "at scale 0, on average, and by " in sentence

    class Little(Guided):
        """The prompt without condition depends on the condition's length, say."""

        def guide(self, c, u, scale):
            return super().guide(c, u + 0.1 * (c - u), scale)

    assert conformance(Little(guidance=3.0)).ok

    class Length(Guided):
        """It depends on that much, but in another way than laws depend on the condition."""

        def guide(self, c, u, scale):
            return super().guide(c, u + c.flip(-1), scale)

    assert conformance(Length(guidance=3.0)).ok


def without_a_mask(laws, _):
    """Two ids that no single step gives have a mass of 0.04 in windows."""
    some = (torch.arange(16) > 13).to(laws.dtype)
    free = laws * (1 - some) / (laws * (1 - some)).sum(-1, keepdim=True)
    return free if laws.shape[1] == 1 else 0.96 * free + 0.04 * some / 2


def warmer(laws, _):
    return laws if laws.shape[1] == 1 else (laws.log() * 0.85).softmax(-1)


@pytest.mark.parametrize("wrong", [without_a_mask, warmer])
def test_what_no_single_law_shows_in_half_precision_shows_on_average(wrong):
    found = conformance(Guided(wrong, precision=torch.bfloat16))
    assert found.largest < found.tolerance
    assert {"alone", "windows", "rejection", "lengths", "selection"} <= checks_of(found)
    assert found.findings[0].startswith("alone: on average over ")
    assert found.findings[0].endswith("rounding may leave 0.02 on average (and 0.1 at single places)")
    right = conformance(Guided(precision=torch.bfloat16))
    assert "no law differs by more than 0.1, and those of no check by more than 0.02 on average; the la" in str(right)


def test_conditions_that_differ_late_are_read_on_to():
    class Late(Guided):
        """Maps of a label for each position, of which all begin alike."""

        heeds = True

        def number(self, condition):
            return condition[-1]

        def laws(self, context, draft):
            laws, place = super().laws(context, draft), context[1][:, None] + torch.arange(draft.shape[1] + 1)
            plain = super().laws((*context[:2], torch.zeros_like(context[2])), draft)
            return torch.where((self.heeds & (place > 40))[..., None], laws, plain)

    maps = [[0] * 41 + [label] * 39 for label in range(4)]
    right = Late(conditions=maps)
    assert conformance(right).ok
    (sentence,) = conformance(Late(conditions=maps, heeds=False)).findings
    assert sentence.startswith("conditions: behind the same 79 tokens all laws of row 1")


def test_at_scale_0_rows_need_not_heed_their_conditions():
    found = conformance(Guided(guidance=0.0))
    assert found.ok, str(found)
    assert "conditions" not in found.checks
    assert str(found).endswith("Not looked at: whether laws heed conditions, which they do not at scale 0")


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    "share", [lambda place: (place > 14).double(), lambda place: place / 80], ids=["late", "rises"]
)
def test_guidance_may_depend_on_the_position(share):
    """At first there is none, or little, so that rows heed their conditions there at all scales."""

    class ByPosition(Guided):
        def laws(self, context, draft):
            place = context[1][:, None, None] + torch.arange(draft.shape[1] + 1)[:, None]
            plain, full = (super(ByPosition, one).laws(context, draft).log() for one in (self.like(guidance=1.0), self))
            return (plain + share(place) * (full - plain)).softmax(-1)

    for scale in (3.0, 1.5):
        found = conformance(ByPosition(guidance=scale))
        assert found.ok, str(found)
