"""Exact rules for diffusion heads: the law of the token, of the whole trajectory, and C5's order of acceptance."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from specverify import tree
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.laws import Chain, Denoised, Denoiser, Law, Mixture
from specverify.rules.reflection import overlap
from specverify.rules.rejection import accept_probability, decide, failure_bound
from specverify.rules.trajectory import Paths, couple_last, couple_steps

ALPHA = 1e-6
ROWS = 30_000


def chain(means, scales, *, weights=None, stretch=1.0, steps=4, rows=1):
    """Chains of one kind: towards a mixture of as many components as there are means."""
    mean = torch.tensor([means], dtype=torch.float64)
    weights = (
        torch.ones(len(means), dtype=torch.float64) if weights is None else torch.tensor(weights, dtype=torch.float64)
    )
    data = Mixture((weights / weights.sum()).log()[None], mean, torch.tensor([scales], dtype=torch.float64))
    condition = Denoised(data, torch.tensor([stretch], dtype=torch.float64))
    spread = tree.map_tensors(condition, lambda part: part.expand(rows, *part.shape[1:]))
    return Chain(spread, Denoiser(mean.shape[-1], steps))


def one(shape):
    return torch.ones(shape, dtype=torch.bool)


PAIRS = {
    "shifted": ({"means": [[0.0]], "scales": [[0.6]]}, {"means": [[0.8]], "scales": [[0.6]]}),
    "other data": ({"means": [[0.0]], "scales": [[0.6]]}, {"means": [[0.3]], "scales": [[0.9]]}),
    "wider steps": ({"means": [[0.0]], "scales": [[0.6]]}, {"means": [[0.2]], "scales": [[0.6]], "stretch": 1.2}),
    "narrower steps": ({"means": [[0.0]], "scales": [[0.6]]}, {"means": [[0.2]], "scales": [[0.6]], "stretch": 0.85}),
    "mixtures": (
        {"means": [[-1.0], [1.0]], "scales": [[0.3], [0.4]]},
        {"means": [[-0.8], [1.2]], "scales": [[0.3], [0.4]], "weights": [2.0, 1.0]},
    ),
    "two dimensions": (
        {"means": [[0.0, 1.0]], "scales": [[0.6, 0.4]]},
        {"means": [[0.4, 0.7]], "scales": [[0.6, 0.5]], "stretch": 1.1},
    ),
}


def made(pair, rows):
    return [chain(**arguments, rows=rows) for arguments in PAIRS[pair]]


def check_trajectories(p, path):
    """The noise of every step is standard normal and independent of that of the next step."""
    noise = [p.first().whiten(path[:, p.steps])]
    for t in range(p.steps, 0, -1):
        noise.append(p.transition(t, path[:, t]).whiten(path[:, t - 1]))
    u = torch.special.ndtr(torch.cat(noise, -1))
    number = u.shape[1]
    for k in range(number):
        assert stats.kstest(u[:, k], "uniform").pvalue > ALPHA / number
    for k in range(number - 1):
        counts = torch.histogramdd(u[:, k : k + 2], [4, 4], range=[0.0, 1.0] * 2).hist
        assert stats.chisquare(counts.flatten()).pvalue > ALPHA / number


def decide_path(p, q, path, draws, where, limit=None):
    """The token rule on path space; `x` is a trajectory."""
    found = decide(Paths(p), Paths(q), path.flatten(-2), draws, where, limit)
    return found._replace(x=found.x.unflatten(-1, (p.steps + 1, p.dim)))


@pytest.mark.thinned(2)
@pytest.mark.parametrize("pair", PAIRS)
def test_the_token_rule_on_path_space_has_the_law_of_ps_trajectories(pair, seed):
    p, q = made(pair, ROWS)
    draft = q.path(Sampled(seed), one(ROWS))
    found = decide_path(p, q, draft, Sampled(seed, 1), one(ROWS))
    assert bool(found.resolved.all())
    assert torch.equal((found.x == draft).all(-1).all(-1), found.accepted)
    check_trajectories(p, found.x)
    if p.dim == 1 and pair != "mixtures":
        assert stats.kstest(p.rosenblatt(found.x[:, 0])[:, 0], "uniform").pvalue > ALPHA
    expected = accept_probability(Paths(p), Paths(q), draft.flatten(-2)).mean()
    assert abs(float(found.accepted.double().mean() - expected)) < 5 / math.sqrt(4 * ROWS)
    error = math.sqrt(2 / (1 - float(expected)) / ROWS)
    assert abs(float(found.trials.double().mean()) - 1) < 5 * error


@pytest.mark.thinned(2)
@pytest.mark.parametrize("pair", PAIRS)
def test_coupling_every_step_has_the_law_of_ps_trajectories(pair, seed):
    p, q = made(pair, ROWS)
    draft = q.path(Sampled(seed), one(ROWS))
    found = couple_steps(p, q, draft, Sampled(seed, 1), one(ROWS))
    assert bool(found.resolved.all())
    assert found.bias == 0
    assert torch.equal((found.path == draft).all(-1), found.same)
    check_trajectories(p, found.path)
    assert 0.1 < float(found.same[:, 0].double().mean()) < 1
    whole = accept_probability(Paths(p), Paths(q), draft.flatten(-2)).mean()
    assert float(found.same[:, 0].double().mean()) > float(whole) - 0.1


@pytest.mark.parametrize("pair", PAIRS)
def test_coupling_the_last_step_has_the_law_of_ps_trajectories(pair, seed):
    p, q = made(pair, ROWS)
    draft = q.path(Sampled(seed), one(ROWS))
    found = couple_last(p, q, draft, Sampled(seed, 1), one(ROWS))
    assert bool(found.resolved.all())
    assert torch.equal((found.path == draft).all(-1), found.same)
    check_trajectories(p, found.path)
    assert 0.1 < float(found.same[:, 0].double().mean()) < 1


@pytest.mark.parametrize(("length", "steps"), [(0.3, 3), (0.8, 6)])
def test_steps_that_differ_by_constants_are_kept_as_often_as_the_closed_form_says(length, steps, seed):
    p, q = (chain([[mean]], [[0.6]], steps=steps, rows=ROWS) for mean in (0.0, length))
    draft = q.path(Sampled(seed), one(ROWS))
    found = couple_steps(p, q, draft, Sampled(seed, 1), one(ROWS))
    kept = 1.0
    for t in range(steps, 0, -1):
        state = draft[:1, t]
        kept *= float(
            overlap(
                chain([[0.0]], [[0.6]], steps=steps).transition(t, state),
                chain([[length]], [[0.6]], steps=steps).transition(t, state),
            )
        )
    assert stats.binomtest(int(found.same.all(-1).sum()), ROWS, kept).pvalue > ALPHA
    assert int(found.same[:, 0].sum()) >= int(found.same.all(-1).sum())


def path_overlap(p, q):
    """1 - TV of two laws of trajectories whose transitions differ by constants, along the way of the states 0."""
    zero = torch.zeros((*p.shape, p.dim), dtype=torch.float64)
    square = 0.0
    for t in range(p.steps, 0, -1):
        mine, theirs = p.transition(t, zero), q.transition(t, zero)
        square += float(((mine.mean - theirs.mean) / mine.scale).square().sum())
    return 2 * stats.norm.cdf(-math.sqrt(square) / 2)


@given(
    length=st.floats(0, 5),
    scale=st.floats(0.2, 2),
    stretch=st.floats(0.5, 2),
    steps=st.integers(2, 12),
    dim=st.integers(1, 4),
)
@settings(max_examples=50)
def test_c5_trajectories_are_accepted_no_more_often_than_tokens(length, scale, stretch, steps, dim):
    p, q = (chain([[mean] * dim], [[scale] * dim], stretch=stretch, steps=steps) for mean in (0.0, length))
    assert path_overlap(p, q) <= float(overlap(p.marginal(), q.marginal())) + 1e-12


def test_c5_by_samples_where_transitions_share_their_covariance(seed):
    for steps in (2, 8, 32):
        p, q = (chain([[mean]], [[0.6]], steps=steps, rows=ROWS) for mean in (0.0, 0.8))
        draft = q.path(Sampled(seed), one(ROWS))
        accepted = accept_probability(Paths(p), Paths(q), draft.flatten(-2)).mean()
        whole = path_overlap(chain([[0.0]], [[0.6]], steps=steps), chain([[0.8]], [[0.6]], steps=steps))
        assert abs(float(accepted) - whole) < 5 / math.sqrt(4 * ROWS)
        assert whole < float(overlap(p.marginal(), q.marginal())[0]) - 0.01


def test_c5_by_samples_where_they_do_not_acceptance_falls_with_every_step(seed):
    rates = []
    for steps in (2, 8, 32):
        p, q = (chain([[0.0]], [[0.6]], stretch=stretch, steps=steps, rows=ROWS) for stretch in (1.0, 1.2))
        draft = q.path(Sampled(seed), one(ROWS))
        tokens = accept_probability(p, q, draft[:, 0]).mean()
        rates.append((float(accept_probability(Paths(p), Paths(q), draft.flatten(-2)).mean()), float(tokens)))
    assert all(whole < token - 0.02 for whole, token in rates)
    assert rates[0][0] > rates[1][0] + 0.1 > rates[2][0] + 0.2
    assert rates[2][0] < rates[2][1] - 0.3


def test_the_mean_ratio_on_path_space_is_one(seed):
    p, q = made("other data", ROWS)
    draft = q.path(Sampled(seed), one(ROWS)).flatten(-2)
    ratio = (Paths(p).log_prob(draft) - Paths(q).log_prob(draft)).exp()
    assert abs(float(ratio.mean()) - 1) < 5 * float(ratio.std()) / math.sqrt(ROWS)
    assert float(ratio.std()) / math.sqrt(ROWS) < 0.02


def test_a_limit_is_reported_and_never_a_zero_vector(seed):
    p, q = made("wider steps", ROWS)
    draft = q.path(Sampled(seed), one(ROWS))
    for found, path, steps in (
        (result := decide_path(p, q, draft, Sampled(seed, 1), one(ROWS), limit=1), result.x, 1),
        (walked := couple_steps(p, q, draft, Sampled(seed, 1), one(ROWS), limit=1), walked.path, p.steps + 1),
        (aligned := couple_last(p, q, draft, Sampled(seed, 1), one(ROWS), limit=1), aligned.path, 1),
    ):
        assert 0 < int((~found.resolved).sum()) <= ROWS * found.bias
        assert found.bias == pytest.approx(min(1, steps * failure_bound(1)))
        assert bool((path[~found.resolved] != 0).all())


def test_only_rows_that_are_asked_for_get_a_trajectory(seed):
    p, q = made("shifted", 20)
    draft = q.path(Sampled(seed), one(20))
    where = torch.arange(20) < 8
    for rule in (couple_steps, couple_last):
        found = rule(p, q, draft, Sampled(seed, 1), where)
        assert bool((found.path[~where] == 0).all())
        assert bool((found.path[where] != 0).all())
        assert not bool(found.same[~where].any())
    assert not bool(decide_path(p, q, draft, Sampled(seed, 1), where).accepted[~where].any())


def test_equal_chains_keep_every_trajectory(seed):
    p, _ = made("two dimensions", 100)
    draft = p.path(Sampled(seed), one(100))
    assert bool(couple_steps(p, p, draft, Sampled(seed, 1), one(100)).same.all())
    assert bool(couple_last(p, p, draft, Sampled(seed, 1), one(100)).same[:, 0].all())
    assert bool(decide_path(p, p, draft, Sampled(seed, 1), one(100)).accepted.all())


def test_trajectories_are_a_law():
    p, _ = made("two dimensions", 3)
    law = Paths(p)
    assert isinstance(law, Law)
    assert (law.shape, law.dim) == ((3,), 10)
    law.check("p")
    with pytest.raises(InputError, match="p, in its data, has the standard deviation"):
        Paths(chain([[0.0]], [[-1.0]])).check("p")


@pytest.mark.parametrize("rule", [couple_steps, couple_last])
def test_chains_that_do_not_match_are_refused(rule):
    p, q = chain([[0.0]], [[1.0]], steps=4), chain([[0.0]], [[1.0]], steps=5)
    path = torch.zeros(1, 5, 1, dtype=torch.float64)
    with pytest.raises(
        InputError, match=r"p has 4 steps, dimension 1 and shape \(1,\), q 5, 1 and \(1,\); trajectories"
    ):
        rule(p, q, path, Sampled(0), one(1))
    with pytest.raises(InputError, match=r"the drafts have shape \(1, 4, 1\), expected \(1, 5, 1\): trajectories x_0"):
        rule(p, p, path[:, :4], Sampled(0), one(1))
