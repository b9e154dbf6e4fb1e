"""Positions and masks change the laws of toys where they change those of a transformer, and nowhere else."""

import pytest
import torch
import transformers

from specverify.integrations.prompts import Prompts
from specverify.integrations.transformers import pretrained
from toymodels import toy

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


class Short(Prompts):
    """Of one id, as that of the Llama."""

    def size(self, number):
        return 1

    def begins(self, ids, length, number):
        return (ids[:, 0] == self.vocab) & (number == 0)


@pytest.fixture(scope="module")
def engine():
    made = pretrained(toy("dense-3x6"))
    made.prompts = Short(BEGIN, None)
    return made


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
    assert here.index(True) == there.index(True)


def test_a_cache_position_counts_where_the_release_heeds_it(llama, engine):
    """It goes on behind what was rejected; of releases that heed it, the law changes for both."""

    def stale(model):
        cache = cache_of(model(input_ids=torch.cat([IDS[:, :3], IDS[:, :1] * 0], 1), use_cache=True))
        cache.crop(-1)
        asked = {"cache_position": torch.tensor([4]), by(model): cache}
        return not torch.allclose(laws(model, IDS[:, 3:4], **asked), plain(model)[:, 3:4], atol=1e-5)

    assert stale(engine) == stale(llama)


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
    tokens = out.logits[..., :BEGIN]
    assert torch.equal(tokens, tokens[:1, :1, :1].expand_as(tokens)), "who sees nothing knows nothing"
