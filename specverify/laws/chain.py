"""Diffusion heads as laws: T-step Markov chains of Gaussian transitions, from noise x_T down to the token x_0.

A head says what the transitions are; a `Chain` is a head with the conditions of a batch, which is a law. Heads that
denoise a known law exactly are here, since their marginals are known; a network's head has the same four members.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from specverify import tree
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws.gaussian import Gaussian
from specverify.laws.law import check_scale
from specverify.laws.mixture import Mixture


@runtime_checkable
class Head(Protocol):
    """What a chain's transitions are. Not a dataclass of tensors: gathering rows leaves it alone.

    Heads whose marginal is known have `marginal(condition) -> Law`, the law of x_0, beside this; those that can tell
    a bad condition have `check(condition, what)`.
    """

    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def steps(self) -> int: ...  # noqa: D102

    def first(self, condition: Any) -> Gaussian:
        """The law of x_T."""

    def transition(self, condition: Any, t: int, x: Float[Tensor, "*shape dim"]) -> Gaussian:
        """The law of x_(t-1) given x_t, for t = T .. 1."""


@dataclass(frozen=True)
class Chain:
    """A batch of T-step chains.

    Args:
        condition: what the head is conditioned on: a structure of tensors whose first axes are the batch's.
        head: what the transitions are.
    """

    condition: Any
    head: Head

    @property
    def dim(self) -> int:
        """Coordinates of a token."""
        return self.head.dim

    @property
    def steps(self) -> int:
        """T, the number of transitions."""
        return self.head.steps

    @property
    def shape(self) -> tuple[int, ...]:
        """The batch."""
        return self.first().shape

    def first(self) -> Gaussian:
        """The law of x_T."""
        return self.head.first(self.condition)

    def transition(self, t: int, x: Float[Tensor, "*shape dim"]) -> Gaussian:
        """The law of x_(t-1) given x_t, for t = T .. 1."""
        return self.head.transition(self.condition, t, x)

    def path(self, draws: Draws, where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape steps dim"]:
        """One trajectory x_0 .. x_T of each chain, T + 1 states, the token first; 0 where not `where`."""
        states = [self.first().sample(draws, where)]
        for t in range(self.steps, 0, -1):
            states.append(self.transition(t, states[-1]).sample(draws, where))
        return torch.stack(states[::-1], -2)

    def path_log_prob(self, path: Float[Tensor, "*shape steps dim"]) -> Float[Tensor, "*shape"]:
        """The log density of whole trajectories."""
        total = self.first().log_prob(path[..., self.steps, :])
        for t in range(self.steps, 0, -1):
            total = total + self.transition(t, path[..., t, :]).log_prob(path[..., t - 1, :])
        return total

    def marginal(self) -> Any:
        """The law of x_0, a Gaussian or a Mixture.

        Raises:
            InputError: it is not known.
        """
        if not hasattr(self.head, "marginal"):
            raise InputError(
                f"the density of a token of {type(self.head).__name__} is not known; compare trajectories instead"
            )
        return self.head.marginal(self.condition)

    def log_prob(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape"]:
        """See Law; where the marginal is known."""
        log_density: Tensor = self.marginal().log_prob(x)
        return log_density

    def rosenblatt(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """The distribution function of each coordinate given those before it; where the marginal is known."""
        uniform: Tensor = self.marginal().rosenblatt(x)
        return uniform

    def sample(self, draws: Draws, where: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape dim"]:
        """See Law: the end of a trajectory."""
        return self.path(draws, where)[..., 0, :]

    def check(self, what: str) -> None:
        """See Law. What a network's head gives is known only along a path; see `check_path`."""
        self.first().check(f"{what}, at its first step,")
        if hasattr(self.head, "check"):
            self.head.check(self.condition, what)

    def check_path(self, path: Tensor, what: str) -> None:
        """Raise InputError unless `path` is a trajectory of each chain whose transitions are distributions."""
        expected = (*self.shape, self.steps + 1, self.dim)
        if tuple(path.shape) != expected:
            raise InputError(f"{what} has trajectories of shape {tuple(path.shape)}, expected {expected}: x_0 .. x_T")
        for t in range(self.steps, 0, -1):
            self.transition(t, path[..., t, :]).check(f"{what}, at step {t},")


@dataclass(frozen=True)
class Denoised:
    """The condition of a `Denoiser`.

    Args:
        data: the law whose noised versions the chain runs through, a Mixture; one component makes the chain
            linear-Gaussian.
        stretch: Float[*shape], a factor of every transition's standard deviation; 1 for the schedule's own.
    """

    data: Mixture
    stretch: Tensor


class Denoiser:
    """The DDPM head that predicts E[x_0 | x_t] exactly, for data from a known mixture (arXiv 2006.11239, eq. 6-7).

    The transition's mean is the posterior mean of x_(t-1) given x_t and that prediction, its standard deviation the
    posterior's, where that of t = 1, which is 0, is replaced by that of t = 2 (arXiv 2102.09672).

    Args:
        dim: coordinates of a token.
        steps: T.
        points: nodes of the quadrature.

    Raises:
        InputError: a size below 1 (2 for `steps`).
    """

    def __init__(self, dim: int, steps: int, points: int = 1025) -> None:
        if dim < 1 or steps < 2 or points < 9:
            raise InputError(
                f"dim = {dim}, steps = {steps}, points = {points}: a chain has at least 1 coordinate and 2 steps, "
                "a quadrature at least 9 points"
            )
        self.dim, self.steps, self.points = dim, steps, points
        # The cosine schedule (arXiv 2102.09672, eq. 17): what is kept of the data's variance after t steps.
        cosine = [math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(steps + 1)]
        self.kept, self._of_data, self._of_state, spread = [1.0], [0.0], [0.0], [0.0]
        for t in range(1, steps + 1):
            beta, before = min(1 - cosine[t] / cosine[t - 1], 0.98), self.kept[-1]
            self.kept.append(before * (1 - beta))
            noise = 1 - self.kept[-1]
            self._of_data.append(math.sqrt(before) * beta / noise)
            self._of_state.append(math.sqrt(1 - beta) * (1 - before) / noise)
            spread.append(math.sqrt(beta * (1 - before) / noise))
        self.scale = [0.0, spread[2], *spread[2:]]

    def first(self, condition: Denoised) -> Gaussian:
        """The law of x_T, standard normal."""
        mean = torch.zeros_like(condition.data.mean[..., 0, :])
        return Gaussian(mean, torch.ones_like(mean))

    def transition(self, condition: Denoised, t: int, x: Float[Tensor, "*shape dim"]) -> Gaussian:
        """The law of x_(t-1) given x_t."""
        mean = self._of_data[t] * self.predict(condition.data, t, x) + self._of_state[t] * x
        scale = (self.scale[t] * condition.stretch)[..., None].expand_as(mean)
        return Gaussian(mean, scale)

    def predict(self, data: Mixture, t: int, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """E[x_0 | x_t]."""
        root, noise = math.sqrt(self.kept[t]), 1 - self.kept[t]
        variance = data.scale.square()
        total = self.kept[t] * variance + noise
        away = x[..., None, :] - root * data.mean
        log_share = data.log_weight - 0.5 * (away.square() / total + total.log()).sum(-1)
        each = data.mean + root * variance / total * away
        return torch.sum(log_share.softmax(-1)[..., None] * each, -2)

    def marginal(self, condition: Denoised) -> Gaussian | Mixture:
        """The law of x_0: in closed form for data with one component, else, in one dimension, by quadrature.

        Raises:
            InputError: neither is possible, or the quadrature is too coarse.
        """
        if condition.data.mean.shape[-2] == 1:
            return self._linear(condition)
        if self.dim > 1:
            raise InputError(
                f"a chain towards a mixture in {self.dim} dimensions has no known marginal; "
                "use one component, or one dimension"
            )
        return self._quadrature(condition)

    def check(self, condition: Denoised, what: str) -> None:
        """Raise InputError unless the data law is one and the noise is positive."""
        condition.data.check(f"{what}, in its data,")
        check_scale(condition.stretch, what)

    def _linear(self, condition: Denoised) -> Gaussian:
        """Means and variances, step by step: a prediction is linear in the state."""
        data = condition.data
        centre, variance = data.mean[..., 0, :], data.scale[..., 0, :].square()
        mean, spread = torch.zeros_like(centre), torch.ones_like(centre)
        for t in range(self.steps, 0, -1):
            root, noise = math.sqrt(self.kept[t]), 1 - self.kept[t]
            gain = root * variance / (self.kept[t] * variance + noise)
            slope = self._of_data[t] * gain + self._of_state[t]
            mean = slope * mean + self._of_data[t] * (1 - gain * root) * centre
            spread = slope.square() * spread + (self.scale[t] * condition.stretch)[..., None].square()
        return Gaussian(mean, spread.sqrt())

    def _quadrature(self, condition: Denoised) -> Mixture:
        """The density of x_1 on a grid, by the trapezoid rule; x_0 is then a mixture of as many Gaussians.

        For smooth densities that vanish at both ends the rule's error falls faster than any power of the spacing.
        """
        condition = tree.map_tensors(condition, lambda tensor: tensor.double())
        data = condition.data
        reach = 12 * torch.maximum(condition.stretch[..., None], data.scale[..., 0]).clamp(min=1)
        low = (data.mean[..., 0].clamp(max=0) - reach).amin(-1, keepdim=True)
        high = (data.mean[..., 0].clamp(min=0) + reach).amax(-1, keepdim=True)
        grid = low + (high - low) * torch.linspace(0, 1, self.points, dtype=torch.float64, device=low.device)
        spacing = (high - low) / (self.points - 1)
        nodes = tree.map_tensors(condition, lambda tensor: tensor.unsqueeze(grid.ndim - 1))  # one condition for all
        start = torch.zeros_like(grid[..., None])
        log_density = Gaussian(start, torch.ones_like(start)).log_prob(grid[..., None])
        for t in range(self.steps, 0, -1):
            step = self.transition(nodes, t, grid[..., None])
            centre, scale = step.mean[..., 0], step.scale[..., 0]
            widest = torch.maximum(centre.diff(dim=-1).abs().amax(-1, keepdim=True), spacing)
            if bool((widest > scale).any()):
                enough = math.ceil(self.points * float((widest / scale).max()))
                raise InputError(f"{self.points} points are too coarse for step {t} of the chain; use {enough} or more")
            log_weight = log_density + spacing.log()
            if t > 1:
                mixture = Mixture(log_weight, centre[..., None], scale[..., None])
                spread = tree.map_tensors(mixture, lambda tensor: tensor.unsqueeze(grid.ndim - 1))
                log_density = spread.log_prob(grid[..., None])
        lost = float((log_weight.logsumexp(-1).exp() - 1).abs().max())
        if not lost < 1e-8:
            raise InputError(f"the quadrature of a chain misses a mass of {lost:.2g}; give its head more points")
        return Mixture(log_weight.log_softmax(-1), centre[..., None], scale[..., None])
