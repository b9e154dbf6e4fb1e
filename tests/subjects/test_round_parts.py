"""The parts that a judgement of a round rests on: contexts, completion, integration, the token rule's law."""

import hashlib

import numpy as np
import pytest
import torch

from specverify.decoders.protocol import Branch
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.rules.token import accept_probability, total_variation
from specverify.subjects.rounds import edges, forced, locate, token_rule
from specverify.subjects.rounds.contexts import build, deal, propose, vocabulary
from specverify.subjects.rounds.conventions import coins
from specverify.subjects.rounds.kernel import Fault, process
from specverify.subjects.rounds.kinds import BARRED, KINDS, SLOTS
from specverify.subjects.rounds.play import play, shuffled
from specverify.subjects.rounds.reference import BLOCK, Parts, kernel
from specverify.subjects.rounds.trials import slots_of

NAMES = tuple(KINDS)
COINS = ("dense", "sparse target", "sharp")


def digest(contexts):
    laws = torch.stack([contexts.p, contexts.raw, contexts.q]).contiguous().numpy().astype("<f4")
    # Powers and logarithms may differ in their last bits between platforms.
    return hashlib.sha256(np.round(laws, 5).tobytes()).hexdigest()[:16]


@pytest.mark.thinned(2)
@pytest.mark.parametrize("block", [Parts(), BLOCK], ids=["token rule", "block verification"])
@pytest.mark.parametrize("window", [8, 16])
def test_coins_at_the_edges_of_far_slots_bring_nothing_that_is_barred(block, window):
    """Whatever the rule, and whatever the coins are that are not forced."""
    contexts = slots_of(window, BARRED)
    where = forced.long_paths(contexts, window)
    assert where.slots.shape[1] == window // 8
    assert bool((contexts.joint().amax(1) == 1).all())
    edges.edges(kernel("far", block), where)


def test_a_far_draft_that_is_kept_unseen_is_found_by_its_coins():
    def keep(scene):
        far = torch.arange(scene.draft.shape[1]) >= 6
        return torch.where(far, 1.0, accept_probability(scene.p, scene.q, scene.draft))

    where = forced.long_paths(slots_of(8, BARRED), 8)
    with pytest.raises(Fault, match=r"'barred slot 6 of 8': the accepted token . in slot 6 has probability 0"):
        edges.edges(kernel("far", Parts(keep=keep)), where)


def test_a_name_fixes_its_laws():
    assert digest(build(("dense", "near", "sparse target", "other support"), 4, 4)) == "2ac9d96a6721e3b7"


@pytest.mark.parametrize("name", NAMES)
def test_each_context_has_laws_and_what_it_is_named_for(name):
    contexts = build((name,), 4, 3)
    p, q, raw = contexts.p[0, :-1], contexts.q[0, :-1], contexts.raw[0, :-1]
    for law in (p, q, raw):
        assert torch.allclose(law.sum(-1), torch.ones(len(law)), atol=1e-6)
        assert bool((law >= 0).all())
    assert contexts.joint()[0].sum().item() == pytest.approx(1, abs=1e-12)
    overlap = torch.minimum(p, q).sum(-1)
    named = {
        "dense": (p > 0).all() and (q > 0).all() and total_variation(p, q).mean() > 0.15,
        "near": (overlap > 0.9).all() and (overlap < 1).any(),
        "equal": torch.equal(p, q),
        "sparse target": (p == 0).any(-1).all() and (q > 0).all(),
        "sparse draft": (q == 0).any(-1).all() and (p > 0).all(),
        "other support": ((p == 0) & (q > 0)).any() and ((p > 0) & (q == 0)).any(),
        "disjoint": (overlap == 0).all(),
        "sharp": ((q == 1) & (p > 0.99)).any(-1).all(),
        "one-hot draft": (q == 1).any(-1).all() and (p < 1).all(),
        "cool": torch.allclose(p, raw**2 / (raw**2).sum(-1, keepdim=True)),
        "warm": torch.allclose(p, raw.sqrt() / raw.sqrt().sum(-1, keepdim=True)),
        "top-k": ((p > 0).sum(-1) == 2).all() and (raw > 0).all(),
        "greedy": (p == 1).any(-1).all() and torch.equal(p.argmax(-1), raw.argmax(-1)),
        "greedy tie": (p == 1).any(-1).all() and (raw.topk(2).values.diff(dim=-1).abs() < 1e-3).all(),
        "partly equal": torch.equal(p[1], q[1]) and ((p[0] == q[0]).sum() == 2),
        **{
            slot: torch.equal((p != q).any(-1), torch.tensor([0, *[1] * 4, *[2] * 16]) == number)
            and bool(torch.isclose(overlap, torch.tensor(0.6)).logical_or(overlap == 1).all())
            for number, slot in enumerate(SLOTS)
        },
        **{slot: (p == 1).any(-1).all() and (overlap < 1).sum() == 4**number for number, slot in enumerate(BARRED[:3])},
        **{slot: torch.equal(p, q) for slot in BARRED[3:]},
        "sparse equal": torch.equal(p, q) and (p == 0).any(-1).all(),
        "one-hot target": (p == 1).any(-1).all() and (q > 0).all(),
        "tiny": (p > 0).all() and (p.amin(-1) < 1e-7).all() and (q.amin() < 1e-29),
        "cut": (p == 0).any() and (q == 0).any() and (overlap > 0).any(),
        "tied": all(len(torch.unique((law * 7 * 5 * 6 * 8).round())) <= 2 for law in p),
        "early": (p[:, -1] == 0).all() and (p[:, :-1] > 0).all(),
        "late": (p[:, 0] == 0).all() and (p[:, 1:] > 0).all(),
        "halves": torch.equal(p.amax(-1), torch.full((len(p),), 0.5)) and (q.amax(-1) > 0.94).all(),
        "sixteenths": torch.equal(p.bfloat16().float(), p) and torch.equal((16 * q).round(), 16 * q),
        "certain sixteenths": torch.equal(p.bfloat16().float(), p) and (q == 1).any(-1).all(),
        "tiles": torch.equal(p, torch.full_like(p, 0.25)) and torch.equal(p, q),  # one tile has all of so few
        "equal tiles": torch.equal(p, q),
    }
    assert bool(named[name])


def test_laws_differ_from_node_to_node():
    contexts = build(("dense",), 4, 4)
    assert len(contexts.p[0].unique(dim=0)) > 80


@pytest.mark.parametrize(("positions", "tokens"), [(2, 4), (5, 4), (6, 3), (10, 2)])
def test_the_vocabulary_shrinks_with_the_block(positions, tokens):
    assert vocabulary(positions) == tokens


def test_blocks_that_are_too_long_are_refused():
    with pytest.raises(InputError, match="blocks of 11 tokens are too long to be told apart; use a gamma of at most 9"):
        vocabulary(11)


def test_drafts_have_their_law_and_every_number_occurs(seed, agrees):
    contexts, rows = build(("dense",), 3, 3), 30_000
    zero = torch.zeros(rows, dtype=torch.int64)
    drafts, lengths = propose(contexts, zero, zero, zero + 3, 2, 0, Sampled(seed))
    law = (contexts.q[0, 0][:, None] * contexts.q[0, 1:4]).flatten().double()
    agrees(np.bincount(drafts[:, 0] * 3 + drafts[:, 1], minlength=9), law / law.sum(), sees=0.04)
    agrees(np.bincount(lengths, minlength=3), [0.25, 0.25, 0.5], sees=0.03)
    short = propose(contexts, zero, zero, zero + 1, 2, 1, Sampled(seed))[1]
    assert short.unique().tolist() == [1]


def test_slots_beyond_a_row_hold_what_any_kernel_would_accept():
    contexts = build(("sparse target",), 3, 3)
    drafts = torch.tensor([[1, 2], [1, 2], [1, 2]])
    given, nodes = deal(
        contexts, torch.zeros(3).long(), torch.zeros(3).long(), drafts, torch.tensor([0, 1, 2]), certain=False
    )
    assert nodes.tolist() == [[0, 2, 9]] * 3
    assert torch.equal(given.p[2], contexts.p[0, [0, 2, 9]])
    assert torch.equal(given.p[1, :2], contexts.p[0, [0, 2]])
    assert given.p[1, 2].tolist() == [0, 0, 1]
    assert given.q[1, 1].tolist() == [0, 0, 1]
    assert given.q[0, 0].tolist() == [0, 1, 0]
    assert given.p[0, 1].tolist() == [0, 0, 1]
    assert torch.equal(given.p[0, 0], contexts.p[0, 0])


def test_a_wide_vocabulary_spreads_the_tokens_over_its_ends():
    contexts = build(("dense",), 4, 2, width=1031)
    assert contexts.ids.tolist() == [0, 343, 1024, 1030]
    zero = torch.zeros(1).long()
    given, _ = deal(contexts, zero, zero, torch.tensor([[3]]), torch.tensor([1]), certain=False)
    assert given.draft.tolist() == [[1030]]
    assert given.p.shape == (1, 2, 1031)
    assert torch.equal(given.p[0, 0, contexts.ids], contexts.p[0, 0])
    assert given.p[0, 0].sum().item() == pytest.approx(1, abs=1e-6)


def test_half_of_the_tiles_have_three_times_the_mass_and_no_dtype_rounds_it():
    contexts = build(("tiles", "equal tiles"), 1024, 1)
    p, q = contexts.p[0, 0], contexts.q[0, 0]
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(p.to(dtype).float(), p)
    by_tile = p.reshape(8, 128)
    assert torch.equal(by_tile, by_tile[:, :1].expand(-1, 128))
    assert (2048 * by_tile[:, 0]).sort().values.tolist() == [1] * 4 + [3] * 4
    assert torch.equal(p + q, torch.full_like(p, 4 / 2048))
    assert torch.equal(contexts.p[1, 0], contexts.q[1, 0])


def test_processing_is_by_row():
    raw = torch.tensor([[0.5, 0.3, 0.2]] * 4)
    found = process(raw, torch.tensor([1.0, 0.0, 2.0, 1.0]), torch.tensor([3, 3, 3, 2]))
    root = raw[0].sqrt() / raw[0].sqrt().sum()
    expected = torch.stack([raw[0], torch.tensor([1.0, 0, 0]), root, torch.tensor([0.625, 0.375, 0])])
    assert torch.allclose(found, expected, atol=1e-6)


def test_two_rounds_of_a_correct_kernel_have_the_target_law(seed, agrees):
    contexts = build(("dense", "greedy"), 3, 5)
    draws, generator = Sampled(seed), torch.Generator().manual_seed(seed)
    played = play(kernel("r", Parts()), contexts, shuffled(contexts, 40_000, draws), 2, 2, draws, generator)
    counts, joint = played.counts(contexts), contexts.joint()
    agrees(counts[0], joint[0], sees=0.06)
    assert int(counts[1].count_nonzero()) == 1
    assert {int(each) for each in played.branch.unique()} == {1, 2, 3, 4}
    verified, accepted, rejected, bonus = played.tally.tolist()
    assert verified == accepted + rejected
    assert bonus > 0
    first = played.branch[:, 0]
    assert bool((first[played.lengths == 0] == Branch.BONUS).all()), "without drafts the first token is a bonus"
    assert not bool((first[played.lengths > 0] == Branch.BONUS).any())


@pytest.mark.parametrize("certain", [False, True])
def test_the_law_of_the_token_rule_is_what_it_emits(certain, seed, agrees):
    contexts = build(("dense", "sparse target"), 3, 3)
    law = token_rule.law(contexts, 2, certain=certain)
    assert torch.allclose(law.sum(1), torch.ones(2).double(), atol=1e-6)
    draws, generator = Sampled(seed), torch.Generator().manual_seed(seed)
    layout = shuffled(contexts, 40_000, draws)
    played = play(kernel("r", Parts()), contexts, layout, 2, 1, draws, generator, certain=certain)
    for counts, each in zip(token_rule.counts(played, contexts, 2), law, strict=True):
        agrees(counts, each / each.sum(), sees=0.06)


def test_integration_finds_the_laws_of_one_token_in_closed_form():
    contexts = build(COINS, 3, 2)
    p, q = contexts.p[:, 0].double(), contexts.q[:, 0].double()
    cases = {
        "token rule": (Parts(), p),
        "recovered from p": (
            Parts(recover=lambda scene: scene.p),
            torch.minimum(p, q) + total_variation(p, q)[:, None] * p,
        ),
        "always": (Parts(keep=lambda scene: torch.ones_like(scene.coins)), q),
        "one coin": (Parts(passes=lambda coin, keep: coin < 0.3), 0.3 * q + 0.7 * left(p, q)),
        "the other way": (Parts(passes=lambda coin, keep: 1 - coin <= keep), p),
    }
    for name, (parts, law) in cases.items():
        subject = kernel(name, parts)
        found = forced.integrate(subject, forced.paths(subject, contexts, 1, 1, certain=False))
        first = found.law[:, 1].reshape(len(COINS), 3, 3).sum(-1)
        assert torch.allclose(first, law, atol=4 * forced.STEP), name
        assert torch.allclose(found.law.sum(-1), torch.ones(len(COINS), 2).double(), atol=1e-9)


def left(p, q):
    rest = (p - q).clamp(min=0)
    return rest / rest.sum(-1, keepdim=True)


def test_block_verification_is_exact_where_its_thresholds_are_not_those_of_the_token_rule():
    contexts, subject = build(("dense",), 3, 3), kernel("block", BLOCK)
    found = forced.integrate(subject, forced.paths(subject, contexts, 2, 2, certain=False))
    joint = contexts.joint()[:, None].expand_as(found.law)
    assert float(total_variation(found.law, joint).max()) < 1e-5
    assert 0 < found.steps <= 3


def test_a_kernel_that_hashes_its_coins_is_not_integrated():
    def hashing(draft, q, p, lengths, coin, pick):
        scrambled = (coin.double() * 2**24 * 0.6180339887).frac().float()
        return kernel_of(draft, q, p, lengths, scrambled, pick)

    def kernel_of(draft, q, p, lengths, coin, pick):
        ratio = (p[:, :-1] / q).gather(2, draft[..., None])[..., 0]
        accepted = ((coin < ratio) & (torch.arange(draft.shape[1]) < lengths[:, None])).cumprod(1).sum(1)
        each, slot = torch.arange(len(draft)), accepted.clamp(max=draft.shape[1] - 1)
        law = torch.where(
            (accepted < lengths)[:, None], (p[each, slot] - q[each, slot]).clamp(min=0), p[each, accepted]
        )
        edges = law.cumsum(1)
        return accepted, (edges[:, :-1] <= pick[:, None] * edges[:, -1:]).sum(1)

    contexts = build(("dense",), 3, 2)
    for function, regular in ((kernel_of, True), (hashing, False)):
        subject = coins(function)
        found = forced.integrate(subject, forced.paths(subject, contexts, 1, 1, certain=False))
        assert (found is not None) == regular


def test_edges_say_what_a_coin_at_the_ratio_does():
    contexts = build(("dense",), 3, 3)
    for passes, does in ((lambda coin, keep: coin < keep, "rejects"), (lambda coin, keep: coin <= keep, "accepts")):
        subject = kernel("r", Parts(passes=passes))
        note = edges.edges(subject, forced.paths(subject, contexts, 2, 2, certain=False))
        assert note == f"a coin that equals p / q {does}"


def test_a_location_names_the_position_that_is_wrong_and_not_the_ones_behind():
    contexts = build(("dense",), 3, 3)

    def bent(scene):
        keep = torch.minimum(scene.p, scene.q).gather(-1, scene.draft[..., None])[..., 0]
        ratio = keep / scene.q.gather(-1, scene.draft[..., None])[..., 0]
        return torch.where((torch.arange(2) == 1) & (scene.draft == 2), ratio / 2, ratio)

    subject = kernel("bent", Parts(keep=bent))
    where = forced.paths(subject, contexts, 2, 2, certain=False)
    exact = locate.from_integral(forced.integrate(subject, where), where, 0, 2, certain=False)
    draws = Sampled(1)
    played = play(subject, contexts, shuffled(contexts, 60_000, draws), 2, 1, draws, torch.Generator().manual_seed(2))
    sampled = locate.from_samples([played], contexts, 0, certain=False)
    for found in (exact, sampled):
        assert found["position"] == 1
        assert len(found["prefix"]) == 1
        assert (found["branch"], found["token"], found["direction"]) == ("accepted", 2, "too rarely")
        assert found["split"]["bonus"] < 0.02
    assert "position 1 after" in locate.sentence(exact)
    assert exact["split"]["recovered"] < 1e-5 < 0.01 < exact["split"]["accepted"]
