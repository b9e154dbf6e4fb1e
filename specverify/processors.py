"""Processors: what turns a model's raw law into the target law p. They belong to the model, so that there is one p.

Pure functions on laws, Float[..., vocab]: any leading shape, float32 or float64, a law in and a law out. None looks at
other rows or positions.

    temperature   proportional to p^(1/t)
    top_k         the k most probable tokens (Fan, Lewis and Dauphin, arXiv 1805.04833), among ties the lowest ids
    top_k_ties    those, and every token that ties with the last of them, as transformers has it
    top_k_high    the k most probable tokens, among ties the highest ids
    top_p         the smallest set of most probable tokens with that mass (Holtzman et al., arXiv 1904.09751)
    min_p         the tokens with at least that share of the largest probability (Nguyen et al., arXiv 2407.01082)
    mask          the allowed tokens
    guidance      proportional to u^(1 - s) c^s, for two laws (Ho and Salimans, arXiv 2207.12598)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from specverify.catalogue import near
from specverify.errors import InputError
from specverify.model import Context, Model, check_laws


def temperature(law: Float[Tensor, "*rows vocab"], t: float | int) -> Float[Tensor, "*rows vocab"]:
    """The law proportional to law^(1/t): towards the most probable tokens below 1, towards the support's uniform above.

    As t goes to 0, tokens that tie for the maximum share the mass. At t = 1 the law comes back unchanged, bit for bit.

    Raises:
        InputError: t is not a finite number above 0.
    """
    _check_law(law)
    if not (0 < t < math.inf):
        raise InputError(f"temperature is {t}; it must be a finite number above 0 (for greedy decoding use top_k=1)")
    if t == 1:
        return law
    # Not `pow`: its last bit depends on where in the batch a row lies. The clamp keeps 0 / t and -inf / t defined.
    log = law.log()
    limits = torch.finfo(law.dtype)
    return ((log - log.amax(-1, keepdim=True)) / min(max(t, limits.tiny), limits.max)).softmax(-1)


def top_k(law: Float[Tensor, "*rows vocab"], k: int) -> Float[Tensor, "*rows vocab"]:
    """The law restricted to its k most probable tokens; all of it if k is the vocabulary or more.

    Exactly k tokens are kept: among those that tie at the threshold, the lowest ids.

    Raises:
        InputError: k is not an integer of at least 1.
    """
    _check_k(law, k)
    order = law.sort(dim=-1, descending=True, stable=True).indices
    return _restrict(law, torch.zeros_like(law, dtype=torch.bool).scatter(-1, order[..., :k], True))


def top_k_ties(law: Float[Tensor, "*rows vocab"], k: int) -> Float[Tensor, "*rows vocab"]:
    """The law restricted to the tokens at least as probable as the k-th: more than k of them where it ties.

    Raises:
        InputError: k is not an integer of at least 1.
    """
    _check_k(law, k)
    last = law.topk(min(k, law.shape[-1]), -1).values[..., -1:]
    return _restrict(law, law >= last)


def top_k_high(law: Float[Tensor, "*rows vocab"], k: int) -> Float[Tensor, "*rows vocab"]:
    """As `top_k`, but among those that tie at the threshold the highest ids are kept.

    Raises:
        InputError: k is not an integer of at least 1.
    """
    return top_k(law.flip(-1), k).flip(-1)


def top_p(law: Float[Tensor, "*rows vocab"], mass: float | int) -> Float[Tensor, "*rows vocab"]:
    """The law restricted to the smallest set of most probable tokens whose mass is at least `mass`.

    Tokens are taken in descending order of probability, ties by ascending id; sums are of the law's own precision.

    Raises:
        InputError: mass is outside (0, 1].
    """
    _check_law(law)
    if not (0 < mass <= 1):
        raise InputError(f"top_p is {mass}; it is a probability mass, above 0 and at most 1")
    if mass == 1:  # all of it: rounding in the sums must not drop the last tokens
        return law
    ordered = law.sort(dim=-1, descending=True, stable=True)
    above = ordered.values.cumsum(-1).roll(1, -1)  # the mass of the tokens before each one
    keep = above < mass
    keep[..., 0] = True  # also where the mass is too small for the law's precision
    return _restrict(law, torch.zeros_like(keep).scatter(-1, ordered.indices, keep))


def min_p(law: Float[Tensor, "*rows vocab"], share: float | int) -> Float[Tensor, "*rows vocab"]:
    """The law restricted to the tokens with at least `share` of the largest probability.

    Raises:
        InputError: share is outside [0, 1].
    """
    _check_law(law)
    if not (0 <= share <= 1):
        raise InputError(f"min_p is {share}; it is a share of the largest probability, from 0 to 1")
    return _restrict(law, law >= share * law.amax(-1, keepdim=True))


def mask(law: Float[Tensor, "*rows vocab"], allowed: Bool[Tensor, "*mask"]) -> Float[Tensor, "*rows vocab"]:
    """The law restricted to the allowed tokens; where none of them has mass, uniform over them.

    Args:
        law: the laws.
        allowed: True at the tokens that may follow; Bool[vocab], or with more of the law's last axes.

    Raises:
        InputError: the shapes do not fit, or a row allows no token.
    """
    _check_law(law)
    if allowed.shape != law.shape[law.ndim - allowed.ndim :]:
        raise InputError(
            f"the mask has shape {tuple(allowed.shape)} and the laws {tuple(law.shape)}; "
            f"give the mask the law's shape, or that of its last axes"
        )
    if not bool(allowed.any(-1).all()):
        raise InputError("the mask allows no token in some row; every position needs at least one")
    some = (law * allowed).sum(-1, keepdim=True) > 0
    return _restrict(torch.where(some, law, 1), allowed)


def guidance(
    conditional: Float[Tensor, "*rows vocab"], unconditional: Float[Tensor, "*rows vocab"], scale: float | int
) -> Float[Tensor, "*rows vocab"]:
    """Classifier-free guidance of laws: softmax(log u + scale (log c - log u)).

    Scale 0 is u and scale 1 is c, bit for bit. At any other scale a token with c = 0 gets 0. Where c > 0 = u, the limit
    as those u go to 0 together is taken: below scale 1 such tokens get nothing, above it they share all the mass. Where
    no token is left (disjoint supports, scale below 1), the law is c.

    Raises:
        InputError: the scale is negative or not finite, or the laws differ in shape or type.
    """
    _check_law(conditional)
    _check_law(unconditional)
    if conditional.shape != unconditional.shape or conditional.dtype != unconditional.dtype:
        raise InputError(
            f"guidance needs two laws alike: conditional {tuple(conditional.shape)} {conditional.dtype}, "
            f"unconditional {tuple(unconditional.shape)} {unconditional.dtype}"
        )
    if not (0 <= scale < math.inf):
        raise InputError(f"guidance scale is {scale}; it must be a finite number of at least 0")
    if scale in (0, 1):
        return conditional if scale == 1 else unconditional
    log_c, log_u = conditional.log(), unconditional.log()
    both = (conditional > 0) & (unconditional > 0)
    alone = (conditional > 0) & (unconditional == 0)
    score = torch.where(both, log_u + scale * (log_c - log_u), -math.inf)
    # Rows that the formula leaves open: only tokens with u = 0 count above scale 1, or none has both masses below it.
    open_rows = alone.any(-1, keepdim=True) if scale > 1 else ~both.any(-1, keepdim=True)
    limit = torch.where(alone, max(scale, 1.0) * log_c, -math.inf)
    return torch.where(open_rows, limit, score).softmax(-1)


@dataclass(frozen=True)
class Processor:
    """A function on laws with its setting.

    Attributes:
        label: how model names show it.
        function: (law, setting) -> law.
        setting: its second argument.
    """

    label: str
    function: Callable[[Tensor, Any], Tensor]
    setting: Any

    def __call__(self, law: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*rows vocab"]:
        """The processed law."""
        return self.function(law, self.setting)


def parse_processors(text: str) -> tuple[Processor, ...]:
    """Processors from the command line, such as "temperature=0.7,top_k=2,allowed=0+2", in the order of application.

    Raises:
        InputError: an unknown name, or a setting that is no number or out of range.
    """
    return tuple(_parse(part.strip()) for part in text.split(",") if part.strip())


class Processed:
    """A model whose laws have passed through processors, first to last. Its name shows them: `dense-3x6|T=0.7|top-k=2`.

    Raises:
        InputError: a processor cannot be used on the model's vocabulary, or does not return laws.
    """

    def __init__(self, model: Model, processors: Sequence[Processor]) -> None:
        self.inner, self.processors = model, tuple(processors)
        self.name = "|".join([model.name, *(processor.label for processor in self.processors)])
        self.vocab, self.length, self.eos = model.vocab, model.length, model.eos
        self.dtype, self.device = model.dtype, model.device
        trial = self._process(torch.full((1, self.vocab), 1 / self.vocab, dtype=self.dtype, device=self.device))
        check_laws(trial, what=f"the uniform law after {self.name!r}", vocab=self.vocab)

    def start(self, batch: int) -> Context:
        """As the inner model's."""
        return self.inner.start(batch)

    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """The inner model's laws, processed."""
        return self._process(self.inner.laws(context, draft))

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """As the inner model's."""
        return self.inner.advance(context, tokens, count)

    def _process(self, law: Tensor) -> Tensor:
        for processor in self.processors:
            law = processor(law)
        return law


class Guided:
    """Classifier-free guidance of one model by another; one forward pass runs both.

    Attributes:
        conditional, unconditional: the models c and u, each with a context of its own.
        scale: s.
        name: by default it names both models and the scale.

    Raises:
        InputError: the models differ in vocabulary, length, EOS, dtype or device; or the scale is out of range.
    """

    def __init__(
        self, conditional_model: Model, unconditional_model: Model, scale: float | int, *, name: str | None = None
    ) -> None:
        c, u = conditional_model, unconditional_model
        for attribute in ("vocab", "length", "eos", "dtype", "device"):
            if getattr(c, attribute) != getattr(u, attribute):
                raise InputError(
                    f"guidance needs two models alike: {attribute} is {getattr(c, attribute)} for {c.name!r} and "
                    f"{getattr(u, attribute)} for {u.name!r}"
                )
        self.conditional, self.unconditional, self.scale = c, u, scale
        self.name = name or f"{c.name}|guidance={scale:g}|from={u.name}"
        self.vocab, self.length, self.eos, self.dtype, self.device = c.vocab, c.length, c.eos, c.dtype, c.device
        uniform = torch.full((1, self.vocab), 1 / self.vocab, dtype=self.dtype, device=self.device)
        guidance(uniform, uniform, scale)

    def start(self, batch: int) -> Context:
        """The contexts of both models."""
        return self.conditional.start(batch), self.unconditional.start(batch)

    def laws(self, context: Context, draft: Int[Tensor, "batch w"]) -> Float[Tensor, "batch w+1 vocab"]:
        """The guided laws."""
        c, u = context
        return guidance(self.conditional.laws(c, draft), self.unconditional.laws(u, draft), self.scale)

    def advance(self, context: Context, tokens: Int[Tensor, "batch n"], count: Int[Tensor, " batch"]) -> Context:
        """Both contexts after the first `count` tokens of each row."""
        c, u = context
        return self.conditional.advance(c, tokens, count), self.unconditional.advance(u, tokens, count)


def _check_law(law: Tensor) -> None:
    if not law.is_floating_point() or law.ndim < 1 or law.shape[-1] == 0:
        raise InputError(f"processors take laws, Float[..., vocab]; got {law.dtype} of shape {tuple(law.shape)}")


def _check_k(law: Tensor, k: int) -> None:
    _check_law(law)
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"top_k is {k!r}; it must be an integer of at least 1")


def _restrict(law: Tensor, keep: Tensor) -> Tensor:
    kept = torch.where(keep, law, 0)
    return kept / kept.sum(-1, keepdim=True)


def _allow(law: Tensor, ids: tuple[int, ...]) -> Tensor:
    if max(ids) >= law.shape[-1]:
        raise InputError(
            f"allowed={'+'.join(map(str, ids))} names token {max(ids)}; the vocabulary has {law.shape[-1]}"
        )
    allowed = torch.zeros(law.shape[-1], dtype=torch.bool, device=law.device)
    allowed[list(ids)] = True
    return mask(law, allowed)


def _ids(text: str) -> tuple[int, ...]:
    ids = tuple(int(part) for part in text.split("+"))
    if min(ids) < 0:
        raise ValueError(text)
    return ids


_KINDS: dict[str, tuple[str, Callable[[str], Any], Callable[[Tensor, Any], Tensor], str]] = {
    "temperature": ("T", float, temperature, "a number such as 0.7"),
    "top_k": ("top-k", int, top_k, "an integer such as 2"),
    # The label names what an engine is to be told, a k; how it treats ties stands behind it.
    "top_k_ties": ("top-k", int, top_k_ties, "an integer such as 2"),
    "top_k_high": ("top-k", int, top_k_high, "an integer such as 2"),
    "top_p": ("top-p", float, top_p, "a number such as 0.9"),
    "min_p": ("min-p", float, min_p, "a number such as 0.1"),
    "allowed": ("allowed", _ids, _allow, "token ids such as 0+2"),
}
_BEHIND = {"top_k_ties": "+ties", "top_k_high": "+high"}


def _parse(part: str) -> Processor:
    name, _, text = (piece.strip() for piece in part.partition("="))
    if name not in _KINDS:
        raise InputError(f"unknown processor {name!r}; {near(name, _KINDS)}; write it as in temperature=0.7")
    label, read, function, form = _KINDS[name]
    try:
        setting = read(text)
    except ValueError:
        raise InputError(f"{name}={text!r} cannot be read; it takes {form}") from None
    if function is not _allow:  # which ids exist is known once there is a model
        function(torch.ones(1), setting)
    return Processor(f"{label}={text}{_BEHIND.get(name, '')}", function, setting)
