"""The parts of a toy by which loops call a transformer themselves: what makes hidden states, and logits of them.

Loops of draft heads read hidden states and embeddings, and verify by `lm_head`. What heads of theirs make of these is
their own; for all that can happen to a draft to happen here, numbers are as large as those of networks, and no id is
drafted that is no token. So a hidden state holds logits of tokens alone, from the last to the first, none below
`FLOOR`; the head tells what stands there from what is possible.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specverify.integrations.unprocessed import IMPOSSIBLE
from specverify.model import Model

FLOOR = -20.0
"""In a hidden state, what is impossible; what is possible is more."""
EARLY = 0.5
"""Hidden states of the first layer are those of the last, times this: a law of its own, with the same support."""


class Trunk(torch.nn.Module):
    """What makes hidden states.

    Args:
        config: of the model.
        called: what it does.
        toy: of whose dtype it is, and on whose device.
    """

    def __init__(self, config: Any, called: Callable[..., Any], toy: Model) -> None:
        super().__init__()
        self.config, self.called = config, called
        each = (
            torch.arange(1, 1 + size, dtype=toy.dtype, device=toy.device)
            for size in (config.vocab_size, config.hidden_size)
        )
        self.embed_tokens = torch.nn.Embedding.from_pretrained((0.7 * torch.outer(*each)).sin())
        self.layers = torch.nn.ModuleList(Layer() for _ in range(config.num_hidden_layers))
        self.norm = torch.nn.Identity()  # what loops put between an early layer and the head
        self.dtype, self.device = toy.dtype, toy.device
        self.vocab_size, self.padding_idx = config.vocab_size, config.pad_token_id
        self.gradient_checkpointing = False

    def forward(self, *given: Any, **named: Any) -> Any:
        """As transformers calls it."""
        return self.called(*given, **named)

    def get_input_embeddings(self) -> torch.nn.Module:
        """A row of numbers for each id."""
        table: torch.nn.Module = self.embed_tokens
        return table

    def read_back(self, embeddings: Float[Tensor, "*shape hidden"]) -> Int[Tensor, "*shape"]:
        """The ids of embeddings.

        Raises:
            ValueError: some are none.
        """
        table = self.embed_tokens.weight
        apart: Tensor = (embeddings.unsqueeze(-2) - table).abs().sum(-1)
        if bool((apart.amin(-1) != 0).any()):
            raise ValueError("inputs_embeds are no rows of get_input_embeddings(), of which a toy reads its ids")
        return apart.argmin(-1)


class Layer(torch.nn.Module):
    """One of those that loops count; a toy computes all of them at once."""

    def forward(self, *given: Any, **named: Any) -> Any:
        """Not by itself.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "a toy's layers cannot be run one by one; call its trunk, with output_hidden_states=True, or with a "
            "smaller config.num_hidden_layers"
        )


class Head(torch.nn.Linear):
    """Logits of hidden states; its weight says so to whoever copies it, but for what is impossible.

    Args:
        size: of all ids.
        tokens: those of tokens.
        toy: of whose dtype it is, and on whose device.
    """

    def __init__(self, size: int, tokens: range, toy: Model) -> None:
        self.tokens = slice(tokens.start, tokens.stop)
        super().__init__(len(tokens), size, bias=False, dtype=toy.dtype, device=toy.device)
        self.requires_grad_(False)

    def reset_parameters(self) -> None:
        """Without a draw."""
        with torch.no_grad():
            self.weight.zero_()[self.tokens] = torch.eye(self.in_features).flip(0).to(self.weight)

    def hidden(self, logits: Float[Tensor, "*shape vocab"]) -> Float[Tensor, "*shape hidden"]:
        """Of which it makes these."""
        return logits[..., self.tokens].clamp(min=FLOOR).flip(-1)

    def early(self, hidden: Float[Tensor, "*shape hidden"]) -> Float[Tensor, "*shape hidden"]:
        """What the first layer made of it."""
        return hidden.where(hidden <= FLOOR, EARLY * hidden)

    def forward(self, hidden: Float[Tensor, "*shape hidden"]) -> Float[Tensor, "*shape vocab"]:
        """Exact in every dtype."""
        logits = hidden.new_full((*hidden.shape[:-1], self.out_features), IMPOSSIBLE)
        logits[..., self.tokens] = hidden.flip(-1).where(hidden.flip(-1) > FLOOR, IMPOSSIBLE)
        return logits
