"""What is followed has the law of real draws; and samplers that are wrong in ways that following might miss."""

from __future__ import annotations

import copy
import math
import pickle
import random

import numpy as np
import pytest
import torch
from scipy import stats

from specverify.errors import ContractError
from specverify.subjects.sampler_exact import prove_sampler
from specverify.subjects.sampler_suite import Case
from specverify.subjects.sampler_worlds import twins, worlds
from specverify.subjects.shortened import Shortened
from specverify.verdict import Kind
from tests.subjects.followed import WAYS, own
from toymodels import draft, toy

LAW = torch.tensor([[0.2, 0.8], [0.65, 0.35]], dtype=torch.float64)
DRAWS, ALPHA = 200_000, 1e-6


def law_of(way):
    found = {}
    for outcome, world in worlds(lambda: tuple(way(LAW, 3)), budget=20_000, missing=1e-7):
        found[outcome] = found.get(outcome, 0.0) + world.probability
    return found


@pytest.mark.thinned(8)
@pytest.mark.parametrize("name", WAYS)
def test_every_way_of_drawing_has_its_law(name):
    found = law_of(WAYS[name])
    due = {(a, b): float(LAW[0, a] * LAW[1, b]) for a in (0, 1) for b in (0, 1)}
    assert set(found) == set(due)
    assert sum(abs(found[key] - due[key]) for key in due) < 1e-6


@pytest.mark.parametrize("name", WAYS)
def test_the_same_numbers_give_the_same_tokens_followed_or_not(name):
    for seed in range(4):
        plain, followed = twins(lambda: tuple(WAYS[name](LAW, seed)), seed)  # noqa: B023  (called at once)
        assert plain == followed


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_the_law_that_is_followed_is_that_of_real_draws(name):
    """Each way is called once, for a batch of 200,000 rows of one law of three tokens, or of two if it takes no more.

    Chi-square at alpha = 1e-6 for each of the ways, n = 200,000: a total variation of .01 is missed with a probability
    of less than beta = 1e-6 (noncentrality at least 4 n .01^2 = 80, against a critical value of 28 and 24).
    """
    row = torch.tensor([0.2, 0.8] if name in ("alias", "rejection") else [0.1, 0.25, 0.65], dtype=torch.float64)
    came = np.bincount(WAYS[name](row.expand(DRAWS, -1).clone(), 11), minlength=len(row))
    followed = {}
    for outcome, world in worlds(lambda: tuple(WAYS[name](row[None], 3)), budget=20_000, missing=1e-7):
        followed[outcome[0]] = followed.get(outcome[0], 0.0) + world.probability
    expected = np.array([followed[token] for token in range(len(row))])
    assert stats.chisquare(came, expected / expected.sum() * DRAWS).pvalue > ALPHA


MODEL = Shortened(toy("dense-3x6"), 2)
SUITE = (Case(MODEL, draft("perturbed", MODEL)),)


def sampler(choose, begin=lambda seed: None):
    """Plain decoding; `choose(law, position, made, seed)` gives a token, `made` is what `begin` made."""

    def sample(target, draft, n, seed):
        made, rows = begin(seed), torch.zeros(n, 0, dtype=torch.int64)
        for position in range(target.length):
            law = target.laws(target.start(n), rows)[:, -1]
            token = choose(law[0], position, made, seed)
            rows = torch.cat([rows, torch.as_tensor([[int(token)]])], 1)
        return rows

    return sample


def below(law, u):
    """The token whose share of [0, 1) a number lies in."""
    token, total = 0, float(law[0])
    while token < len(law) - 1 and u >= total:
        token += 1
        total += float(law[token])
    return token


def raced(law, noise):
    return (law / noise).argmax(-1)


def exponentials(seed, *shape):
    return torch.empty(*shape, dtype=torch.float64).exponential_(generator=own(seed))


def kept_number(law, position, made, seed):
    """Drawn once, taken out twice."""
    return below(law, made.item())


def pickled(law, position, made, seed):
    return below(law, pickle.loads(pickle.dumps(made)))


def copied(law, position, made, seed):
    return below(law, copy.deepcopy(made))


def by_type(law, position, made, seed):
    """Right where it is followed, if that were all that was looked at."""
    u = random.Random(10 * seed + position).random()
    return below(law, u) if not isinstance(u, float) else 0


def by_generators_type(law, position, made, seed):
    rng = np.random.default_rng(10 * seed + position)
    return below(law, rng.random()) if type(rng) is not np.random._generator.Generator else 0


def equal_to(law, position, made, seed):
    u = random.Random(10 * seed + position).random()
    return 0 if u == 0.5 else below(law, u)


def hashed(law, position, made, seed):
    return hash(random.Random(10 * seed + position).random()) % len(law)


def printed(law, position, made, seed):
    return int(str(random.Random(10 * seed + position).random())[3]) % len(law)


def as_index(law, position, made, seed):
    return below(law, law[torch.rand(1, generator=own(10 * seed + position)).long()])


def as_seed(law, position, made, seed):
    return torch.multinomial(law, 1, generator=own(int(torch.rand((), generator=own(seed)) * 2**30)))


def same_for_two_positions(law, position, made, seed):
    return below(law, made[0])


def looked_at_before(law, position, made, seed):
    """Noise of one position decides whether it is used for the next."""
    return below(law, made[0] if position == 0 or made[0] < 0.5 else made[1])


def one_less(law, position, made, seed):
    """Antithetic: 1 - u after u."""
    return below(law, made[0] if position == 0 else 1 - made[0])


def race_again(law, position, made, seed):
    return raced(law, made)


def race_on_views(law, position, made, seed):
    return raced(law, made.clone().reshape(1, -1)[0])


def race_of_copies(law, position, made, seed):
    return raced(law, torch.stack([made[0], made[1], made[0]]))


def race_after_a_look(law, position, made, seed):
    return raced(law, made[position]) if made[position, 0] < 0.7 else 0


def race_looked_at_afterwards(law, position, made, seed):
    return raced(law, made[0]) if position == 0 else int(made[0, 0] < 0.7)


def race_of_all_rows_alike(law, position, made, seed):
    """Two races with one row of noise, at once."""
    both = (torch.stack([law, law.flip(0)]) / made).argmax(-1)
    return both[position]


def race_that_is_none(law, position, made, seed):
    return (law + made[position]).argmax(-1)


def race_lost(law, position, made, seed):
    return (law / made[position]).argmin(-1)


def race_of_logits(law, position, made, seed):
    """Gumbel's noise with the sign of the other convention."""
    return (law.log() + made[position].log()).argmax(-1)


def race_squared(law, position, made, seed):
    return (law.log() - 0.5 * made[position].log()).argmax(-1)


def changed_in_place(law, position, made, seed):
    """A view sees what is done to the whole."""
    view = made[position]
    made.mul_(0.5)
    return below(law, view)


def filled_again(law, position, made, seed):
    u = torch.zeros(2, dtype=torch.float64)
    view = u[:1]
    u.uniform_(generator=own(10 * seed + position))
    return below(law, view)


def memory_read(law, position, made, seed):
    array = np.zeros(1)
    torch.from_numpy(array).uniform_(generator=own(10 * seed + position))
    return below(law, float(array[0]))


def half_a_word(law, position, made, seed):
    """32-bit numbers of numpy's, set back by a word."""
    state = made.bit_generator.state
    first = made.integers(0, 100)
    made.bit_generator.state = state
    return below(law, (first + made.random()) / 100)


def set_back(law, position, made, seed):
    state = made.bit_generator.state
    u = made.random()
    made.bit_generator.state = state
    return below(law, u)


def python_set_back(law, position, made, seed):
    made.seed(seed)
    return below(law, made.random())


def jumped_back(law, position, made, seed):
    made.bit_generator.advance(-position)
    return below(law, made.random())


def numpy_seeded_again(law, position, made, seed):
    np.random.seed(seed)  # noqa: NPY002
    return np.random.choice(3, p=law.numpy())  # noqa: NPY002


def two_names(law, position, made, seed):
    """One Mersenne twister, seeded alike under two names."""
    if position:
        bits = np.random.MT19937()
        bits.state = np.random.RandomState(seed).get_state(legacy=False)
        return below(law, np.random.Generator(bits).random())
    return below(law, np.random.RandomState(seed).random())


def no_seed(law, position, made, seed):
    return below(law, random.Random(7 + position).random())


def log_of_a_log(law, position, made, seed):
    return below(law, -math.log(random.Random(10 * seed + position).random()))


def swallowed(law, position, made, seed):
    try:
        return int(np.tan(made[position]))
    except BaseException:
        return below(law, np.random.default_rng(10 * seed + position).random())


def numpys(seed):
    return np.random.default_rng(seed)


ATTACKS = {
    kept_number: lambda seed: torch.rand(1, generator=own(seed)),
    pickled: lambda seed: random.Random(seed).random(),
    copied: lambda seed: random.Random(seed).random(),
    by_type: None, by_generators_type: None, equal_to: None, hashed: None, printed: None, as_index: None, as_seed: None,
    same_for_two_positions: lambda seed: torch.rand(2, generator=own(seed)),
    looked_at_before: lambda seed: np.random.default_rng(seed).random(2),
    one_less: lambda seed: np.random.default_rng(seed).random(2),
    race_again: lambda seed: exponentials(seed, 3), race_on_views: lambda seed: exponentials(seed, 3),
    race_of_copies: lambda seed: exponentials(seed, 3), race_after_a_look: lambda seed: exponentials(seed, 2, 3),
    race_looked_at_afterwards: lambda seed: exponentials(seed, 2, 3),
    race_of_all_rows_alike: lambda seed: exponentials(seed, 1, 3),
    race_that_is_none: lambda seed: exponentials(seed, 2, 3), race_lost: lambda seed: exponentials(seed, 2, 3),
    race_of_logits: lambda seed: exponentials(seed, 2, 3), race_squared: lambda seed: exponentials(seed, 2, 3),
    changed_in_place: lambda seed: torch.rand(2, generator=own(seed), dtype=torch.float64),
    filled_again: None, memory_read: None,
    half_a_word: numpys, set_back: numpys, jumped_back: numpys,
    python_set_back: lambda seed: random.Random(seed), numpy_seeded_again: None, two_names: None, no_seed: None,
    log_of_a_log: None, swallowed: lambda seed: np.random.default_rng(seed).random(2),
}  # fmt: skip


@pytest.mark.thinned(2)
@pytest.mark.parametrize("choose", ATTACKS, ids=lambda choose: choose.__name__)
def test_a_wrong_one_is_never_proved(choose):
    found = prove_sampler(sampler(choose, ATTACKS[choose] or (lambda seed: None)), suite=SUITE)
    assert found.verdict.kind in (Kind.REFUTED, Kind.ERROR), found.verdict.reason
    assert found.verdict.reason.startswith("on dense-3x6[:2]")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            lambda: float(random.Random(1).random()),
            r"uses a uniform number in __float__; .*\(test_sampler_followed.py:",
        ),
        (lambda: np.random.default_rng(1).random(2).sum(), "calculates with two uniform numbers at once"),
        (lambda: np.random.default_rng(), "default_rng\\(\\) that has no seed"),
        (lambda: np.random.default_rng(1).normal(), "draws with numpy's normal, which is not followed"),
        (lambda: random.Random(1).gauss(0, 1), "draws with Python's gauss, which is not followed"),
        (lambda: (torch.rand(3) - 0.5).log(), "the logarithm, a power or a quotient of what may be negative"),
        (lambda: float(torch.rand(())), r"torch's __float__; .*; .item\(\) gives a number that can be"),
        (lambda: torch.rand(3, dtype=torch.float64).softmax(-1), "uses a uniform number in torch's softmax"),
    ],
)
def test_what_is_not_followed_is_named(program, message):
    with pytest.raises(ContractError, match=message):
        list(worlds(program, budget=10))


def test_names_that_a_module_holds_are_followed_and_given_back():
    before = np.random.default_rng, np.random.rand, random.random, random.Random, math.log, torch.from_numpy
    list(worlds(lambda: random.random() < 0.5 and np.random.rand() < 0.5, budget=10))  # noqa: NPY002
    assert before == (np.random.default_rng, np.random.rand, random.random, random.Random, math.log, torch.from_numpy)
    assert isinstance(random.Random(3).random(), float)
