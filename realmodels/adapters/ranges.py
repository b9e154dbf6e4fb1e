"""What adapters share whose images are a range of a language model's ids: inputs, the pass, the head, guidance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from realmodels import library
from realmodels.grammar import Layout
from realmodels.session import Prompt, guide_log_laws
from specverify.errors import InputError

Renderer = Callable[[Tensor], Tensor]
"""Codes, Int[n, rows, columns], to pixels from 0 to 1, Float[n, channels, height, width]."""

PROBE = 4
"""Inputs that a transformer reads both ways before anything is asked of it."""


class Ranged(library.Trunk):
    """Most of a `realmodels.session.Network`.

    Args:
        model: of transformers.
        core: what of it lies below its head.
        config: of the core.
        layout: of an image.
        folder: where it came from.

    Raises:
        InputError: ids that the model does not have; a head that is more than one matrix.
    """

    def __init__(self, model: Any, core: Any, config: Any, layout: Layout, folder: Path) -> None:
        super().__init__(core)
        self.model, self.config, self.layout, self.folder = model, config, layout, folder
        self._input = model.get_input_embeddings()
        self.dtype, self.device = self._input.weight.dtype, self._input.weight.device
        self.ids, grammar = layout.ids.to(self.device), layout.grammar()
        self.grammar = None if grammar is None else grammar.to(self.device)
        self.name, self.vocab, self.length = folder.name, len(self.ids), layout.length
        self.size = layout.grid
        head = getattr(model.get_output_embeddings(), "weight", self._input.weight)
        highest, known = int(self.ids.max()), min(len(self._input.weight), len(head))
        if highest >= known:
            raise InputError(f"an image of {self.name} has the id {highest}, and the model 0..{known - 1}")
        self._weight, self._bias = self._head()

    def inputs(self, conditional: Any, unconditional: Any) -> Prompt:
        """Two prompts, as text or as token ids; the second may be None.

        Raises:
            InputError: as `library.token_ids`; for more positions than the model has, or than a layer of it sees.
        """
        given = [conditional] if unconditional is None else [conditional, unconditional]
        both = [library.token_ids(each, self.folder, len(self._input.weight)) for each in given]
        library.check_room(self.config, max(map(len, both)), self.length, self.name)
        first, *other = (self._input(torch.tensor(ids, device=self.device)) for ids in both)
        return Prompt(first, other[0] if other else None)

    def embed(self, tokens: Int[Tensor, "rows n"]) -> Float[Tensor, "rows n width"]:
        """By the model's own embedding of their ids."""
        inputs: Tensor = self._input(self.ids[tokens])
        return inputs

    def logits(self, hidden: Float[Tensor, "rows n width"]) -> Float[Tensor, "rows n vocab"]:
        """The rows of the head that images have."""
        return torch.nn.functional.linear(hidden, self._weight, self._bias)

    def guide(
        self, conditional: Float[Tensor, "batch n vocab"], unconditional: Float[Tensor, "batch n vocab"], scale: float
    ) -> Float[Tensor, "batch n vocab"]:
        """Of logarithms of laws. That those are laws of the ids of images only shifts them."""
        return guide_log_laws(conditional, unconditional, scale)

    @torch.no_grad()
    def _head(self) -> tuple[Tensor, Tensor | None]:
        """The rows of the output matrix, after a look whether that matrix is all there is behind the last layer.

        What a model rules out (Chameleon's own class has no images) is not looked at.
        """
        head, probe = self.model.get_output_embeddings(), self.ids[:2][None]
        try:
            whole = self.model(input_ids=probe, use_cache=False).logits
            below = self.core(input_ids=probe, use_cache=False).last_hidden_state
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # what a class that is called otherwise raises is anything
            raise library.unreadable(self.model, error) from error
        capped = getattr(self.config.get_text_config(), "final_logit_softcapping", None)
        if isinstance(head, torch.nn.Linear) and not capped:
            mine = head(below)
            seen = whole > torch.finfo(whole.dtype).min
            near = min(1e-2, 64 * torch.finfo(whole.dtype).eps)  # of half precision nothing finer is known
            if bool(((mine - whole).abs() <= near * whole[seen].abs().max()).where(seen, True).all()):
                first, last = self.layout.first, self.layout.first + self.layout.codes
                plain = not self.layout.special  # a view, where the ids follow each other
                weight = head.weight[first:last] if plain else head.weight[self.ids]
                return weight, None if head.bias is None else head.bias[self.ids]
        raise InputError(
            f"the logits of {self.name} are not those of one matrix (they may be scaled or capped), which this "
            "adapter does not support; write one of its own after the pattern of realmodels/adapters/janus.py"
        )

    @torch.no_grad()
    def probe(self) -> tuple[Float[Tensor, "1 n width"], Float[Tensor, "1 n width"]]:
        """Some inputs, and what the transformer makes of them in one pass without a cache."""
        ids = self.ids[torch.arange(PROBE, device=self.device) % self.vocab][None]
        return self._input(ids), self.core(input_ids=ids, use_cache=False).last_hidden_state


class Coded(Ranged):
    """One whose model makes no pixels of codes.

    Attributes:
        renderer: codes to pixels, or None.
    """

    renderer: Renderer | None

    def render(self, tokens: Int[Tensor, "n length"]) -> Float[Tensor, "n channels height width"]:
        """By the renderer."""
        if self.renderer is None:
            raise InputError(
                f"{self.name} makes codes, and nothing here makes pixels of them; give open_model a renderer="
            )
        return self.renderer(self.layout.code_grid(tokens))
