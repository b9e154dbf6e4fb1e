"""Kernels that are wrong where two things meet: a long vocabulary, a dtype, a long window, drafts without a law."""

import re
from functools import partial

import pytest
import torch
from torch.nn.functional import one_hot

from specverify.subjects.round import judge_round
from specverify.verdict import Kind


def made(
    forgets=lambda p, q: False,
    late=99,
    bonus=lambda law: law,
    left_over=lambda law: law,
    add=torch.float64,
    only=None,
    wider=0,
):
    """The token rule with a slip: where the residual is forgotten, or what a law that is drawn from becomes.

    Sums are in `add`: in the law's own dtype if that is None, and if the law is of the dtype `only` and `wider` enough.
    """

    def kernel(draft, q, p, lengths, coins, pick):
        rows, gamma = draft.shape
        law_of = one_hot(draft, p.shape[-1]).to(p) if q is None else q
        ratio = (p[:, :-1] / law_of).gather(2, draft[..., None])[..., 0]
        accepted = ((coins < ratio) & (torch.arange(gamma) < lengths[:, None])).cumprod(1).sum(1)
        each, slot = torch.arange(rows), accepted.clamp(max=gamma - 1)
        left = (p[each, slot] - law_of[each, slot]).clamp(min=0)
        forgotten = forgets(p, q) & (slot >= late if late < 99 else torch.ones(rows, dtype=torch.bool))
        left = left_over(torch.where(forgotten[:, None], p[each, slot], left))
        in_its_own = add is None and only in (None, p.dtype) and p.shape[-1] > wider
        law = torch.where((accepted < lengths)[:, None], left, bonus(p[each, accepted]))
        edges = law.cumsum(1, dtype=None if in_its_own else torch.float64)
        return accepted, (edges[:, :-1] <= pick[:, None] * edges[:, -1:]).sum(1)

    return kernel


def without_a_tile(law):
    return law * ((torch.arange(law.shape[1]) // 128 != 1) | (law.shape[1] < 512))


def without_many(law):
    return law * ((torch.arange(law.shape[1]) // 300 != 2) | (law.shape[1] < 512))


def bonus_of_rows_that_have_drafts(draft, q, p, generator):
    lengths = torch.full((len(draft),), draft.shape[1])
    coins, pick = torch.rand(draft.shape, generator=generator), torch.rand(len(draft), generator=generator)
    return made(bonus=without_many)(draft, q, p, lengths, coins, pick)


def first_block(law):
    return law * ((torch.arange(law.shape[1]) < 2048) | (law.shape[1] > 32_768))


def whole_blocks(law, size=8192):
    """What lies behind the last whole block is lost, of vocabularies of one or more."""
    return law * (torch.arange(law.shape[1]) < max(law.shape[1] // size * size, size))


WRONG = {
    "a tail": (made(left_over=whole_blocks), "33,013 tokens.* the recovered token"),
    "64 tokens": (made(lambda p, q: p.shape[-1] % 32 == 0), "(64|256) tokens"),
    "a block": (made(bonus=first_block), "each of .* tokens.*: position 0 by tiles.* ids .* come too "),
    "half sums": (made(add=None, only=torch.float16), "float16, each of .* position . inside of tiles"),
    "wide sums": (made(add=None, wider=2048), r"float16, each of \d+,\d+ tokens, no draft law"),
    "a bonus's tail": (made(bonus=partial(whole_blocks, size=2048)), "the bonus token 33012 in slot"),
    "a bonus": (bonus_of_rows_that_have_drafts, "each of 1,024 tokens, equal tiles: position 1 by tiles"),
    "no q": (made(lambda p, q: q is None and p.shape[-1] > 8), r"\d tokens, no draft law"),
    "no q, late": (made(lambda p, q: q is None, late=4), r"window of \d+, no draft law"),
    "no q, half": (made(lambda p, q: q is None and p.dtype != torch.float32), r"float\d\d, no draft law"),
    "a tile": (made(left_over=without_a_tile), "each of 1,024 tokens.* by tiles"),
    "a sum": (made(add=None), "bfloat16, each of .* take float32 for them; a kernel that is not made for bfloat16"),
}


LONG = ("no q, late", "64 tokens", "no q", "no q, half", "a tile", "wide sums", "a bonus", "half sums")


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("subject", "said"),
    [pytest.param(*each, id=name, marks=[pytest.mark.slow] * (name in LONG)) for name, each in WRONG.items()],
)
def test_what_is_wrong_where_two_things_meet_is_refuted(subject, said):
    found = judge_round(subject, gamma=2, delta=0.1, checks=("laws",), seconds=30)
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert re.search(said, found.verdict.reason), found.verdict.reason


def only_short(draft, q, p, lengths, coins, pick):
    if p.shape[-1] > 256 or p.dtype != torch.float32:
        raise ValueError("made for 256 tokens and float32")
    return made()(draft, q, p, lengths, coins, pick)


def test_what_a_kernel_raises_for_is_not_in_the_box():
    found = judge_round(only_short, gamma=2, delta=0.1, checks=("laws",), seconds=30)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert "vocabularies of 2, 3, 4, 16, 64 and 256 tokens" in found.verdict.reason
    assert found.verdict.reason.endswith("float32")
    (refused,) = [note for note in found.notes if note.startswith("takes no ")]
    assert refused.endswith("more: it raised ValueError: made for 256 tokens and float32")
    assert any(line.startswith("vocabularies other than those named") for line in found.not_covered)


def made_for_four(draft, q, p, lengths, coins, pick):
    if draft.shape[1] != 4:
        raise ValueError(f"made for 4 drafts, got {draft.shape[1]}")
    return made()(draft, q, p, lengths, coins, pick)


def test_a_kernel_for_one_number_of_drafts_is_told_how_to_be_judged():
    found = judge_round(made_for_four, seconds=5)
    assert found.verdict.kind is Kind.ERROR
    assert "made for 4 drafts, got 3" in found.verdict.reason
    assert found.verdict.reason.endswith("rows have up to 3 drafts: --gamma says another number")


@pytest.mark.slow
def test_and_is_judged_with_that():
    assert judge_round(made_for_four, gamma=4, delta=0.1, checks=("laws",), seconds=20).verdict.kind is Kind.CONSISTENT
