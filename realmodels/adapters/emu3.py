"""Emu3, in the class of transformers (Emu3ForConditionalGeneration).

Checkpoints: Emu3-community/Emu3-Gen-hf (8.5 B), Apache-2.0. An image of h x w codes, of 32,768, is h rows of w codes
with a row end (`<|extra_200|>`) behind each, then end of frame (`<|extra_201|>`), end of image and end of sequence:
h (w + 1) + 3 tokens, 8 x 8 pixels a code. It was trained on 90 x 90, 720 x 720 pixels. Every special token is certain
at its place, so that drafts there are kept. Guidance is u + s (c - u) of logarithms of laws, s = 3, with a second
prompt of its own length that says what is not wanted; its makers take a top-k of 2048 ("top_k_ties=2048").

A condition is text, to which the beginning of an image and its size are added; or token ids that end with the token
behind the size (`<|image token|>`), as the processor of the checkpoint makes them. An `image-model.json` beside
config.json may say another grid and another prompt for guidance: {"grid": [45, 45], "negative": "blurred"}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from realmodels import library
from realmodels.adapters.ranges import Ranged
from realmodels.grammar import Layout
from realmodels.images import Description
from realmodels.session import Prompt
from specverify.errors import InputError

NEGATIVE = (
    "lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits, cropped, worst quality"
)
"""The unconditional prompt by default."""
SPECIAL = ("<|extra_200|>", "<|extra_201|>", "<|image end|>", "<|extra_204|>")
"""End of row, of frame, of image, of sequence."""
FRAME = "<|extra_203|>{}<|image start|>{}*{}<|image token|>"
"""What a text becomes."""
PIXELS = "vqmodel."
"""In the names of weights that only pixels need."""


class Emu3(Ranged):
    """See `realmodels.session.Network`.

    Args:
        folder: a checkpoint.
        grid: rows and columns of codes.
        negative: the prompt for guidance, as a condition is.

    Raises:
        InputError: as `library.load`, and for a config whose `vocabulary_map` lacks a token.
    """

    def __init__(
        self,
        folder: Path,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        *,
        grid: tuple[int, int] = (90, 90),
        negative: Any = NEGATIVE,
    ) -> None:
        model = library.load("Emu3ForConditionalGeneration", folder, dtype, torch.device(device), spare=PIXELS)
        ids, known = model.model.vocabulary_mapping.img2bpe, model.config.vocabulary_map or {}
        if missing := [name for name in SPECIAL if name not in known]:
            raise InputError(
                f"vocabulary_map in {folder / 'config.json'} lacks {', '.join(missing)}; take the checkpoint's file"
            )
        if not ids or any(ids[code] != ids[0] + code for code in ids):
            raise InputError(f"the visual tokens in {folder / 'config.json'} do not follow each other; take its file")
        rows, columns = grid
        layout = Layout(
            (rows, columns), ids[0], len(ids), known[SPECIAL[0]], tuple(known[name] for name in SPECIAL[1:])
        )
        super().__init__(model, model.model.text_model, model.config.text_config, layout, folder)
        side = 2 ** (len(model.config.vq_config.channel_multiplier) - 1)
        self.size, self.negative = (rows * side, columns * side), negative
        self.description = Description(
            "Emu3-community/Emu3-Gen-hf or alike", "Apache-2.0", layout.grid, 3.0, "row ends, then three that end it"
        )

    def prompt(self, condition: Any) -> Prompt:
        """Text in the form that the model was trained on, or ids as they are."""
        unread = isinstance(self.negative, str) and not library.has_tokenizer(self.folder)
        texts = (condition, None if unread else self.negative)
        return self.inputs(
            *(FRAME.format(text, *self.layout.grid) if isinstance(text, str) else text for text in texts)
        )

    def render(self, tokens: Int[Tensor, "n length"]) -> Float[Tensor, "n channels height width"]:
        """By the tokenizer's decoder, whose pixels are from -1 to 1.

        Raises:
            InputError: the folder lacks its weights.
        """
        if not library.holds(self.folder, PIXELS):
            raise InputError(
                f"{self.folder} holds no weights of the tokenizer ({PIXELS}*), which makes pixels of codes"
            )
        rows, columns = self.layout.grid
        pixels: Tensor = self.model.decode_image_tokens(image_tokens=self.ids[tokens], height=rows, width=columns)
        return (pixels.float() / 2 + 0.5).clamp(0, 1)
