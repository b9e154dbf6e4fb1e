"""Models of patches: ragged windows behind a rolled-back cache, guidance, and whether samples follow the laws."""

import dataclasses

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from realmodels import continuous, patch_figures
from realmodels.continuous import ContinuousDigits, load
from realmodels.data import digits
from realmodels.heads import MixtureHead
from realmodels.patches import to_patches
from specverify.draws import Sampled
from specverify.errors import InputError
from specverify.laws import Chain, CheckedContinuous, ContinuousModel, Head, Mixture
from specverify.tree import rows, tensors

SHIPPED = ("digits-diff", "digits-diff-draft", "digits-gmm", "digits-gmm-draft")
MODELS = [*((name, 1.0) for name in SHIPPED), ("digits-diff", 1.5)]
BATCH, WINDOW = 12, 5


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(scope="module", params=MODELS, ids=lambda pair: f"{pair[0]}-{pair[1]:g}")
def model(request: pytest.FixtureRequest, device: torch.device) -> ContinuousDigits:
    return load(*request.param, device=device)


def images(model: ContinuousDigits, batch: int = BATCH) -> tuple[Tensor, Tensor]:
    held_out = digits()[1]
    patches = to_patches(held_out.tokens[:batch], torch.Generator().manual_seed(0))
    return patches.to(model.device, model.dtype), held_out.labels[:batch].to(model.device)


def parameters(law) -> Tensor:
    """What a law is made of: [batch, slots, numbers]; for a chain, its steps at one point, early, middle and late."""
    if isinstance(law, Chain):
        point = torch.linspace(-1, 1, law.dim, dtype=law.condition.dtype, device=law.condition.device)
        x = point.expand(*law.shape, law.dim)
        steps = [law.transition(t, x) for t in (law.steps, law.steps // 2, 1)]
        return torch.cat([part for step in steps for part in (step.mean, step.scale.log())], dim=-1)
    return torch.cat([law.log_weight, law.mean.flatten(2), law.scale.log().flatten(2)], dim=-1)


def one_by_one(model: ContinuousDigits, patches: Tensor, labels: Tensor) -> Tensor:
    """The laws of every position of given images, one patch per pass: [batch, 16, numbers]."""
    context, found = model.start_with(labels), []
    for k in range(model.length):
        found.append(parameters(model.laws(context, patches[:, :0])))
        context = model.advance(context, patches[:, k : k + 1], torch.ones_like(labels))
    return torch.cat(found, dim=1)


def windowed_error(model, patches: Tensor, labels: Tensor, truth: Tensor, advance=None, seed=0) -> tuple[float, int]:
    """Decode given images in windows whose drafts are right for a random number of patches and junk after them.

    Returns the largest error of a law whose preceding drafts were right, and how many drafts were thrown away.
    """
    generator = torch.Generator().manual_seed(seed)
    inner = model.inner if isinstance(model, CheckedContinuous) else model
    advance = advance or model.advance
    batch, length = patches.shape[:2]
    row = torch.arange(batch, device=patches.device)[:, None]
    context, done = inner.start_with(labels), torch.zeros_like(labels)
    worst, rejected = 0.0, 0
    slots = torch.arange(WINDOW + 1, device=patches.device)
    while bool((done < length).any()):
        position = done[:, None] + slots
        right = patches[row, position.clamp(max=length - 1)]
        accepted = torch.randint(0, WINDOW + 1, (batch,), generator=generator).to(patches.device)
        junk = torch.randn(right.shape, generator=generator).to(right)
        draft = torch.where((slots < accepted[:, None])[..., None], right, junk)[:, :WINDOW]
        found = parameters(model.laws(context, draft))
        due = truth[row, position.clamp(max=length - 1)]
        counts = (slots <= accepted[:, None]) & (position < length)
        worst = max(worst, float((found - due).abs().amax(-1)[counts].max()))
        rejected += int((position < length)[:, :WINDOW][slots[:WINDOW] >= accepted[:, None]].sum())
        count = torch.minimum(accepted + 1, length - done)
        context = advance(context, right, count)
        done = done + count
    return worst, rejected


def ragged(model: ContinuousDigits, patches: Tensor, labels: Tensor):
    """A context whose rows have 0..11 patches, reached by rolling back a whole window."""
    context = model.start_with(labels)
    model.laws(context, patches)
    return model.advance(context, patches, torch.arange(BATCH, device=model.device))


def test_models_follow_the_protocol(model: ContinuousDigits) -> None:
    assert isinstance(model, ContinuousModel)
    assert (model.dim, model.length, model.dtype) == (4, 16, torch.float32)
    law = model.laws(model.start(3), torch.zeros(3, 2, 4, device=model.device))
    assert isinstance(law, Chain if "diff" in model.name else Mixture)
    assert (law.shape, law.dim) == ((3, 3), 4)
    assert isinstance(law, Mixture) or isinstance(law.head, Head)


@pytest.mark.parametrize("seed", range(2))
def test_ragged_windows_give_the_laws_of_one_patch_at_a_time(model: ContinuousDigits, seed: int) -> None:
    patches, labels = images(model)
    truth = one_by_one(model, patches, labels)
    error, rejected = windowed_error(CheckedContinuous(model), patches, labels, truth, seed=seed)
    assert rejected > 50
    assert error < (1e-4 if model.device.type == "cpu" else 1e-3)
    assert truth.std(0).max() > 0.05


@pytest.mark.parametrize("name", SHIPPED)
def test_ragged_windows_agree_in_double_precision(device: torch.device, name: str) -> None:
    model = load(name, dtype=torch.float64, device=device)
    patches, labels = images(model)
    error, _ = windowed_error(model, patches, labels, one_by_one(model, patches, labels))
    assert model.dtype == torch.float64
    assert error < 1e-12


def with_length(context, length: Tensor):
    return dataclasses.replace(context, cache=dataclasses.replace(context.cache, length=length))


def keep_rejected_slots(model, context, tokens, count):
    return with_length(model.advance(context, tokens, count), context.cache.length + tokens.shape[1])


def roll_back_one_too_few(model, context, tokens, count):
    after = model.advance(context, tokens, count)
    return with_length(after, after.cache.length + ((count < tokens.shape[1]) & (count > 0)).long())


def wrong_pending(model, context, tokens, count):
    before = tokens[torch.arange(len(count)), (count - 2).clamp(min=0)]
    return dataclasses.replace(model.advance(context, tokens, count), pending=before)


def neighbour_length(model, context, tokens, count):
    after = model.advance(context, tokens, count)
    return with_length(after, after.cache.length.roll(1))


@pytest.mark.thinned(2)
@pytest.mark.parametrize("mutant", [keep_rejected_slots, roll_back_one_too_few, wrong_pending, neighbour_length])
@pytest.mark.parametrize("name", ["digits-gmm", "digits-diff"])
def test_the_comparison_sees_a_wrong_rollback(name: str, mutant) -> None:
    model = load(name)
    patches, labels = images(model)

    def advance(context, tokens, count):
        return mutant(model, context, tokens, count)

    error, _ = windowed_error(model, patches, labels, one_by_one(model, patches, labels), advance=advance)
    assert error > 0.1


def test_windows_give_the_laws_of_the_training_forward(model: ContinuousDigits) -> None:
    patches, labels = images(model)
    found = parameters(model.laws(model.start_with(labels), patches[:, :-1]))
    network = model.network
    features = network.read(labels, patches)
    if isinstance(network.head, MixtureHead):
        expected = parameters(Mixture(*network.head(features)))
    else:
        null = network.read(torch.full_like(labels, network.shape.null), patches)
        both = torch.stack([features, null][: model.passes], dim=2)
        expected = parameters(Chain(both, continuous.Guided(network.head, 4, model.guidance)))
    assert (found - expected).abs().max() < 1e-4


def test_one_row_has_the_laws_that_it_has_among_many(model: ContinuousDigits) -> None:
    patches, labels = images(model)
    context = ragged(model, patches, labels)
    alone = [
        parameters(model.laws(rows(context, torch.tensor([row], device=model.device)), patches[row : row + 1, :WINDOW]))
        for row in range(BATCH)
    ]
    assert (torch.cat(alone) - parameters(model.laws(context, patches[:, :WINDOW]))).abs().max() < 1e-4


@pytest.mark.parametrize("begun", [0, 13, 16])
def test_windows_past_the_end_are_laws_and_touch_nothing_that_counts(model: ContinuousDigits, begun: int) -> None:
    patches, labels = images(model)
    context = model.start_with(labels)
    model.laws(context, patches)
    context = model.advance(context, patches, torch.full_like(labels, begun))
    keys = context.cache.keys.clone()
    law = model.laws(context, torch.full((BATCH, 20, 4), 0.5, device=model.device))
    law.check("a law past the end")
    assert bool(parameters(law).isfinite().all())
    assert torch.equal(context.cache.keys[:, :, :, :begun], keys[:, :, :, :begun])


def test_advancing_by_nothing_changes_nothing(model: ContinuousDigits) -> None:
    patches, labels = images(model)
    context = ragged(model, patches, labels)
    before = parameters(model.laws(context, patches[:, :2]))
    for n in (0, 3):
        still = model.advance(context, patches[:, :n], torch.zeros_like(labels))
        assert torch.equal(parameters(model.laws(still, patches[:, :2])), before)


class NoValues(TorchDispatchMode):
    """Raises where a tensor's values are read on the host or decide a shape."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.name() in {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"}:
            raise AssertionError(f"{function.name()} waits for the device")
        return function(*args, **(kwargs or {}))


def test_a_pass_never_waits_for_the_device(model: ContinuousDigits) -> None:
    patches, labels = images(model)
    context = ragged(model, patches, labels)
    with NoValues():
        parameters(model.laws(context, patches[:, :WINDOW]))
        model.advance(context, patches[:, :WINDOW], labels % WINDOW)


def test_guidance_combines_the_noise_of_the_class_and_of_none() -> None:
    guided, plain = load("digits-diff", 2.5, dtype=torch.float64), load("digits-diff", dtype=torch.float64)
    patches, labels = images(plain)
    law = guided.laws(guided.start_with(labels), patches[:, :3])
    of_class = plain.laws(plain.start_with(labels), patches[:, :3])
    of_none = plain.laws(plain.start_with(torch.full_like(labels, 10)), patches[:, :3])
    x = torch.randn(BATCH, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in (1, 11, law.steps):  # the mean is affine in the noise, so means combine as noise does
        mean, mean_none = of_class.transition(t, x).mean, of_none.transition(t, x).mean
        assert (law.transition(t, x).mean - (mean_none + 2.5 * (mean - mean_none))).abs().max() < 1e-10
        assert (law.transition(t, x).scale - of_class.transition(t, x).scale).abs().max() < 1e-12
        assert (mean - mean_none).abs().max() > 0.05
    unconditional = load("digits-diff", 0.0, dtype=torch.float64)
    found = unconditional.laws(unconditional.start_with(labels), patches[:, :3])
    assert (found.transition(7, x).mean - of_none.transition(7, x).mean).abs().max() < 1e-10
    assert guided.name == "digits-diff-guidance-2.5"


@pytest.mark.parametrize("name", ["digits-gmm", "digits-gmm-draft"])
def test_densities_integrate_to_one(name: str, seed: int) -> None:
    """E_q[p/q] = 1 for q the same mixture twice as wide: the ratio is at most 2^4, so its deviation is below 4."""
    model = load(name, dtype=torch.float64)
    patches, labels = images(model)
    law = model.laws(model.start_with(labels), patches[:, :-1])
    wide = dataclasses.replace(law, scale=2 * law.scale)
    each = 2000
    spread = [
        Mixture(*(part[:, :, None].expand(-1, -1, each, *part.shape[2:]) for part in tensors(w))) for w in (law, wide)
    ]
    x = spread[1].sample(Sampled(seed), torch.ones(BATCH, 16, each, dtype=torch.bool))
    ratio = (spread[0].log_prob(x) - spread[1].log_prob(x)).exp()
    assert ratio.max() <= 16 * (1 + 1e-9)
    assert abs(float(ratio.mean()) - 1) < 5 * 4 / ratio.numel() ** 0.5
    assert ratio.std() > 0.5
    assert law.scale.min() > 0.01


@pytest.mark.parametrize("name", ["digits-gmm", "digits-gmm-draft"])
def test_plain_sampling_follows_the_laws(name: str, seed: int) -> None:
    """Each coordinate's distribution function, given all before it, is uniform on samples; not on held-out images."""
    model = load(name)
    held_out, labels = images(model, 150)
    found = []
    for patches in (patch_figures.sample(model, labels, Sampled(seed)), held_out):
        uniform = model.laws(model.start_with(labels), patches[:, :-1]).rosenblatt(patches)
        found.append(stats.kstest(uniform.flatten().numpy(), "uniform").pvalue)
    assert found[0] > 1e-6
    assert found[1] < 1e-4


def test_chains_sample_by_walking_their_transitions(seed: int) -> None:
    model = load("digits-diff-draft")
    labels = torch.arange(200) % 10
    law = model.laws(model.start_with(labels), torch.zeros(200, 0, 4))
    path = law.path(Sampled(seed), torch.ones(200, 1, dtype=torch.bool))
    law.check_path(path, "a chain")
    assert path.shape == (200, 1, law.steps + 1, 4)
    noise = torch.stack(
        [law.transition(t, path[..., t, :]).whiten(path[..., t - 1, :]) for t in range(law.steps, 0, -1)]
    )
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 1e-6
    assert bool(law.path_log_prob(path).isfinite().all())
    with pytest.raises(InputError, match="the density of a token of Guided is not known"):
        law.log_prob(path[..., 0, :])
