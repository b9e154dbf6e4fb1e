"""A small tokenizer of images: a convolutional autoencoder whose grid of vectors is rounded to a codebook.

References: van den Oord et al. 2017 (arXiv 1711.00937); Yu et al. 2022 (arXiv 2110.04627, section 3.2: few numbers per
code, of length 1, as LlamaGen has them). The codebook is learned by gradient; a code that no vector of a batch chose is
now and then put where one of them lies, so that none is left unused.
"""

from __future__ import annotations

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
    """The sizes of a tokenizer: pixels of a side, codes, channels, and numbers of a code."""

    side: int
    codes: int
    width: int
    dim: int

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
    """Images of one channel, from 0 to 1, to codes and back."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, narrow, wide = shape, shape.width, 2 * shape.width
        self.encoder = nn.Sequential(
            nn.Conv2d(1, narrow, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(wide, wide, 3, padding=1),
            Residual(wide),
            nn.ReLU(),
            nn.Conv2d(wide, shape.dim, 1),
        )
        self.codebook = nn.Parameter(torch.empty(shape.codes, shape.dim))
        self.decoder = nn.Sequential(
            nn.Conv2d(shape.dim, wide, 3, padding=1),
            Residual(wide),
            nn.ReLU(),
            nn.ConvTranspose2d(wide, narrow, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(narrow, 1, 4, 2, 1),
        )

    def vectors(self, pixels: Float[Tensor, "n 1 side side"]) -> Float[Tensor, "n cells dim"]:
        """What is rounded: of length 1, in raster order."""
        return F.normalize(self.encoder(2 * pixels - 1).flatten(2).transpose(1, 2), dim=-1)

    def codes(self) -> Float[Tensor, "codes dim"]:
        """The codebook, of length 1."""
        return F.normalize(self.codebook, dim=-1)

    def nearest(self, vectors: Float[Tensor, "n cells dim"]) -> Int[Tensor, "n cells"]:
        """The code of each vector."""
        return (vectors @ self.codes().T).argmax(-1)

    def encode(self, pixels: Float[Tensor, "n 1 side side"]) -> Int[Tensor, "n cells"]:
        """Codes in raster order."""
        return self.nearest(self.vectors(pixels))

    def decode(self, codes: Int[Tensor, "n cells"]) -> Float[Tensor, "n 1 side side"]:
        """Pixels from 0 to 1."""
        return self.pixels(self.codes()[codes]).clamp(0, 1)

    def pixels(self, vectors: Float[Tensor, "n cells dim"]) -> Float[Tensor, "n 1 side side"]:
        """Of vectors, as the decoder gives them."""
        out: Tensor = self.decoder(vectors.transpose(1, 2).unflatten(2, (self.shape.grid, -1)))
        return out


def loss(model: Tokenizer, pixels: Float[Tensor, "n 1 side side"], generator: torch.Generator) -> Tensor:
    """Of training: the error of the pixels, and what draws codes and vectors to each other."""
    vectors = model.vectors(pixels)
    _restart(model, vectors.detach(), generator)
    chosen = model.codes()[model.nearest(vectors.detach())]
    rounded = vectors + (chosen - vectors).detach()
    drawn = F.mse_loss(chosen, vectors.detach()) + COMMITMENT * F.mse_loss(vectors, chosen.detach())
    return SCALE * F.mse_loss(model.pixels(rounded), pixels) + drawn


@torch.no_grad()
def _restart(model: Tokenizer, vectors: Float[Tensor, "n cells dim"], generator: torch.Generator) -> None:
    used = torch.bincount(model.nearest(vectors).flatten(), minlength=model.shape.codes) > 0
    moved = ~used & (torch.rand(model.shape.codes, generator=generator) < RESTARTED)
    place = torch.randint(vectors.shape[0] * vectors.shape[1], (model.shape.codes,), generator=generator)
    model.codebook.copy_(torch.where(moved[:, None], vectors.flatten(0, 1)[place], model.codebook))


def initialise(shape: Shape, generator: torch.Generator) -> Tokenizer:
    """A fresh tokenizer: He-normal weights, biases zero, codes in all directions."""
    model = Tokenizer(shape)
    for parameter in model.parameters():
        if parameter.ndim > 2:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
        elif parameter.ndim == 1:
            nn.init.zeros_(parameter)
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
        model = Tokenizer(Shape(**card["shape"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder / name}.json does not describe a tokenizer ({error!r}); {store.remedy(name, folder)}"
        ) from error
    store.fill(name, model, card, folder)
    return model.to(device).requires_grad_(False).eval()
