"""Two logs of large vocabularies, long rows or few of them: what they do not show is not claimed."""

import numpy as np
import pytest
import torch

from specverify.errors import InputError
from specverify.evidence import rare
from specverify.evidence.agreement import surprisal
from specverify.evidence.copies import Again
from specverify.evidence.homogeneity import Homogeneity
from specverify.evidence.learned import View, check, third
from specverify.subjects.two_logs import compare_logs
from specverify.verdict import Kind


def halves(n, vocab, seed, length=40):
    """Rows of two engines that share no token."""
    generator = np.random.default_rng(seed)
    return [2 * generator.integers(0, vocab // 2, (n, length)) + odd for odd in (0, 1)]


def alike(n, vocab, seed, length=40):
    return list(np.random.default_rng(seed).integers(0, vocab, (2, n, length)))


@pytest.mark.parametrize("n", [2, 5, 8, 10])
@pytest.mark.parametrize("logs", [halves, alike])
def test_a_few_rows_of_tokens_alone_say_nothing(n, logs, seed):
    one, two = logs(n, 256, seed)
    found = compare_logs({"tokens": one}, {"tokens": two})
    assert found.verdict.kind is Kind.INCONCLUSIVE
    assert "100 % of some part's outcomes came too seldom to be counted apart" in found.verdict.reason
    assert "or log logprob" in found.verdict.reason


@pytest.mark.thinned(3)
@pytest.mark.parametrize(("n", "vocab"), [(120, 256), (500, 4_096), (2_000, 16_384)])
def test_engines_that_share_no_token_are_told_apart_however_rare_each_is(n, vocab, seed):
    one, two = halves(n, vocab, seed)
    found = compare_logs({"tokens": one}, {"tokens": two})
    assert found.verdict.kind is Kind.REFUTED
    assert "tokens by position" in found.verdict.reason
    one, two = alike(n, vocab, seed)
    assert compare_logs({"tokens": one}, {"tokens": two}).verdict.kind is Kind.INCONCLUSIVE


def test_delta_counts_in_full_what_shares_a_cell(seed):
    generator = np.random.default_rng(seed)
    rare_share, n = 0.2, 20_000

    def drawn(first):
        common, others = generator.integers(0, 4, n), generator.integers(first, first + 100_000, n)
        return np.where(generator.random(n) < rare_share, others, common)[:, None]

    rates = {"alpha": 1e-6, "beta": 1e-6}
    found = Homogeneity().check(drawn(10), drawn(500_000), **rates)
    assert found.delta > rare_share
    assert found.coverage["hidden"] == pytest.approx(rare_share, abs=0.02)
    assert found.rejected
    again = Homogeneity().check(drawn(10), drawn(10), **rates)
    assert not again.rejected
    assert again.delta > rare_share


def test_bounds_of_what_comes_again_hold_whatever_the_law(seed):
    generator, n, runs = np.random.default_rng(seed), 300, 600
    for law in (np.ones(200), 1.0 / np.arange(1, 3_000), np.ones(10_000)):
        found = []
        for _ in range(runs):
            x = generator.choice(len(law), 2 * n, p=law / law.sum())
            counts = np.stack([np.bincount(half, minlength=len(law)) for half in (x[:n], x[n:])])
            found.append((rare.tails([counts], [n])[0], rare.alike(counts, [n])))
        for level in (0.2, 0.02):
            assert ((np.array(found) <= level).mean(0) <= level + 4 * np.sqrt(level / runs)).all()


def test_rows_that_come_in_both_logs_are_seen_at_whatever_place(seed):
    generator, rates = np.random.default_rng(seed), {"alpha": 1e-6, "beta": 1e-6}
    one = generator.integers(0, 64, (3_000, 16))
    assert Again().smallest_detectable(3_000, **rates) < 0.05
    for share, seen in ((1.0, True), (0.05, True), (0.0, False)):
        two = generator.integers(0, 64, one.shape)
        copied = generator.permutation(3_000)[: int(3_000 * share)]
        two[generator.permutation(3_000)[: len(copied)]] = one[copied]
        found = Again().check(one, two, **rates)
        assert found.rejected == seen
        assert not found.vacuous
        verdict = compare_logs({"tokens": one}, {"tokens": two}).verdict
        assert (verdict.kind is Kind.INCONCLUSIVE) == seen
        assert ("rows again" in verdict.reason) == seen
    short = generator.integers(0, 3, (2, 5_000, 2))
    assert not Again().check(*short, **rates).rejected
    assert Again().check(*short[:, :20], **rates).vacuous


def test_rows_that_come_again_in_one_log_alone_refute_nothing(seed):
    one, two = np.random.default_rng(seed).integers(0, 64, (2, 3_000, 16))
    two[1_500:] = two[:1_500]
    found = compare_logs({"tokens": one}, {"tokens": two})
    assert found.verdict.kind is Kind.INCONCLUSIVE
    assert "0 come in both, and 0 and 1,500 come again in one" in found.verdict.reason


def engine(n, seed, nats=0.0, length=600):
    """A log of rows whose mean surprisal varies, off by so many nats."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(0, 5_000, (n, length))
    return {"tokens": tokens, "logprob": -4 - nats - generator.exponential(1, (n, length)), "prompt": np.arange(n)}


def test_few_rows_with_log_probabilities_are_compared_by_the_signs_of_their_differences(seed):
    one, two, off = engine(40, seed), engine(40, seed + 1), engine(40, seed + 2, 0.3)
    right, wrong = ({"tokens": log["tokens"], "logprob": log["logprob"]} for log in (two, off))
    plain = {"tokens": one["tokens"], "logprob": one["logprob"]}
    found = compare_logs(plain, right)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert "(nats a token, of the mean surprisal; each token at a position by itself came too " in found.verdict.reason
    assert "(how often each token comes, wherever)" in found.verdict.reason
    found = compare_logs(plain, wrong)
    assert found.verdict.kind is Kind.REFUTED
    assert "surprisal" in found.verdict.reason
    assert compare_logs(plain, right, delta=0.1).verdict.kind is Kind.INCONCLUSIVE
    assert compare_logs(engine(8, seed), engine(8, seed + 1, 3.0)).verdict.kind is Kind.INCONCLUSIVE


@pytest.mark.parametrize("n", [30, 99])
def test_signs_see_the_delta_that_they_state_and_reject_nothing_else(n, seed):
    generator, rates, runs = np.random.default_rng(seed), {"alpha": 1e-3, "beta": 0.05}, 300
    tokens = np.zeros((2, n, 1), dtype=int)
    seen = falsely = 0
    for _ in range(runs):
        said = generator.normal(size=(2, n, 1))
        found = surprisal(tuple(tokens), tuple(said), 0.0, **rates)
        assert not found.vacuous
        falsely += found.rejected
        seen += surprisal(tuple(tokens), (said[0] - found.delta, said[1]), 0.0, **rates).rejected
    assert falsely <= 4
    assert seen >= runs * (1 - 2 * rates["beta"])


def with_logprob(tokens, value=-5.0):
    return {"tokens": tokens, "logprob": np.full(tokens.shape, value)}


@pytest.mark.parametrize(("n", "vocab", "length"), [(60, 4_096, 200), (200, 65_536, 300)])
def test_tokens_that_come_too_seldom_anywhere_are_told_by_how_often_they_come_everywhere(n, vocab, length, seed):
    one, two = halves(n, vocab, seed, length)
    found = compare_logs(with_logprob(one, -np.log(vocab)), with_logprob(two, -np.log(vocab)))
    assert found.verdict.kind is Kind.REFUTED
    assert "frequencies" in found.verdict.reason
    right = compare_logs(*(with_logprob(tokens, -np.log(vocab)) for tokens in alike(n, vocab, seed, length)))
    assert right.verdict.kind is Kind.CONSISTENT, right.verdict.reason


def test_frequencies_tell_laws_apart_no_more_often_than_alpha(seed):
    generator, runs = np.random.default_rng(seed), 1_000
    for law in (np.ones(5), 1 / np.arange(1, 400)):
        p = law / law.sum()
        found = 0
        for _ in range(runs):
            tokens = generator.choice(len(p), (2, 30, 6), p=p)
            views = [View(tokens, "tokens", [(tokens, "token {}")])]
            found += check("frequencies", views, third(np.zeros(30, int)), 0.0, alpha=0.02, beta=0.1).rejected
        assert found <= 0.02 * runs + 4 * np.sqrt(0.02 * runs)


def test_answers_to_another_prompt_are_told(seed):
    generator = np.random.default_rng(seed)
    prompt = np.repeat(np.arange(10), 300)
    law = generator.dirichlet(np.ones(20), size=10)

    def log(shift):
        tokens = np.stack([generator.choice(20, 4, p=law[(p + shift) % 10]) for p in prompt])
        return {"tokens": tokens, "prompt": prompt}

    right, wrong = compare_logs(log(0), log(0)), compare_logs(log(0), log(1))
    assert right.verdict.kind is Kind.CONSISTENT, right.verdict.reason
    assert wrong.verdict.kind is Kind.REFUTED
    assert "tokens by prompt" in wrong.verdict.reason


def test_two_tokens_that_are_both_certain_behind_the_same_tokens_differ():
    tokens = np.random.default_rng(0).integers(0, 30_000, (200, 12))
    sure, prompt = np.zeros(tokens.shape), np.arange(200)
    one = {"tokens": tokens, "logprob": sure, "prompt": prompt}
    found = compare_logs(one, one | {"tokens": np.roll(tokens, 1, 0)})
    assert found.verdict.kind is Kind.REFUTED
    assert "the same tokens: behind [] tokens are said to have a probability of 2 together" in found.verdict.reason


def test_rounding_is_no_other_law_however_often_the_same_law_comes(seed):
    generator = np.random.default_rng(seed)
    for law in (np.full(5, 0.2), generator.dirichlet(np.ones(4)), generator.dirichlet(np.ones(50))):
        said = np.log(law)
        for kind in (torch.float32, torch.bfloat16, torch.float16):
            other = torch.from_numpy(said).to(kind).double().numpy()
            one, two = generator.choice(len(law), (2, 1_000, 6), p=law)
            found = compare_logs({"tokens": one, "logprob": said[one]}, {"tokens": two, "logprob": other[two]})
            assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason


def test_a_row_for_each_prompt_that_is_the_same_in_both_is_no_copy(seed):
    generator = np.random.default_rng(seed)
    prompt = np.arange(1_000)
    answers = generator.integers(0, 500, (1_000, 8))

    def log():
        tokens = answers.copy()
        tokens[:, -1] += generator.random(1_000) < 0.1
        return {"tokens": tokens, "prompt": prompt}

    assert "not independent" not in compare_logs(log(), log()).verdict.reason


def test_rows_that_come_twice_in_both_logs_refute_nothing(seed):
    one, two = (np.repeat(x, 2, 0) for x in np.random.default_rng(seed).integers(0, 64, (2, 1_500, 16)))
    found = compare_logs({"tokens": one}, {"tokens": two})
    assert found.verdict.kind is Kind.INCONCLUSIVE
    assert "rows are not independent" in found.verdict.reason
    one, two = np.full((50, 3), 7), np.full((50, 3), 8)
    assert compare_logs({"tokens": one}, {"tokens": two}).verdict.kind is Kind.REFUTED


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda log: {"tokens": log["tokens"][:, :-1]}, "the logs' rows have 8 and 7 positions; say where rows end"),
        (
            lambda log: log | {"logprob": np.where(log["tokens"] == log["tokens"][3, 2], -np.inf, -1.0)},
            "-inf, and it was emitted; log what it was drawn from",
        ),
    ],
)
def test_logs_that_cannot_be_held_against_each_other_are_refused(change, said):
    log = with_logprob(np.random.default_rng(0).integers(0, 64, (100, 8)))
    with pytest.raises(InputError, match=said):
        compare_logs(log, change(log))
