"""Janus and Janus-Pro, in the class of transformers (JanusForConditionalGeneration).

Checkpoints: deepseek-community/Janus-Pro-1B and others converted for that class. Code MIT, weights under the
DeepSeek model licence. Images are 24 x 24 tokens of 16,384 codes, 384 x 384 pixels, raster order, no special token
among them. Guidance is u + s (c - u) of logits, s = 5; the unconditional prompt is the prompt with all tokens but its
beginning and the beginning of the image replaced by padding, as `generate` does it.

Image tokens go in by an embedding and out by a head of their own; text goes through the language model's.

A condition is text, or token ids that end with the one that begins an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from realmodels import library
from realmodels.grammar import Grammar
from realmodels.images import Description
from realmodels.session import Prompt, guide_logits
from specverify import files
from specverify.errors import InputError

PROMPT = "<|User|>: {}\n\n<|Assistant|>:"
"""What a text becomes, before the token that begins an image."""


class Janus(library.Trunk):
    """See `realmodels.session.Network`.

    Args:
        folder: a checkpoint.

    Raises:
        InputError: as `library.load`, and for a generation config that does not name the special tokens.
    """

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> None:
        model = library.load("JanusForConditionalGeneration", folder, dtype, torch.device(device))
        path = folder / "generation_config.json"  # read by itself: the class drops what it does not know
        said = files.read_json(path, "take the file of the checkpoint")
        begin = (said.get("generation_kwargs") or {}).get("boi_token_id")
        found = (said.get("bos_token_id"), begin, said.get("pad_token_id"))
        special = [token for token in found if type(token) is int]
        if len(special) < len(found):
            raise InputError(
                f"{path} must name bos_token_id, generation_kwargs.boi_token_id and pad_token_id; got {found}: take "
                "the file of the checkpoint"
            )
        self._take(model, special, folder)

    @classmethod
    def around(cls, model: Any, special: Sequence[int], folder: Path) -> Janus:
        """A model that is loaded already.

        Args:
            model: of that class.
            special: the tokens that begin a text, begin an image, and pad.
            folder: where its tokenizer is; its name is the model's.
        """
        network = cls.__new__(cls)
        network._take(model, special, folder)
        return network

    def _take(self, model: Any, special: Sequence[int], folder: Path) -> None:
        self.model, self.image, self.folder = model, model.model, folder
        super().__init__(self.image.language_model)
        self.dtype, self.device = model.dtype, model.device
        config = self.model.config
        side, tokens = config.vq_config.num_patches, config.vision_config.num_image_tokens
        if side * side != tokens:
            raise InputError(
                f"{folder / 'config.json'} says {tokens} image tokens and {side} x {side} patches; one of them is wrong"
            )
        self.name, self.vocab, self.length = folder.name, config.vq_config.num_embeddings, tokens
        self.grammar: Grammar | None = None
        scale = 2 ** (len(config.vq_config.channel_multiplier) - 1)
        self.size = (side * scale, side * scale)
        self.description = Description(
            "deepseek-community/Janus-Pro-1B or alike", "DeepSeek model licence", (side, side), 5.0
        )
        self.bos, self.begin, self.padding = special

    def prompt(self, condition: Any) -> Prompt:
        """Text in the form that the model was trained on, or ids as they are."""
        text = PROMPT.format(condition) if isinstance(condition, str) else condition
        ids = library.token_ids(text, self.folder, self.core.config.vocab_size)
        if isinstance(condition, str):
            ids.append(self.begin)
        if ids[-1] != self.begin:
            raise InputError(f"a condition ends with {ids[-1]}; a prompt of {self.name} ends with {self.begin}")
        library.check_room(self.core.config, len(ids), self.length, self.name)
        kept = [token if token in (self.bos, self.begin) else self.padding for token in ids]
        both: Tensor = self.model.get_input_embeddings()(torch.tensor([ids, kept], device=self.device))
        return Prompt(both[0], both[1])

    def embed(self, tokens: Int[Tensor, "rows n"]) -> Float[Tensor, "rows n width"]:
        """Codes by their own embedding."""
        inputs: Tensor = self.model.prepare_embeddings_for_image_generation(tokens)
        return inputs

    def logits(self, hidden: Float[Tensor, "rows n width"]) -> Float[Tensor, "rows n vocab"]:
        """The head of images."""
        found: Tensor = self.image.generation_head(hidden)
        return found

    def guide(
        self, conditional: Float[Tensor, "batch n vocab"], unconditional: Float[Tensor, "batch n vocab"], scale: float
    ) -> Float[Tensor, "batch n vocab"]:
        """Of logits."""
        return guide_logits(conditional, unconditional, scale)

    def render(self, tokens: Int[Tensor, "n length"]) -> Float[Tensor, "n channels height width"]:
        """By the tokenizer's decoder, whose pixels are from -1 to 1."""
        pixels: Tensor = self.model.decode_image_tokens(tokens)
        return (pixels.permute(0, 3, 1, 2).float() / 2 + 0.5).clamp(0, 1)
