"""The lines at which a wrong token is settled."""

import torch

from specverify.integrations.causal import step_sampler
from specverify.subjects.sampler_exact import prove_sampler
from specverify.subjects.sampler_lines import Path, settled
from specverify.verdict import Kind


def step(draft, target, ids):
    q = draft(ids).logits[0, -1].softmax(-1)
    drafted = torch.multinomial(q, 1)
    p = target(torch.cat([ids, drafted[None]], 1)).logits[0, -2:].softmax(-1)
    if torch.rand(1) < p[0, drafted] / q[drafted]:
        more = [drafted, torch.multinomial(p[1], 1)]
    else:
        more = [torch.multinomial(p[0], 1)]  # not (p - q)+
    return torch.cat([ids, *[token[None] for token in more]], 1)


def test_a_token_is_settled_by_the_draw_after_which_no_other_can_come():
    paths = [
        Path((0, 1), (0, 1, 0), ("a:1", "a:2", "a:4"), 0.3),  # the second draw keeps 0, the third is of what follows
        Path((0, 0), (0, 1, 1), ("a:1", "a:2", "a:4"), 0.1),
        Path((1, 1), (0, 0, 1), ("a:1", "a:2", "a:3"), 0.2),
        Path((1, 0), (1,), ("a:1",), 0.4),
    ]
    assert settled(paths, ()) == "settled at a:2 (60%), a:1 (40%)"
    assert settled(paths, (0,)) == "settled at a:4 (100%)"
    assert settled([Path((1,), (0,), ("",), 1.0)], ()) == ""
    assert settled([Path((1,), (0,), ("",), 0.5), Path((0,), (1,), ("",), 0.5)], ()) == ""


def test_what_is_refuted_names_the_lines_of_the_program():
    found = prove_sampler(step_sampler(step), seconds=20)
    assert found.verdict.kind is Kind.REFUTED
    first = step.__code__.co_firstlineno
    lines = [f"test_sampler_lines.py:{first + offset}" for offset in (2, 4, 7)]
    assert all(line in found.verdict.reason for line in lines), found.verdict.reason
