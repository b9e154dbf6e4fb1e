"""A small tokenizer of images: a convolutional autoencoder whose grid of vectors is rounded to a codebook.

References: van den Oord et al. 2017 (arXiv 1711.00937); Yu et al. 2022 (arXiv 2110.04627, section 3.2: few numbers per
code, of length 1, as LlamaGen has them). The codebook is learned by gradient; a code that no vector of a batch chose is
now and then put where one of them lies, so that none is left unused.

Or the codebook is a fixed grid, to which every number of a vector is rounded by itself: finite scalar quantisation,
Mentzer et al. 2023 (arXiv 2309.15505). Then nothing but pixels is learned from, and thousands of codes are in use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from realmodels import store
from specverify.errors import InputError

COMMITMENT = 0.25
RESTARTED = 0.1
"""Share of the codes that a batch left unused, which are put elsewhere."""
SCALE = 10.0
"""Of the squared error of pixels: about one over their variance."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a tokenizer.

    Attributes:
        side: of an image, in pixels.
        codes: how many there are.
        width: channels of its first convolution; later ones have twice as many.
        dim: numbers of a code.
        channels: of an image: 1, or 3 colours.
        blocks: residual ones, on either side.
        levels: of a grid, how many values each number of a code takes; empty where codes are learned.
    """

    side: int
    codes: int
    width: int
    dim: int
    channels: int = 1
    blocks: int = 1
    levels: tuple[int, ...] = ()

    @property
    def grid(self) -> int:
        """Codes of a side: one for four pixels."""
        return self.side // 4


class Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width // 2, 3, padding=1), nn.Conv2d(width // 2, width, 1)

    def forward(self, x: Float[Tensor, "n width h w"]) -> Float[Tensor, "n width h w"]:
        """x + f(x)."""
        out: Tensor = x + self.second(F.relu(self.first(F.relu(x))))
        return out


class Tokenizer(nn.Module):
    """Images from 0 to 1, to codes and back."""

    points: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, narrow, wide = shape, shape.width, 2 * shape.width
        self.encoder = nn.Sequential(
            nn.Conv2d(shape.channels, narrow, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(wide, wide, 3, padding=1),
            *(Residual(wide) for _ in range(shape.blocks)),
            nn.ReLU(),
            nn.Conv2d(wide, shape.dim, 1),
        )
        if shape.levels:
            points = 2 * places(shape) / (torch.tensor(shape.levels) - 1) - 1
            self.register_buffer("points", points, persistent=False)
        else:
            self.codebook = nn.Parameter(torch.empty(shape.codes, shape.dim))
        self.decoder = nn.Sequential(
            nn.Conv2d(shape.dim, wide, 3, padding=1),
            *(Residual(wide) for _ in range(shape.blocks)),
            nn.ReLU(),
            nn.ConvTranspose2d(wide, narrow, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(narrow, shape.channels, 4, 2, 1),
        )

    def vectors(self, pixels: Float[Tensor, "n channels side side"]) -> Float[Tensor, "n cells dim"]:
        """What is rounded, in raster order: of length 1, or numbers between -1 and 1 on a grid."""
        found: Tensor = self.encoder(2 * pixels - 1).flatten(2).transpose(1, 2)
        return found.tanh() if self.shape.levels else F.normalize(found, dim=-1)

    def codes(self) -> Float[Tensor, "codes dim"]:
        """The codebook: of length 1, or the points of the grid, the first number running fastest."""
        if not self.shape.levels:
            return F.normalize(self.codebook, dim=-1)
        return self.points

    def nearest(self, vectors: Float[Tensor, "n cells dim"]) -> Int[Tensor, "n cells"]:
        """The code of each vector."""
        if not self.shape.levels:
            return (vectors @ self.codes().T).argmax(-1)
        sizes = torch.tensor(self.shape.levels, device=vectors.device)
        places = ((vectors + 1) * ((sizes - 1) / 2)).round().long()
        return (places * (sizes.cumprod(0) // sizes)).sum(-1)

    def encode(self, pixels: Float[Tensor, "n channels side side"]) -> Int[Tensor, "n cells"]:
        """Codes in raster order."""
        return self.nearest(self.vectors(pixels))

    def decode(self, codes: Int[Tensor, "n cells"]) -> Float[Tensor, "n channels side side"]:
        """Pixels from 0 to 1."""
        return self.pixels(self.codes()[codes]).clamp(0, 1)

    def pixels(self, vectors: Float[Tensor, "n cells dim"]) -> Float[Tensor, "n channels side side"]:
        """Of vectors, as the decoder gives them."""
        out: Tensor = self.decoder(vectors.transpose(1, 2).unflatten(2, (self.shape.grid, -1)))
        return out


def places(shape: Shape) -> Int[Tensor, "codes dim"]:
    """Which value each number of a code of a grid has; the first number runs fastest."""
    sizes = torch.tensor(shape.levels)
    return torch.arange(shape.codes)[:, None] // (sizes.cumprod(0) // sizes) % sizes


def loss(model: Tokenizer, pixels: Float[Tensor, "n channels side side"], generator: torch.Generator) -> Tensor:
    """Of training: the error of the pixels, and what draws learned codes and vectors to each other."""
    vectors = model.vectors(pixels)
    if not model.shape.levels:
        _restart(model, vectors.detach(), generator)
    chosen = model.codes()[model.nearest(vectors.detach())]
    rounded = vectors + (chosen - vectors).detach()
    error = SCALE * F.mse_loss(model.pixels(rounded), pixels)
    if model.shape.levels:
        return error
    return error + F.mse_loss(chosen, vectors.detach()) + COMMITMENT * F.mse_loss(vectors, chosen.detach())


@torch.no_grad()
def _restart(model: Tokenizer, vectors: Float[Tensor, "n cells dim"], generator: torch.Generator) -> None:
    used = torch.bincount(model.nearest(vectors).flatten(), minlength=model.shape.codes) > 0
    moved = ~used & (torch.rand(model.shape.codes, generator=generator) < RESTARTED).to(used.device)
    place = torch.randint(vectors.shape[0] * vectors.shape[1], (model.shape.codes,), generator=generator)
    model.codebook.copy_(torch.where(moved[:, None], vectors.flatten(0, 1)[place], model.codebook))


def initialise(shape: Shape, generator: torch.Generator) -> Tokenizer:
    """A fresh tokenizer: He-normal weights, biases zero, learned codes in all directions."""
    model = Tokenizer(shape)
    for parameter in model.parameters():
        if parameter.ndim > 2:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        elif parameter.ndim == 1:
            nn.init.zeros_(parameter)
    if not shape.levels:
        nn.init.normal_(model.codebook, generator=generator)
    return model


def load_tokenizer(name: str, device: torch.device | str = "cpu", *, folder: Path = store.SHIPPED) -> Tokenizer:
    """A trained tokenizer, in float32.

    Raises:
        InputError: naming the file that is missing, damaged or not what its card says, and how to train it again.
    """
    card = store.read_card(name, folder)
    try:
        if card["kind"] != "tokenizer" or not all(type(size) is int and size > 0 for size in card["shape"].values()):
            raise ValueError(f"kind {card['kind']!r}, sizes {card['shape']}")
        shape = Shape(**card["shape"], levels=tuple(card.get("levels", ())))
        if shape.levels and (math.prod(shape.levels), len(shape.levels)) != (shape.codes, shape.dim):
            raise ValueError(f"a grid of {shape.levels} values is not one of {shape.codes} codes")
        model = Tokenizer(shape)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder / name}.json does not describe a tokenizer ({error!r}); {store.remedy(name, folder)}"
        ) from error
    store.fill(name, model, card, folder)
    return model.to(device).requires_grad_(False).eval()
