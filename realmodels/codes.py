"""A class-conditional transformer over the codes of a small tokenizer, both of which ship: LlamaGen in small.

The transformer is LlamaGen's (`adapters/llamagen_gpt.py`), and so are guidance, null class and raster order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils import parametrize

from realmodels import store
from realmodels.adapters.gpt import Gpt
from realmodels.adapters.llamagen_gpt import Classes, Shape, Transformer
from realmodels.images import Description
from realmodels.ragged import additive_mask
from realmodels.session import ImageTransformer
from realmodels.transformer import scatter
from realmodels.vq import load_tokenizer
from specverify.errors import InputError
from specverify.processors import Processor

KIND = "codes"


class Codes(Gpt):
    """See `realmodels.session.Network`.

    Args:
        name: of a checkpoint that ships.

    Raises:
        InputError: a file is missing, damaged, or not what its card says; or the tokenizer is not the one that the
            transformer was trained with.
    """

    def __init__(
        self,
        name: str,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        folder: Path = store.SHIPPED,
    ) -> None:
        super().__init__(name, load_transformer(name, folder).to(device=device, dtype=dtype))
        card = store.read_card(name, folder)
        self.tokenizer = load_tokenizer(card["tokenizer"], self.device, folder=folder)
        found = store.read_card(card["tokenizer"], folder)["sha256"]
        if found != card["tokenizer_sha256"]:
            raise InputError(
                f"{name} was trained with a {card['tokenizer']} whose weights have SHA-256 {card['tokenizer_sha256']}, "
                f"and those in {folder} have {found}; {store.remedy(name, folder)}"
            )
        shape = self.tokenizer.shape
        self.size, self.codebook = (shape.side, shape.side), self.tokenizer.codes()
        self.description = Description(card["data"], card["licence"], (shape.grid, shape.grid))

    @property
    def conditions(self) -> tuple[int, ...]:
        """The classes."""
        return tuple(range(self.model.shape.classes))

    def render(self, tokens: Int[Tensor, "n length"]) -> Float[Tensor, "n channels height width"]:
        """By the tokenizer, in float32."""
        return self.tokenizer.decode(tokens)


def load(
    name: str = "mnist-vq",
    guidance: float = 1.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    *,
    classes: Sequence[int] | None = None,
    processors: Sequence[Processor] = (),
) -> ImageTransformer:
    """A trained model by name, of all its classes or of those given, which take turns; errors are those of `Codes`."""
    network = Codes(name, dtype, device)
    return ImageTransformer(network, network.conditions if classes is None else classes, guidance, processors)


def load_transformer(name: str, folder: Path = store.SHIPPED) -> Transformer:
    """The transformer of a checkpoint, in float32 on the CPU.

    Raises:
        InputError: naming the file that is missing, damaged or not what its card says, and how to train it again.
    """
    card = store.read_card(name, folder)
    try:
        if card["kind"] != KIND:
            raise ValueError(f"kind {card['kind']!r}")
        model = Transformer(Shape(**card["shape"]))
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{folder / name}.json does not describe a transformer of codes ({error!r}); {store.remedy(name, folder)}"
        ) from error
    store.fill(name, model, card, folder)
    return model.requires_grad_(False).eval()


class OfGrid(nn.Module):
    """A row per code of a grid: its own, and one for the value of each of its numbers, which codes nearby share.

    Thousands of codes are each seen too seldom for a table of their own alone. The sum is a table: see `settle`.
    """

    def __init__(self, places: Int[Tensor, "codes numbers"], dim: int) -> None:
        super().__init__()
        several = F.one_hot(places).flatten(1)
        self.register_buffer("member", several[:, several.any(0)].float())
        self.shared = nn.Parameter(torch.zeros(int(several.any(0).sum()), dim))

    member: Tensor

    def forward(self, own: Float[Tensor, "codes dim"]) -> Float[Tensor, "codes dim"]:
        """The table."""
        return own + self.member @ self.shared


def initialise(
    shape: Shape, generator: torch.Generator, places: Int[Tensor, "codes numbers"] | None = None
) -> Transformer:
    """A fresh transformer, to be trained.

    Args:
        shape: its sizes.
        generator: of its weights.
        places: of codes that are a grid, see `realmodels.vq.places`; `settle` must follow training.
    """
    model = Transformer(shape)
    scatter(model, shape.layers, generator, ("wo.weight", "w2.weight"))
    if places is not None:
        for module in (model.tok_embeddings, model.output):
            table = OfGrid(places, shape.dim)
            nn.init.normal_(table.shared, std=0.02, generator=generator)
            parametrize.register_parametrization(module, "weight", table)
    return model


def settle(model: Transformer) -> None:
    """Make tables that are sums into tables, as they are stored."""
    for module in (model.tok_embeddings, model.output):
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")


def logits(
    model: Transformer, tokens: Int[Tensor, "n length"], labels: Int[Tensor, " n"]
) -> Float[Tensor, "n length vocab"]:
    """At every position of whole images, as in training: no cache. The label behind the last class is none."""
    embedding = model.cls_embedding
    assert isinstance(embedding, Classes)
    inputs = torch.cat([embedding.embedding_table(labels)[:, None], model.tok_embeddings(tokens[:, :-1])], 1)
    n = inputs.shape[1]
    cell = torch.arange(-1, n - 1, device=tokens.device)[None]
    mask = additive_mask(torch.ones(1, n, n, dtype=torch.bool, device=tokens.device).tril(), inputs.dtype)
    found: Tensor = model.output(model(inputs, cell, mask, None))
    return found


def loss(model: Transformer, tokens: Int[Tensor, "n length"], labels: Int[Tensor, " n"]) -> Tensor:
    """Mean -log p of the codes given their class, in nats per code."""
    return F.cross_entropy(logits(model, tokens, labels).flatten(0, 1), tokens.flatten())
