"""Heads: from a trunk's features to the law of the next patch.

`MixtureHead` gives the parameters of a mixture of diagonal Gaussians, whose density is known. `DiffusionHead` gives one
Gaussian denoising step at a time; the law of a patch is where a chain of them ends, and its density is not known.

References: Tschannen, Eastwood and Mentzer 2024 (GIVT: a Gaussian mixture per token); Li et al. 2024 (MAR: a small
diffusion head per token); Ho, Jain and Abbeel 2020 (the denoising step from predicted noise); Nichol and Dhariwal 2021
(cosine schedule, learned variances and their loss); Peebles and Xie 2023 (adaLN-Zero).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from realmodels.patches import STEP

SMALLEST = 0.01
"""Least scale of a mixture component. The noise of dequantisation alone has 0.036, so no patch needs less."""
END = 0.96
"""Share of the quarter cosine that the schedule walks: a little signal is left, so that no step divides by almost 0."""


class MixtureHead(nn.Module):
    """Weights, means and scales of a mixture, each an affine function of the features."""

    def __init__(self, width: int, dim: int, components: int) -> None:
        super().__init__()
        self.components = components
        self.weights = nn.Linear(width, components)
        self.means = nn.Linear(width, components * dim)
        self.scales = nn.Linear(width, components * dim)

    def forward(
        self, features: Float[Tensor, "*shape width"]
    ) -> tuple[Float[Tensor, "*shape k"], Float[Tensor, "*shape k dim"], Float[Tensor, "*shape k dim"]]:
        """Logarithms of the weights, means, scales."""
        scales = SMALLEST + F.softplus(self.scales(features) - 2)
        each = (self.components, -1)
        return (
            self.weights(features).log_softmax(-1),
            self.means(features).unflatten(-1, each),
            scales.unflatten(-1, each),
        )

    def initialise(self, generator: torch.Generator) -> None:
        """Small weights; means apart, so that components do not stay alike."""
        for layer in (self.weights, self.means, self.scales):
            nn.init.normal_(layer.weight, std=0.05, generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.means.bias, std=0.5, generator=generator)


class Residual(nn.Module):
    """A two-layer perceptron whose input and output are scaled by the condition (adaLN-Zero)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)
        self.modulate = nn.Linear(width, 3 * width)

    def forward(self, x: Float[Tensor, "*shape width"], condition: Float[Tensor, "*#shape width"]) -> Tensor:
        """One block; many inputs may share a condition."""
        shift, scale, gate = self.modulate(condition).chunk(3, dim=-1)
        grown: Tensor = self.down(F.silu(self.up(_norm(x) * (1 + scale) + shift)))
        gated: Tensor = x + gate * grown
        return gated


class DiffusionHead(nn.Module):
    """A denoiser of patches: from x_t to the Gaussian law of x_(t-1), for t = steps..1, given the features.

    The noise is predicted; the variance lies, in logarithms, between the two that Nichol and Dhariwal 2021 (eq. 15)
    interpolate, the posterior's and the step's. The posterior's is 0 at t = 1, where dequantisation's stands for it.
    """

    table: Tensor

    def __init__(self, width: int, dim: int, steps: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.steps = steps
        self.patch, self.features = nn.Linear(dim, hidden), nn.Linear(width, hidden)
        self.time = nn.Embedding(steps, hidden)
        self.blocks = nn.ModuleList(Residual(hidden) for _ in range(blocks))
        self.modulate = nn.Linear(hidden, 2 * hidden)
        self.last = nn.Linear(hidden, 2 * dim)
        self.register_buffer("table", schedule(steps), persistent=False)

    def forward(
        self, features: Float[Tensor, "*#shape width"], t: Int[Tensor, "*#shape"], x: Float[Tensor, "*shape dim"]
    ) -> tuple[Float[Tensor, "*shape dim"], Float[Tensor, "*shape dim"]]:
        """Predicted noise of x_t, and where its variance lies: logit of the share of the larger logarithm."""
        condition = F.silu(self.features(features) + self.time(t - 1))
        h = self.patch(x)
        for block in self.blocks:
            h = block(h, condition)
        shift, scale = self.modulate(condition).chunk(2, dim=-1)
        noise, share = self.last(_norm(h) * (1 + scale) + shift).chunk(2, dim=-1)
        return noise, share

    def step(
        self, t: Int[Tensor, "*#shape"], x: Float[Tensor, "*shape dim"], noise: Tensor, share: Tensor
    ) -> tuple[Float[Tensor, "*shape dim"], Float[Tensor, "*shape dim"]]:
        """Mean and scale of x_(t-1), from x_t and what `forward` says of it."""
        return denoised(self.table, t, x, noise, share.sigmoid())

    def loss(
        self,
        features: Float[Tensor, "n width"],
        patches: Float[Tensor, "n dim"],
        t: Int[Tensor, " n"],
        noise: Float[Tensor, "n dim"],
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Squared error of the predicted noise, and the nats per dimension that step t adds to the bound on -log p.

        The second is the divergence of the step from the forward process's posterior, -log p of the patch at t = 1.
        Its gradient reaches the variance alone (Nichol and Dhariwal 2021, section 3.1).
        """
        table = self.table.to(patches.dtype)
        alpha, kept, low, _ = table[:, t[..., None]]
        before = table[1][t - 1, None]
        x = kept.sqrt() * patches + (1 - kept).sqrt() * noise
        predicted, share = self(features, t, x)
        mean, scale = self.step(t, x, predicted.detach(), share)
        due = (before.sqrt() * (1 - alpha) * patches + alpha.sqrt() * (1 - before) * x) / (1 - kept)
        distance = ((due - mean) / scale).square() / 2
        divergence = scale.log() - low / 2 + (low - 2 * scale.log()).exp() / 2 - 0.5 + distance
        surprise = scale.log() + math.log(2 * math.pi) / 2 + distance
        nats = torch.where(t[:, None] == 1, surprise, divergence)
        return (predicted - noise).square().mean(-1), nats.mean(-1)

    def initialise(self, generator: torch.Generator) -> None:
        """Every block starts as the identity, and the predicted noise as 0."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1 or "modulate" in name or name.startswith("last"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5, generator=generator)


def denoised(
    table: Float[Tensor, "4 times"],
    t: Int[Tensor, "*#shape"],
    x: Float[Tensor, "*shape dim"],
    noise: Float[Tensor, "*shape dim"],
    share: Float[Tensor, "*shape dim"],
) -> tuple[Float[Tensor, "*shape dim"], Float[Tensor, "*shape dim"]]:
    """Mean and scale of x_(t-1), from x_t and the noise predicted in it (Ho et al. 2020, eq. 11).

    The table is that of `tabulated`. The variance's logarithm is the least one's and `share` of the way to the largest.
    """
    alpha, kept, low, high = table.to(x.dtype)[:, t[..., None]]
    mean = (x - (1 - alpha) / (1 - kept).sqrt() * noise) / alpha.sqrt()
    return mean, ((low + (high - low) * share) / 2).exp()


def schedule(steps: int) -> Float[Tensor, "4 times"]:
    """The table of a head of patches: the posterior's variance is 0 at t = 1, where dequantisation's stands for it."""
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    table = tabulated((time * END * math.pi / 2).cos().square())
    table[2, 1] = math.log(STEP**2 / 12)
    return table


def tabulated(kept: Float[Tensor, " times"]) -> Float[Tensor, "4 times"]:
    """By time 0..T: alpha, its running product `kept`, and the logarithms of the least and largest variance of a step.

    The least is the posterior's; that of t = 1, which is 0, is t = 2's (Nichol and Dhariwal 2021).
    """
    before = kept.roll(1).index_fill(0, torch.tensor([0]), 1.0)
    alpha = kept / before
    high = (1 - alpha).clamp(min=1e-300).log()
    low = high + ((1 - before) / (1 - kept)).clamp(min=1e-300).log()
    low[1] = low[2]
    return torch.stack([alpha, kept, low, high])


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])
