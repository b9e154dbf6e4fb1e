"""MAR's transformers and its diffusion head, with the names that its checkpoints have.

An encoder reads the class, in a buffer of slots of its own, and the tokens that are known; a decoder reads what came of
these, with one vector in place of every token that is not. Both attend to all they read. Here the encoder runs over all
tokens and hides the unknown ones from attention, rather than leave them out, so that rows may know different numbers of
tokens: what it says of the known ones is the same.

The head is a perceptron modulated by features and time (adaLN, Peebles and Xie 2023), trained at 1,000 times of a
cosine schedule (Nichol and Dhariwal 2021, eq. 17) and walked at fewer, evenly spaced. It gives a step's noise, and the
variance's place between the logarithms of its bounds as a number from -1 to 1, roughly, to which nothing holds it.

Reference: Li et al. 2024 (arXiv 2406.11838); github.com/LTH14/mar, MIT, as of commit fe1de72.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from realmodels.heads import denoised, tabulated

TIMES = 1000
"""Times of the schedule that the head was trained with."""
WAVES = 256
"""Numbers that a time is turned into."""
EPS = 1e-6


@dataclass(frozen=True)
class Side:
    """The sizes of one of the two transformers."""

    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class Shape:
    """The sizes of a checkpoint: `length` tokens of `dim` numbers, and a head of `blocks` blocks, `hidden` wide."""

    dim: int
    length: int
    classes: int
    buffer: int
    encoder: Side
    decoder: Side
    hidden: int
    blocks: int


class Attention(nn.Module):
    """All heads have keys and values of their own."""

    def __init__(self, side: Side) -> None:
        super().__init__()
        self.heads = side.heads
        self.qkv, self.proj = nn.Linear(side.width, 3 * side.width), nn.Linear(side.width, side.width)

    def forward(self, x: Float[Tensor, "rows n width"], seen: Bool[Tensor, "rows n"] | None) -> Tensor:
        """Of all slots, or of those that are seen."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        mask = None if seen is None else seen[:, None, None]
        out: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """Two layers."""

    def __init__(self, side: Side) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(side.width, 4 * side.width), nn.Linear(4 * side.width, side.width)

    def forward(self, x: Float[Tensor, "rows n width"]) -> Tensor:
        """fc2(gelu(fc1 x))."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm."""

    def __init__(self, side: Side) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(side.width, EPS), Attention(side)
        self.norm2, self.mlp = nn.LayerNorm(side.width, EPS), FeedForward(side)

    def forward(self, x: Float[Tensor, "rows n width"], seen: Bool[Tensor, "rows n"] | None = None) -> Tensor:
        """As `Attention.forward`."""
        x = x + self.attn(self.norm1(x), seen)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Network(nn.Module):
    """Features of every token from those that are known, and the head that makes a law of them.

    Args:
        shape: the sizes.
        table, waves: of the denoising steps, see `schedule`.
    """

    def __init__(self, shape: Shape, table: Tensor, waves: Tensor) -> None:
        super().__init__()
        self.shape, wide = shape, shape.decoder.width
        slots = shape.buffer + shape.length
        self.class_emb = nn.Embedding(shape.classes, shape.encoder.width)
        self.fake_latent = nn.Parameter(torch.zeros(1, shape.encoder.width))
        self.z_proj = nn.Linear(shape.dim, shape.encoder.width)
        self.z_proj_ln = nn.LayerNorm(shape.encoder.width, EPS)
        self.encoder_pos_embed_learned = nn.Parameter(torch.zeros(1, slots, shape.encoder.width))
        self.encoder_blocks = nn.ModuleList(Block(shape.encoder) for _ in range(shape.encoder.layers))
        self.encoder_norm = nn.LayerNorm(shape.encoder.width, EPS)
        self.decoder_embed = nn.Linear(shape.encoder.width, wide)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, wide))
        self.decoder_pos_embed_learned = nn.Parameter(torch.zeros(1, slots, wide))
        self.decoder_blocks = nn.ModuleList(Block(shape.decoder) for _ in range(shape.decoder.layers))
        self.decoder_norm = nn.LayerNorm(wide, EPS)
        self.diffusion_pos_embed_learned = nn.Parameter(torch.zeros(1, shape.length, wide))
        self.diffloss = nn.ModuleDict({"net": Head(shape, table, waves)})

    def label(self, labels: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows width"]:
        """Classes as inputs; the number of classes stands for none."""
        return torch.cat([self.class_emb.weight, self.fake_latent])[labels]

    def forward(
        self,
        label: Float[Tensor, "rows encoder"],
        tokens: Float[Tensor, "rows length dim"],
        known: Bool[Tensor, "rows length"],
    ) -> Float[Tensor, "rows length width"]:
        """One pass, tokens in raster order. What stands where a token is not known does not matter, if finite."""
        buffer = label[:, None].expand(-1, self.shape.buffer, -1)
        seen = torch.cat([known.new_ones(buffer.shape[:2]), known], 1)
        x = torch.cat([buffer, self.z_proj(tokens)], 1)
        x = self.z_proj_ln(x + self.encoder_pos_embed_learned)
        for block in self.encoder_blocks:
            x = block(x, seen)
        x = self.decoder_embed(self.encoder_norm(x)).where(seen[..., None], self.mask_token)
        x = x + self.decoder_pos_embed_learned
        for block in self.decoder_blocks:
            x = block(x)
        out: Tensor = self.decoder_norm(x)[:, self.shape.buffer :] + self.diffusion_pos_embed_learned
        return out


class Time(nn.Module):
    """A time as a vector."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(WAVES, hidden), nn.SiLU(), nn.Linear(hidden, hidden))


class Modulated(nn.Module):
    """A two-layer perceptron, its input and output scaled by the condition."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.in_ln = nn.LayerNorm(hidden, EPS)
        self.mlp = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 3 * hidden))

    def forward(self, x: Float[Tensor, "*shape width"], condition: Float[Tensor, "*#shape width"]) -> Tensor:
        """One block."""
        shift, scale, gate = self.adaLN_modulation(condition).chunk(3, -1)
        out: Tensor = x + gate * self.mlp(self.in_ln(x) * (1 + scale) + shift)
        return out


class Last(nn.Module):
    """The head's last layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.linear = nn.Linear(shape.hidden, 2 * shape.dim)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(shape.hidden, 2 * shape.hidden))

    def forward(self, x: Float[Tensor, "*shape width"], condition: Float[Tensor, "*#shape width"]) -> Tensor:
        """Noise, and where the variance lies."""
        shift, scale = self.adaLN_modulation(condition).chunk(2, -1)
        out: Tensor = self.linear(F.layer_norm(x, x.shape[-1:], eps=EPS) * (1 + scale) + shift)
        return out


class Head(nn.Module):
    """A denoiser as `realmodels.heads.DiffusionHead` is one, for t = steps .. 1."""

    table: Tensor
    waves: Tensor

    def __init__(self, shape: Shape, table: Tensor, waves: Tensor) -> None:
        super().__init__()
        self.steps = len(waves)
        self.time_embed, self.cond_embed = Time(shape.hidden), nn.Linear(shape.decoder.width, shape.hidden)
        self.input_proj = nn.Linear(shape.dim, shape.hidden)
        self.res_blocks = nn.ModuleList(Modulated(shape.hidden) for _ in range(shape.blocks))
        self.final_layer = Last(shape)
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("waves", waves, persistent=False)

    def forward(
        self, features: Float[Tensor, "*#shape width"], t: Int[Tensor, "*#shape"], x: Float[Tensor, "*shape dim"]
    ) -> tuple[Float[Tensor, "*shape dim"], Float[Tensor, "*shape dim"]]:
        """Predicted noise of x_t, and where its variance lies, from -1 to 1."""
        condition = self.cond_embed(features) + self.time_embed.mlp(F.embedding(t - 1, self.waves))
        h = self.input_proj(x)
        for block in self.res_blocks:
            h = block(h, condition)
        noise, share = self.final_layer(h, condition).chunk(2, -1)
        return noise, share

    def step(
        self, t: Int[Tensor, "*#shape"], x: Float[Tensor, "*shape dim"], noise: Tensor, share: Tensor
    ) -> tuple[Float[Tensor, "*shape dim"], Float[Tensor, "*shape dim"]]:
        """Mean and scale of x_(t-1), from x_t and what `forward` says of it."""
        return denoised(self.table, t, x, noise, (share + 1) / 2)


def schedule(steps: int) -> tuple[Float[Tensor, "4 times"], Float[Tensor, "steps waves"]]:
    """Of 2 to `TIMES` steps: their table, see `realmodels.heads.tabulated`, and their times as waves."""
    cosine = ((torch.arange(TIMES + 1, dtype=torch.float64) / TIMES + 0.008) / 1.008 * math.pi / 2).cos().square()
    beta = (1 - cosine[1:] / cosine[:-1]).clamp(max=0.999)
    time = torch.tensor([round(step * (TIMES - 1) / (steps - 1)) for step in range(steps)])
    kept = torch.cat([torch.ones(1, dtype=torch.float64), (1 - beta).cumprod(0)[time]])
    rate = (-math.log(10000) * torch.arange(WAVES // 2) / (WAVES // 2)).exp()
    angle = time[:, None] * rate
    return tabulated(kept), torch.cat([angle.cos(), angle.sin()], -1)
