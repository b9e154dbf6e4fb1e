"""The toys without which nothing is proved of a black box: few worlds, and what others hide shows there."""

import re
from functools import partial

import numpy as np
import pytest
import torch

from specverify.decoders.registry import Settings
from specverify.defects import registry as defects
from specverify.errors import SpecverifyError
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law
from specverify.subjects.sampler import judge_sampler
from specverify.subjects.sampler_exact import LEAK, prove_sampler
from specverify.subjects.sampler_suite import Case, smallest
from specverify.subjects.shortened import Closed, Shortened
from specverify.verdict import Kind
from toymodels import draft, toy

TOLERANCE = 1e-6  # of a proof
TELLING = tuple(case for case in smallest() if case.telling)
FEW = (*TELLING[:4], TELLING[-1])
HIDDEN = {"tree-redrawn-from-all"}  # siblings in two columns


def shows(defect, case, settings):
    """Whether the exact law of a known-wrong decoder is one that a proof would not let pass on this toy."""
    inner = case.name.startswith(("close", "wide", "rows", "late"))  # whose state is at hand
    model = case.target.inner if inner else case.target
    try:
        came, due = enumerate_decoder(defect.build(settings), model).law, target_law(model)
    except SpecverifyError:
        return False
    return float((came - due).abs().sum()) / 2 > TOLERANCE or float(came[due == 0].sum()) > LEAK


@pytest.mark.slow
def test_known_wrong_decoders_show_on_them():
    lossy = [name for name in defects.names() if defects.get(name).lossy]
    hidden = {
        name
        for name in lossy
        if not any(
            shows(defects.get(name), case, settings)
            for case in TELLING
            for window in (2, 3, 1)
            for settings in (Settings(window, draft_model=case.draft), Settings(window, initial="repeat-left"))
        )
    }
    assert len(lossy) == 59
    assert hidden == HIDDEN


def law(model, prefix):
    return model.laws(model.start(1), torch.tensor([prefix], dtype=torch.int64).reshape(1, -1))[0, -1].numpy()


def drawn(generator, weights):
    return int(np.searchsorted(np.cumsum(weights), generator.random() * np.sum(weights), side="right"))


def tries(target, draft, n, seed, count=2, one_coin=False, forgets=99):
    """Some drafts for each position, one behind the other, in numpy; after so many tokens the residual is forgotten."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        row = []
        while len(row) < target.length and (target.eos is None or target.eos not in row):
            rest, q = law(target, row), law(draft, row)
            coin, kept = generator.random(), None
            for _ in range(count):
                token = drawn(generator, q)
                if coin * q[token] < rest[token]:
                    kept = token
                    break
                if len(row) < forgets:
                    rest = np.maximum(rest - q, 0) / np.maximum(rest - q, 0).sum() if (rest > q).any() else rest
                coin = coin if one_coin else generator.random()
            row.append(drawn(generator, rest) if kept is None else kept)
        rows.append(row + [target.eos] * (target.length - len(row)))
    return torch.tensor(rows)


@pytest.mark.parametrize(
    ("slip", "name"),
    [({"one_coin": True}, "close"), pytest.param({"count": 1, "forgets": 6}, "late", marks=pytest.mark.slow)],
)
def test_a_coin_that_is_used_twice_and_what_goes_wrong_late_are_refuted_there(slip, name):
    found = prove_sampler(partial(tries, **slip), suite=toy_called(name))
    assert found.verdict.kind is Kind.REFUTED


def toy_called(name):
    (found,) = [case for case in TELLING if case.name.startswith(name)]
    return (found,)


def test_nothing_is_proved_without_them():
    assert [case.name for case in smallest()[: len(TELLING)]] == [case.name for case in TELLING]
    found = prove_sampler(partial(ahead, 0), suite=FEW, budget=9)
    assert found.verdict.kind is Kind.INCONCLUSIVE, found.verdict.reason
    assert (
        "Nothing is proved without brief-3x8[:3] (own draft) and late-3x10|guided (own draft)" in found.verdict.reason
    )
    assert "more than 9 worlds" in found.verdict.reason
    assert prove_sampler(partial(ahead, 0), suite=FEW).verdict.kind is Kind.PROVED


def ahead(window, target, draft, n, seed):
    """Plain decoding that also draws from the draft model, as far as its window goes, and uses none of it."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.zeros(n, 0, dtype=torch.int64)
    for _ in range(target.length):
        looked = tokens
        for _ in range(window):
            looked = torch.cat([looked, torch.multinomial(last(draft, looked), 1, generator=generator)], 1)
        tokens = torch.cat([tokens, torch.multinomial(last(target, tokens), 1, generator=generator)], 1)
    return tokens


@pytest.mark.parametrize("judge", [prove_sampler, partial(judge_sampler, seconds=20)], ids=["followed", "sampled"])
def test_who_goes_on_behind_an_end_is_told_so(judge):
    found = judge(partial(ahead, 0), suite=toy_called("ends"))
    assert found.verdict.kind is Kind.REFUTED
    said = r"first at position 3 after \[0, 0, 3\], where 3 ended it and fills it up, token \d comes too"
    assert re.search(said, found.verdict.reason), found.verdict.reason
    assert judge is not prove_sampler or "sequences that it forbids come with" in found.verdict.reason


def last(model, tokens):
    context = model.advance(model.start(len(tokens)), tokens, torch.full((len(tokens),), tokens.shape[1]))
    return model.laws(context, tokens[:, :0])[:, 0]


def test_drafts_past_the_end_take_no_worlds():
    model = toy("dense-3x6")
    cut, closed = Shortened(model, 2), Closed(model, 2)
    assert torch.equal(target_law(cut), target_law(closed))
    for kind, window, worlds in ((Closed, 2, 3**5), (Closed, 3, 3**5), (Shortened, 2, 3**6)):
        case = Case(kind(model, 2), kind(draft("perturbed", model), 2))
        found = prove_sampler(partial(ahead, window), suite=(case,))
        assert found.verdict.kind is Kind.PROVED, found.verdict.reason
        assert found.exact[0]["worlds"] == worlds


def test_a_number_that_is_held_against_a_random_tensor_is_not_held_against_a_known_one():
    def odd(target, draft, n, seed):
        torch.manual_seed(seed)
        bound = torch.empty(()).uniform_()
        first = int(np.random.default_rng(seed).random() < bound)
        return torch.full((n, target.length), first)

    assert prove_sampler(odd, suite=TELLING[:1]).verdict.kind is Kind.ERROR


def ragged(target, draft, n, seed, window=3, slips=lambda row, slot, behind: False, bonus_of_draft=False):
    """Speculative decoding of rows that commit as many tokens as they have; where it slips, p is the residual."""
    generator, rows = np.random.default_rng(seed), [[] for _ in range(n)]
    while any(len(row) < target.length for row in rows):
        longest = max(map(len, rows))
        for number, row in enumerate(rows):
            behind, drafts, laws = longest - len(row), list(row), []
            while len(laws) < min(window, target.length - len(row)):
                laws.append(law(draft, drafts))
                drafts.append(drawn(generator, laws[-1]))
            for slot, (q, token) in enumerate(zip(laws, drafts[len(row) :], strict=True)):
                p = law(target, row)
                if generator.random() * q[token] >= p[token]:
                    row.append(drawn(generator, p if slips(number, slot, behind) else np.maximum(p - q, 0)))
                    break
                row.append(token)
            else:
                if len(row) < target.length:
                    row.append(drawn(generator, law(draft if bonus_of_draft else target, row)))
    return torch.tensor(rows)


@pytest.mark.parametrize(
    ("slip", "name", "rows"),
    [
        ({"window": 5, "slips": lambda row, slot, behind: slot == 4}, "late", 1),
        pytest.param({"window": 5, "bonus_of_draft": True}, "late", 1, marks=pytest.mark.slow),
        pytest.param({"slips": lambda row, slot, behind: behind >= 2}, "rows", 2, marks=pytest.mark.slow),
        pytest.param({"slips": lambda row, slot, behind: row == 2}, "wide", 3, marks=pytest.mark.slow),
    ],
    ids=["last slot", "bonus", "behind", "third row"],
)
def test_slips_at_one_place_are_refuted(slip, name, rows):
    found = prove_sampler(partial(ragged, **slip), suite=toy_called(name), rows=rows)
    assert found.verdict.kind is Kind.REFUTED, found.verdict.reason


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rows"), [("rows", 2), ("wide", 3)])
def test_rows_of_their_own_lengths_are_proved(name, rows):
    found = prove_sampler(ragged, suite=toy_called(name), rows=rows)
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason


def repeating(target, draft, n, seed, slip=None, window=4):
    """The last token again is the draft of each slot; a slip is in bonus tokens alone."""
    generator, rows = np.random.default_rng(seed), []
    for _ in range(n):
        row, ended = [], False
        while len(row) < target.length and not ended:
            drafts = row[-1:] * window if row else [0] * window
            for token in drafts[: target.length - len(row)]:
                p = law(target, row)
                kept = bool(generator.random() < p[token])
                rest = np.where(np.arange(len(p)) == token, 0, p)
                row.append(token if kept else drawn(generator, rest))
                ended = row[-1] == target.eos
                if ended or not kept:
                    break
            else:
                if len(row) < target.length:
                    row.append(drawn(generator, law(target.inner if slip == "processors" else target, row)))
                    ended = row[-1] == target.eos and slip != "end"
        end = row.index(target.eos) + 1 if target.eos in row and slip != "end" else len(row)
        rows.append(row[:end] + [target.eos] * (target.length - end))
    return torch.tensor(rows)


@pytest.mark.parametrize("slip", [None, "processors", "end"])
@pytest.mark.parametrize("window", [4, *(pytest.param(w, marks=pytest.mark.slow) for w in (2, 3, 5))])
def test_bonus_tokens_that_are_not_cut_or_whose_end_is_missed_are_refuted(slip, window):
    found = prove_sampler(partial(repeating, slip=slip, window=window), suite=toy_called("ends"))
    assert found.verdict.kind is (Kind.REFUTED if slip else Kind.PROVED), found.verdict.reason


def guarded(target, draft, n, seed, window=2):
    """Speculative decoding with the usual guard against a division by 0, whose window may go past the end."""
    generator, rows = np.random.default_rng(seed), []
    for _ in range(n):
        row = []
        while len(row) < target.length and (target.eos is None or target.eos not in row):
            drafts, laws = list(row), []
            for _ in range(window):
                laws.append(law(draft, drafts))
                drafts.append(drawn(generator, laws[-1]))
            for q, token in zip(laws, drafts[len(row) :], strict=True):
                p = law(target, row)
                if generator.random() >= p[token] / (q[token] + 1e-10):
                    rest = np.maximum(p - q, 0)
                    row.append(int(generator.choice(target.vocab, p=rest / rest.sum())))
                    break
                row.append(token)
            else:
                row.append(drawn(generator, law(target, row)))
        row = row[: target.length]
        if target.eos in row:
            row = row[: row.index(target.eos) + 1]
        rows.append(row + [target.eos] * (target.length - len(row)))
    return torch.tensor(rows)


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize(("name", "window"), [("rows", 2), pytest.param("brief", 12, marks=pytest.mark.slow)])
def test_what_rounding_alone_leads_to_is_no_error_and_a_wide_window_takes_few_worlds(name, window):
    """Where p is q, a draft is rejected with a chance of 1e-10, and nothing is left: an error there is forgiven."""
    found = prove_sampler(partial(guarded, window=window), suite=toy_called(name))
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    assert found.exact[0]["tv"] < 1e-9


def test_an_error_of_a_world_that_may_come_is_one():
    def fails(target, draft, n, seed):
        if np.random.default_rng(seed).random() < 1e-8:
            raise ValueError("seldom")
        return ahead(0, target, draft, n, seed)

    found = prove_sampler(fails, suite=toy_called("wide"))
    assert found.verdict.kind is Kind.ERROR
    assert "raised ValueError: seldom" in found.verdict.reason
