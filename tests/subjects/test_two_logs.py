"""Two logs: one law, one law up to rounding, or two; with what is not the same, and who is not told from whom."""

import json
import subprocess
import sys

import numpy as np
import pytest

from specverify import defects
from specverify.decoders import Autoregressive, DraftModel, Speculative, sample
from specverify.decoders.registry import Settings
from specverify.errors import InputError
from specverify.evidence.homogeneity import Homogeneity
from specverify.processors import Processed, parse_processors
from specverify.subjects.shortened import Shortened
from specverify.subjects.two_logs import compare_logs
from specverify.verdict import Kind
from toymodels import draft, toy

TOY = Shortened(toy("dense-3x6"), 4)
N = 12_000


def log(model, seed, n=N, decoder=None, said=None, **more):
    """What an engine logs, sampled from one model; `said` is the model whose log-probabilities it logs."""
    tokens = sample(decoder or Autoregressive(), model, n, seed).tokens
    said = said or model
    laws = said.laws(said.start(n), tokens[:, :-1])
    logprob = laws.gather(2, tokens[..., None])[..., 0].log().numpy()
    return {"tokens": tokens.numpy(), "logprob": logprob, **more}


def bare(found):
    return {name: array for name, array in found.items() if name != "logprob"}


def processed(text):
    return Processed(TOY, parse_processors(text))


def test_speculation_and_plain_decoding_have_one_law(seed):
    speculative = Speculative(DraftModel(draft("perturbed", TOY)), 2)
    one, two = log(TOY, seed), log(TOY, seed + 1, decoder=speculative)
    found = compare_logs(one, two)
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert found.verdict.reason.startswith("the same law as far as n shows; delta = 0.0")
    assert "alpha = 1e-06, beta = 1e-06, n = 12,000 rows of each" in found.verdict.reason
    assert compare_logs(bare(one), bare(two)).verdict.kind is Kind.CONSISTENT
    assert compare_logs(one, two, delta=0.01).verdict.kind is Kind.INCONCLUSIVE
    assert "some" in compare_logs(one, two, delta=0.01).verdict.reason


def rounded(found, seed, nats=0.02):
    """The same log as bf16 would have it: each law's logits are off by a little, the same each time."""
    noise = np.random.default_rng(seed).uniform(-nats, nats, 3**5)
    code = np.zeros(len(found["tokens"]), dtype=np.int64)
    logprob = found["logprob"].copy()
    for place in range(logprob.shape[1]):
        code = code * 3 + found["tokens"][:, place] + 1
        logprob[:, place] += noise[code % len(noise)]
    return {**found, "logprob": np.minimum(logprob, 0)}


def test_rounding_is_told_from_another_law(seed):
    found = compare_logs(log(TOY, seed), rounded(log(TOY, seed + 1), seed))
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert "the same up to bf16 numerics: log-probabilities up to 0.0" in found.verdict.reason
    assert "nats apart (floor 0.06)" in found.verdict.reason
    found = compare_logs(log(TOY, seed), rounded(log(TOY, seed + 1), seed), floor=0.01)
    assert found.verdict.kind is Kind.REFUTED
    assert "the same tokens: of " in found.verdict.reason


KILLED = {
    "a cut": ("top_k=2", "the same tokens: "),
    "a temperature": (
        "temperature=1.05",
        "slope: differences go with the log-probability (correlation 1): B's temperature would be 1.05 times A's",
    ),
}


@pytest.mark.parametrize("what", KILLED)
def test_another_law_is_told_by_what_each_engine_says(what, seed):
    settings, says = KILLED[what]
    other = log(processed(settings), seed + 1)
    found = compare_logs(log(TOY, seed), other)
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert f"not the same: {says}" in found.verdict.reason


@pytest.mark.slow
def test_and_by_tokens_where_the_engine_logs_what_it_had_before(seed):
    n = 80_000
    plain, warm = log(TOY, seed, n), log(processed("temperature=1.05"), seed + 1, n, said=TOY)
    cut = log(processed("top_k=2"), seed + 1, n // 2)
    found = compare_logs(bare(plain), bare(cut))
    assert found.verdict.reason.startswith("not the same: ")
    assert found.verdict.kind is Kind.REFUTED
    assert "tokens by position: token 2 at position 2 came " in found.verdict.reason
    assert found.location == {"position": 2}
    found = compare_logs(plain, warm)
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert "surprisal: the mean surprisal of a row is" in found.verdict.reason


def test_a_slip_in_the_residual_is_told_by_tokens(seed):
    decoder = defects.get("recovered-from-target").build(Settings(2, draft_model=draft("perturbed", TOY)))
    found = compare_logs(bare(log(TOY, seed)), bare(log(TOY, seed + 1, decoder=decoder)))
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
    assert "not the same: " in found.verdict.reason


def penalised(factor, seed, n=1_200, vocab=64, length=24):
    """Rows of an engine that takes a part of the mass of what came before in a row, and logs laws without that."""
    table = np.random.default_rng(1).random((61, vocab)) ** 6
    table /= table.sum(1, keepdims=True)
    generator, rows = np.random.default_rng(seed), np.arange(n)
    tokens, logprob, state = np.zeros((n, length), np.int64), np.zeros((n, length)), np.zeros(n, np.int64)
    seen = np.zeros((n, vocab), dtype=bool)
    for place in range(length):
        edges = (table[state] * np.where(seen, factor, 1)).cumsum(1)
        tokens[:, place] = (edges <= generator.random((n, 1)) * edges[:, -1:]).sum(1)
        logprob[:, place] = np.log(table[state, tokens[:, place]])
        seen[rows, tokens[:, place]] = True
        state = (31 * state + 7 * tokens[:, place] + place) % 61
    return {"tokens": tokens, "logprob": logprob}


@pytest.mark.parametrize("said", [dict, bare], ids=["with log-probabilities", "without"])
@pytest.mark.parametrize("factor", [1.0, 0.7])
def test_a_penalty_for_repetition_is_told(factor, said, seed):
    found = compare_logs(said(penalised(1.0, seed)), said(penalised(factor, seed + 1)))
    by_name = {item.check: item for item in found.evidence}
    assert by_name["repetition"].delta < 0.1
    if factor == 1:
        assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    else:
        assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
        assert "repetition: tokens that came before in their row: 0.1" in found.verdict.reason


def test_logs_of_one_noise_say_nothing(seed):
    model = toy("hash-16x24")
    one = log(model, seed, 400)
    found = compare_logs(one, one)
    assert found.verdict.kind is Kind.INCONCLUSIVE
    assert "400 of 400 rows are equal" in found.verdict.reason
    moved = {name: np.roll(array, 7, 0) for name, array in one.items()}
    assert "repeated rows of both: 400 of 800 rows repeat" in compare_logs(one, moved).verdict.reason
    again = {name: np.concatenate([array[:200]] * 2) for name, array in one.items()}
    found = compare_logs(log(model, seed + 1, 400), again)
    assert found.verdict.kind is Kind.INCONCLUSIVE
    assert "repeated rows of B: 200 of 400 rows repeat an earlier one" in found.verdict.reason


def test_rows_that_end_and_logs_of_unlike_sizes_are_compared(seed):
    def ended(start, n):
        found = log(TOY, start, n)
        stop = (found["tokens"] == 2).argmax(1)
        return {**found, "lengths": np.where((found["tokens"] == 2).any(1), stop + 1, 4)}

    found = compare_logs(ended(seed, 5_000), ended(seed + 1, 3_000))
    assert found.verdict.kind is Kind.CONSISTENT, found.verdict.reason
    assert "n = 3,000 rows" in found.verdict.reason


def test_prompts_are_told_apart(seed):
    def mixed(start, share):
        parts = [log(TOY, start, 3_000), log(processed("temperature=0.1"), start + 7, int(3_000 * share))]
        prompts = [np.full(len(part["tokens"]), number) for number, part in enumerate(parts)]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        order = np.random.default_rng(start).permutation(len(joined["tokens"]))
        return {name: array[order] for name, array in {**joined, "prompt": np.concatenate(prompts)}.items()}

    one, two = mixed(seed, 1), mixed(seed + 100, 0.5)
    assert compare_logs(one, two).verdict.kind is Kind.CONSISTENT
    without = [{name: array for name, array in found.items() if name != "prompt"} for found in (one, two)]
    found = compare_logs(*without)
    assert found.verdict.kind is Kind.REFUTED
    assert "rows have prompts of their own" in found.notes[0]
    with pytest.raises(InputError, match="one log has prompts and the other has none"):
        compare_logs(one, without[0])


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ({"logprob": np.zeros((2, 2))}, "the log holds logprob; it needs tokens"),
        ({"tokens": np.zeros((2, 2), dtype=int), "logprob": np.zeros((2, 3))}, r"logprob has shape \(2, 3\)"),
        ({"tokens": np.zeros((2, 2), dtype=int), "logprob": np.ones((2, 2))}, "logprob holds 1; log-probabilities are"),
        ({"tokens": np.zeros((2, 2), dtype=int), "prompt": np.zeros(3, dtype=int)}, r"prompt has shape \(3,\)"),
    ],
)
def test_what_is_no_log_says_so(log, says):
    with pytest.raises(InputError, match=says):
        compare_logs(log, log)


@pytest.mark.slow
def test_one_law_is_told_apart_no_more_often_than_alpha():
    """At alpha = 0.2, of which the laws' checks get some share; 200 pairs, with and without log-probabilities."""
    false = [0, 0]
    for number in range(200):
        one, two = (log(TOY, 10_000 + 2 * number + which, 600) for which in (0, 1))
        false[0] += compare_logs(one, two, alpha=0.2).verdict.kind is not Kind.CONSISTENT
        false[1] += compare_logs(bare(one), bare(two), alpha=0.2).verdict.kind is not Kind.CONSISTENT
    assert max(false) <= 58  # 40 are expected at most; 58 or more come of these by chance once in 1,000


@pytest.mark.thinned(2)
@pytest.mark.parametrize(("cells", "drift"), [(2, 0.0), (30, 0.0), (300, 0.0), (10, 0.05)])
def test_a_false_alarm_is_as_rare_as_it_says(cells, drift):
    """Laws with rare outcomes, and laws that are apart by the drift that counts as none."""
    generator = np.random.default_rng(cells)
    law = generator.dirichlet(np.full(cells, 0.3))
    other = law * np.exp(drift * generator.choice([-1, 1], cells))
    other /= other.sum()
    alarms = 0
    for _ in range(400):
        one, two = (generator.choice(cells, size=(500, 2), p=p) for p in (law, other))
        alarms += Homogeneity(2 * drift).check(one, two, alpha=0.05, beta=0.1).rejected
    assert alarms <= 34  # 20 at most are expected


def test_what_it_is_due_to_see_is_seen():
    n, generator = 2_000, np.random.default_rng(0)
    test = Homogeneity()
    delta = test.smallest_detectable(n, alpha=1e-3, beta=0.05, cells=4)
    assert test.sample_size(delta, alpha=1e-3, beta=0.05, cells=4) == pytest.approx(n, rel=0.01)
    law = np.full(4, 0.25)
    other = law + delta / 2 * np.array([1, 1, -1, -1])
    missed = 0
    for _ in range(200):
        one, two = (generator.choice(4, size=(n, 1), p=p) for p in (law, other))
        missed += not test.check(one, two, alpha=1e-3, beta=0.05).rejected
    assert missed <= 20
    greedy = np.zeros((100, 3), dtype=int)
    found = test.check(greedy, greedy, alpha=1e-3, beta=0.05)
    assert not found.rejected
    assert found.delta == test.smallest_detectable(100, alpha=1e-3, beta=0.05, cells=2, parts=3)


@pytest.mark.slow
def test_the_command_ends_as_its_verdict_says(tmp_path):
    for number, model in enumerate((TOY, TOY, processed("top_k=1"))):
        np.savez(tmp_path / f"{number}.npz", **log(model, 50 + number, 1_000))
    for other, kind, code in ((1, "CONSISTENT", 0), (2, "REFUTED", 1)):
        command = [sys.executable, "-m", "specverify.cli", "compare-logs", "0.npz", f"{other}.npz", "--json"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        told = json.loads(ended.stdout)
        assert (told["verdict"]["kind"], ended.returncode) == (kind, code), told["verdict"]
        assert told["reproduce"] == f"specverify compare-logs 0.npz {other}.npz --seed 0"
