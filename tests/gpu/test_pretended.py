"""On a device that is none: no tensor of the CPU meets one of it, no step copies between both, tokens are the same."""

import pytest
import torch
from pretended import NAME, Device, Functions, Generator, MixedDevices, Pretended

from realmodels.models import open_model
from specverify.bench import Clock, pass_costs
from specverify.decoders import registry, sample
from specverify.draws import Sampled
from specverify.rules import registry as rules
from specverify.rules.clusters import partition_from_embedding
from toymodels import draft, toy

HERE = torch.device("cpu")


@pytest.fixture
def pretended(monkeypatch):
    """The device."""
    monkeypatch.setattr(torch, "Generator", Generator)
    with Device() as device, Functions():
        yield device


@pytest.mark.parametrize(
    "wrong",
    [
        lambda there: there + torch.zeros(3),
        lambda there: torch.cat([there, torch.zeros(3)]),
        lambda there: torch.zeros(3)[there.long()],
        lambda there: there.gather(0, torch.zeros(3, dtype=torch.int64)),
        lambda there: torch.rand(3, device=NAME, generator=torch.Generator()),
        lambda there: torch.rand(3, generator=torch.Generator(NAME)),
    ],
)
def test_what_a_gpu_refuses_is_refused(pretended, wrong):
    with pytest.raises(MixedDevices):
        wrong(torch.zeros(3, device=NAME))


def test_what_a_gpu_takes_is_taken(pretended):
    there = torch.arange(3.0, device=NAME)
    assert isinstance(there, Pretended)
    assert pretended.moves == 0
    assert (there + torch.tensor(1.0)).tolist() == [1, 2, 3]
    assert there[torch.tensor([2])].cpu().numpy().tolist() == [2]
    assert pretended.moves == 2  # what left it: a list and an array
    with pytest.raises(TypeError, match="has no array"):
        there.numpy()


@pytest.mark.thinned(3)
@pytest.mark.parametrize("name", registry.names("ids"))
def test_decoders_say_the_tokens_that_they_say_on_a_cpu(pretended, name):
    def built(device, toy_name):
        model = toy(toy_name, torch.float32, device)
        return registry.build(name, registry.Settings(3, draft_model=draft("perturbed", model))), model

    expected = sample(*built("cpu", "eos-3x6"), 20, seed=0)
    found = sample(*built(NAME, "eos-3x6"), 20, seed=0)
    assert found.tokens.device.type == NAME
    races = name in ("scd-gs", "sd-list-gumbel")  # noise is drawn where it is needed on a CPU, and everywhere on a GPU
    if races:
        assert torch.equal(found.tokens.cpu(), sample(*built(NAME, "eos-3x6"), 20, seed=0).tokens.cpu())
        assert found.tokens.shape == expected.tokens.shape
    else:
        assert torch.equal(found.tokens.cpu(), expected.tokens)
    decoder, model = built(NAME, "markov-8x32")
    draws = Sampled(0, device=NAME)
    state, _ = decoder.step(decoder.init(model, 8, draws), model, draws)
    before = pretended.moves
    decoder.step(state, model, draws)
    assert pretended.moves == before, "a step copies from one device to the other, and so waits"


@pytest.mark.parametrize("guidance", [pytest.param(1.0, marks=pytest.mark.slow), 2.0])
def test_image_models_say_the_tokens_that_they_say_on_a_cpu(pretended, guidance):
    decoder = registry.build("scd-mc", registry.Settings(8))
    here, there = (open_model("digits-s", guidance=guidance, device=device) for device in ("cpu", NAME))
    found = sample(decoder, there, 2, seed=0)
    assert torch.equal(found.tokens.cpu(), sample(decoder, here, 2, seed=0).tokens)
    assert there.render(found.tokens).device.type == there.embedding().device.type == NAME
    assert len(pass_costs(there, (2, 4), 2, Clock(HERE))) == 3


@pytest.mark.thinned(4)
@pytest.mark.parametrize("name", rules.names())
def test_rules_judge_drafts_of_image_models(pretended, name):
    model = open_model("digits-s", device=NAME)
    embedding = model.embedding()
    rule = rules.build(name, None, rules.Context(embedding, partition_from_embedding(embedding, 4)))
    state = registry.build("sjd", registry.Settings(4, judging=rule))
    draws = Sampled(0, device=NAME)
    begun, info = state.step(state.init(model, 2, draws), model, draws)
    begun, info = state.step(begun, model, draws)
    assert info.verified.device.type == begun.length.device.type == NAME
