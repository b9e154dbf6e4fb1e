"""Image quality: closed forms, the libraries' own figures on resampled sets, intervals, and input that is refused."""

import sys

import numpy as np
import prdc
import pytest
import torch
from scipy import linalg

from realmodels import bootstrap, quality
from realmodels.classifier import load_classifier
from realmodels.data import digits
from specverify.errors import InputError

N = 200


@pytest.fixture(scope="module")
def images():
    train, _ = digits()
    return train.tokens[:N], train.labels[:N]


@pytest.fixture(scope="module")
def found(images):
    return quality.measure(*images, bootstrap.weights(N, 50, 0))


def test_the_distance_of_gaussians_is_the_closed_form():
    mean, other = np.array([1.0, 2.0, 3.0]), np.zeros(3)
    spheres = quality.frechet(mean, 4 * np.eye(3), other, 3 * np.eye(3))
    assert spheres == pytest.approx(14 + 3 * (4 + 9 - 2 * 6))
    one, two = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[1.0, -0.5], [-0.5, 2.0]])
    expected = np.trace(one + two - 2 * linalg.sqrtm(one @ two).real)
    assert quality.frechet(np.zeros(2), one, np.zeros(2), linalg.sqrtm(two)) == pytest.approx(expected)


def test_many_distances_at_once_are_those_one_by_one():
    rng = np.random.default_rng(0)
    means, roots = rng.normal(size=(4, 3)), rng.normal(size=(4, 3, 3))
    spreads = roots @ roots.transpose(0, 2, 1)
    together = quality.frechet(means, spreads, np.ones(3), np.diag([1.0, 2.0, 3.0]))
    apart = [quality.frechet(m, c, np.ones(3), np.diag([1.0, 2.0, 3.0])) for m, c in zip(means, spreads, strict=True)]
    np.testing.assert_allclose(together, apart)


def test_a_set_measured_against_itself_is_perfect():
    _, held_out = digits()
    itself = quality.measure(held_out.tokens, held_out.labels, bootstrap.weights(360, 5, 0))
    assert itself["fd"].value == pytest.approx(0, abs=1e-3)  # torchmetrics answers in single precision
    # Each image's ball holds itself and its four nearest: k of k.
    assert [itself[name].value for name in ("precision", "recall", "density", "coverage")] == [1, 1, 1, 1]
    assert itself["accuracy"].value > 0.95


def test_noise_is_far_from_digits(found):
    noise = torch.randint(0, 17, (N, 64), generator=torch.Generator().manual_seed(0))
    bad = quality.measure(noise, torch.arange(N) % 10, bootstrap.weights(N, 20, 0))
    assert bad["fd"].interval[0] > 10 * found["fd"].interval[1]
    assert bad["coverage"].interval[1] < found["coverage"].interval[0]
    assert bad["accuracy"].value < 0.3 < found["accuracy"].value


def test_replicates_are_what_the_libraries_give_for_the_resampled_images(images, capsys):
    """Weights that draw the first half twice are the same as the first half, given twice."""
    tokens, labels = images
    weight = np.stack([np.ones(N, dtype=np.int64)] * 19 + [2 * (np.arange(N) < N // 2)])
    resampled = quality.measure(tokens, labels, weight)
    half = torch.cat([tokens[: N // 2]] * 2)
    again = quality.measure(half, torch.cat([labels[: N // 2]] * 2), weight)
    # Recall looks at the images' own radii, which resampling keeps and a second copy changes.
    for name in ("fd", "precision", "density", "coverage"):
        moved = resampled[name].replicates[-1] - resampled[name].replicates[0]
        assert moved == pytest.approx(again[name].value - resampled[name].value, abs=2e-4), name
    assert abs(resampled["fd"].value - again["fd"].value) > 0.01
    assert capsys.readouterr().out == ""


def test_recall_is_prdc_s_own(images, found):
    reference = quality.held_out()
    features = reference.classifier.features(images[0]).numpy()
    expected = prdc.compute_prdc(reference.features, features, quality.NEIGHBOURS)
    for name, value in expected.items():
        assert found[name].value == pytest.approx(float(value)), name


def test_intervals_hold_the_estimate_and_are_of_the_right_width(images, found):
    for name, one in found.items():
        low, high = one.interval
        assert low <= one.value <= high, name
        assert low < high, name
    values = np.random.default_rng(1).exponential(size=2000)
    mean = bootstrap.ratio(values, np.ones(2000), bootstrap.weights(2000, 2000, 3))
    assert mean.value == pytest.approx(values.mean())
    assert mean.replicates.std() == pytest.approx(values.std() / np.sqrt(2000), rel=0.1)


def test_a_perfect_score_still_has_an_interval(images):
    tokens, _ = images
    labels = quality.held_out().classifier(tokens).argmax(-1)
    perfect = quality.measure(tokens, labels, bootstrap.weights(N, 400, 0))["accuracy"]
    assert perfect.value == 1
    assert 0.96 < perfect.interval[0] < 0.999


def test_the_same_seed_gives_the_same_figures(images, found):
    again = quality.measure(*images, bootstrap.weights(N, 50, 0))
    other = quality.measure(*images, bootstrap.weights(N, 50, 1))
    for name, one in found.items():
        assert again[name].value == one.value == other[name].value
        np.testing.assert_array_equal(again[name].replicates, one.replicates)
        assert (other[name].replicates != one.replicates).any()


def test_too_few_images_for_a_covariance_are_refused(images):
    tokens, labels = images
    with pytest.raises(InputError, match="64 images give no covariance of 64 features; use at least 65"):
        quality.measure(tokens[:64], labels[:64], bootstrap.weights(64, 5, 0))
    with pytest.raises(InputError, match="3 real images give no covariance"):
        quality.reference(load_classifier(), tokens[:3])


def test_bad_images_and_labels_are_refused(images):
    tokens, labels = images
    weight = bootstrap.weights(N, 5, 0)
    with pytest.raises(InputError, match=r"levels of 0\.\.16"):
        quality.measure(tokens + 1, labels, weight)
    with pytest.raises(InputError, match=r"give each a class of 0\.\.9"):
        quality.measure(tokens, labels + 5, weight)
    with pytest.raises(InputError, match="200 labels for 199 images"):
        quality.measure(tokens[1:], labels, bootstrap.weights(N - 1, 5, 0))
    with pytest.raises(InputError, match="cannot resample 1 images 5 times"):
        bootstrap.weights(1, 5, 0)


def test_a_missing_library_is_named_with_its_remedy(images, monkeypatch):
    monkeypatch.setitem(sys.modules, "prdc.prdc", None)
    with pytest.raises(InputError, match=r"needs prdc.*pip install 'specverify\[real\]'"):
        quality.reference(load_classifier(), images[0])


def test_the_kernel_distance_is_the_library_s_own_and_does_not_depend_on_the_number_of_images(images):
    from torchmetrics.image.kid import poly_mmd

    tokens, labels = images
    against = quality.reference(load_classifier(), digits()[1].tokens[:N])  # the library takes sets of one size
    features = against.classifier.features(tokens).detach().double()
    found = quality.measure(tokens, labels, bootstrap.weights(N, 50, 0), against)["kd"]
    theirs = poly_mmd(torch.from_numpy(against.features).double(), features)
    assert found.value == pytest.approx(float(theirs), rel=1e-6)
    parts = [
        quality.measure(t, of, bootstrap.weights(len(t), 3, 0), against)["kd"].value
        for t, of in zip(tokens.split(N // 2), labels.split(N // 2), strict=True)
    ]
    spread = np.std(found.replicates)
    assert abs(np.mean(parts) - found.value) < 3 * spread


def test_the_kernel_distance_of_resampled_images_leaves_out_pairs_of_an_image_with_itself(images):
    tokens, labels = images
    weight = np.stack([np.ones(N, dtype=np.int64)] * 19 + [2 * (np.arange(N) < N // 2)])
    resampled = quality.measure(tokens, labels, weight)["kd"]
    half = quality.measure(tokens[: N // 2], labels[: N // 2], weight[:, : N // 2])["kd"]
    moved = resampled.replicates[-1] - resampled.replicates[0]
    assert moved == pytest.approx(half.value - resampled.value, rel=1e-6)
