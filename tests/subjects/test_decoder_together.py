"""Rows that wait for each other: right in every real batch, wrong among the worlds of an enumeration."""

from dataclasses import dataclass

import pytest
import torch

from specverify.claims import Lossless
from specverify.decoders import Branch, Info, begin, commit
from specverify.model import row_mask
from specverify.subjects.decoder import judge_decoder
from specverify.verdict import Kind

WINDOW = 2


@dataclass(frozen=True)
class Waiting:
    """Drafts of token 0, of which all rows of a batch commit as many tokens as the one that kept fewest."""

    slip: bool = False
    name, claim = "waiting", Lossless()

    def init(self, model, batch, draws):
        return begin(model, batch)

    def step(self, state, model, draws):
        draft = torch.zeros(len(state.length), WINDOW, dtype=torch.int64)
        laws = model.laws(state.context, draft)
        room = (model.length - state.length).where(~state.done, 0)
        judged = room.clamp(max=1 if model.eos == 0 else WINDOW)
        run = draws.accept_run(laws[:, :WINDOW, 0], row_mask(judged, WINDOW))
        rejected = run < judged
        law = laws[torch.arange(len(run)), run]
        left = law.clone()
        left[:, 0] = 0
        token = draws.categorical(
            torch.where(rejected[:, None] & (not self.slip), left, law), rejected | (room > judged)
        )
        own = run + (rejected | (room > judged)).long()
        if model.eos == 0:
            own = torch.where(rejected, own, run)  # a draft that ends the sequence has nothing behind it
        least = torch.where(room > 0, own, WINDOW + 1).min()
        block = torch.cat([draft, token[:, None]], 1).scatter(1, run[:, None], token[:, None])
        after, count = commit(state, model, block, torch.minimum(own, least))
        accepted = torch.minimum(run, count)
        recovered = rejected & (count > run)
        last = torch.where(recovered, int(Branch.RECOVERED), int(Branch.BONUS))[:, None]
        branch = torch.where(row_mask(accepted, WINDOW + 1), int(Branch.ACCEPTED), last) * row_mask(count, WINDOW + 1)
        live = (~state.done).long()
        return after, Info(live, accepted + recovered, accepted, count, branch, 0 * live)


@pytest.mark.slow
def test_rows_that_wait_for_each_other_are_not_refuted_by_worlds_that_wait_for_each_other():
    judgement = judge_decoder(Waiting(), seconds=20.0)
    assert judgement.verdict.kind is Kind.CONSISTENT, judgement.verdict.reason
    assert "its rows depend on each other" in judgement.verdict.reason.lower()
    assert "in batches of several sizes samples agree" in judgement.verdict.reason
    assert judgement.certificate is None


@pytest.mark.slow
def test_what_is_wrong_besides_is_refuted():
    assert judge_decoder(Waiting(slip=True), seconds=20.0).verdict.kind is Kind.REFUTED
