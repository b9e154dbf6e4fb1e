import inspect
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specverify.errors import InputError
from specverify.model import Model
from specverify.processors import (
    Guided,
    Processed,
    Processor,
    guidance,
    mask,
    min_p,
    parse_processors,
    temperature,
    top_k,
    top_k_high,
    top_k_ties,
    top_p,
)
from toymodels import tabulate, toy

deterministic = settings(
    derandomize=True, database=None, deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow]
)
DTYPES = st.sampled_from([torch.float32, torch.float64])


@st.composite
def laws(draw, count: int = 1):
    """`count` laws of one shape, Float[a, b, vocab], with zeros and ties."""
    a, b, vocab = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 6))
    dtype = draw(DTYPES)
    row = st.lists(st.integers(0, 6), min_size=vocab, max_size=vocab).filter(any)
    made = []
    for _ in range(count):
        weights = torch.tensor(draw(st.lists(row, min_size=a * b, max_size=a * b)), dtype=torch.float64)
        made.append((weights / weights.sum(-1, keepdim=True)).to(dtype).view(a, b, vocab))
    return made[0] if count == 1 else tuple(made)


def near(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a.double(), b.double(), rtol=0, atol=1e-12 if a.dtype == torch.float64 else 1e-5)


def assert_law_within(processed: torch.Tensor, law: torch.Tensor) -> None:
    assert processed.shape == law.shape
    assert processed.dtype == law.dtype
    assert near(processed.sum(-1), torch.ones(law.shape[:-1], dtype=law.dtype))
    assert bool((processed >= 0).all())
    assert bool((processed[law == 0] == 0).all()), "a token of probability 0 got mass"


def assert_proportional(processed: torch.Tensor, law: torch.Tensor) -> None:
    """On what was kept, the law is a multiple of what it was."""
    kept = torch.where(processed > 0, law, 0)
    assert near(processed, kept / kept.sum(-1, keepdim=True))


@deterministic
@given(laws(), st.floats(0.05, 20))
def test_temperature_is_a_power_of_the_law(law, t):
    processed = temperature(law, t)
    assert_law_within(processed, law)
    powers = (law.double() / law.double().amax(-1, keepdim=True)) ** (1 / t)
    powers[law == 0] = 0
    assert near(processed, (powers / powers.sum(-1, keepdim=True)).to(law.dtype))


@deterministic
@given(laws())
def test_temperature_limits(law):
    assert torch.equal(temperature(law, 1), law)
    top = (law == law.amax(-1, keepdim=True)).to(law.dtype)
    support = (law > 0).to(law.dtype)
    for tiny in (1e-9, 1e-320, 5e-324):
        assert near(temperature(law, tiny), top / top.sum(-1, keepdim=True))
    for large in (1e15, 1e300):
        assert near(temperature(law, large), support / support.sum(-1, keepdim=True))


@deterministic
@given(laws(), st.floats(0.2, 5), st.floats(0.2, 5))
def test_temperatures_multiply(law, s, t):
    assert near(temperature(temperature(law, s), t), temperature(law, s * t))


@deterministic
@given(laws(), st.integers(1, 8))
def test_top_k_keeps_exactly_the_k_largest_lowest_ids_first(law, k):
    processed = top_k(law, k)
    assert_law_within(processed, law)
    assert_proportional(processed, law)
    for row, got in zip(law.flatten(0, 1).tolist(), processed.flatten(0, 1).tolist(), strict=True):
        chosen = sorted(range(len(row)), key=lambda v: (-row[v], v))[:k]
        assert [v for v in range(len(row)) if got[v] > 0] == sorted(v for v in chosen if row[v] > 0)


def test_top_k_ties_at_the_threshold_go_to_the_lowest_ids():
    law = torch.tensor([0.125, 0.25, 0.25, 0.125, 0.25])
    assert top_k(law, 2).tolist() == [0, 0.5, 0.5, 0, 0]
    assert top_k(law, 4).count_nonzero() == 4
    assert top_k(law, 4)[3] == 0
    assert torch.equal(top_k(law, 5), law)
    assert top_k(torch.full((32,), 1 / 32), 7).nonzero().flatten().tolist() == list(range(7))


@deterministic
@given(laws(), st.floats(0, 1, exclude_min=True))
def test_top_p_keeps_the_smallest_sufficient_set(law, mass):
    processed = top_p(law, mass)
    assert_law_within(processed, law)
    assert_proportional(processed, law)
    for row, got in zip(law.flatten(0, 1).tolist(), processed.flatten(0, 1).tolist(), strict=True):
        kept = [v for v in range(len(row)) if got[v] > 0]
        order = sorted((v for v in range(len(row)) if row[v] > 0), key=lambda v: (-row[v], v))
        assert kept == sorted(order[: len(kept)]), "the kept tokens are the most probable, lowest ids first"
        assert sum(row[v] for v in kept) >= mass - 1e-6
        assert sum(row[v] for v in order[: len(kept) - 1]) < mass + 1e-6, "one token fewer would have done"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_ties_with_the_kth_token_is_kept_by_convention(dtype):
    law = torch.tensor([2, 1, 2, 1, 2], dtype=dtype) / 8
    assert top_k(law, 2).nonzero()[:, 0].tolist() == [0, 2]
    assert top_k_high(law, 2).nonzero()[:, 0].tolist() == [2, 4]
    assert top_k_ties(law, 2).nonzero()[:, 0].tolist() == [0, 2, 4]
    assert top_k_ties(law, 4).count_nonzero() == 5
    for k in (3, 5, 9):  # no tie is cut
        assert torch.equal(top_k(law, k), top_k_ties(law, k))
        assert torch.equal(top_k(law, k), top_k_high(law, k))
    (low,), (ties,), (high,) = (parse_processors(f"{name}=2") for name in ("top_k", "top_k_ties", "top_k_high"))
    assert [low.label, ties.label, high.label] == ["top-k=2", "top-k=2+ties", "top-k=2+high"]
    assert torch.equal(ties(law), top_k_ties(law, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_min_p_keeps_a_share_of_the_largest_probability(dtype):
    law = torch.tensor([[0.5, 0.25, 0.125, 0.125], [0.25, 0.25, 0.25, 0.25]], dtype=dtype)
    assert min_p(law, 0.25).tolist() == [[0.5, 0.25, 0.125, 0.125], [0.25] * 4]
    assert min_p(law, 0.3)[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])
    assert min_p(law, 1)[0].tolist() == [1, 0, 0, 0]
    assert torch.equal(min_p(law, 0), law)
    assert parse_processors("min_p=0.1")[0].label == "min-p=0.1"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_top_p_at_its_edges(dtype):
    law = torch.tensor([0.3, 0.5, 0.2], dtype=dtype)
    assert top_p(law, 0.5).tolist() == [0, 1, 0]
    assert top_p(law, 0.5001).count_nonzero() == 2
    assert top_p(law, 5e-324).tolist() == [0, 1, 0]
    assert torch.equal(top_p(law, 1), law)
    quarters = torch.full((4,), 0.25, dtype=dtype)
    assert top_p(quarters, 0.5).tolist() == [0.5, 0.5, 0, 0]
    assert top_p(quarters, 0.75).count_nonzero() == 3
    assert top_p(torch.tensor([1, 1e-20], dtype=dtype), 1).count_nonzero() == 2, "lost to rounding of the sum"
    spread = torch.full((10_000,), 1e-4, dtype=dtype)
    assert top_p(spread, 1.0).count_nonzero() == 10_000


@deterministic
@given(laws(), st.data())
def test_mask_keeps_the_allowed_tokens(law, data):
    vocab = law.shape[-1]
    allowed = torch.tensor(data.draw(st.lists(st.booleans(), min_size=vocab, max_size=vocab).filter(any)))
    processed = mask(law, allowed)
    assert bool((processed[..., ~allowed] == 0).all())
    assert near(processed.sum(-1), torch.ones(law.shape[:-1], dtype=law.dtype))
    some = (law * allowed).sum(-1) > 0
    assert_law_within(processed[some], law[some])
    assert_proportional(processed[some], law[some])
    uniform = allowed.to(law.dtype) / allowed.sum()
    assert near(processed[~some], uniform.expand_as(processed[~some]))
    assert torch.equal(mask(law, allowed.expand_as(law)), processed)


@deterministic
@given(laws(count=2), st.floats(0, 8))
def test_guidance_is_the_power_law_of_both(pair, scale):
    c, u = pair
    guided = guidance(c, u, scale)
    assert near(guided.sum(-1), torch.ones(c.shape[:-1], dtype=c.dtype))
    if scale > 0:
        assert bool((guided[c == 0] == 0).all()), "a token that the conditional law forbids got mass"
    plain = ((u > 0) | (c == 0)).all(-1) & ((u > 0) & (c > 0)).any(-1)
    log = u.double().log() + scale * (c.double().log() - u.double().log())
    expected = torch.where(c > 0, log, -math.inf).softmax(-1).to(c.dtype)
    if scale > 0:
        assert torch.allclose(guided[plain], expected[plain], rtol=0, atol=1e-12 if c.dtype == torch.float64 else 1e-4)


@deterministic
@given(laws(count=2))
def test_guidance_at_scale_1_is_conditional_and_at_0_unconditional(pair):
    c, u = pair
    assert torch.equal(guidance(c, u, 1), c)
    assert torch.equal(guidance(c, u, 0.0), u)
    positive = ((c > 0) & (u > 0)).all(-1)
    for scale, limit in ((1 + 1e-9, c), (1 - 1e-9, c), (1e-9, u)):
        assert torch.allclose(guidance(c, u, scale)[positive], limit[positive], rtol=0, atol=1e-5)


@deterministic
@given(laws(), st.floats(0, 10))
def test_guidance_of_a_law_by_itself_is_itself(law, scale):
    assert near(guidance(law, law, scale), law)


def test_guidance_takes_limits_where_the_unconditional_law_has_zeros():
    c = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)
    u = torch.tensor([0.4, 0.0, 0.0, 0.6], dtype=torch.float64)
    squares = torch.tensor([0, 0.09, 0.04, 0], dtype=torch.float64)
    assert near(guidance(c, u, 2), squares / squares.sum())
    assert guidance(c, u, 0.5).tolist() == [1, 0, 0, 0]
    for shrinking in (1e-9, 1e-12):  # the limits are those of laws with small masses in place of zeros
        v = torch.tensor([0.4, shrinking, shrinking, 0.6 - 2 * shrinking], dtype=torch.float64)
        assert torch.allclose(guidance(c, v, 2), guidance(c, u, 2), rtol=0, atol=1e-6)
        assert torch.allclose(guidance(c, v, 0.5), guidance(c, u, 0.5), rtol=0, atol=1e-3)
    only_c, only_u = torch.tensor([0.25, 0.75, 0, 0]), torch.tensor([0.0, 0, 0.5, 0.5])
    assert torch.allclose(guidance(only_c, only_u, 0.5), only_c)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_leading_shapes_do_not_matter(dtype):
    generator = torch.Generator().manual_seed(6)
    law = torch.rand(3, 4, 5, 6, dtype=dtype, generator=generator).softmax(-1)
    other = torch.rand(3, 4, 5, 6, dtype=dtype, generator=generator).softmax(-1)
    allowed = torch.tensor([True, False, True, True, False, True])
    functions = [
        lambda x, y: temperature(x, 0.7),
        lambda x, y: top_k(x, 3),
        lambda x, y: top_p(x, 0.6),
        lambda x, y: mask(x, allowed),
        lambda x, y: guidance(x, y, 3.0),
    ]
    for function in functions:
        whole = function(law, other)
        for index in ((0, 0, 0), (1, 2, 3), (2, 3, 4)):
            assert torch.equal(whole[index], function(law[index], other[index]))


def test_parsing_reads_left_to_right():
    processors = parse_processors(" temperature=0.7, top_k=2,allowed=0+2 ,top_p=0.9")
    assert [processor.label for processor in processors] == ["T=0.7", "top-k=2", "allowed=0+2", "top-p=0.9"]
    law = torch.tensor([[0.2, 0.5, 0.3]])
    expected = mask(top_k(temperature(law, 0.7), 2), torch.tensor([True, False, True]))
    assert torch.equal(processors[2](processors[1](processors[0](law))), expected)
    assert parse_processors("") == ()


def test_a_processed_model_is_a_model_with_a_name_that_says_so():
    toy_ = toy("dense-3x6")
    model = Processed(toy_, parse_processors("temperature=0.7,top_k=2"))
    assert isinstance(model, Model)
    assert model.name == "dense-3x6|T=0.7|top-k=2"
    assert torch.equal(tabulate(model).table, top_k(temperature(toy_.table, 0.7), 2))
    halved = Processor("last-id-halved", lambda law, s: law * torch.tensor([1 + s, 1 + s, 1 - s]), 0.0)
    assert Processed(toy_, [halved]).name == "dense-3x6|last-id-halved"
    assert Processed(toy("eos-3x6"), parse_processors("top_p=0.9")).eos == 2


def test_a_guided_model_guides_law_by_law():
    c, u = toy("penalty-3x6"), toy("dense-3x6")
    model = Guided(c, u, 2)
    assert isinstance(model, Model)
    assert model.name == "penalty-3x6|guidance=2|from=dense-3x6"
    assert torch.equal(tabulate(model).table, guidance(tabulate(c).table, u.table, 2))
    assert torch.equal(tabulate(Guided(c, u, 1)).table, tabulate(c).table)


UNIFORM = torch.full((2, 3), 1 / 3)
# `unwrap`: as met without the run-time type checker of the tests, which would object first.
ERRORS = [
    (
        lambda: temperature(UNIFORM, 0),
        r"temperature is 0; it must be a finite number above 0 \(for greedy .* top_k=1\)",
    ),
    (lambda: temperature(UNIFORM, -1.5), r"temperature is -1\.5"),
    (lambda: temperature(UNIFORM, math.nan), r"temperature is nan"),
    (lambda: temperature(UNIFORM, math.inf), r"temperature is inf"),
    (
        lambda: inspect.unwrap(temperature)(torch.tensor(1.0), 1),
        r"processors take laws, Float\[\.\.\., vocab\]; got torch.float32 of shape \(\)",
    ),
    (lambda: inspect.unwrap(top_k)(torch.ones(2, 3, dtype=torch.int64), 1), r"got torch.int64 of shape \(2, 3\)"),
    (lambda: top_p(torch.ones(2, 0), 0.5), r"of shape \(2, 0\)"),
    (lambda: top_k(UNIFORM, 0), r"top_k is 0; it must be an integer of at least 1"),
    (lambda: top_k(UNIFORM, True), r"top_k is True"),
    (lambda: min_p(UNIFORM, 1.01), r"min_p is 1\.01; it is a share of the largest probability, from 0 to 1"),
    (lambda: top_k_ties(UNIFORM, 0), r"top_k is 0; it must be an integer of at least 1"),
    (lambda: top_k_high(UNIFORM, 0), r"top_k is 0; it must be an integer of at least 1"),
    (lambda: top_p(UNIFORM, 0), r"top_p is 0; it is a probability mass, above 0 and at most 1"),
    (lambda: top_p(UNIFORM, 1.01), r"top_p is 1\.01"),
    (lambda: top_p(UNIFORM, math.nan), r"top_p is nan"),
    (lambda: mask(UNIFORM, torch.ones(4, dtype=torch.bool)), r"the mask has shape \(4,\) and the laws \(2, 3\)"),
    (lambda: mask(UNIFORM, torch.ones(1, 2, 3, dtype=torch.bool)), r"the mask has shape \(1, 2, 3\)"),
    (lambda: mask(UNIFORM, torch.tensor([[True] * 3, [False] * 3])), r"the mask allows no token in some row"),
    (lambda: guidance(UNIFORM, UNIFORM, -0.5), r"guidance scale is -0\.5; it must be a finite number of at least 0"),
    (lambda: guidance(UNIFORM, UNIFORM, math.inf), r"guidance scale is inf"),
    (
        lambda: guidance(UNIFORM, UNIFORM.double(), 2),
        r"two laws alike: conditional \(2, 3\) torch.float32, unc.*float64",
    ),
    (lambda: parse_processors("temperatur=1"), r"unknown processor 'temperatur'; did you mean temperature\?"),
    (lambda: parse_processors("x=1"), r"unknown processor 'x'; known: temperature, top_k, top_k_ties, "),
    (lambda: parse_processors("top_k=two"), r"top_k='two' cannot be read; it takes an integer such as 2"),
    (lambda: parse_processors("top_k=2.0"), r"top_k='2\.0' cannot be read"),
    (lambda: parse_processors("temperature"), r"temperature='' cannot be read; it takes a number such as 0\.7"),
    (lambda: parse_processors("top_k=1,temperature=0"), r"temperature is 0"),
    (lambda: parse_processors("top_p=1.5"), r"top_p is 1\.5"),
    (lambda: parse_processors("allowed=-1+2"), r"allowed='-1\+2' cannot be read; it takes token ids such as 0\+2"),
    (
        lambda: Processed(toy("dense-3x6"), parse_processors("allowed=0+3")),
        r"allowed=0\+3 names token 3; the vocabulary has 3",
    ),
    (
        lambda: Processed(toy("dense-3x6"), [Processor("double", lambda law, s: law * s, 2)]),
        r"the uniform law after 'dense-3x6\|double' does not sum to 1",
    ),
    (
        lambda: Guided(toy("dense-3x6"), toy("dense-4x6"), 2),
        r"guidance needs two models alike: vocab is 3 for 'dense-3x6' and 4 for 'dense-4x6'",
    ),
    (lambda: Guided(toy("eos-3x6"), toy("dense-3x6"), 2), r"eos is 2 for 'eos-3x6' and None for 'dense-3x6'"),
    (lambda: Guided(toy("dense-3x6"), toy("window-3x6"), -1), r"guidance scale is -1"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[message[:40] for _, message in ERRORS])
def test_bad_settings_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
