"""LlamaGen: class- and text-conditional transformers over the codes of its own tokenizer.

Checkpoints: FoundationVision/LlamaGen (`c2i_{B,L}_256.pt`, `c2i_{B,L,XL,XXL,3B}_384.pt`, `vq_ds16_c2i.pt`,
`vq_ds8_c2i.pt`) and peizesun/llamagen_t2i (`t2i_XL_stage{1_256,2_512}.pt`, `vq_ds16_t2i.pt`). MIT. Images are 16 x 16,
24 x 24 or 32 x 32 tokens of 16,384 codes, raster order, no special token among them. Guidance is u + s (c - u) of
logits, some 2 for classes and 7.5 for text, with a top-k of 2000 or 1000 of which ties are kept ("top_k_ties=2000").
The class behind the last is none.

A folder holds the weights and an `image-model.json`:

    {"adapter": "llamagen", "weights": "c2i_B_256.pt", "tokenizer": "vq_ds16_c2i.pt", "grid": [16, 16]}

All other sizes follow from the weights; `heads` may be given where a head is not 64 wide. Files are read as tensors
alone (`weights_only`), never unpickled, or as safetensors. Without a tokenizer there are no pixels. The tokenizer's
decoder is that of Janus in transformers, under other names. With random weights (`realmodels.unweighted`) there are
`sizes`, those of `Shape` but its side, in place of "weights".

A condition is a class; for text, the features of its tokens by flan-T5-XL, Float[n, 2048] with n up to 120, without
padding.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from realmodels import library, unweighted
from realmodels.adapters.gpt import Gpt
from realmodels.adapters.llamagen_gpt import Shape, Transformer
from realmodels.images import Description
from specverify import files
from specverify.errors import InputError

FILE = "image-model.json"
REMEDY = f"see the docstring of realmodels.adapters.llamagen for what {FILE} holds"
HEADS = {3200: 32, 4096: 32}
"""Heads by width, where they are not 64 wide."""
_NAMES = (
    (r"\.conv_blocks\.(\d+)\.res\.", r".up.\1.block."),
    (r"\.conv_blocks\.(\d+)\.", r".up.\1."),
    (r"\.mid\.0\.", ".mid.block_1."),
    (r"\.mid\.1\.", ".mid.attn_1."),
    (r"\.mid\.2\.", ".mid.block_2."),
)
"""The tokenizer's names, and those of JanusVQVAE."""


class LlamaGen(Gpt):
    """See `realmodels.session.Network`.

    Args:
        folder: with the weights and an `image-model.json`.

    Raises:
        InputError: a setting or a file is missing or damaged, or the weights are not LlamaGen's or of another grid.
    """

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> None:
        device = torch.device(device)
        settings = files.read_json(folder / FILE, REMEDY)
        try:
            side, columns = settings["grid"]
            sizes = Shape(side=side, **settings["sizes"]) if unweighted.says(folder) else None
            weights = settings["weights"] if sizes is None else "random weights"
            heads, tokenizer = settings.get("heads"), settings.get("tokenizer")
            if type(side) is not int or side < 1 or side != columns:
                raise ValueError(f"grid {settings['grid']}; it is square")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{folder / FILE} cannot be used ({error!r}); {REMEDY}") from None
        if sizes is None:
            model = transformer(folder / weights, side, heads).to(device=device, dtype=dtype)
        else:
            with unweighted.drawing(folder, dtype, device):
                model = Transformer(sizes).requires_grad_(False).eval()
        super().__init__(folder.name, model)
        self.pixels = None if tokenizer is None else decoder(folder / tokenizer, side).to(device)
        shape = self.model.shape
        scale = 1 if self.pixels is None else 2 ** (len(self.pixels.config.channel_multiplier) - 1)
        self.size = (side * scale, side * scale)
        source = f"FoundationVision/LlamaGen, {weights}" if shape.classes else f"peizesun/llamagen_t2i, {weights}"
        self.description = Description(source, "MIT", (side, side), 2.0 if shape.classes else 7.5)

    def render(self, tokens: Int[Tensor, "n length"]) -> Float[Tensor, "n channels height width"]:
        """By the tokenizer's decoder, whose pixels are from -1 to 1."""
        if self.pixels is None:
            raise InputError(f'{self.name} has no tokenizer; name its file in {FILE}: "tokenizer": "vq_ds16_c2i.pt"')
        pixels: Tensor = self.pixels.decode(tokens)
        return (pixels.float() / 2 + 0.5).clamp(0, 1)


def read_tensors(path: Path, under: Sequence[str] = ("model", "module", "state_dict")) -> dict[str, Tensor]:
    """The state dict of a checkpoint, on the CPU, whatever it is wrapped in: it is under the first name that is there.

    Beside it may stand a `Namespace` of arguments, which is made but never run.

    Raises:
        InputError: the file is missing, damaged, or holds more than tensors.
    """
    remedy = "download it again, or name another file in image-model.json"
    if not path.is_file():
        raise InputError(f"{path} does not exist; {remedy}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises is anything
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path} cannot be read as tensors alone ({type(error).__name__}: {said}); {remedy}"
        ) from error
    for key in under:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path} holds no state dict; {remedy}")
    return {str(key).removeprefix("module."): value for key, value in found.items()}


def transformer(path: Path, side: int, heads: int | None = None) -> Transformer:
    """The transformer of a checkpoint, its sizes taken from the weights.

    Raises:
        InputError: as `read_tensors`, and for tensors that are not those of LlamaGen.
    """
    tensors = {key: value for key, value in read_tensors(path).items() if key != "freqs_cis"}
    try:
        vocab, dim = tensors["tok_embeddings.weight"].shape
        layers = 1 + max(int(key.split(".")[1]) for key in tensors if key.startswith("layers."))
        classes, captions = (
            tensors.get(f"cls_embedding.{name}") for name in ("embedding_table.weight", "uncond_embedding")
        )
        shape = Shape(
            vocab,
            dim,
            layers,
            heads or HEADS.get(dim, max(1, dim // 64)),
            len(tensors["layers.0.feed_forward.w1.weight"]),
            side,
            0 if classes is None else len(classes) - 1,
            0 if captions is None else captions.shape[1],
            0 if captions is None else captions.shape[0],
        )
        if shape.dim % (4 * shape.heads):
            raise ValueError(f"{shape.heads} heads do not divide {dim} numbers into quarters; set heads")
        with torch.device("meta"):
            model = Transformer(shape)
        model.load_state_dict(tensors, assign=True)
    except (KeyError, ValueError, IndexError, RuntimeError) as error:
        lines = " ".join(str(error).split())[:300]
        raise InputError(f"{path} does not hold a transformer of LlamaGen ({type(error).__name__}: {lines})") from error
    return model.requires_grad_(False).eval()


def decoder(path: Path, side: int) -> Any:
    """The tokenizer of a checkpoint as transformers' JanusVQVAE, for decoding alone.

    Raises:
        InputError: as `read_tensors`, and for tensors that are not those of LlamaGen's tokenizer.
    """
    tensors = {renamed(key): value for key, value in read_tensors(path).items() if _decodes(key)}
    try:
        codes, width = tensors["quantize.embedding.weight"].shape
        config = decoder_config(tensors, embed_dim=width, num_embeddings=codes, num_patches=side)
        vq = library.transformers().JanusVQVAE(config)
        vq.encoder, vq.quant_conv = nn.Identity(), nn.Identity()
        vq.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        lines = " ".join(str(error).split())[:300]
        raise InputError(f"{path} does not hold LlamaGen's tokenizer ({type(error).__name__}: {lines})") from error
    return vq.requires_grad_(False).eval()


def decoder_config(tensors: dict[str, Tensor], **more: int) -> Any:
    """The sizes of JanusVQVAE whose decoder these tensors are, and `more` of it.

    Raises:
        KeyError: a tensor is missing that tells them.
    """
    base, levels = len(tensors["decoder.norm_out.weight"]), 0
    while f"decoder.up.{levels}.block.0.conv1.weight" in tensors:
        levels += 1
    blocks = sum(key.startswith("decoder.up.0.block.") and key.endswith("conv1.weight") for key in tensors)
    channels = [len(tensors[f"decoder.up.{level}.block.0.conv1.weight"]) // base for level in range(levels)]
    return library.transformers().JanusVQVAEConfig(
        latent_channels=len(tensors["post_quant_conv.weight"]),
        base_channels=base,
        channel_multiplier=channels[::-1],
        num_res_blocks=blocks - 1,
        **more,
    )


def renamed(key: str) -> str:
    """A name of the tokenizer's, as JanusVQVAE has it."""
    for pattern, name in _NAMES:
        key = re.sub(pattern, name, key)
    return key


def _decodes(key: str) -> bool:
    return key.startswith(("decoder.", "post_quant_conv.", "quantize.embedding."))
