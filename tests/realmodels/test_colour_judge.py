"""How colour images are judged: equal sets are alike, and classes that are missing, blur and noise are told apart."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from realmodels import bootstrap, imagenet, judges, quality, store
from realmodels.images import labels, levels
from realmodels.models import open_model
from specverify.decoders.registry import build
from specverify.decoders.run import sample
from specverify.errors import InputError

NAME = "cifar-fsq"
N = 250
"""Images of each set that is decoded."""


@pytest.fixture(scope="module")
def judge():
    return judges.judge(NAME)


@pytest.fixture(scope="module")
def plain():
    """Images of two plain runs, as levels, and the model."""
    model = open_model(NAME)
    return [levels(model, sample(build("ar"), model, N, seed, N).tokens) for seed in (0, 1)], model


def measured(judge, features):
    return quality.measured(features, len(features), bootstrap.weights(len(features), 60, 0), judge.reference)


def decoded(judge, plain, images):
    _, model = plain
    weight = bootstrap.weights(N, 60, 0)
    return quality.measure(images, labels(model.conditions, N), weight, judge.reference)


def changed(images, how):
    """The images with their pixels changed."""
    pixels = how(images.view(N, 3, 32, 32) / 255).clamp(0, 1)
    return (pixels * 255).round().long().flatten(1)


def blurred(pixels):
    """By a Gaussian of one pixel."""
    line = torch.exp(-(torch.arange(-3, 4) ** 2) / 2)
    kernel = torch.outer(line, line) / line.sum() ** 2
    return F.conv2d(F.pad(pixels, (3,) * 4, mode="reflect"), kernel.expand(3, 1, 7, 7), groups=3)


def noisy(pixels):
    """Of 8 levels."""
    return pixels + 8 / 255 * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))


def apart(one, other):
    """Whether the first interval ends below the other."""
    return one.interval[1] < other.interval[0]


def test_it_has_the_features_of_a_network_that_saw_none_of_the_images(judge):
    assert (judge.reference.space.network, judge.reference.space.axes) == ("EfficientNet-Lite0", 64)
    assert judge.reference.features.shape == (1000, 64)
    assert judge.train.features.shape == (2000, 64)
    assert 0.8 < float(judge.reference.features.var(0).mean()) < 1.2
    assert (store.SHIPPED / "cifar-classifier-features.safetensors").stat().st_size < 700_000
    assert judges.judge("mnist-vq").reference.space.network == "mnist-classifier"
    assert judges.judge("digits-s").reference.space.axes is None


def test_real_images_are_like_real_ones_and_missing_classes_show(judge):
    """2,000 images in halves, against 1,000 without two classes; of which the ones show more than the others."""
    features, of = judge.train.features, judge.train.labels.numpy()
    order = np.random.default_rng(0).permutation(len(of))
    halves = [measured(judge, features[half]) for half in np.split(order, 2)]
    for one in halves:
        low, high = one["kd"].interval
        assert low < 0 < high
        assert one["fd"].value < 2
    for first in (2, 8):  # birds and cats, which others are like; ships and trucks
        kept = order[~np.isin(of[order], (first, first + 1))][:1000]
        without = measured(judge, features[kept])
        assert without["kd"].interval[0] > 0, first
        assert all(without["fd"].value > one["fd"].interval[1] for one in halves), first
    assert all(apart(one[name], without[name]) for one in halves for name in ("fd", "kd"))


@pytest.mark.slow
def test_plain_decoding_is_like_plain_decoding_and_blur_and_noise_show(judge, plain):
    runs = [decoded(judge, plain, images) for images in plain[0]]
    assert not any(apart(one[name], other[name]) for name in ("fd", "kd") for one, other in (runs, runs[::-1]))
    for how in (blurred, noisy):
        spoilt = decoded(judge, plain, changed(plain[0][0], how))
        for name in ("fd", "kd"):
            assert all(apart(one[name], spoilt[name]) for one in runs), (how, name)
        assert spoilt["recall"].value < 0.7 * runs[0]["recall"].value


@pytest.mark.slow
def test_classes_are_still_judged_by_our_classifier(judge, plain):
    images, model = plain
    asked = labels(model.conditions, N)
    found = quality.measure(images[0], asked, bootstrap.weights(N, 5, 0), judge.reference)
    told = judge.reference.classifier(images[0]).argmax(-1)
    assert found["accuracy"].value == float((told == asked).double().mean())


def test_features_of_another_network_are_refused(monkeypatch):
    read = store.read_card
    spoilt = {"network": ("ResNet-0", "0"), "network_sha256": (imagenet.NAME, "0")}
    for name, (network, sha256) in spoilt.items():
        judges._of_features.cache_clear()
        value = network if name == "network" else sha256

        def card(asked, key=name, value=value):
            return {**read(asked), key: value} if asked.endswith("features") else read(asked)

        monkeypatch.setattr(judges.store, "read_card", card)
        with pytest.raises(InputError, match=rf"holds features of {network} with SHA-256 .*train_vq cifar-classifier"):
            judges.judge(NAME)
    judges._of_features.cache_clear()
