"""What judging costs: a window of drafts judged, and the token that follows drawn, beside reading its laws once."""

import pytest
import torch

from specverify.bench_judging import SIZES, Window, bandwidth, beside, call, floor
from specverify.decoders.judging import TokenRule

NOTHING = (1, 16, 8)
"""So small that all of it is the cost of calls."""
FLOOR, ABOVE = 1.5, 1e-3
"""How many times the floor is allowed where that is so many seconds or more."""
CALLS = 100
"""Small operations on one core that judging may cost beside that."""


@torch.no_grad()
@pytest.mark.parametrize("size", [NOTHING, *SIZES], ids=lambda size: "x".join(map(str, size)))
def test_judging_costs_little_more_than_reading_the_laws(size, compare, benchmark):
    window = Window(size)
    works = {"ours": window.judging(TokenRule()), "loop": window.loop}
    if (library := window.library()) is not None:
        works["library"] = library
    benchmark.pedantic(works["ours"], rounds=3, warmup_rounds=3)
    times = beside(works, rounds=20, calls=20 if size[0] == 1 else 5)
    least, one = floor(window, bandwidth()), call()
    allowed = FLOOR * least if least >= ABOVE else CALLS * one + FLOOR * least
    name = f"token rule {'x'.join(map(str, size))}"
    milliseconds = {f"{key} ms": value * 1e3 for key, value in (times | {"floor": least, "call": one}).items()}
    compare(name, times["ours"] / (CALLS * one + least), **milliseconds)
    assert times["ours"] <= allowed
    if size != NOTHING:  # of 8 tokens all is calls: the library's function makes fewer of them, and checks nothing
        assert times["ours"] <= times["loop"]
        assert times["ours"] <= times.get("library", float("inf"))


def test_the_loop_and_the_rule_keep_as_many_drafts(benchmark):
    window = Window((64, 8, 32))
    ours = window.judging(TokenRule())
    benchmark.pedantic(ours, rounds=1)
    kept = [float(ours()[0].double().mean()) for _ in range(50)]
    by_loop = [sum(slot for slot, _ in window.loop()) / 64 for _ in range(50)]
    assert sum(kept) / 50 == pytest.approx(sum(by_loop) / 50, abs=0.3)
