"""Any causal language model of transformers whose images are a range of ids: an adapter by configuration, no code.

Tar (Qwen2, 729, 169 or 81 tokens of 65,536 codes, Apache-2.0), SimpleAR (Qwen2, 64 x 64), X-Omni-like models, and
whatever else `AutoModelForCausalLM` loads without code of its own. Beside its config.json lies an `image-model.json`:

    {"adapter": "causal", "grid": [27, 27], "first": 151665, "codes": 65536,
     "row_end": null, "suffix": [], "unconditional": [151644], "guidance": 1.0, "source": "...", "licence": "..."}

`first` is the id of code 0, `row_end` an id behind every row, `suffix` ids behind the last one, `unconditional` the
prompt for guidance (text or ids), `guidance` the scale that is recommended. Only ids that images have are given
probability: codes, row ends and suffix, each where it can stand. Guidance is u + s (c - u) of logarithms of laws, as
`generate` computes it.

A condition is a whole prompt, text or token ids, up to the token that begins an image. Codes become pixels by a
`renderer` of the caller's; without one, `render` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from realmodels import library
from realmodels.grammar import Layout
from realmodels.images import Description
from realmodels.ragged import Ragged
from realmodels.session import Prompt, guide_log_laws
from specverify.errors import InputError

FILE = "image-model.json"
REMEDY = f"see the docstring of realmodels.adapters.causal for what {FILE} holds"
Renderer = Callable[[Tensor], Tensor]
"""Codes, Int[n, rows, columns], to pixels from 0 to 1, Float[n, channels, height, width]."""


class Causal:
    """See `realmodels.session.Network`.

    Args:
        folder: a checkpoint with its `image-model.json`.
        renderer: codes to pixels.

    Raises:
        InputError: as `library.load`; for a setting that is missing or does not fit the model; for a head that is more
            than one matrix.
    """

    def __init__(
        self,
        folder: Path,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        *,
        renderer: Renderer | None = None,
    ) -> None:
        self.folder, self.dtype, self.device, self.renderer = folder, dtype, torch.device(device), renderer
        settings = library.read_json(folder / FILE, REMEDY)
        self.layout = read_layout(settings, folder / FILE)
        self.model = library.load("AutoModelForCausalLM", folder, dtype, self.device)
        self.core, self._input = self.model.base_model, self.model.get_input_embeddings()
        self._cache = library.cache_name(self.core.forward)
        self.ids, self.grammar = self.layout.ids.to(self.device), self.layout.grammar()
        highest, known = int(self.ids.max()), len(self._input.weight)
        if highest >= known:
            raise InputError(f"{folder / FILE} names the id {highest}; {folder.name} has 0..{known - 1}")
        if self.grammar is not None:
            self.grammar = self.grammar.to(self.device)
        self.name, self.vocab, self.length = folder.name, len(self.ids), self.layout.length
        self.size = self.layout.grid
        self._weight, self._bias = self._head()
        self.unconditional = settings.get("unconditional")
        self.description = Description(
            str(settings.get("source", folder.name)),
            str(settings.get("licence", "see the checkpoint")),
            self.layout.grid,
            float(settings.get("guidance", 1.0)),
            f"row end {self.layout.row_end}, then {list(self.layout.suffix)}" if self.layout.special else "",
        )
        library.check_full_attention(self.model.config, self.length)

    def prompt(self, condition: Any) -> Prompt:
        """A whole prompt."""
        ids = library.token_ids(condition, self.folder, len(self._input.weight))
        other = ids if self.unconditional is None else self.unconditional
        other = library.token_ids(other, self.folder, len(self._input.weight))
        longest, most = max(len(ids), len(other)), getattr(self.model.config, "max_position_embeddings", None)
        if most is not None and longest + self.length - 1 > most:
            raise InputError(
                f"a prompt of {longest} tokens and {self.length} image tokens need {longest + self.length - 1} "
                f"positions; {self.name} has {most}: shorten the prompt"
            )
        return Prompt(self._embedded(ids), self._embedded(other))

    def embed(self, tokens: Int[Tensor, "rows n"]) -> Float[Tensor, "rows n width"]:
        """By the model's own embedding of their ids."""
        inputs: Tensor = self._input(self.ids[tokens])
        return inputs

    def hidden(
        self,
        inputs: Float[Tensor, "rows n width"],
        positions: Int[Tensor, "rows n"],
        mask: Float[Tensor, "rows 1 n slots"],
        cache: Ragged,
    ) -> Float[Tensor, "rows n width"]:
        """A pass of the model below its head."""
        arguments = {"inputs_embeds": inputs, "position_ids": positions, "attention_mask": mask, self._cache: cache}
        found: Tensor = self.core(**arguments, use_cache=True).last_hidden_state
        return found

    def logits(self, hidden: Float[Tensor, "rows n width"]) -> Float[Tensor, "rows n vocab"]:
        """The rows of the head that images have."""
        return torch.nn.functional.linear(hidden, self._weight, self._bias)

    def guide(
        self, conditional: Float[Tensor, "batch n vocab"], unconditional: Float[Tensor, "batch n vocab"], scale: float
    ) -> Float[Tensor, "batch n vocab"]:
        """Of logarithms of laws. That those are laws of the ids of images only shifts them."""
        if self.unconditional is None:
            raise InputError(f"guidance needs a prompt without condition: add unconditional to {self.folder / FILE}")
        return guide_log_laws(conditional, unconditional, scale)

    def render(self, tokens: Int[Tensor, "n length"]) -> Float[Tensor, "n channels height width"]:
        """By the renderer."""
        if self.renderer is None:
            raise InputError(
                f"{self.name} makes codes, and nothing here makes pixels of them; give open_model a renderer="
            )
        return self.renderer(self.layout.code_grid(tokens))

    def _embedded(self, ids: list[int]) -> Tensor:
        found: Tensor = self._input(torch.tensor(ids, device=self.device))
        return found

    @torch.no_grad()
    def _head(self) -> tuple[Tensor, Tensor | None]:
        """The rows of the output matrix, after a look whether that matrix is all there is behind the last layer."""
        head = self.model.get_output_embeddings()
        probe = self.ids[:2][None]
        whole = self.model(input_ids=probe, use_cache=False).logits[..., self.ids]
        if isinstance(head, torch.nn.Linear):
            first, last = self.layout.first, self.layout.first + self.layout.codes
            plain = not self.layout.special  # a view, where the ids follow each other
            weight = head.weight[first:last] if plain else head.weight[self.ids]
            bias = None if head.bias is None else head.bias[self.ids]
            hidden = self.core(input_ids=probe, use_cache=False).last_hidden_state
            mine = torch.nn.functional.linear(hidden, weight, bias)
            if bool(((mine - whole).abs() <= 1e-2 * whole.abs().max()).all()):
                return weight, bias
        raise InputError(
            f"the logits of {self.name} are not those of one matrix (they may be scaled or capped), which this "
            "adapter does not support; write one of its own after the pattern of realmodels/adapters/janus.py"
        )


def read_layout(settings: dict[str, Any], path: Path) -> Layout:
    """The layout that an `image-model.json` describes.

    Raises:
        InputError: a setting is missing or no number; naming it.
    """
    try:
        rows, columns = (_integer(size) for size in settings["grid"])
        row_end = settings.get("row_end")
        return Layout(
            (rows, columns),
            _integer(settings["first"]),
            _integer(settings["codes"]),
            None if row_end is None else _integer(row_end),
            tuple(_integer(token) for token in settings.get("suffix", ())),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{path}: {error}") from None
        raise InputError(f"{path} lacks a setting, or has one of the wrong kind ({error!r}); {REMEDY}") from None


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no integer")
    return value
