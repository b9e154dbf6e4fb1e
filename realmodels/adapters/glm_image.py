"""GLM-Image's language model, in the class of transformers (GlmImageForConditionalGeneration, from release 5 on).

Checkpoint: zai-org/GLM-Image (9 B, and a diffusion decoder of 7 B beside it), MIT; code Apache-2.0. Give the folder
`vision_language_encoder` of the download; the tokenizer is read from `processor` beside it.

An image of h x w codes, of 16,384, follows a preview of about 16 x 16 codes of its own, and a token ends both. A code
is 32 x 32 pixels, so that 1024 x 1024 pixels are 256 + 1024 + 1 tokens. The model's own code forbids nothing; here
codes alone have probability at their places, and the end is certain at its own.

A position is three numbers: time, row and column. They are equal in a prompt of p tokens, 0..p-1. The preview has
(p, p + row, p + column), and the image the same with p + max(rows, columns) of the preview in place of p.

The language model has no guidance; with a prompt of your own as `unconditional` there is some, of logarithms of laws as
`generate` computes it. Its makers take temperature 0.9 and top-p 0.75 ("temperature=0.9,top_p=0.75"), and say that the
most probable tokens make flat images.

Pixels are the diffusion decoder's, which is no part of transformers (diffusers has it, as GlmImagePipeline): give it as
`renderer`. A condition is text, to which both sizes and the beginning of an image are added; or token ids that end with
that beginning, as the checkpoint's processor makes them. Images to start from are not supported. An `image-model.json`
beside config.json may say another grid, and a prompt for guidance: {"grid": [16, 24], "unconditional": "a picture"}.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from realmodels import library
from realmodels.adapters.ranges import Coded, Renderer
from realmodels.grammar import Layout
from realmodels.images import Description
from realmodels.ragged import Inputs
from realmodels.session import Prompt
from specverify.errors import InputError

FRAME = "{}<sop>{} {}<eop><sop>{} {}<eop>"
"""What a text becomes, with the sizes of the image and of its preview, before the token that begins an image."""
PREVIEW = 16
"""Rows, and columns, of the preview of a square."""
SIDE = 32
"""Pixels that a code is high, and wide."""


class GlmImage(Coded):
    """See `realmodels.session.Network`.

    Args:
        folder: a checkpoint's `vision_language_encoder`.
        grid: rows and columns of codes.
        preview: likewise, of the preview; as the checkpoint's processor chooses it if None.
        unconditional: the prompt for guidance, as a condition is.
        renderer: codes to pixels.

    Raises:
        InputError: as `library.load`; for a size below 1, or ids that the model does not have.
    """

    def __init__(
        self,
        folder: Path,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        *,
        grid: tuple[int, int] = (32, 32),
        preview: tuple[int, int] | None = None,
        unconditional: Any = None,
        renderer: Renderer | None = None,
    ) -> None:
        preview = preview_of(grid) if preview is None else preview
        if min(*grid, *preview) < 1:
            raise InputError(f"a grid of {grid} with a preview of {preview} codes: no side may be below 1; change them")
        model = library.load("GlmImageForConditionalGeneration", folder, dtype, torch.device(device))
        config = model.config
        layout = Layout(
            grid,
            0,  # codes come first among the ids: those of source images go into prompts as they are
            config.vq_config.num_embeddings,
            suffix=(config.image_end_token_id,),
            before=math.prod(preview),
        )
        super().__init__(model, model.model.language_model, config.text_config, layout, folder)
        self.renderer, self.unconditional = renderer, unconditional
        self.preview, self.size = preview, (SIDE * grid[0], SIDE * grid[1])
        self.begin, self.sources = config.image_start_token_id, {config.image_end_token_id, config.image_token_id}
        self._steps = steps(preview, grid).to(self.device)
        beside = folder.parent / "processor"
        self._words = beside if beside.is_dir() else folder
        self.description = Description(
            "zai-org/GLM-Image or alike",
            "MIT",
            grid,
            tokens=f"a preview of {preview[0]} x {preview[1]} codes, the image, then one that ends it",
        )

    def prompt(self, condition: Any) -> Prompt:
        """Text in the form that the model was trained on, or ids as they are."""
        return self.inputs(self._ids(condition), None if self.unconditional is None else self._ids(self.unconditional))

    def positions(self, inputs: Inputs) -> Int[Tensor, "3 rows n"]:
        """Time, row and column of every input. Those that the model keeps from call to call are not asked."""
        place = inputs.cache.place
        length = inputs.positions - place  # of the prompt
        return torch.where(place < 0, inputs.positions, length + self._steps[:, place.clamp(0, self.length - 1)])

    def _ids(self, condition: Any) -> list[int]:
        text = isinstance(condition, str)
        whole = FRAME.format(condition, *self.layout.grid, *self.preview) if text else condition
        ids = [*library.token_ids(whole, self._words, len(self._input.weight)), *([self.begin] if text else [])]
        if ids[-1] != self.begin:
            raise InputError(f"a condition ends with {ids[-1]}; a prompt of {self.name} ends with {self.begin}")
        if found := self.sources.intersection(ids):
            raise InputError(
                f"a condition holds the token {min(found)}, of an image to start from; this adapter makes images of "
                "text alone: leave such tokens out"
            )
        return ids


def preview_of(grid: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the preview of a grid, as GlmImageProcessor rounds them; 0 where a grid is too narrow."""
    if min(grid) < 1:
        return grid
    ratio = grid[0] / grid[1]
    return int(math.sqrt(ratio) * PREVIEW), int(math.sqrt(1 / ratio) * PREVIEW)


def steps(preview: tuple[int, int], grid: tuple[int, int]) -> Int[Tensor, "3 length"]:
    """Time, row and column of every token of an image, from the length of the prompt on.

    As GlmImageModel.get_rope_index has it: each grid begins behind the longer side of the last one, as does the end.
    """
    parts, begin = [], 0
    for rows, columns in (preview, grid):
        cells = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).T
        parts.append(begin + F.pad(cells, (0, 0, 1, 0)))
        begin += max(rows, columns)
    return torch.cat([*parts, torch.full((3, 1), begin)], 1)
