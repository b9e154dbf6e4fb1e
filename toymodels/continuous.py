"""Toys over continuous tokens, by name: autoregressive chains in which every law depends on all tokens before.

A state of dim + 2 numbers takes in every token, s' = tanh(R s + U x + c), and the next law's means, scales,
correlations and weights are functions of it. The matrices come from the hash of the name, so that a name fixes its laws
for ever, up to the last digits of tanh and exp: `continuous_digests.json` holds digests of laws at fixed contexts of
those in the catalogue, and a test compares. A family has toys of any size ("gauss-3x7"). Laws are made in double
precision, by the same operations whatever the batch, and rounded once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify import tree
from specverify.catalogue import Catalogue
from specverify.laws import Chain, ContinuousModel, Denoised, Denoiser, FullGaussian, Gaussian, Law, Mixture
from toymodels.continuous_heads import Fork
from toymodels.hashing import branches, high_bits, seed

STEPS = 6
"""Denoising steps of the toys whose laws are diffusion heads."""
_FIXED_ROWS = 32


@dataclass(frozen=True)
class Family:
    """A family of toys.

    Attributes:
        make: (state, weights, dim) -> the next token's law.
        sizes: DIMxLENGTH of those that campaigns use.
        summary: what is special about it.
    """

    make: Callable[[Tensor, _Weights, int], Law]
    sizes: tuple[str, ...]
    summary: str


@dataclass(frozen=True)
class State:
    """The context of a `ContinuousToy`: what its tokens so far left."""

    state: Float[Tensor, "batch width"]


class _Weights:
    """Fixed numbers in [-1, 1), each block of them the hash of a toy's name and of the block's."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.device = name, device
        self._known: dict[str, Tensor] = {}
        self._columns: dict[str, tuple[Tensor, ...]] = {}

    def __call__(self, block: str, *shape: int) -> Float[Tensor, "*any"]:
        if block not in self._known:
            hashes = torch.tensor(seed(f"{self.name}/{block}"))
            for size in shape:
                hashes = branches(hashes, size)
            self._known[block] = (high_bits(hashes, 53).double() / 2**52 - 1).to(self.device)
        return self._known[block]

    def rows(self, block: str, out: int, width: int) -> tuple[Float[Tensor, " out"], ...]:
        """A matrix whose rows have length 1, by its columns."""
        if block not in self._columns:
            matrix = self(block, out, width)
            self._columns[block] = (matrix / matrix.square().sum(-1, keepdim=True).sqrt()).unbind(1)
        return self._columns[block]


class ContinuousToy:
    """The model of a family; see `toy`."""

    def __init__(
        self, name: str, dim: int, length: int, family: Family, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.name, self.dim, self.length, self.family = name, dim, length, family
        self.dtype, self.device = dtype, device
        self._weights = _Weights(name, device)
        self._width = dim + 2

    def start(self, batch: int) -> State:
        """The context of `batch` empty sequences."""
        return State(self._weights("start", self._width).repeat(batch, 1))

    def laws(self, context: State, draft: Float[Tensor, "batch w dim"]) -> Law:
        """One forward pass: the state is run through the draft, then all laws are made at once."""
        states = [context.state]
        for token in draft.unbind(1):
            states.append(self._update(states[-1], token))
        law = self.family.make(torch.stack(states, 1), self._weights, self.dim)
        return tree.map_tensors(law, lambda tensor: tensor.to(self.dtype))

    def advance(self, context: State, tokens: Float[Tensor, "batch n dim"], count: Int[Tensor, " batch"]) -> State:
        """The context after the first `count` tokens of each row; later ones leave no trace in the state."""
        state = context.state
        for k, token in enumerate(tokens.unbind(1)):
            state = torch.where((count > k)[:, None], self._update(state, token), state)
        return State(state)

    def _update(self, state: Tensor, token: Tensor) -> Tensor:
        kept = _apply(self._weights.rows("keep", self._width, self._width), state)
        taken = _apply(self._weights.rows("take", self._width, self.dim), token.double())
        return torch.tanh(0.7 * kept + 0.9 * taken + 0.3 * self._weights("drift", self._width))


def names() -> tuple[str, ...]:
    """The names in the catalogue, family-DIMxLENGTH."""
    return _TOYS.names()


def known(name: str) -> bool:
    """Whether there is a toy of that name: of any size, those in the catalogue are the ones that campaigns use."""
    return _sized(name) is not None


def toy(name: str, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> ContinuousModel:
    """The toy of that name; a family has toys of any size.

    Raises:
        InputError: there is none; the message lists names that are close.
    """
    kind, dim, length = _sized(name) or _TOYS[name]
    return ContinuousToy(name, dim, length, _FAMILIES[kind], dtype, torch.device(device))


def _sized(name: str) -> tuple[str, int, int] | None:
    """The family, dimension and length that a name says."""
    found = re.fullmatch(r"([a-z]+)-([1-9]\d?)x([1-9]\d{0,3})", name)
    return (found[1], int(found[2]), int(found[3])) if found and found[1] in _FAMILIES else None


def digest(model: ContinuousModel) -> str:
    """SHA-256 of a model's laws at every position of 32 fixed sequences, rounded to 1e-7, after dimension and length.

    Of a chain, the transitions at fixed states count. The name plays no part.
    """
    tokens = fixed_tokens(_FIXED_ROWS, model.length, model.dim).to(model.device, model.dtype)
    laws = model.laws(model.start(_FIXED_ROWS), tokens[:, :-1])
    parts = list(tree.tensors(laws))
    if isinstance(laws, Chain):
        parts = list(tree.tensors([laws.transition(t, tokens) for t in range(laws.steps, 0, -1)]))
    content = hashlib.sha256(f"{model.dim} {model.length} {type(laws).__name__}\n".encode())
    for part in parts:
        whole = (part.double() * 1e7).round().to(torch.int64)
        content.update(whole.cpu().contiguous().numpy().astype("<i8").tobytes())
    return content.hexdigest()


def fixed_tokens(rows: int, length: int, dim: int) -> Float[Tensor, "rows length dim"]:
    """Pseudo-random sequences of tokens in [-2, 2), the same for ever."""
    return 2 * _Weights("tokens", torch.device("cpu"))("sequences", rows, length, dim)


def _gauss(state: Tensor, weights: _Weights, dim: int) -> Gaussian:
    spread = torch.tanh(_apply(weights.rows("scale", dim, state.shape[-1]), state))
    return Gaussian(_mean(state, weights, dim), torch.exp(0.6 * spread))


def _equal(state: Tensor, weights: _Weights, dim: int) -> Gaussian:
    mean = _mean(state, weights, dim)
    return Gaussian(mean, torch.exp(0.6 * weights("scale", dim)).expand_as(mean))


def _mean(state: Tensor, weights: _Weights, dim: int) -> Tensor:
    return 2 * _apply(weights.rows("mean", dim, state.shape[-1]), state) + 0.5 * weights("centre", dim)


def _full(state: Tensor, weights: _Weights, dim: int) -> FullGaussian:
    return _correlated(_gauss(state, weights, dim), _turn(state, dim), weights)


def _calm(state: Tensor, weights: _Weights, dim: int) -> FullGaussian:
    little = 0.6 * dim**-0.5
    return _correlated(_gauss(little * state, weights, dim), 1 + little * _turn(state, dim), weights)


def _turn(state: Tensor, dim: int) -> Float[Tensor, "*any dim dim"]:
    """What the state makes of each correlation."""
    across = torch.arange(dim, device=state.device)
    return state[..., (across[:, None] + across) % state.shape[-1]]


def _correlated(plain: Gaussian, turn: Float[Tensor, "*any dim dim"], weights: _Weights) -> FullGaussian:
    dim = plain.dim
    lower = (weights("lower", dim, dim) * turn).tril(-1) * (1.5 / dim**0.5)
    return FullGaussian(plain.mean, plain.scale[..., None] * (lower + torch.eye(dim, device=turn.device)))


def _mix(state: Tensor, weights: _Weights, dim: int) -> Mixture:
    plain, width, size = _gauss(state, weights, dim), state.shape[-1], dim + 1
    log_weight = torch.log_softmax(_apply(weights.rows("weight", size, width), state), -1)
    # Centres to alternate sides, so that no two components lie on each other.
    side = (-1.0) ** torch.arange(size, device=state.device, dtype=state.dtype)[:, None]
    centre = plain.mean[..., None, :] + side * (1.2 + 0.8 * weights("apart", size, dim))
    scale = 0.5 * plain.scale[..., None, :] * torch.exp(0.5 * weights("spread", size, dim))
    return Mixture(log_weight, centre, scale)


def _chain(state: Tensor, weights: _Weights, dim: int) -> Chain:
    plain = _gauss(state, weights, dim)
    alone = Mixture(torch.zeros_like(state[..., :1]), plain.mean[..., None, :], 0.7 * plain.scale[..., None, :])
    return Chain(Denoised(alone, torch.ones_like(state[..., 0])), Denoiser(dim, STEPS))


def _varied(state: Tensor, weights: _Weights, dim: int) -> Chain:
    chain, row = _chain(0.4 * state, weights, dim), weights.rows("noise", 1, state.shape[-1])
    return Chain(
        Denoised(chain.condition.data, torch.exp(0.7 * torch.tanh(2 * _apply(row, state)))[..., 0]), chain.head
    )


def _forked(state: Tensor, weights: _Weights, dim: int) -> Chain:
    calm = 0.4 * state
    plain = _gauss(calm, weights, dim)
    share = 0.25 * torch.tanh(_apply(weights.rows("weight", 1, state.shape[-1]), state)) + 0.5
    side = torch.tensor([-1.0, 1.0], dtype=state.dtype, device=state.device)[:, None]
    apart = side * (1.2 + 0.4 * weights("apart", dim))
    spread = plain.scale[..., None, :] * torch.exp(0.3 * weights("spread", 2, dim))
    data = Mixture(torch.cat([share, 1 - share], -1).log(), plain.mean[..., None, :] + apart, 0.6 * spread)
    return Chain(data, Fork(dim, STEPS))


def _score(state: Tensor, weights: _Weights, dim: int) -> Chain:
    return Chain(Denoised(_mix(state, weights, dim), torch.ones_like(state[..., 0])), Denoiser(dim, STEPS))


def _apply(
    columns: tuple[Float[Tensor, " out"], ...], vector: Float[Tensor, "*any width"]
) -> Float[Tensor, "*any out"]:
    """A matrix times a vector, summed in one order whatever the batch: a row's law never depends on the others."""
    total = columns[0] * vector[..., :1]
    for number in range(1, len(columns)):
        total += columns[number] * vector[..., number : number + 1]
    return total


_FAMILIES = {
    "gauss": Family(_gauss, ("1x6", "2x6", "8x4", "16x4", "1x40"), "Gaussians with independent coordinates"),
    "full": Family(_full, ("2x4", "8x4"), "Gaussians with correlated coordinates"),
    "mix": Family(_mix, ("1x6", "2x4"), "mixtures of Gaussians, one more of them than dimensions"),
    "chain": Family(_chain, ("1x4", "2x4", "8x3", "16x3"), "linear-Gaussian diffusion heads of 6 steps"),
    "varied": Family(_varied, ("1x4", "2x4"), "linear diffusion heads whose noise depends on the tokens before"),
    "forked": Family(_forked, ("2x4",), "diffusion heads of 6 steps that go one of two ways, known in closed form"),
    "calm": Family(_calm, ("8x4", "17x3"), "correlated Gaussians that depend little on the tokens before"),
    "score": Family(_score, ("1x4",), "diffusion heads of 6 steps that denoise a mixture"),
    "equal": Family(_equal, ("1x6", "4x4", "16x4"), "Gaussians whose covariance is the same after every prefix"),
}
_TOYS = Catalogue(
    "continuous toy",
    {
        f"{kind}-{size}": (kind, int(size.split("x")[0]), int(size.split("x")[1]))
        for kind, family in _FAMILIES.items()
        for size in family.sizes
    },
)
