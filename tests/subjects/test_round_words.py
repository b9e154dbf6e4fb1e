"""A refuted kernel's judgement shows the round that refutes it: drafts, laws, what came out and what is due."""

import inspect
import re

import pytest
import torch
from kernels import inverse

from specverify.model import row_mask
from specverify.rules.token import at, residual
from specverify.subjects.round import judge_round
from specverify.verdict import Kind

SMALL = {"delta": 0.2, "contexts": ("sparse target", "other support"), "checks": ("laws", "forced-coins")}


def _emitted(draft, q, p, lengths, coin, pick, last):
    """The token rule; after the last accepted draft the bonus law of the slot that `last` makes of the right one."""
    each = torch.arange(len(draft))
    q = torch.nn.functional.one_hot(draft, p.shape[-1]).to(p) if q is None else q
    kept = (coin * at(q, draft) < at(p[:, :-1], draft)) & row_mask(lengths, draft.shape[1])
    accepted = kept.int().cumprod(1).sum(1)
    slot = accepted.clamp(max=draft.shape[1] - 1)
    law = torch.where((accepted < lengths)[:, None], residual(p[each, slot], q[each, slot]), p[each, last(accepted)])
    return accepted, inverse(law, pick)


def late_bonus(draft, q, p, lengths, coins, pick):
    return _emitted(draft, q, p, lengths, coins, pick, lambda slot: (slot - 1).clamp(min=0))


def late_bonus_of_its_own(draft, q, p, lengths, generator):
    coin, pick = torch.rand(draft.shape, generator=generator), torch.rand(len(draft), generator=generator)
    return _emitted(draft, q, p, lengths, coin, pick, lambda slot: (slot - 1).clamp(min=0))


def late_bonus_of_rectangles(draft, q, p, generator):
    return late_bonus_of_its_own(draft, q, p, torch.full((len(draft),), draft.shape[1]), generator)


def target_instead_of_residual(draft, q, p, lengths, generator):
    each, slot = torch.arange(len(draft)), torch.zeros(len(draft), dtype=torch.long)
    coin = torch.rand(len(draft), generator=generator)
    q = torch.nn.functional.one_hot(draft, p.shape[-1]).to(p) if q is None else q
    kept = (lengths > 0) & (coin * at(q[:, 0], draft[:, 0]) < at(p[:, 0], draft[:, 0]))
    return kept.long(), torch.multinomial(p[each, slot + kept.long()], 1, generator=generator)[:, 0]


def _shown(judgement):
    """The round, whose lines fit a terminal."""
    (text,) = [note for note in judgement.notes if "\n" in note]
    assert max(map(len, text.splitlines())) <= 80
    return text


@pytest.mark.parametrize("kernel", [late_bonus, late_bonus_of_its_own, late_bonus_of_rectangles])
def test_a_forbidden_token_is_shown_with_its_round(kernel):
    found = judge_round(kernel, **SMALL)
    assert found.verdict.kind is Kind.REFUTED
    text, row, token = _shown(found), found.certificate, found.location["token"]
    drafts = ", ".join(map(str, row["draft"][: row["length"]]))
    assert f"context '{found.location['context']}'" in text
    assert f"\ndrafts     {drafts} ({row['length']} draft" in text
    assert len(re.findall(r"^ +p, slot", text, re.MULTILINE)) == row["length"] + 1
    assert len(re.findall(r"^ +q, slot", text, re.MULTILINE)) == row["length"]
    assert f"\ncame       {drafts}, {token}, with {row['length']} draft" in text
    assert f": p of token {token} is 0 there" in " ".join(text.split())
    assert not any("none was emitted" in gap or "were not played" in gap for gap in found.not_covered)
    assert "it ends the judgement" in found.not_covered[0]


def test_a_row_is_named_within_the_batch_that_the_kernel_was_given():
    assert not re.search(r"row \d", judge_round(late_bonus, **SMALL).verdict.reason)  # its rows are the testbed's
    for kernel in (late_bonus_of_its_own, late_bonus_of_rectangles):
        seen = []

        def watched(*arguments, kernel=kernel, seen=seen):
            seen.append(len(arguments[0]))
            return kernel(*arguments)

        watched.__signature__ = inspect.signature(kernel)
        row, size = re.search(r"row (\d+) of a batch of (\d+)", judge_round(watched, **SMALL).verdict.reason).groups()
        assert int(row) < int(size)
        assert int(size) in seen


def test_coins_are_shown_where_they_are_forced():
    assert "\ncoins      0" in _shown(judge_round(late_bonus, **SMALL))


def test_a_law_that_is_wrong_on_average_is_shown_with_what_is_due():
    found = judge_round(target_instead_of_residual, delta=0.2, contexts=("near", "dense"), checks=("laws",))
    assert found.verdict.kind is Kind.REFUTED
    text = _shown(found)
    for line in ("q  ", "p, due", "came", "recovered, came", "recovered, due"):
        assert re.search(rf"^ {{11}}{line}", text, re.MULTILINE), line
    assert sum(found.location["came"]) == pytest.approx(1)
    assert sum(found.location["p"]) == pytest.approx(1)


def test_of_a_large_vocabulary_the_tokens_that_matter_are_shown():
    def falls_through(draft, q, p, lengths, coins, pick):
        accepted, token = _emitted(draft, q, p, lengths, coins, pick, lambda slot: slot)
        return accepted, torch.where((pick > 0.9999) & (p.shape[-1] == 1024), p.shape[-1] - 1, token)

    def falls_through_where_drafts_are_rejected(draft, q, p, lengths, coins, pick):
        accepted, token = falls_through(draft, q, p, lengths, coins, pick)
        right = _emitted(draft, q, p, lengths, coins, pick, lambda slot: slot)[1]
        return accepted, torch.where(accepted < lengths, token, right)

    rejected = judge_round(falls_through_where_drafts_are_rejected, gamma=2, delta=0.2, checks=("forced-coins",))
    assert "of 1 accepted" in _shown(rejected)
    found = judge_round(falls_through, gamma=1, delta=0.2, checks=("forced-coins",))
    text = _shown(found)
    assert "1,024 tokens" in text
    assert "token 1023" in text
    assert len(text.splitlines()) < 30
    assert len(found.certificate["p"][-1]) == 1024
