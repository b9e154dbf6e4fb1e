"""What judging costs: a window of drafts judged, and the token that follows drawn, beside reading its laws once.

The floor is the time in which p and q could be read once, at the bandwidth of a copy. Beside it, a loop over tokens
in Python, which stops at the first rejection, and the library's own function, of one row, which makes laws of logits.
"""

import importlib

import pytest
import torch
from bench.measuring import beside, seconds

from specverify.decoders.judging import Draft, TokenRule, judge
from specverify.draws import Sampled
from specverify.laws import draw

SIZES = [(1, 16, 8192), (8, 32, 16384), (1, 64, 65536)]
NOTHING = (1, 16, 8)
"""So small that all of it is the cost of calls."""
FLOOR, ABOVE = 1.5, 1e-3
"""How many times the floor is allowed where that is so many seconds or more."""
CALLS = 100
"""Small operations on one core that judging may cost beside that."""


def a_window(batch, window, vocab):
    """Logits of p at window + 1 positions, of q, and drafts from q, most of which are kept."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(batch, window + 1, vocab, generator=generator)
    theirs = logits[:, :-1] + 0.1 * torch.randn(batch, window, vocab, generator=generator)
    q = theirs.softmax(-1)
    draft = torch.multinomial(q.flatten(0, 1), 1, generator=generator).reshape(batch, window)
    return logits, theirs, logits.softmax(-1), q, draft


def judging(p, q, draft):
    """As a decoder's step does it."""
    draws, everywhere = Sampled(0), torch.ones(len(p), dtype=torch.bool)
    drafts = Draft(draft, q, torch.zeros(len(p), dtype=torch.int64))
    drafted = torch.full((len(p),), draft.shape[1])
    rule = TokenRule()

    def work():
        run, law = judge(rule, p, drafts, drafted, draws)
        return run, draw(law, draws, everywhere)

    return work


def by_token(p, q, draft):
    """A loop over rows and tokens."""
    generator = torch.Generator().manual_seed(0)

    def work():
        found = []
        for row in range(len(p)):
            for slot in range(draft.shape[1]):
                x = int(draft[row, slot])
                if torch.rand((), generator=generator) >= p[row, slot, x] / q[row, slot, x]:
                    left = (p[row, slot] - q[row, slot]).clamp(min=0)
                    found.append((slot, int(torch.multinomial(left / left.sum(), 1, generator=generator))))
                    break
            else:
                found.append((draft.shape[1], int(torch.multinomial(p[row, -1], 1, generator=generator))))
        return found

    return work


def bandwidth():
    """Bytes a second that a large copy reads."""
    source = torch.zeros(1 << 25, dtype=torch.uint8).fill_(1)
    target = torch.empty_like(source)
    return 2 * source.numel() / seconds(lambda: target.copy_(source), 10)


def small_operation():
    one = torch.zeros(1)
    return seconds(lambda: [one.add(1) for _ in range(1000)], 10) / 1000


@torch.no_grad()
@pytest.mark.parametrize("size", [NOTHING, *SIZES], ids=lambda size: "x".join(map(str, size)))
def test_judging_costs_little_more_than_reading_the_laws(size, compare, benchmark):
    logits, theirs, p, q, draft = a_window(*size)
    works = {"ours": judging(p, q, draft), "loop": by_token(p, q, draft)}
    library = importlib.import_module("transformers.generation.utils")
    if size[0] == 1 and hasattr(library, "_speculative_sampling"):
        works["library"] = lambda: library._speculative_sampling(draft, theirs, draft.shape[1], logits)
    benchmark.pedantic(works["ours"], rounds=3, warmup_rounds=3)
    times = beside(works, rounds=20, calls=20 if size[0] == 1 else 5)
    floor, call = 4 * (p.numel() + q.numel()) / bandwidth(), small_operation()
    allowed = FLOOR * floor if floor >= ABOVE else CALLS * call + FLOOR * floor
    name = f"token rule {'x'.join(map(str, size))}"
    milliseconds = {f"{key} ms": value * 1e3 for key, value in (times | {"floor": floor, "call": call}).items()}
    compare(name, times["ours"] / (CALLS * call + floor), **milliseconds)
    assert times["ours"] <= allowed
    if size != NOTHING:  # of 8 tokens all is calls: the library's function makes fewer of them, and checks nothing
        assert times["ours"] <= times["loop"]
        assert times["ours"] <= times.get("library", float("inf"))


def test_the_loop_and_the_rule_keep_as_many_drafts(benchmark):
    _, _, p, q, draft = a_window(64, 8, 32)
    ours, loop = judging(p, q, draft), by_token(p, q, draft)
    benchmark.pedantic(ours, rounds=1)
    kept = [float(ours()[0].double().mean()) for _ in range(50)]
    by_loop = [sum(slot for slot, _ in loop()) / 64 for _ in range(50)]
    assert sum(kept) / 50 == pytest.approx(sum(by_loop) / 50, abs=0.3)
