"""Laws that only a processor of logits brings to light, so that a loop that hands it other ids is seen.

Processors such as a repetition penalty depend on all ids of a sequence. A loop that gives one the ids of another row,
or drafts that come later, decodes another law, though processors that look at logits alone hide it. So a toy adds
numbers to its logits that follow from the ids so far, and `generate` gets a processor that takes off what follows from
the ids that it is given.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.integrations.attention import numbers_of

_FACTOR, _PRIME = 2654435, 4194301


def hiding(ids: Int[Tensor, "rows n"], vocab: int) -> Float[Tensor, "rows n vocab"]:
    """What is added to logits behind each of the ids, from -1 to 1."""
    return _spread(numbers_of(ids), vocab)


class Revealing:
    """The processor of logits: takes off what was added behind the ids that it is given.

    Args:
        pad: the id that pads in front.

    Attributes:
        called: how often it was.
    """

    def __init__(self, pad: int) -> None:
        self.pad, self.called = pad, 0

    def __call__(self, input_ids: Int[Tensor, "rows n"], scores: Float[Tensor, "rows vocab"]) -> Tensor:
        """As transformers calls processors."""
        self.called += 1
        front = (input_ids == self.pad).long().cumprod(1).bool()
        number = numbers_of(input_ids.masked_fill(front, -2))[:, -1:]
        return scores - _spread(number, scores.shape[-1])[:, 0].to(scores)


def _spread(numbers: Int[Tensor, "*shape"], vocab: int) -> Float[Tensor, "*shape vocab"]:
    token = torch.arange(1, vocab + 1, device=numbers.device)
    return 2 * (numbers[..., None] * token * _FACTOR % _PRIME).double() / _PRIME - 1
