"""What every network around LlamaGen's transformer has in common: conditions as inputs, passes, a head."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from realmodels.adapters.llamagen_gpt import Captions, Classes, Transformer
from realmodels.grammar import Grammar
from realmodels.ragged import Inputs
from realmodels.session import Prompt, guide_logits
from specverify.errors import InputError


class Gpt:
    """Most of a `realmodels.session.Network`.

    Args:
        name: of the model.
        model: the transformer, with the type and the device that its weights are to have.
    """

    def __init__(self, name: str, model: Transformer) -> None:
        weights, self.model, self.name = model.output.weight, model, name
        self.grammar: Grammar | None = None
        self.dtype, self.device = weights.dtype, weights.device
        self.vocab, self.length = model.shape.vocab, model.shape.side**2

    def prompt(self, condition: Any) -> Prompt:
        """One input for a class, as many as it has tokens for a text."""
        embedding, shape = self.model.cls_embedding, self.model.shape
        if isinstance(embedding, Classes):
            if type(condition) is not int or not 0 <= condition <= shape.classes:
                raise InputError(
                    f"the condition {condition!r} is no class; those of {self.name} are 0..{shape.classes}, of which "
                    "the last is none"
                )
            both = embedding.embedding_table(torch.tensor([[condition], [shape.classes]], device=self.device))
            return Prompt(both[0], both[1])
        if not isinstance(condition, Tensor) or condition.ndim != 2 or condition.shape[1] != shape.caption:
            raise InputError(
                f"a condition of {self.name} is Float[n, {shape.caption}], the features of a text's tokens"
            )
        if not 1 <= len(condition) <= shape.captions:
            raise InputError(f"a text has {len(condition)} tokens; {self.name} takes 1 to {shape.captions}")
        assert isinstance(embedding, Captions)
        none = embedding.uncond_embedding[-len(condition) :]  # texts are padded on the left, and so is none
        return Prompt(embedding(condition.to(none)), embedding(none))

    def embed(self, tokens: Int[Tensor, "rows n"]) -> Float[Tensor, "rows n width"]:
        """Codes."""
        inputs: Tensor = self.model.tok_embeddings(tokens)
        return inputs

    def hidden(self, inputs: Inputs) -> Float[Tensor, "rows n width"]:
        """A pass. Places count from the first token, however long the text is."""
        found: Tensor = self.model(
            inputs.vectors, inputs.cache.place.clamp(max=self.length - 1), inputs.mask, inputs.cache
        )
        return found

    def logits(self, hidden: Float[Tensor, "rows n width"]) -> Float[Tensor, "rows n vocab"]:
        """The head."""
        found: Tensor = self.model.output(hidden)
        return found

    def guide(
        self, conditional: Float[Tensor, "batch n vocab"], unconditional: Float[Tensor, "batch n vocab"], scale: float
    ) -> Float[Tensor, "batch n vocab"]:
        """Of logits."""
        return guide_logits(conditional, unconditional, scale)
