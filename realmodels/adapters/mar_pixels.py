"""MAR's autoencoder (KL-16 of latent diffusion), for decoding alone: that of JanusVQVAE but for two things.

Its levels are numbered from the finest, theirs from the coarsest; and none of them has attention.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from realmodels import library
from realmodels.adapters.llamagen import decoder_config, read_tensors
from specverify.errors import InputError

SCALE = 0.2325
"""Tokens are latents times this."""


class Pixels(nn.Module):
    """Images from tokens.

    Args:
        config: of JanusVQVAE.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)
        self.decoder = library.transformers().JanusVQVAE(config).decoder
        self.decoder.up[0].attn = nn.ModuleList()

    @torch.no_grad()
    def forward(self, tokens: Float[Tensor, "n length dim"]) -> Float[Tensor, "n channels height width"]:
        """Pixels from 0 to 1 of tokens in raster order, each of one latent or of a square of them."""
        weight = self.post_quant_conv.weight
        channels, side = len(weight), round(tokens.shape[1] ** 0.5)
        edge = round((tokens.shape[2] / channels) ** 0.5)
        grid = tokens.to(weight.dtype).view(-1, side, side, channels, edge, edge).permute(0, 3, 1, 4, 2, 5)
        latents = grid.reshape(len(tokens), channels, side * edge, side * edge) / SCALE
        pixels: Tensor = self.decoder(self.post_quant_conv(latents))
        return (pixels / 2 + 0.5).clamp(0, 1)


def pixels(path: Path) -> Pixels:
    """The decoder of a checkpoint, `kl16.ckpt`.

    Raises:
        InputError: as `read_tensors`, and for tensors that are not those of MAR's autoencoder.
    """
    found = read_tensors(path)
    levels = len({match[1] for key in found if (match := re.match(r"decoder\.up\.(\d+)\.", key))})
    tensors = {}
    for key, value in found.items():
        if key.startswith(("decoder.", "post_quant_conv.")):
            match = re.match(r"decoder\.up\.(\d+)(.*)", key)
            tensors[f"decoder.up.{levels - 1 - int(match[1])}{match[2]}" if match else key] = value
    try:
        model = Pixels(decoder_config(tensors))
        model.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        lines = " ".join(str(error).split())[:300]
        raise InputError(f"{path} does not hold MAR's autoencoder ({type(error).__name__}: {lines})") from error
    return model.requires_grad_(False).eval()
