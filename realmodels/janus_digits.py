"""Handwritten digits in the class that Janus has in transformers: weights that were learned, for Janus' own adapter.

The checkpoint is a folder as `save_pretrained` leaves it, which `from_pretrained` reads too. A grey level is a token,
and a class is a word of the prompt, between the beginnings of text and of an image; padding in its place is no class,
as guidance in Janus has it.

Janus' tokenizer makes pixels of codes by convolutions between norms over the whole image, which lose how bright it
is. So its decoder is put together, not trained. Code k is a vector of 16 signs, + in the first k places, each of
which fills a group of two channels, as itself and as its opposite: whatever the image, such a group has mean 0 and
variance 1, and the norm changes nothing. As silu(x) - silu(-x) = x, the activation is undone, and the mean of the
signs is the grey level. Encoders of images are zero: nothing here takes an image in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from realmodels import library, store
from realmodels.adapters.janus import Janus
from realmodels.data import CLASSES, LEVELS, SIDE
from realmodels.images import Description
from realmodels.session import ImageTransformer, Prompt
from realmodels.transformer import scatter
from specverify.errors import InputError
from specverify.processors import Processor

KIND = "janus"
PADDING, BEGIN, IMAGE, END, FIRST = 0, 1, 2, 3, 10
"""Token ids: padding, the beginnings of text and of an image, the end of text, the first class."""
SIGNS, CHANNELS = LEVELS - 1, 64
"""Numbers of a code; channels of the tokenizer, in 32 groups, as its class has them."""


class JanusDigits(Janus):
    """See `realmodels.session.Network`. A condition is a class, or token ids as `Janus` takes them.

    Args:
        name: of a checkpoint that ships.

    Raises:
        InputError: a file is missing, damaged, or not what its card says; or transformers is not installed.
    """

    def __init__(
        self,
        name: str,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        folder: Path = store.SHIPPED,
    ) -> None:
        card = store.read_card(name, folder)
        store.read_weights(name, card, folder)
        super().__init__(folder / name, dtype, device)
        self.description = Description(card["data"], card["licence"], self.size, 1.5, levels=LEVELS)

    @property
    def conditions(self) -> tuple[int, ...]:
        """The classes."""
        return tuple(range(CLASSES))

    def prompt(self, condition: Any) -> Prompt:
        """Of a class, or of token ids."""
        if type(condition) is not int and not isinstance(condition, str):
            return super().prompt(condition)
        if condition not in self.conditions:
            raise InputError(f"the condition {condition!r} is no class; those of {self.name} are 0..{CLASSES - 1}")
        return super().prompt([self.bos, FIRST + condition, self.begin])


def load(
    name: str = "janus-digits",
    guidance: float = 1.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    classes: Sequence[Any] | None = None,
    processors: Sequence[Processor] = (),
    folder: Path = store.SHIPPED,
) -> ImageTransformer:
    """A trained model by name, of all its classes or of those given, which take turns; errors are `JanusDigits`'."""
    network = JanusDigits(name, dtype, device, folder)
    return ImageTransformer(network, network.conditions if classes is None else classes, guidance, processors)


def initialise(shape: dict[str, int], generator: torch.Generator) -> Any:
    """A fresh JanusForConditionalGeneration.

    Args:
        shape: of its language model, as a config names it.
        generator: of the weights that are trained; encoders of images and the head of text are zero.

    Raises:
        InputError: transformers is not installed.
    """
    package, width = library.transformers(), shape["hidden_size"]
    config = package.JanusConfig(
        text_config=package.LlamaConfig(
            vocab_size=FIRST + CLASSES,
            max_position_embeddings=2 * SIDE * SIDE,
            bos_token_id=BEGIN,
            eos_token_id=END,
            pad_token_id=PADDING,
            tie_word_embeddings=False,
            **shape,
        ),
        vision_config=package.JanusVisionConfig(
            hidden_size=4,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_channels=1,
            image_size=SIDE,
            patch_size=1,
            depth=1,
            projection_dim=width,
            num_image_tokens=SIDE * SIDE,
        ),
        vq_config=package.JanusVQVAEConfig(
            embed_dim=SIGNS,
            num_embeddings=LEVELS,
            latent_channels=SIGNS,
            in_channels=1,
            out_channels=1,
            base_channels=CHANNELS,
            channel_multiplier=[1],
            num_res_blocks=0,
            num_patches=SIDE,
            projection_dim=width,
            image_token_embed_dim=width,
        ),
        image_token_id=END + 1,
        tie_word_embeddings=False,
    )
    model: Any = package.JanusForConditionalGeneration(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.zeros_(parameter)
    own = model.model
    for part in (own.language_model, own.generation_head, own.generation_aligner):
        scatter(part, shape["num_hidden_layers"], generator, ("o_proj.weight", "down_proj.weight"))
    nn.init.normal_(own.generation_embeddings.weight, generator=generator)
    _put_together(own.vqmodel)
    model.generation_config = package.GenerationConfig(bos_token_id=BEGIN, eos_token_id=END, pad_token_id=PADDING)
    model.generation_config.generation_kwargs = {"boi_token_id": IMAGE}
    return model


@torch.no_grad()
def _put_together(tokenizer: Any) -> None:
    """Put a decoder together that renders code k as the grey level k, from -1 to 1."""
    signs = torch.where(torch.arange(SIGNS) < torch.arange(LEVELS)[:, None], 1.0, -1.0)
    tokenizer.quantize.embedding.weight.copy_(signs / SIGNS**0.5)  # of norm 1, as the class makes it anyway
    place = torch.arange(SIGNS)
    tokenizer.post_quant_conv.weight[place, place] = SIGNS**0.5
    middle = (1, 1)  # of 3 x 3
    for sign, channel in ((1.0, 2 * place), (-1.0, 2 * place + 1)):
        tokenizer.decoder.conv_in.weight[channel, place, *middle] = sign
        tokenizer.decoder.conv_out.weight[0, channel, *middle] = sign / SIGNS


def write(name: str, model: nn.Module, card: store.Card, folder: Path) -> None:
    """Store a model as `from_pretrained` reads it, in `<folder>/<name>`, and its card beside that."""
    own: Any = model
    own.save_pretrained(folder / name)
    store.write(name, model, {**card, "file": f"{name}/model.safetensors"}, folder)


def logits(
    model: nn.Module, tokens: Int[Tensor, "n length"], labels: Int[Tensor, " n"]
) -> Float[Tensor, "n length vocab"]:
    """At every position of whole images, as in training: no cache. The label behind the last class is none."""
    own: Any = model
    word = torch.where(labels < CLASSES, FIRST + labels, PADDING)
    prompt = torch.stack([torch.full_like(word, BEGIN), word, torch.full_like(word, IMAGE)], 1)
    inputs = torch.cat(
        [own.get_input_embeddings()(prompt), own.prepare_embeddings_for_image_generation(tokens[:, :-1])], 1
    )
    hidden = own.model.language_model(inputs_embeds=inputs, use_cache=False).last_hidden_state
    found: Tensor = own.model.generation_head(hidden[:, 2:])
    return found


def loss(model: nn.Module, tokens: Int[Tensor, "n length"], labels: Int[Tensor, " n"]) -> Tensor:
    """Mean -log p of the pixels given their class, in nats per pixel."""
    return F.cross_entropy(logits(model, tokens, labels).flatten(0, 1), tokens.flatten())
