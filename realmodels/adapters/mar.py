"""MAR (Li et al. 2024, arXiv 2406.11838): class-conditional images as vectors, predicted a set of positions at a time.

Checkpoints: `checkpoint-last.pth` of MAR-B, MAR-L and MAR-H (links in github.com/LTH14/mar, MIT). An image is 16 x 16
tokens of 16 numbers, the latents of a KL autoencoder times 0.2325. Guidance is u + s (c - u) of the predicted noise, as
published with s = 2.9, 3.0 and 3.2, growing with the share of the image that is known (`schedule="linear"`).

A folder holds the weights and an `image-model.json`:

    {"adapter": "mar", "weights": "checkpoint-last.pth", "autoencoder": "kl16.ckpt"}

All sizes follow from the weights; `heads`, of encoder and decoder, may be given where a transformer is not as wide as
those. Without an autoencoder there are no pixels. Files are read as tensors alone (`weights_only`), never unpickled, or
as safetensors. From `model = Mar(folder, guidance=4.0, schedule="constant", block=4)` every decoder of diffusion heads
decodes.

*What its law is.* MAR decodes an image in steps. At each a set of positions is drawn from the tokens known before, all
of the set masked, independently of each other. The order of positions is any permutation, one for each image. Given the
order and the sizes of the steps, that is an autoregressive model: position k of the order has the law that MAR gives it
from the tokens of the steps before its own. `block` says what the sizes are. Decoders that are lossless have this law,
of these sizes, and no other: with `block=1` each token sees all before it, with `block=4` none sees its three
neighbours in the order, whatever window a decoder judges. A verifier that masks all of a drafted block, as CSpD's code
does, is one of `block` equal to its window, and what it is lossless to is MAR with so many tokens a step.

*Where it departs from the official sampler.* That leaves out the noise of the last denoising step, without which a
token has no density given the step before it; here it is as in training, with a deviation of 0.006 or so beside latents
of about 1. Noise is not scaled (`temperature` 1), nothing is in half precision, and an order is fixed by `seed` and the
row of a batch. Its `num_iter` is `block=cosine(256, num_iter)`: 256 and so `block=1` in what is published, else steps
that grow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from realmodels.adapters.llamagen import FILE, read_tensors
from realmodels.adapters.mar_net import TIMES, Head, Network, Shape, Side, schedule
from realmodels.adapters.mar_pixels import pixels
from realmodels.continuous import guided
from specverify import files
from specverify.draws import Draws
from specverify.errors import InputError
from specverify.laws import Chain, Gaussian
from specverify.model import row_mask
from specverify.seeds import derived_seed

REMEDY = f"see the docstring of realmodels.adapters.mar for what {FILE} holds"
HEADS = {768: 12, 1024: 16, 1280: 16}
"""Heads by width."""


@dataclass(frozen=True)
class Context:
    """Images begun.

    Attributes:
        tokens: Float[batch, length, dim], in the order in which they are decoded; whatever lies beyond `length`.
        length: Int[batch], tokens committed.
        order: Int[batch, length], the cell of the raster that each position of the order is.
        labels: Int[batch], the class of each row.
    """

    tokens: Tensor
    length: Tensor
    order: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Condition:
    """What a token's chain is conditioned on.

    Attributes:
        features: Float[*shape, passes, width], of the class and, if it is guided, of none.
        guidance: Float[*shape, 1], the scale at the token's step.
    """

    features: Tensor
    guidance: Tensor


class Steps:
    """The transitions of a chain; see `specverify.laws.Head`."""

    def __init__(self, head: Head, dim: int) -> None:
        self.head, self.dim, self.steps = head, dim, head.steps

    def first(self, condition: Condition) -> Gaussian:
        """The law of x_T, standard normal."""
        features = condition.features
        mean = features.new_zeros(*features.shape[:-2], self.dim)
        return Gaussian(mean, torch.ones_like(mean))

    def transition(self, condition: Condition, t: int, x: Float[Tensor, "*#shape dim"]) -> Gaussian:
        """The law of x_(t-1) given x_t."""
        return guided(self.head, condition.features, t, x, condition.guidance)


class Mar:
    """A model over vectors, see `specverify.laws.ContinuousModel`; its sequence is the order, not the raster.

    A pass runs the network once for each step of MAR that a window can touch: for a window of w drafts in blocks of w
    twice, in blocks of 1 it is w + 1 times. There is no cache.

    Main arguments:
        folder: with the weights and an `image-model.json`.
        guidance: s >= 0; 1 is the conditional law in one pass.
        classes: the class of row i of a batch is `classes[i % len(classes)]`; by default all in turn. The number of
            classes, 1,000, stands for none.
        block: how many positions a step predicts, for all steps or step by step (see `cosine`).

    Other arguments:
        order: "random", or "raster".
        seed: of the random orders: row i of every batch has the order of `seed` and i. A draft model needs the same
            seed as its target.
        schedule: how guidance grows: at a step after which a share k of the tokens is known, it is 1 + (s - 1) k
            ("linear"), or always s ("constant").
        denoising: steps of the diffusion head.
        dtype: type of the weights, laws and tokens, torch.float32 or torch.float64.
        device: where everything lives.

    Raises:
        InputError: a setting or a file is missing or damaged, the weights are not MAR's, or an argument is out of
            range.
    """

    def __init__(
        self,
        folder: Path | str,
        guidance: float = 1.0,
        classes: Sequence[int] | None = None,
        block: int | Sequence[int] = 1,
        *,
        order: str = "random",
        seed: int = 0,
        schedule: str = "linear",
        denoising: int = 100,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        _check(guidance, order, schedule, denoising, dtype)
        folder, self.device, self.dtype = Path(folder), torch.device(device), dtype
        settings = files.read_json(folder / FILE, REMEDY)
        if "weights" not in settings:
            raise InputError(f"{folder / FILE} does not name the weights; {REMEDY}")
        weights, heads = folder / str(settings["weights"]), settings.get("heads", [None, None])
        self.network = network(weights, heads, denoising).to(device=self.device, dtype=dtype)
        autoencoder = settings.get("autoencoder")
        self.pixels = None if autoencoder is None else pixels(folder / str(autoencoder)).to(self.device)
        self.shape, self.order, self.seed = self.network.shape, order, seed
        self.dim, self.length = self.shape.dim, self.shape.length
        self.passes = 1 if guidance == 1 else 2
        self.classes = self._labels(torch.tensor(range(self.shape.classes) if classes is None else list(classes)))
        self.blocks = _blocks(block, self.length)
        self.name = f"{folder.name}-{len(self.blocks)}-steps" + ("" if guidance == 1 else f"-guidance-{guidance:g}")
        self.head = Steps(self.network.diffloss["net"], self.dim)  # type: ignore[arg-type]
        sizes = torch.tensor(self.blocks)
        self._of = [step for step, size in enumerate(self.blocks) for _ in range(size)]  # the step of each position
        self._step = torch.tensor(self._of, device=self.device)
        self._begin = (sizes.cumsum(0) - sizes).to(self.device)
        # The official sampler takes the last token to be unknown even after the last step.
        known = (sizes.cumsum(0) / self.length).clamp(max=1 - 1 / self.length)[self._of]
        share = known if schedule == "linear" else torch.ones_like(known)
        self._guidance = (1 + (guidance - 1) * share.to(dtype))[:, None].to(self.device)

    def start(self, batch: int) -> Context:
        """Empty images, their classes dealt in turn from `classes`."""
        return self.start_with(self.classes[torch.arange(batch, device=self.device) % len(self.classes)])

    def start_with(self, labels: Int[Tensor, " batch"]) -> Context:
        """Empty images of the given classes (the number of classes stands for none)."""
        labels = self._labels(labels)
        order = torch.stack([self._order(row) for row in range(len(labels))]).to(self.device)
        tokens = torch.zeros(*order.shape, self.dim, dtype=self.dtype, device=self.device)
        return Context(tokens, torch.zeros_like(labels), order, labels)

    @torch.no_grad()
    def laws(self, context: Context, draft: Float[Tensor, "batch w dim"]) -> Chain:
        """p of the next w + 1 tokens, without waiting for the device. The head runs later, step by step."""
        batch, window = draft.shape[:2]
        row = torch.arange(batch, device=self.device)[:, None]
        place = context.length[:, None] + torch.arange(window + 1, device=self.device)
        place = place.clamp(max=self.length - 1)
        step, last = self._step[place], len(self.blocks) - 1
        steps = (step[:, :1] + torch.arange(self._touched(window), device=self.device)).clamp(max=last)

        rank = context.order.argsort(1)  # the position of each cell in the order
        everything = torch.full_like(context.length, window)
        tokens = _written(context, draft, everything)[row, rank]
        known = rank[:, None] < self._begin[steps][..., None]
        labels = context.labels[:, None]
        if self.passes == 2:
            labels = torch.cat([labels, torch.full_like(labels, self.shape.classes)], 1)
        each = (batch, self.passes, steps.shape[1])
        found = self.network(
            self.network.label(labels)[:, :, None].expand(*each, -1).flatten(0, 2),
            tokens[:, None, None].expand(*each, -1, -1).flatten(0, 2),
            known[:, None].expand(*each, -1).flatten(0, 2),
        ).unflatten(0, each)
        features = found.permute(0, 2, 3, 1, 4)[row, step - step[:, :1], context.order.gather(1, place)]
        return Chain(Condition(features, self._guidance[place]), self.head)

    def advance(self, context: Context, tokens: Float[Tensor, "batch n dim"], count: Int[Tensor, " batch"]) -> Context:
        """Each row's first `count` tokens are known."""
        return replace(context, tokens=_written(context, tokens, count), length=context.length + count)

    def plain(self, batch: int, draws: Draws) -> Float[Tensor, "batch length dim"]:
        """Images as MAR decodes them, a step at a time, each in one pass: in as many passes as there are steps.

        The law is that of plain decoding one token after the other, which takes a pass for every token.
        """
        context = self.start(batch)
        for size in self.blocks:
            law = self.laws(context, context.tokens[:, : size - 1])  # of these none is seen
            every = torch.ones(batch, size, dtype=torch.bool, device=self.device)
            context = self.advance(context, law.sample(draws, every), every.sum(1))
        return context.tokens

    def raster(self, context: Context, tokens: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length dim"]:
        """Whole images that were decoded in the order of a context, their tokens from left to right, top to bottom."""
        return tokens[torch.arange(len(tokens), device=tokens.device)[:, None], context.order.argsort(1)]

    def render(self, latents: Float[Tensor, "n length dim"]) -> Float[Tensor, "n channels height width"]:
        """Images, pixels from 0 to 1, of tokens in raster order.

        Raises:
            InputError: there is no autoencoder.
        """
        if self.pixels is None:
            raise InputError(f'{self.name} has no autoencoder; name its file in {FILE}: "autoencoder": "kl16.ckpt"')
        found: Tensor = self.pixels(latents)
        return found

    def _touched(self, window: int) -> int:
        """The most steps that a window has positions of."""
        of = self._of
        return max(of[min(first + window, len(of) - 1)] - of[first] + 1 for first in range(len(of)))

    def _order(self, row: int) -> Int[Tensor, " length"]:
        if self.order == "raster":
            return torch.arange(self.length)
        return torch.randperm(self.length, generator=torch.Generator().manual_seed(derived_seed(self.seed, row)))

    def _labels(self, labels: Tensor) -> Tensor:
        if labels.ndim != 1 or len(labels) == 0:
            raise InputError(f"class labels have shape {tuple(labels.shape)}; give one label per row")
        if bool((labels < 0).any()) or bool((labels > self.shape.classes).any()):
            raise InputError(f"class labels {labels.tolist()} are not all in 0..{self.shape.classes}")
        return labels.to(self.device)


def cosine(length: int, steps: int) -> tuple[int, ...]:
    """The sizes of MAR's own steps (its `num_iter`): few tokens at first, more and more later; at least one each.

    Raises:
        InputError: steps below 1, or more than there are tokens.
    """
    if not 1 <= steps <= length:
        raise InputError(f"{steps} steps for {length} tokens; every step predicts at least one: use 1..{length}")
    left, sizes = length, []
    for step in range(1, steps):
        after = max(1, min(left - 1, math.floor(length * math.cos(math.pi / 2 * step / steps))))
        sizes.append(left - after)
        left = after
    return (*sizes, left)


def network(path: Path, heads: Any, denoising: int) -> Network:
    """The network of a checkpoint, in float32 on the CPU, its sizes but for the heads taken from the weights.

    Raises:
        InputError: as `read_tensors`, and for tensors that are not MAR's.
    """
    tensors = read_tensors(path, ("model_ema", "model"))
    try:
        length, dim = tensors["diffusion_pos_embed_learned"].shape[1], tensors["z_proj.weight"].shape[1]
        shape = Shape(
            dim,
            length,
            len(tensors["class_emb.weight"]),
            tensors["encoder_pos_embed_learned"].shape[1] - length,
            _side(tensors, "encoder", heads[0]),
            _side(tensors, "decoder", heads[1]),
            len(tensors["diffloss.net.input_proj.weight"]),
            _count(tensors, "diffloss.net.res_blocks."),
        )
        steps = schedule(denoising)
        with torch.device("meta"):
            model = Network(shape, *steps)
        model.load_state_dict({key: value.float() for key, value in tensors.items()}, assign=True)
    except (KeyError, ValueError, IndexError, TypeError, RuntimeError) as error:
        lines = " ".join(str(error).split())[:300]
        raise InputError(f"{path} does not hold MAR's weights ({type(error).__name__}: {lines})") from error
    return model.requires_grad_(False).eval()


def _written(context: Context, block: Tensor, count: Tensor) -> Float[Tensor, "batch length dim"]:
    """A context's tokens with the first `count` of a block behind those that are committed."""
    size = block.shape[1]
    room = torch.cat([context.tokens, torch.zeros_like(block)], 1)  # so that there is where to write behind the end
    place = (context.length[:, None] + torch.arange(size, device=block.device))[..., None].expand_as(block)
    kept = block.where(row_mask(count, size)[..., None], room.gather(1, place))
    return room.scatter(1, place, kept)[:, : context.tokens.shape[1]]


def _side(tensors: dict[str, Tensor], name: str, heads: int | None) -> Side:
    width = len(tensors[f"{name}_norm.weight"])
    heads = heads or HEADS.get(width)
    if heads is None or width % heads:
        raise ValueError(f"{name} is {width} wide, of {heads} heads; set heads in {FILE}: [encoder, decoder]")
    return Side(width, _count(tensors, f"{name}_blocks."), heads)


def _count(tensors: dict[str, Tensor], prefix: str) -> int:
    return 1 + max(int(key.removeprefix(prefix).split(".")[0]) for key in tensors if key.startswith(prefix))


def _blocks(block: int | Sequence[int], length: int) -> tuple[int, ...]:
    if isinstance(block, int):
        if block < 1:
            raise InputError(f"block {block}: a step predicts at least one position")
        return tuple(min(block, length - first) for first in range(0, length, block))
    if min(block, default=0) < 1 or sum(block) != length:
        raise InputError(f"blocks of {list(block)} are {sum(block)} positions; all are at least 1, their sum {length}")
    return tuple(block)


def _check(guidance: float, order: str, schedule: str, denoising: int, dtype: torch.dtype) -> None:
    if not math.isfinite(guidance) or guidance < 0:
        raise InputError(f"guidance {guidance} is not a finite number of at least 0; 1 is the conditional law")
    for what, value, known in (("order", order, ("random", "raster")), ("schedule", schedule, ("linear", "constant"))):
        if value not in known:
            raise InputError(f"unknown {what} {value!r}; choose {' or '.join(known)}")
    if not 2 <= denoising <= TIMES:
        raise InputError(f"{denoising} denoising steps; the head was trained with {TIMES}: use 2..{TIMES}")
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"dtype {dtype} is too coarse for densities; use torch.float32 or torch.float64")
