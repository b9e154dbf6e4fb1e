"""Any causal language model of transformers whose images are a range of ids: an adapter by configuration, no code.

Tar (Qwen2, 729, 169 or 81 tokens of 65,536 codes, Apache-2.0), SimpleAR (Qwen2, 64 x 64), X-Omni-like models, and
whatever else `AutoModelForCausalLM` loads without code of its own. With `class`, another class of transformers that has
a language model's inputs and head: for the Chameleon family (Lumina-mGPT, Anole; Chameleon licence) that is
"ChameleonForConditionalGeneration", with the codes at ids 4..8195, whose own `generate` rules images out, and whose
tokenizer's weights (`vqmodel`) may be missing, as where they were left out in training; and for
Emu3.5 (below) "Qwen3ForCausalLM". Beside its config.json lies an `image-model.json`:

    {"adapter": "causal", "grid": [27, 27], "first": 151665, "codes": 65536,
     "row_end": null, "last_row_end": true, "suffix": [], "unconditional": [151644], "guidance": 1.0,
     "source": "...", "licence": "...", "class": "AutoModelForCausalLM"}

`first` is the id of code 0, `row_end` an id behind every row (behind the last one only with `last_row_end`), `suffix`
ids behind the last row, `unconditional` the prompt for guidance (text or ids), `guidance` the scale that is
recommended. Only ids that images have are given probability: codes, row ends and suffix, each where it can stand.
Guidance is u + s (c - u) of logarithms of laws, as `generate` computes it.

A condition is a whole prompt, text or token ids, up to the token that begins an image. Codes become pixels by a
`renderer` of the caller's; without one, `render` says so, and `specverify sample --out codes.json` writes tokens alone:
first the codes, as they are numbered, then `row_end` and `suffix`.

Emu3.5 (BAAI/Emu3.5, Emu3.5-Image; Apache-2.0) comes with code of its own, which is not run: its transformer computes
what Qwen3 does, by the same names of weights (baaivision/Emu3.5, src/emu3p5/modeling_emu3.py at dadb50e, with the
attention that its loader asks for; the one named "sdpa" there leaves out the norms of queries and keys). An image of
1,024 x 1,024 pixels is 64 rows of 64 codes, of which the last ends with the end of the image, 4,160 tokens
(src/utils/logits_processor.py at 0e4f935, which asks for guidance 5, or 2 for Emu3.5, and a top-k of 5,120):

    {"adapter": "causal", "class": "Qwen3ForCausalLM", "grid": [64, 64], "first": 151854, "codes": 131072,
     "row_end": 151846, "last_row_end": false, "suffix": [151853], "unconditional": [...], "guidance": 5.0}

Its tokenizer is code, too, so prompts are ids: of its template, of the caption, and 151852, the size, 151851.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from realmodels import library
from realmodels.adapters.ranges import Coded, Renderer
from realmodels.grammar import Layout
from realmodels.images import Description
from realmodels.session import Prompt
from specverify import files
from specverify.errors import InputError

FILE = "image-model.json"
KNOWN = (
    "adapter", "class", "grid", "first", "codes", "row_end", "last_row_end", "suffix", "unconditional", "guidance",
    "source", "licence",
)  # fmt: skip
REMEDY = f"see the docstring of realmodels.adapters.causal for what {FILE} holds"


class Causal(Coded):
    """See `realmodels.session.Network`.

    Args:
        folder: a checkpoint with its `image-model.json`.
        renderer: codes to pixels.

    Raises:
        InputError: as `library.load`; for a setting that is missing or does not fit the model; for a head that is more
            than one matrix, and for a transformer that cannot be read over a cache of another.
    """

    def __init__(
        self,
        folder: Path,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        *,
        renderer: Renderer | None = None,
    ) -> None:
        settings = files.read_json(folder / FILE, REMEDY)
        if unknown := sorted(settings.keys() - KNOWN):
            raise InputError(f"{folder / FILE} has the unknown setting {unknown[0]!r}; there are {', '.join(KNOWN)}")
        try:
            guidance = float(settings.get("guidance", 1.0))
        except (TypeError, ValueError):
            guidance = math.nan
        if not 0 <= guidance < math.inf:
            raise InputError(f"{folder / FILE}: guidance {settings['guidance']!r} is no number of at least 0")
        layout = read_layout(settings, folder / FILE)
        kind = str(settings.get("class", "AutoModelForCausalLM"))
        model = library.load(kind, folder, dtype, torch.device(device), whole=True, spare="vqmodel.")
        super().__init__(model, model.base_model, model.config, layout, folder)
        self.check_cache(*self.probe(), self.name)
        self.renderer, self.unconditional = renderer, settings.get("unconditional")
        self.description = Description(
            str(settings.get("source", folder.name)),
            str(settings.get("licence", "see the checkpoint")),
            layout.grid,
            guidance,
            f"row end {layout.row_end}, then {list(layout.suffix)}" if layout.special else "",
        )

    def prompt(self, condition: Any) -> Prompt:
        """A whole prompt."""
        return self.inputs(condition, self.unconditional)


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
            last_row_end=_flag(settings.get("last_row_end", True)),
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{path}: {error}") from None
        raise InputError(f"{path} lacks a setting, or has one of the wrong kind ({error!r}); {REMEDY}") from None


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no integer")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError(f"{value!r} is neither true nor false")
    return value
