"""How fast GSD's dynamic groups are found: for a whole window at once, beside a sort per token as in its code."""

import pytest
import torch

from specverify.bench_judging import beside
from specverify.rules.grouped import Grouped

VOCAB, WINDOW, DIM = 16_384, 32, 8


def one_sort_per_token(p, q, draft, embedding):
    """The group of each draft from a sort of the whole vocabulary inside a loop over the window."""
    accept = []
    for slot in range(p.shape[0]):
        order = p[slot].argsort()
        rank = int((order == draft[slot]).nonzero())
        if rank < 7:
            accept.append(float(min(p[slot, draft[slot]] / q[slot, draft[slot]], 1.0)))
            continue
        group = order[rank - 7 : rank + 7]
        near = (p[slot, group] - p[slot, draft[slot]]).abs() < 0.15
        near &= (embedding[group] - embedding[draft[slot]]).square().sum(-1) < 0.5
        accept.append(float((p[slot, group[near]].sum() / q[slot, group[near]].sum()).clamp(max=1)))
    return torch.tensor(accept)


@pytest.mark.parametrize("supported", [VOCAB, 2000], ids=["dense", "top-k 2000"])
def test_dynamic_groups(benchmark, compare, supported):
    """Window 32, vocabulary 16,384, batch 1."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, WINDOW, VOCAB, generator=generator) * 2
    logits[..., supported:] = -torch.inf
    p, q = logits.softmax(-1)
    draft = torch.multinomial(q, 1, generator=generator).squeeze(1)
    embedding = torch.randn(VOCAB, DIM, generator=generator) / 4
    rule = Grouped.released(embedding)
    accept = benchmark.pedantic(rule.accept, (p, q, draft), rounds=3, warmup_rounds=2)
    torch.testing.assert_close(accept, one_sort_per_token(p, q, draft, embedding))
    works = {"ours": lambda: rule.accept(p, q, draft), "loop": lambda: one_sort_per_token(p, q, draft, embedding)}
    times = beside(works, rounds=15)
    compare(f"dynamic groups {supported}", times["ours"] / times["loop"], **{k: v * 1e3 for k, v in times.items()})
    assert times["ours"] < times["loop"]
