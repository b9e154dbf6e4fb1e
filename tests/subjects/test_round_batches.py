"""What batches show, one by one: sizes, places, kinds; what is reported; how much there is time for."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from specverify.deadline import Deadline
from specverify.draws import Sampled
from specverify.evidence.pooled import Pooled
from specverify.rules.token import residual
from specverify.subjects.round import flashinfer, judge_round
from specverify.subjects.rounds import batches as module
from specverify.subjects.rounds import rounding
from specverify.subjects.rounds.batches import SIZES, Batch, Batches
from specverify.subjects.rounds.calls import MOST_BYTES, MOST_ROWS, rows_per_call
from specverify.subjects.rounds.conventions import coins
from specverify.subjects.rounds.kernel import Fault
from specverify.subjects.rounds.reference import Parts, kernel
from specverify.verdict import Kind


def from_p(when):
    """The token rule, with p in place of the residual in the rows that `when` names."""

    def recover(scene):
        rows = torch.as_tensor(when(scene)).expand(len(scene.draft))
        return torch.where(rows[:, None, None], scene.p, residual(scene.p, scene.q))

    return kernel("wrong", Parts(recover=recover))


def found(subject, delta=0.02, gamma=3, sizes=SIZES):
    """The check and stratum of batches that refute, or what was played."""
    batches = Batches(subject, gamma, delta)
    batches.sizes = sizes
    alphas = dict.fromkeys(batches.checks, 1e-7)
    batches.plan(alphas, 1e-6)
    draws, generator = Sampled(5), torch.Generator().manual_seed(6)
    for part in (4, 2, 1):
        _, worst = batches.look(-(-batches.need // part), draws, generator, Deadline(60), alphas)
        if worst is not None:
            return batches.names[worst[0]][worst[1]]
    return batches


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("when", "stratum"),
    [
        (lambda scene: len(scene.draft) == 2, "batches of 2"),
        (lambda scene: torch.arange(len(scene.draft)) == len(scene.draft) - 1, "last row"),
        (lambda scene: torch.arange(len(scene.draft)) == 4, "rows at place 4"),
    ],
    ids=["pairs", "last row", "fifth row"],
)
def test_slips_of_some_batches_or_rows_are_seen_where_they_are(when, stratum):
    assert found(from_p(when), sizes=(2, *range(7, 14), 129)) == stratum


def test_each_row_of_a_batch_has_the_stratum_of_its_place():
    names = [module.PLACES[code] for code in module._place(torch.arange(11), torch.full((11,), 11)).tolist()]
    assert names[:3] == ["first row", "rows at place 1", "rows at place 2"]
    assert names[6:] == [
        "rows at place 6", "rows at place 7", "rows from place 8", "last row but one", "last row"
    ]  # fmt: skip
    assert module._place(torch.tensor([0]), torch.tensor([1])).tolist() == [-1]
    far = module._place(torch.tensor([31, 32, 1024]), torch.full((3,), 4096)).tolist()
    assert [module.PLACES[code] for code in far] == ["rows from place 8", "rows from place 32", "rows from place 1,024"]


def seldom(scene):
    """A slip in three of ten batches of nine."""
    return len(scene.draft) == 9 and bool(scene.draft.sum() % 10 < 3)


@pytest.mark.slow
def test_what_is_nearly_seen_is_seen_when_it_is_played_on():
    alphas, draws, generator = (
        dict.fromkeys(module.Batches(kernel("r", Parts()), 3, 0.02).checks, 1e-7),
        Sampled(5),
        None,
    )
    verdicts = {}
    for name, subject in (("right", kernel("right", Parts())), ("wrong", from_p(seldom))):
        batches, generator = Batches(subject, 3, 0.02), torch.Generator().manual_seed(6)
        batches.sizes = (2, 9, 20)
        alphas = dict.fromkeys(batches.checks, 1e-7)
        batches.plan(alphas, 1e-6)
        batches.need = batches.wanted // 3
        _, first = batches.look(batches.need, draws, generator, Deadline(60), alphas)
        before = dict(batches.played)
        tally, worst = batches.look_again(draws, generator, Deadline(60), alphas)
        verdicts[name] = first, worst and batches.names[worst[0]][worst[1]]
        assert sum(batches.played.values()) > sum(before.values())
        assert int(tally[0]) > 0
    assert verdicts == {"right": (None, None), "wrong": (None, "batches of 9")}


def test_what_a_convention_has_not_is_not_played_on(monkeypatch):
    """Rows without drafts, ragged batches and drafts without a law, which `rectangular` kernels are not given."""
    subject = replace(kernel("right", Parts()), fewest=1, certain=False, batch="equal")
    seen = []

    def verify(given, generator):
        seen.append((int(given.lengths.min()), given.q is None))
        return kernel("right", Parts()).verify(given, generator)

    batches = Batches(replace(subject, verify=verify), 3, 0.02)
    batches.sizes = (2, 9)
    alphas, draws, generator = dict.fromkeys(batches.checks, 1e-7), Sampled(5), torch.Generator().manual_seed(6)
    batches.plan(alphas, 1e-6)
    batches.look(50, draws, generator, Deadline(60), alphas)
    monkeypatch.setattr(module, "CALLS", 8)
    for _ in range(4):
        assert batches.look_again(draws, generator, Deadline(60), alphas)[1] is None
    assert all(least >= 1 and not bare for least, bare in seen)


def test_playing_on_where_the_evidence_is_highest_keeps_the_rate(seed):
    """Ten strata, each as due: after a first look the highest gets more rows, round after round."""
    laws, alpha, rng = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]]), 0.05, np.random.default_rng(seed)
    pooled, alarms, runs = Pooled(laws), 0, 300
    for _ in range(runs):
        counts = np.stack([rng.multinomial(60, law, size=10) for law in laws], 1)
        for _ in range(module.AGAIN):
            log_e = pooled.log_e(counts)
            if log_e.max() >= np.log(10 / alpha):
                alarms += 1
                break
            counts[log_e.argmax()] += np.stack([rng.multinomial(40, law) for law in laws])
    assert alarms <= runs * alpha + 4 * np.sqrt(runs * alpha)


@pytest.mark.slow
def test_a_right_kernel_passes_with_the_delta_that_was_planned():
    whole = judge_round(kernel("right", Parts()), gamma=1, delta=0.1, checks=("standard",))
    assert whole.verdict.kind is Kind.CONSISTENT, whole.verdict.reason
    evidence = {item.check: item for item in whole.evidence}
    sizes, batches = evidence["batch sizes"], Batches(kernel("right", Parts()), 1, 0.1)
    batches.plan({"batch sizes": sizes.alpha}, sizes.beta)
    assert sizes.n >= batches.need
    assert all(evidence[check].delta <= delta == 0.5 for check, delta in batches.checks.items())
    assert sizes.coverage["strata"] == len(SIZES)


def test_batches_are_of_the_size_and_kind_that_they_say():
    seen = []

    def watching(given, coins, pick):
        seen.append((len(given.lengths), given.lengths.tolist(), given.q is None))
        return plain.with_coins(given, coins, pick)

    plain = kernel("right", Parts())
    subject = kernel("right", Parts())
    object.__setattr__(subject, "verify", lambda given, generator: watching(given, *_coins(given, generator)))
    batches = Batches(subject, 3, 0.02)
    kinds = [module.KINDS.index(name) for name in ("full", "empty", "equal")]
    group = [Batch(5, kinds[0], False), Batch(1, kinds[1], True), Batch(4, kinds[2], False)]
    layout, kind, played = batches.play(group, Sampled(1), torch.Generator().manual_seed(1))
    assert [size for size, _, _ in seen] == [5, 1, 4]
    assert [bare for _, _, bare in seen] == [False, True, False]
    assert seen[0][1] == [3] * 5
    assert seen[1][1] == [0]
    assert len(set(seen[2][1])) == 1
    assert layout.index.tolist() == [0, 1, 2, 3, 4, 0, 0, 1, 2, 3]
    assert len(played.tokens) == 10
    assert kind[5] == module.KINDS.index("no draft law")


def _coins(given, generator):
    return torch.rand(given.draft.shape, generator=generator), torch.rand(len(given.lengths), generator=generator)


def test_the_pooled_test_keeps_its_rates(seed):
    laws = np.array([[0.5, 0.3, 0.2, 0.0], [1.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4]])
    pooled, alpha, beta = Pooled(laws), 0.02, 0.05
    assert pooled.freedom == 5
    n, rng = pooled.sample_size(0.2, alpha=alpha, beta=beta), np.random.default_rng(seed)
    wrong = laws.copy()
    wrong[0, :2] += (0.2, -0.2)
    wrong[2, [0, 3]] += (0.2, -0.2)
    rates = []
    for law in (laws, wrong):
        counts = np.stack([rng.multinomial(n // 2, each, size=2000) for each in law], 1)
        rates.append(float((pooled.log_e(counts) >= -np.log(alpha)).mean()))
    assert rates[0] <= alpha
    assert rates[1] >= 1 - beta


def test_calls_are_bounded_by_rows_and_by_bytes():
    assert rows_per_call(4, 4) == MOST_ROWS
    assert rows_per_call(32_000, 4) * 32_000 * 4 * 4 <= MOST_BYTES
    assert rows_per_call(10_000_000, 4) == 1


@pytest.mark.parametrize(("size", "end"), [(8, "the last id"), (64, "the first id")])
def test_sums_that_end_below_one_show_what_follows_the_last_edge(size, end):
    def falling(law, pick):
        over = (law / law.sum(-1, keepdim=True)).cumsum(-1) > pick[:, None]
        return torch.where(over.any(-1), over.int().argmax(-1), size - 1 if end == "the last id" else 0)

    law = rounding.laws(size, end)
    assert float(law.double().sum(-1).min()) <= 1 - 2**-24
    with pytest.raises(Fault, match=f"{end} forbidden'.*has probability 0 under the target law"):
        rounding._play(kernel("falls", Parts(choose=falling)), 2, law, end)
    assert rounding._play(kernel("right", Parts()), 2, law, end) > 0


def chain(q, ids, p, generator=None):
    """FlashInfer's convention: tokens, drafts that pass on their own, drafts kept."""
    batch, n = ids.shape
    ids, u = ids.long(), torch.rand(batch, n + 1, generator=generator)
    at = [law.gather(-1, ids[..., None])[..., 0] for law in (p[:, :n], q)]
    passes = u[:, :n] * at[1] < at[0]
    kept, each = passes.long().cumprod(1).sum(1), torch.arange(batch)
    left = (p[each, kept] - torch.cat([q, torch.zeros_like(p[:, :1])], 1)[each, kept]).clamp(min=0).cumsum(-1)
    last = (left[:, :-1] <= u[:, n:] * left[:, -1:]).sum(-1)
    tokens = torch.cat([ids, torch.full((batch, 1), -1)], 1)
    tokens = tokens.where(torch.arange(n + 1) < kept[:, None], -1).scatter(1, kept[:, None], last[:, None])
    return tokens, passes.sum(1), kept


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("counts", "kind", "figure"),
    [
        (lambda passed, kept, n: passed, Kind.CONSISTENT, None),
        (lambda passed, kept, n: kept, Kind.ERROR, "accepted counts: drafts per row that are said to pass beyond"),
        (lambda passed, kept, n: torch.where(kept == n, kept - 1, passed), Kind.ERROR, "accepted counts: it reports"),
        (lambda passed, kept, n: torch.full_like(kept, (n + 1) // 2), Kind.ERROR, "are possible"),
    ],
    ids=["right", "only those kept", "one off when all pass", "says half"],
)
def test_what_a_kernel_reports_is_a_finding_of_its_own(counts, kind, figure):
    def reporting(q, ids, p, generator=None):
        tokens, passed, kept = chain(q, ids, p, generator)
        return tokens, counts(passed, kept, ids.shape[1]), kept

    judgement = judge_round(flashinfer(reporting), delta=0.3, contexts=("dense", "sparse target"), checks=("laws",))
    assert judgement.verdict.kind is kind, judgement.verdict.reason
    assert figure is None or figure in judgement.verdict.reason
    assert (figure is None) == (not any(item.rejected for item in judgement.evidence))


@pytest.mark.slow
def test_a_slow_kernel_is_told_early_what_it_would_take():
    right = kernel("slow", Parts())

    def slow(given, generator):
        for _ in range(len(given.lengths)):
            torch.rand(64, 64).sum()
        return right.verify(given, generator)

    object.__setattr__(right, "with_coins", None)
    subject = kernel("slow", Parts())
    object.__setattr__(subject, "verify", slow)
    object.__setattr__(subject, "with_coins", None)
    judgement = judge_round(subject, delta=0.02, seconds=2, checks=("laws",), contexts=("dense",))
    assert judgement.verdict.kind is Kind.INCONCLUSIVE
    assert any("for all of them allow some" in note for note in judgement.notes)
    assert "sees 0." in judgement.verdict.reason


def test_a_kernel_that_was_slow_at_first_gets_all_its_rows():
    right, calls = kernel("warms up", Parts()), []

    def warming(given, generator):
        calls.append(len(given.lengths))
        begun = time.process_time()
        while len(calls) < 16 and time.process_time() < begun + 5e-4 * calls[-1]:
            pass
        return right.verify(given, generator)

    subject = kernel("warms up", Parts())
    object.__setattr__(subject, "verify", warming)
    judgement = judge_round(subject, seconds=6, delta=0.1, checks=("laws",), contexts=("near", "sparse target"))
    assert judgement.verdict.kind is Kind.CONSISTENT, (judgement.verdict.reason, judgement.notes)
    assert not any("too slow for all rows" in note for note in judgement.notes)


def test_a_row_that_large_batches_alone_get_wrong_is_no_pass():
    """With its coins given a row follows its place in the batch: the law over coins is none, which is told."""

    def first_of_many(draft, q, p, lengths, coin, pick):
        given = torch.nn.functional.one_hot(draft, p.shape[-1]).to(p) if q is None else q
        every = torch.arange(len(draft))
        px, qx = (law.gather(2, draft[..., None])[..., 0] for law in (p[:, :-1], given))
        kept = (coin * qx < px) & (torch.arange(draft.shape[1]) < lengths[:, None])
        run = kept.long().cumprod(1).sum(1)
        slot = run.clamp(max=draft.shape[1] - 1)
        left = (p[every, slot] - given[every, slot]).clamp(min=0)
        law = torch.where((run < lengths)[:, None], left, p[every, run])
        edges = law.cumsum(-1)
        token = (edges[:, :-1] <= pick[:, None] * edges[:, -1:]).sum(-1)
        if len(draft) > 512:
            token[0] = p[0, run[0]].argmax()
        return run, token

    found = judge_round(coins(first_of_many), checks=("forced-coins",))
    assert found.verdict.kind is Kind.INCONCLUSIVE, found.verdict.reason
    assert "such as the row's place in the batch" in found.verdict.reason
