"""Positions and masks change the laws of toys where they change those of a transformer, and nowhere else."""

import pytest
import torch
import transformers

from specverify.integrations.causal import step_sampler
from specverify.integrations.transformers import loop_sampler, pretrained
from specverify.subjects.sampler import judge_sampler
from specverify.subjects.sampler_exact import prove_sampler
from specverify.subjects.sampler_suite import Case
from specverify.subjects.shortened import Shortened
from specverify.verdict import Kind
from toymodels import draft, toy

BEGIN = 3
HEADS = torch.tensor([0, 1])[:, None, None]
IDS = torch.tensor([[BEGIN, 0, 2, 1, 2, 0]])


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=4,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        head_dim=8,
        initializer_range=0.5,
    )
    return transformers.LlamaForCausalLM(config).double().eval()


@pytest.fixture(scope="module")
def engine():
    return pretrained(toy("dense-3x6"))


def laws(model, ids, **asked):
    return model(input_ids=ids, **asked).logits[..., :BEGIN].log_softmax(-1)


def cache_of(out):
    return getattr(out, "cache", None) or out.past_key_values


def by(model):
    """The name by which a release hands over a cache."""
    return "cache" if hasattr(model(input_ids=IDS[:, :1]), "cache") else "past_key_values"


def plain(model):
    """The laws behind all ids of one sequence."""
    return laws(model, IDS)


def padded(model, positions="cumsum"):
    """The same behind two ids that pad it on the left, in a batch with another sequence."""
    ids = torch.cat([torch.tensor([[0, 1]]), IDS], 1)
    ids = torch.cat([ids, torch.tensor([[BEGIN, 1, 1, 2, 0, 1, 2, 2]])])
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    place = {"cumsum": mask.cumsum(1) - 1, "slots": torch.arange(8)[None], "late": mask.cumsum(1) + 6}[positions]
    return laws(model, ids, attention_mask=mask, position_ids=place)[:1, 2:]


def gap(model):
    """The later ids one position further than they are due."""
    return laws(model, IDS, position_ids=torch.tensor([[0, 1, 2, 4, 5, 6]]))


def twice(model):
    """Two ids at one position."""
    return laws(model, IDS, position_ids=torch.tensor([[0, 1, 2, 2, 3, 4]]))


def shifted(model):
    """All positions a hundred further: rotary embeddings are relative."""
    return laws(model, IDS, position_ids=100 + torch.arange(6)[None])


def cached(model, length=3, positions=None, mask=None, keep=0):
    """Three ids and two that are rejected, then the rest behind these, with what is asked for."""
    rejected = torch.cat([IDS[:, :length], torch.tensor([[1, 1]])], 1)
    first = model(input_ids=rejected, use_cache=True)
    cache = cache_of(first)
    if keep < 2:
        cache.crop(keep - 2)
    asked = {} if positions is None else {"position_ids": torch.tensor([positions])}
    if mask is not None:
        asked["attention_mask"] = torch.tensor([mask])
    rest = laws(model, IDS[:, length:], **{by(model): cache}, **asked)
    return torch.cat([first.logits[..., :BEGIN].log_softmax(-1)[:, :length], rest], 1)


def asked_for(model, change):
    """All at once, with a mask of four dimensions that is causal but for a change."""
    mask = torch.ones(1, 1, 6, 6, dtype=torch.bool).tril()
    change(mask[0, 0])
    return laws(model, IDS, attention_mask=torch.where(mask, 0.0, -1e30).double())


def hide(mask):
    mask[4:, 2] = False


def show(mask):
    mask[3, 4] = True


def nothing(mask):
    assert not mask[0, 1]


def written(kept, right, slot):
    """A slot of one cache is overwritten by another's."""
    for mine, other in zip(kept.layers, right.layers, strict=True):
        for part in ("keys", "values"):
            getattr(mine, part)[:, :, slot] = getattr(other, part)[:, :, slot]


def behind_another(model):
    """A draft's key and value are kept, though another was committed before it."""
    cache = cache_of(model(input_ids=torch.cat([IDS[:, :3], torch.tensor([[2, 2]])], 1), use_cache=True))
    written(cache, cache_of(model(input_ids=IDS[:, :4], use_cache=True)), 3)
    return torch.cat([plain(model)[:, :5], laws(model, IDS[:, 5:], **{by(model): cache})], 1)


def refreshed(model):
    """The same, and it is read over again once the next id was read behind it."""
    cache = cache_of(model(input_ids=torch.cat([IDS[:, :2], torch.tensor([[1, 1]])], 1), use_cache=True))
    right = cache_of(model(input_ids=IDS[:, :4], use_cache=True))
    written(cache, right, 2)
    model(input_ids=IDS[:, 4:5], use_cache=True, **{by(model): cache})
    written(cache, right, 3)
    return torch.cat([plain(model)[:, :5], laws(model, IDS[:, 5:], **{by(model): cache})], 1)


def fed_twice(model):
    """The last id of a prompt is in the cache, and is read again at its own position."""
    cache = cache_of(model(input_ids=IDS[:, :3], use_cache=True))
    asked = {"position_ids": torch.tensor([[2, 3, 4, 5]])}
    rest = laws(model, IDS[:, 2:], **{by(model): cache}, **asked)[:, 1:]
    return torch.cat([plain(model)[:, :3], rest], 1)


def softly(model, by):
    """A mask that adds something to a score where it hides."""
    mask = torch.where(torch.ones(6, 6, dtype=torch.bool).tril(), 0.0, by)[None, None].double()
    return laws(model, IDS, attention_mask=mask)


def packed(model):
    """Two sequences in one row, told by their positions."""
    other = torch.tensor([[BEGIN, 1, 1]])
    place = torch.cat([torch.arange(3), torch.arange(6)])[None]
    return laws(model, torch.cat([other, IDS], 1), position_ids=place, use_cache=False)[:, 3:]


def last(model):
    """Of the last two ids, and of those that are named, as all at once have them."""
    two = laws(model, IDS, logits_to_keep=2)
    return torch.cat([laws(model, IDS, logits_to_keep=torch.arange(4)), two], 1)


def embedded(model):
    """Embeddings in the place of ids."""
    return model(inputs_embeds=model.get_input_embeddings()(IDS)).logits[..., :BEGIN].log_softmax(-1)


def garbage(model):
    """Another row, and what is read behind the ids, may be anything at all: nobody looks at it."""
    ids = torch.cat([torch.cat([IDS, torch.full_like(IDS, BEGIN)], 1), torch.zeros(1, 12, dtype=torch.int64)])
    return laws(model, ids)[:1, :6]


SAME = {
    "embeddings": embedded,
    "with garbage": garbage,
    "logits of some ids": last,
    "hidden by a large number": lambda model: softly(model, -1e5),
    "packed": packed,
    "padded": padded,
    "positions that begin late": lambda model: padded(model, positions="late"),
    "padded, by slots": lambda model: padded(model, positions="slots"),
    "all shifted": shifted,
    "cropped": cached,
    "cropped, with positions": lambda model: cached(model, positions=[3, 4, 5]),
    "hidden, not cropped": lambda model: cached(model, positions=[3, 4, 5], mask=[1, 1, 1, 0, 0, 1, 1, 1], keep=2),
    "a mask of four dimensions": lambda model: asked_for(model, nothing),
}
OTHER = {
    "a gap": gap,
    "two at one position": twice,
    "cropped, and positions go on": lambda model: cached(model, positions=[5, 6, 7]),
    "cropped, and positions one late": lambda model: cached(model, positions=[4, 5, 6]),
    "not cropped": lambda model: cached(model, keep=2),
    "cropped by one too few": lambda model: cached(model, keep=1),
    "hidden, without positions": lambda model: cached(model, mask=[1, 1, 1, 0, 0, 1, 1, 1], keep=2),
    "hides what was committed": lambda model: cached(model, positions=[3, 4, 5], mask=[1, 1, 0, 1, 1, 1]),
    "a mask that ends early": lambda model: cached(model, mask=[1, 1, 1, 1]),
    "kept from behind another": behind_another,
    "read behind one that was": refreshed,
    "fed twice": fed_twice,
    "one that hides": lambda model: asked_for(model, hide),
    "one that shows": lambda model: asked_for(model, show),
}


@pytest.mark.parametrize("what", SAME)
def test_what_leaves_a_transformers_laws_leaves_a_toys(what, llama, engine):
    for model in (llama, engine):
        torch.testing.assert_close(SAME[what](model), plain(model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("what", OTHER)
def test_what_changes_a_transformers_laws_changes_a_toys(what, llama, engine):
    there, here = (((OTHER[what](model) - plain(model)).abs().amax(-1)[0] > 1e-4).tolist() for model in (llama, engine))
    assert any(there)
    assert any(here)
    assert here[: there.index(True)] == [False] * there.index(True)
    assert there[: here.index(True)].count(True) <= 1  # the law behind two at one position is that of either


def suite(length=3):
    model = Shortened(toy("dense-3x6"), length)
    return (Case(model, draft("perturbed", model)),)


def tree(_, model, ids, depth=None, ancestors=None):
    """Two drafts behind the last id and one behind each; what is drawn is followed while it is in the tree."""
    nodes = [0, 2, 1, 1]  # ids of the tree
    parent = [None, None, 0, 1]
    fed = torch.cat([ids, torch.tensor([nodes])], 1)
    n = ids.shape[1]
    mask = torch.ones(n + 4, n + 4, dtype=torch.bool).tril()
    for node, above in enumerate(parent):
        mask[n + node, n : n + node] = False
        if above is not None:
            mask[n + node, n + above] = ancestors is None
    place = torch.tensor([list(range(n)) + ([n, n, n + 1, n + 1] if depth is None else [n, n + 1, n + 2, n + 3])])
    laws = model(fed, attention_mask=mask[None, None], position_ids=place).logits.exp()
    made, at = [], n - 1
    while True:
        token = int(torch.multinomial(laws[0, at], 1))
        made.append(token)
        above = None if at == n - 1 else at - n
        below = [node for node in range(4) if parent[node] == above and nodes[node] == token]
        if not below:
            return torch.cat([ids, torch.tensor([made])], 1)
        at = n + below[0]


def flat(draft, model, ids):
    """The tree's positions are those of its slots."""
    return tree(draft, model, ids, depth=False)


def orphans(draft, model, ids):
    """Its mask hides the parents."""
    return tree(draft, model, ids, ancestors=False)


def test_a_tree_of_drafts_is_proved_and_its_wrong_mask_or_positions_refuted():
    assert prove_sampler(step_sampler(tree), suite=suite()).verdict.kind is Kind.PROVED
    for wrong in (flat, orphans):
        found = prove_sampler(step_sampler(wrong), suite=suite())
        assert found.verdict.kind is Kind.REFUTED, found.verdict.reason


def batched(model, prompt, begins=0, hides=True):
    """Guesses of the next id, in a cache from which nothing is cut: a mask hides what was rejected."""
    ids, mask, cache, past = prompt, torch.ones_like(prompt), None, 0
    fed, place = prompt, torch.arange(prompt.shape[1])[None]
    while ids.shape[1] < prompt.shape[1] + model.size:
        guess = (ids[:, -1:] + 1) % 2
        fed, place = torch.cat([fed, guess], 1), torch.cat([place, place[:, -1:] + 1], 1)
        mask = torch.cat([mask, torch.ones_like(fed[:, : fed.shape[1] - (mask.shape[1] - past)])], 1)
        out = model(input_ids=fed, attention_mask=mask, position_ids=place + begins * (past > 0), past_key_values=cache)
        cache, laws = cache_of(out), out.logits[:, -2:].exp()
        past = mask.shape[1]
        token = torch.multinomial(laws[:, 0], 1)
        ids = torch.cat([ids, token], 1)
        if torch.equal(token, guess):
            token = torch.multinomial(laws[:, 1], 1)
            ids = torch.cat([ids, token], 1)
        elif hides:
            mask[:, -1] = 0
        fed, place = token, torch.tensor([[ids.shape[1] - 1]])
    return ids


def late(model, prompt):
    """Its positions are one too many from the second pass on."""
    return batched(model, prompt, begins=1)


def seen(model, prompt):
    """What was rejected is seen."""
    return batched(model, prompt, hides=False)


def test_rejected_drafts_may_be_hidden_and_positions_count():
    found = prove_sampler(loop_sampler(batched, "llama"), suite=suite())
    assert found.verdict.kind is Kind.PROVED, found.verdict.reason
    for wrong, why in (
        (late, "an id at position 2 saw ids at positions [0, 2], which is no"),
        (seen, "saw ids at pos"),
    ):
        found = judge_sampler(loop_sampler(wrong, "llama"), suite=suite(), exact=True)
        assert found.verdict.kind is Kind.REFUTED, found.verdict.reason
        assert why in found.notes[-1]


def test_what_cannot_be_read_says_what_can(engine):
    first = engine(input_ids=IDS)
    cache = cache_of(first)
    cache.layers[0].values = cache.layers[0].values[:, :, [0, 2, 1, 3, 4, 5]]
    bad = {
        "shape \\(3, 1, 6\\); of these ids it is": {"position_ids": torch.zeros(3, 1, 6)},
        r"\[1, 6\] or \[1, 1, 6, 6\]": {"attention_mask": torch.ones(1, 1, 6, 5)},
        "attention_mask is dict": {"attention_mask": {"full_attention": None}},
        "has 4 dimensions and is torch.int64": {"attention_mask": torch.ones(1, 1, 6, 6).long().tril()},
        "adds -1 to a score": {"attention_mask": torch.ones(1, 1, 6, 6).tril() - 1},
        "different ids to different heads": {
            "attention_mask": torch.stack([torch.ones(6, 6).tril(), torch.eye(6)])[None] > 0
        },
        "keys and values hold different": {by(engine): cache},
    }
    for says, asked in bad.items():
        with pytest.raises(ValueError, match=says):
            engine(input_ids=IDS, **asked)
    uncropped = cache_of(engine(input_ids=IDS))
    uncropped.layers[0].keys, uncropped.layers[0].values = (uncropped.layers[0].keys[:, :, :3] for _ in range(2))
    with pytest.raises(ValueError, match=r"layers hold 4 and 7 slots, .* what is done to one layer is due to all"):
        engine(input_ids=IDS[:, :1], **{by(engine): uncropped})
    out = engine(input_ids=IDS, attention_mask=torch.tensor([[0, 1, 1, 1, 1, 1]]) * 0)
    assert torch.equal(out.logits, out.logits[:1, :1, :1].expand_as(out.logits)), "who sees nothing knows nothing"


def shares(draft_model, model, ids, own):
    """A draft is read into a cache, and so is the target: of its own, or what the draft model has computed."""
    kept = cache_of(draft_model(input_ids=ids[:, :-1])) if ids.shape[1] > 1 else None
    kept = cache_of(model(input_ids=ids[:, :-1])) if own and ids.shape[1] > 1 else kept
    law = model(input_ids=ids[:, -1:], past_key_values=kept).logits[0, -1].softmax(-1)
    return torch.cat([ids, torch.multinomial(law, 1)[None]], 1)


@pytest.mark.parametrize("own", [True, False])
def test_keys_of_another_model_are_none_of_its_own(own):
    sampler = step_sampler(lambda *given: shares(*given, own), cached=True)
    found = judge_sampler(sampler, suite=suite(), exact=True)
    assert found.verdict.kind is (Kind.PROVED if own else Kind.REFUTED), found.verdict.reason
    assert own or "or by another model: on a transformer" in found.notes[-1]


def test_a_model_without_a_cache_says_who_has_one():
    with pytest.raises(ValueError, match=r"keeps no cache; step_sampler\(step, cached=True\)"):
        step_sampler(lambda draft, model, ids: model(ids, past_key_values=[]))(toy("dense-3x6"), toy("dense-3x6"), 1, 0)
