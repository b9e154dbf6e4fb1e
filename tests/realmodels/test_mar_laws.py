"""What a law of sets of positions is: that of MAR's steps, in windows of any kind, and of no other steps."""

import folders
import pytest
import torch
from folders import opened_mar as opened
from scipy import stats
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from specverify.decoders import Autoregressive, sample
from specverify.decoders.registry import Settings, build
from specverify.draws import Sampled
from specverify.laws import Chain, CheckedContinuous, ContinuousModel, Head
from specverify.tree import rows

BATCH = 6
MODELS = {
    "one": {"block": 1},
    "three": {"block": 3},
    "uneven": {"block": (1, 1, 4, 3), "guidance": 2.5},
    "all": {"block": 9, "guidance": 1.5, "schedule": "constant"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folders.mar(tmp_path_factory.mktemp("tiny") / "mar")


@pytest.fixture(params=MODELS)
def model(request, folder):
    return opened(folder, **MODELS[request.param])


def tokens_of(model, batch=BATCH, seed=0):
    return model.plain(batch, Sampled(seed))


def parameters(law):
    """A chain's steps at one point: [batch, slots, numbers]."""
    x = torch.linspace(-1, 1, law.dim, dtype=torch.float64).expand(*law.shape, law.dim)
    steps = [law.transition(t, x) for t in (law.steps, 2, 1)]
    return torch.cat([part for step in steps for part in (step.mean, step.scale.log())], -1)


def begun(model, tokens, count):
    return model.advance(model.start(len(tokens)), tokens, torch.as_tensor(count).expand(len(tokens)))


def layer(block, side):
    """A block as torch has it."""
    theirs = nn.TransformerEncoderLayer(
        side.width, side.heads, 4 * side.width, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
    )
    names = {"attn.qkv.": "self_attn.in_proj_", "attn.proj.": "self_attn.out_proj."}
    names |= {"mlp.fc1.": "linear1.", "mlp.fc2.": "linear2."}
    tensors = {}
    for key, value in block.state_dict().items():
        for mine, its in names.items():
            key = key.replace(mine, its)
        tensors[key] = value
    theirs.load_state_dict(tensors)
    return theirs.double()


def features(net, label, tokens, known):
    """One image's, in the way of its paper: tokens that are not known are left out of the encoder."""
    shape, known_slots = net.shape, torch.cat([torch.ones(net.shape.buffer, dtype=torch.bool), known])
    x = torch.cat([label.expand(shape.buffer, -1), net.z_proj(tokens)]) + net.encoder_pos_embed_learned[0]
    x = net.z_proj_ln(x)[known_slots][None]
    for block in net.encoder_blocks:
        x = layer(block, shape.encoder)(x)
    y = net.mask_token[0].repeat(shape.buffer + shape.length, 1)
    y[known_slots] = net.decoder_embed(net.encoder_norm(x))[0]
    y = (y + net.decoder_pos_embed_learned[0])[None]
    for block in net.decoder_blocks:
        y = layer(block, shape.decoder)(y)
    return net.decoder_norm(y)[0, shape.buffer :] + net.diffusion_pos_embed_learned[0]


@torch.no_grad()
def test_features_are_those_of_images_whose_unknown_tokens_are_left_out(model):
    net, tokens = model.network, tokens_of(model)
    for first, size in zip([sum(model.blocks[:k]) for k in range(len(model.blocks))], model.blocks, strict=True):
        context = begun(model, tokens, first)
        condition = model.laws(context, tokens[:, first : first + size - 1]).condition
        for row in range(BATCH):
            order = context.order[row]
            known, raster = torch.zeros(9, dtype=torch.bool), torch.zeros(9, 2, dtype=torch.float64)
            known[order[:first]], raster[order[:first]] = True, tokens[row, :first]
            labels = [net.class_emb.weight[row % 3], net.fake_latent[0]][: model.passes]
            due = [features(net, label, raster, known)[order[first : first + size]] for label in labels]
            assert (condition.features[row] - torch.stack(due, 1)).abs().max() < 1e-12
    assert condition.features.std(0).min() > 1e-3


def test_models_follow_the_protocol(model):
    assert isinstance(model, ContinuousModel)
    law = model.laws(model.start(3), torch.zeros(3, 2, 2, dtype=torch.float64))
    assert isinstance(law, Chain)
    assert isinstance(law.head, Head)
    assert (law.shape, law.dim, law.steps) == ((3, 3), 2, 4)
    law.check_path(law.path(Sampled(0), torch.ones(3, 3, dtype=torch.bool)), "a chain")


def one_by_one(model, tokens):
    context, found = model.start(len(tokens)), []
    for k in range(model.length):
        found.append(parameters(model.laws(context, tokens[:, :0])))
        context = model.advance(context, tokens[:, k : k + 1], torch.ones(len(tokens), dtype=torch.int64))
    return torch.cat(found, 1)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("window", [1, 4, 12])
def test_ragged_windows_give_the_laws_of_one_token_at_a_time(model, window):
    """Behind junk that was thrown away, and past the end, where laws are laws all the same."""
    tokens, row = tokens_of(model), torch.arange(BATCH)[:, None]
    truth, generator = one_by_one(model, tokens), torch.Generator().manual_seed(window)
    checked, slots, done = CheckedContinuous(model), torch.arange(window + 1), torch.zeros(BATCH, dtype=torch.int64)
    context = checked.start(BATCH)
    while bool((done < 9).any()):
        place = done[:, None] + slots
        right = tokens[row, place.clamp(max=8)]
        accepted = torch.randint(0, window + 1, (BATCH,), generator=generator)
        junk = torch.randn(right.shape, generator=generator, dtype=torch.float64)
        draft = torch.where((slots < accepted[:, None])[..., None], right, junk)[:, :-1]
        error = (parameters(checked.laws(context, draft)) - truth[row, place.clamp(max=8)]).abs().amax(-1)
        assert error[(slots <= accepted[:, None]) & (place < 9)].max() < 1e-9
        count = (accepted + 1).minimum(9 - done)
        context, done = checked.advance(context, right, count), done + count
    assert truth.std(0).max() > 0.05


def test_one_row_has_the_laws_that_it_has_among_many(model):
    tokens = tokens_of(model)
    context = model.advance(model.start(BATCH), tokens, torch.arange(BATCH))
    alone = [model.laws(rows(context, torch.tensor([row])), tokens[row : row + 1, :4]) for row in range(BATCH)]
    together = parameters(model.laws(context, tokens[:, :4]))
    assert (torch.cat([parameters(law) for law in alone]) - together).abs().max() < 1e-9


class NoValues(TorchDispatchMode):
    """Raises where a tensor's values are read on the host or decide a shape."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.name() in {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"}:
            raise AssertionError(f"{function.name()} waits for the device")
        return function(*args, **(kwargs or {}))


def test_a_pass_never_waits_for_the_device(model):
    tokens = tokens_of(model)
    context = model.start(BATCH)
    with NoValues():
        parameters(model.laws(context, tokens[:, :4]))
        model.advance(context, tokens[:, :4], torch.arange(BATCH) % 4)


def test_a_token_sees_those_of_earlier_steps_alone(folder):
    """So masking a drafted block is decoding as many tokens a step: no draft of it has a say, whatever it is."""
    three, one = opened(folder, block=3), opened(folder, block=1)
    tokens, other = tokens_of(three), tokens_of(three, seed=1)
    context = begun(three, tokens, 3)
    found = [parameters(three.laws(context, draft[:, 3:8])) for draft in (tokens, other)]
    assert torch.equal(found[0][:, :3], found[1][:, :3])
    assert (found[0] - found[1])[:, 3:].abs().amax((0, 2)).min() > 0.05
    seen = [parameters(one.laws(begun(one, tokens, 3), draft[:, 3:8])) for draft in (tokens, other)]
    assert (seen[0] - found[0])[:, 0].abs().max() < 1e-9
    assert (seen[0] - seen[1])[:, 1:].abs().amax((0, 2)).min() > 0.05


N = 1000


@pytest.mark.slow
def test_what_verified_blocks_are_lossless_to_is_as_many_tokens_a_step(folder, tmp_path, seed):
    """Not one token a step, from which the same statistics tell it apart.

    In a block that begins an image, tokens drawn by one step are independent: their products with each other, along the
    directions in which those of one token a step depend on each other, have the law that they have in MAR's own
    decoding of three tokens a step. Every comparison rejects equal laws with a probability of 1e-6.
    """
    common = {"classes": [1], "order": "raster"}
    three, one = opened(folder, block=3, **common), opened(folder, block=1, **common)
    near = opened(folders.mar(tmp_path / "near", moved=0.001), block=3, **common)
    control, single = three.plain(N, Sampled(seed)), one.plain(N, Sampled(seed + 1))
    pilot = one.plain(N, Sampled(seed + 2))[:, :3]
    u, _, v = torch.linalg.svd((pilot[:, 0].T @ (pilot[:, 2] - pilot[:, 2].mean(0))) / N)
    found = {"plain": sample(Autoregressive(), three, N, seed=seed + 3)}
    for number, name in enumerate(("sd-steps", "jacobi-steps")):
        decoder = build(name, Settings(window=3, draft_model=near))
        found[name] = sample(decoder, three, N, seed=seed + 4 + number)
        assert 0.1 < found[name].acceptance_rate < 0.99
        assert found[name].passes.double().mean() < 6

    def statistics(tokens):
        first = (tokens[:, 0] @ u[:, 0]) * ((tokens[:, 2] - pilot[:, 2].mean(0)) @ v[0])
        return torch.cat([first[:, None], tokens.flatten(1)], 1).numpy().T

    for run in found.values():
        same = [stats.ks_2samp(*pair).pvalue for pair in zip(statistics(run.tokens), statistics(control), strict=True)]
        assert min(same) > 1e-6
        assert stats.ks_2samp(statistics(run.tokens)[0], statistics(single)[0]).pvalue < 1e-6


def test_plain_decoding_takes_a_pass_for_every_step(folder):
    model, calls = opened(folder, block=(2, 4, 3)), []
    handle = model.network.register_forward_hook(lambda *_: calls.append(1))
    assert model.plain(2, Sampled(0)).shape == (2, 9, 2)
    handle.remove()
    assert len(calls) == 3


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["sd-path", "sd-last", "jacobi-last", "cspd", "cspd-released"])
def test_decoders_of_diffusion_heads_run_on_it(folder, tmp_path, name):
    near = opened(folders.mar(tmp_path / "near", moved=0.002), guidance=1.5)
    model = opened(folder, block=(1, 4, 4), guidance=1.5)
    found = sample(build(name, Settings(window=4, draft_model=near)), model, 20, seed=0)
    assert found.tokens.isfinite().all()
    assert found.passes.max() <= 9


class Masked:
    """A model that is shown other vectors where a decoder shows it zeros for masked tokens."""

    def __init__(self, inner):
        self.inner = inner
        self.name, self.dim, self.length, self.dtype = inner.name, inner.dim, inner.length, inner.dtype
        self.device, self.start, self.advance = inner.device, inner.start, inner.advance

    def laws(self, context, draft):
        return self.inner.laws(context, draft if bool(draft.any()) else draft + 3)


def test_what_the_released_code_masks_has_no_say_where_steps_are_its_blocks(folder, tmp_path):
    near = opened(folders.mar(tmp_path / "near", moved=0.002))
    decoder = build("cspd-released", Settings(window=4, draft_model=near, prefill=0))
    for block, same in (((1, 4, 4), True), (1, False)):
        model = opened(folder, block=block)
        runs = [sample(decoder, each, 20, seed=0) for each in (model, Masked(model))]
        assert torch.equal(runs[0].tokens, runs[1].tokens) == same
        assert runs[0].acceptance_rate > 0.05


def test_orders_differ_from_row_to_row_and_images_are_laid_out_by_them(folder):
    model = opened(folder)
    context, other = model.start(4), opened(folder, seed=1).start(4)
    assert torch.equal(context.order.sort(1).values, torch.arange(9).expand(4, 9))
    assert torch.equal(model.start(3).order, context.order[:3])
    assert len({tuple(order) for order in (*context.order.tolist(), *other.order.tolist())}) == 8
    tokens = context.order[..., None].double().expand(-1, -1, 2)
    assert torch.equal(model.raster(context, tokens)[..., 0], torch.arange(9).double().expand(4, 9))
    assert torch.equal(opened(folder, order="raster").start(2).order, torch.arange(9).expand(2, 9))
