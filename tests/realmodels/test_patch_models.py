"""What the models of patches are worth, their heads, checkpoints and training."""

import itertools
import math
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from realmodels import patch_figures, store, train
from realmodels.classifier import load_classifier
from realmodels.continuous import load, load_network, names
from realmodels.data import digits
from realmodels.fit import Recipe, fit
from realmodels.heads import DiffusionHead, schedule
from realmodels.patches import DIM, LENGTH, STEP, to_pixels
from specverify.draws import Sampled
from specverify.errors import InputError

SHIPPED = ("digits-diff", "digits-diff-draft", "digits-gmm", "digits-gmm-draft")


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", SHIPPED)
def test_samples_look_like_their_class_to_the_classifier(name: str) -> None:
    model, labels = load(name), torch.arange(200) % 10
    pixels = to_pixels(patch_figures.sample(model, labels, Sampled(3)))
    accuracy = float((load_classifier()(pixels).argmax(-1) == labels).float().mean())
    stated = store.read_card(name)["figures"]["guidance_1"]["class_accuracy"]
    assert abs(accuracy - stated) < 5 * math.sqrt(stated * (1 - stated) / 200 + 1e-4)
    assert patch_figures.nearest(pixels, digits()[0]).min() > 0


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", SHIPPED)
def test_held_out_figures_are_those_of_the_card(name: str) -> None:
    figures = store.read_card(name)["figures"]
    for key, value in patch_figures.held_out(load_network(name)).items():
        assert value == pytest.approx(figures[f"held_out_{key}"], abs=2e-3)
    assert figures["held_out_bits_per_dimension_bound"] < 0.6 * math.log2(17)


@pytest.mark.parametrize("kind", ["gmm", "diff"])
def test_a_draft_is_a_smaller_and_worse_model_of_the_same_tokens(kind: str) -> None:
    target, draft = (store.read_card(f"digits-{kind}{end}") for end in ("", "-draft"))
    assert draft["parameters"] < target["parameters"] / 3
    bound = "held_out_bits_per_dimension_bound"
    assert target["figures"][bound] < draft["figures"][bound]
    assert target["shape"] | draft["shape"] == target["shape"] | {
        key: draft["shape"][key] for key in ("width", "layers")
    }
    assert target["head"].get("steps") == draft["head"].get("steps")


def test_the_model_card_states_the_figures_of_the_checkpoints() -> None:
    text = (store.SHIPPED.parent / "MODEL_CARD.md").read_text()
    assert names() == list(SHIPPED)
    for name in SHIPPED:
        figures = store.read_card(name)["figures"]
        stated = [str(value) for key, value in figures.items() if key.startswith("held_out")]
        for guidance in ("1", "1.5"):
            row = figures.get(f"guidance_{guidance}")
            if row:
                stated.append(f"| {name} | {guidance} | {' | '.join(str(value) for value in row.values())} |")
        assert [part for part in stated if part not in text] == []
        assert figures["classifier_sha256"] == store.read_card("digits-classifier")["sha256"]
    files = {path: path.stat().st_size for path in store.SHIPPED.rglob("*.*") if path.is_file()}
    assert sum(files.values()) < 16_000_000
    of_images = [path for path in files if any(name in str(path) for name in ("mnist", "cifar", "janus-digits"))]
    assert sum(files[path] for path in of_images) < 14_000_000


def test_the_schedule_is_that_of_the_forward_process() -> None:
    alpha, kept, low, high = schedule(20)
    assert torch.allclose(alpha.cumprod(0), kept)
    assert (kept[0], kept.argsort(descending=True).tolist()) == (1, list(range(21)))
    posterior = (1 - alpha) * (1 - kept.roll(1)) / (1 - kept)
    assert torch.allclose(low[2:], posterior[2:].log())
    assert torch.allclose(high[1:], (1 - alpha[1:]).log())
    assert float(low[1].exp()) == pytest.approx(STEP**2 / 12)
    assert bool((low[1:] < high[1:]).all())
    assert kept[-1] < 0.005


def test_the_step_of_the_true_noise_is_the_posterior_mean_and_the_loss_a_divergence() -> None:
    rng = torch.Generator().manual_seed(0)
    head = DiffusionHead(6, 3, steps=5, hidden=8, blocks=1).double()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=rng)
    n = 40
    features, x0, noise = (torch.randn(n, size, dtype=torch.float64, generator=rng) for size in (6, 3, 3))
    t = torch.arange(n) % 5 + 1
    alpha, kept, low, _ = head.table[:, t, None]
    before = head.table[1][t - 1, None]
    x = kept.sqrt() * x0 + (1 - kept).sqrt() * noise
    mean, _ = head.step(t, x, noise, torch.zeros_like(noise))
    narrow = (1 - before).clamp(min=1e-300)  # 0 at t = 1, where the posterior is x_0 itself
    precision = alpha / (1 - alpha) + 1 / narrow  # of x_(t-1) given x_t and x_0, by Bayes
    due = (alpha.sqrt() / (1 - alpha) * x + before.sqrt() / narrow * x0) / precision
    assert (mean - due).abs().max() < 1e-12
    later = t > 1
    assert (due - x0)[~later].abs().max() < 1e-12

    error, nats = head.loss(features, x0, t, noise)
    predicted, share = head(features, t, x)
    mean, scale = head.step(t, x, predicted, share)
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(normal(due, (low / 2).exp()), normal(mean, scale)).mean(-1)
    assert torch.allclose(nats[later], divergence[later])
    assert torch.allclose(nats[~later], -normal(mean, scale).log_prob(x0).mean(-1)[~later])
    assert torch.allclose(error, (predicted - noise).square().mean(-1))


def test_bits_are_of_grey_levels() -> None:
    """A uniform law over 17 grey levels has a density of 1 / (17 STEP) on dequantised patches."""
    assert patch_figures.bits(math.log(17 * STEP)) == pytest.approx(math.log2(17))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for end in ("json", "safetensors"):
        shutil.copy(store.SHIPPED / f"digits-diff-draft.{end}", tmp_path)
    return tmp_path


def test_a_copied_folder_loads_and_a_changed_one_is_refused(folder: Path) -> None:
    assert names(folder) == ["digits-diff-draft"]
    assert load("digits-diff-draft", folder=folder).name == "digits-diff-draft"
    path = folder / "digits-diff-draft.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        InputError, match=r"has SHA-256 .*train it again with: python -m realmodels.train digits-diff-d"
    ):
        load("digits-diff-draft", folder=folder)
    with pytest.raises(InputError, match=r"no checkpoint 'digits-gmm'.*there: digits-diff-draft"):
        load(folder=folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda card: card.update(kind="diffuser"), "kind 'diffuser'; known: mixture, diffusion"),
        (lambda card: card.pop("head"), "KeyError('head')"),
        (lambda card: card["head"].update(steps=0), "'steps': 0"),
        (lambda card: card["head"].update(depth=1), "depth"),
        (lambda card: card["shape"].update(heads=5), "5 heads do not divide 48 dimensions"),
        (lambda card: card["shape"].update(width="48"), "'width': '48'"),
        (lambda card: card.update(shape=[48]), "list"),
    ],
)
def test_a_card_that_describes_no_model_of_patches(folder: Path, change, said: str) -> None:
    card = store.read_card("digits-diff-draft", folder)
    change(card)
    store.write_card("digits-diff-draft", card, folder)
    with pytest.raises(InputError) as caught:
        load("digits-diff-draft", folder=folder)
    for part in (
        str(folder / "digits-diff-draft.json"),
        "does not describe a model of patches",
        said,
        "train it again",
    ):
        assert part in str(caught.value)


def test_a_model_of_grey_levels_is_sent_to_its_loader() -> None:
    said = "checkpoint 'digits-s' is of kind 'transformer', which realmodels.continuous.load does not load; use "
    with pytest.raises(InputError, match=f"^{said}realmodels.digits.load$"):
        load("digits-s")


def test_a_state_finer_than_the_network_is_rounded_to_it() -> None:
    """Trajectories are put together from noise in double precision; the network has its own."""
    model = load("digits-diff-draft")
    law = model.laws(model.start(2), torch.zeros(2, 1, DIM))
    x = torch.full((2, 2, DIM), 1 / 3, dtype=torch.float64)
    fine, coarse = law.transition(7, x), law.transition(7, x.float())
    assert torch.equal(fine.mean, coarse.mean)
    assert torch.equal(fine.scale, coarse.scale)
    assert fine.mean.dtype == torch.float32


def test_weights_of_another_head_are_refused(folder: Path) -> None:
    card = store.read_card("digits-diff-draft", folder)
    store.write_card("digits-diff-draft", {**card, "kind": "mixture", "head": {"components": 8}}, folder)
    with pytest.raises(InputError, match=r"does not fit its card: 'head\.blocks\.0"):
        load("digits-diff-draft", folder=folder)
    store.write_card("digits-diff-draft", {**card, "head": {**card["head"], "steps": 7}}, folder)
    with pytest.raises(InputError, match=r"'head\.time\.weight' has shape \(20, 64\), expected \(7, 64\)"):
        load("digits-diff-draft", folder=folder)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"guidance 1\.5 of a mixture is no mixture; use 1, or a model with a diffusion"
    ):
        load("digits-gmm", guidance=1.5)
    for guidance in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match=f"guidance {guidance} is not a finite number of at least 0"):
            load("digits-diff", guidance=guidance)
    with pytest.raises(InputError, match=r"dtype torch\.bfloat16 is too coarse for densities"):
        load("digits-gmm", dtype=torch.bfloat16)
    with pytest.raises(InputError, match=r"class labels have shape \(0,\); give one label per row"):
        load("digits-gmm", classes=())
    model = load("digits-gmm", guidance=None, classes=(3, 7))
    assert model.start(5).labels.tolist() == [3, 7, 3, 7, 3]
    with pytest.raises(InputError, match=r"class labels \[4, 11\] are not all in 0\.\.10"):
        model.start_with(torch.tensor([4, 11]))


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["digits-gmm-draft", "digits-diff-draft"])
def test_thirty_steps_learn_and_an_interruption_changes_no_bit(tmp_path: Path, name: str) -> None:
    job, recipe = train.JOBS[name], Recipe(steps=30, batch=16, rate=4e-3, every=15)

    def begin(path: Path):
        model = job.build(torch.Generator().manual_seed(0))
        return model, fit(model, *train.objectives(job), recipe, path)

    whole, steps = begin(tmp_path / "whole")
    log = list(steps)
    assert sum(entry.loss for entry in log[-5:]) < sum(entry.loss for entry in log[:5]) - 0.2
    assert log[-1].best < log[14].best
    _, steps = begin(tmp_path / "parts")
    first = list(itertools.islice(steps, 10))
    steps.close()
    resumed, steps = begin(tmp_path / "parts")
    assert first + list(steps) == log
    assert all(torch.equal(mine, other) for mine, other in zip(resumed.parameters(), whole.parameters(), strict=True))


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", ["digits-gmm-draft", "digits-diff-draft"])
def test_the_command_trains_a_model_that_loads(tmp_path: Path, name: str) -> None:
    result = CliRunner().invoke(train.app, [name, "--steps", "2", "--out", str(tmp_path), "--samples", "10"])
    assert result.exit_code == 0, result.output
    card = store.read_card(name, tmp_path)
    assert card["training"]["steps"] == 2
    assert card["figures"]["samples"] == 10
    law = load(name, folder=tmp_path).laws(load(name, folder=tmp_path).start(2), torch.zeros(2, 1, DIM))
    assert law.shape == (2, 2)
    assert load_network(name, tmp_path).shape.length == LENGTH
