"""Laws are the caller's own, and so is what a pass and an advance are given."""

import pytest
import torch
from changed import Changed

from specverify.conformance import conformance


def test_laws_in_a_buffer_that_is_used_again_are_named():
    buffers = {}

    def used_again(laws, _):
        buffer = buffers.setdefault(laws.shape, torch.empty_like(laws))
        return buffer.copy_(laws)

    found = conformance(Changed(used_again))
    assert found.findings[0].startswith(
        "own: a pass behind an advance changed the laws that one of 1 rows over 0 drafts"
    )
    remembered = {}

    def once(laws, place):
        return remembered.setdefault((str(laws.tolist()), str(place.tolist())), laws)

    assert conformance(Changed(once)).findings[0].startswith("own: laws of 1 rows over 0 drafts that the caller wr")


@pytest.mark.parametrize(("write", "said"), [
    ("draft", "own: a pass of 1 rows over 5 drafts wrote to the drafts that it was given"),
    ("count", "own: advance by 1 tokens wrote to the tokens or the counts that it was given"),
    ("tokens", "own: advance by 1 tokens wrote to the tokens or the counts that it was given"),
    ("kept", "own: laws changed with the tokens or counts that advance had been given"),
    ("twice", "own: the same pass of 1 rows over 0 drafts, made twice, gave laws that differ by "),
    ("wide", "own: a pass of 1 rows over 16 drafts changed the laws that one before it had given"),
    ("advance", "own: an advance changed the laws that a pass of 1 rows over 0 drafts had given"),
    ("start", "own: another start changed the laws that a pass of 1 rows over 0 drafts had given"),
])  # fmt: skip
def test_what_is_the_callers_is_left_alone(write, said):
    noise, held = torch.Generator().manual_seed(0), []

    class Takes(Changed):
        def start(self, batch):
            for laws in held if write == "start" else ():
                laws.zero_()
            return super().start(batch)

        def laws(self, context, draft):
            laws = super().laws(context, draft)
            if write == "draft":
                draft.zero_()
            if write == "twice":
                laws = laws * torch.rand(laws.shape, generator=noise, dtype=laws.dtype)
                laws /= laws.sum(-1, keepdim=True)
            if write == "wide" and draft.shape[1] > 12:
                held[:] = [held[0].copy_(laws)] if held and held[0].shape == laws.shape else [laws]
                return held[0]
            held.append(laws)
            return laws

        def advance(self, context, tokens, count):
            after = super().advance(context, tokens, count)
            if write in ("count", "tokens"):
                {"count": count, "tokens": tokens}[write].fill_(3)
            for laws in held[-1:] if write == "advance" else ():
                laws.zero_()
            return (after[0] - tokens.sum(1, keepdim=True), after[1], tokens) if write == "kept" else after

        def sums(self, context, tokens):
            known = context[0] + (context[2].sum(1, keepdim=True) if len(context) > 2 else 0)
            return torch.cat([known, tokens], 1).cumsum(1)

    assert conformance(Takes()).findings[0].startswith(said)
