"""What adapters need of Hugging Face transformers, whose releases differ: loading without surprises, the cache's name.

Weights are read from safetensors alone, from a folder of this machine, and no code of the folder is run. A folder that
says so (`realmodels.unweighted`) has random ones instead.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from jaxtyping import Float, Int
from torch import Tensor

from realmodels import unweighted
from realmodels.ragged import Inputs, Ragged, additive_mask
from specverify import files
from specverify.errors import InputError


def transformers() -> Any:
    """The package.

    Raises:
        InputError: it is not installed.
    """
    try:
        found = importlib.import_module("transformers")
        if not sys.stderr.isatty():
            found.utils.logging.disable_progress_bar()
        return found
    except ImportError as error:
        raise InputError(
            "this image model needs the package transformers; install it with pip install 'specverify[transformers]' "
            f"(importing it said: {error})"
        ) from error


def cache_name(forward: Callable[..., Any]) -> str:
    """What a transformer's forward calls its cache: `cache` since 5.24, `past_key_values` before."""
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


class Trunk:
    """What of a model of transformers lies below its heads, as `realmodels.session.Network.hidden` asks it for a pass.

    Args:
        core: it.
    """

    def __init__(self, core: Any) -> None:
        self.core, self._cache = core, cache_name(core.forward)

    def hidden(self, inputs: Inputs) -> Float[Tensor, "rows n width"]:
        """A pass of the transformer."""
        found: Tensor = self.core(
            inputs_embeds=inputs.vectors,
            position_ids=self.positions(inputs),
            attention_mask=inputs.mask,
            use_cache=True,
            **{self._cache: inputs.cache},
        ).last_hidden_state
        return found

    def positions(self, inputs: Inputs) -> Int[Tensor, "*axes rows n"]:
        """Position ids: one for each input, for transformers whose positions follow no grid."""
        return inputs.positions

    @torch.no_grad()
    def check_cache(self, vectors: Float[Tensor, "1 n width"], due: Float[Tensor, "1 n width"], name: str) -> None:
        """Raise InputError if inputs that are read one by one over a cache lead elsewhere than all of them in one pass.

        Args:
            vectors: the inputs.
            due: what the transformer makes of them.
            name: of the model.
        """
        n = vectors.shape[1]
        cache, slots = Ragged(1, n, 0), torch.arange(n, device=vectors.device)[None]
        try:
            found = []
            for place in range(n):
                here = slots[:, place : place + 1]
                cache.aim(here)
                mask = additive_mask((slots <= place)[:, None], vectors.dtype)
                found.append(self.hidden(Inputs(vectors[:, place : place + 1], here, mask, cache)))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # what a class with another cache raises is anything
            raise unreadable(self.core, error) from error
        apart = float((torch.cat(found, 1) - due).float().norm() / due.float().norm())
        if not apart <= max(1e-3, 16 * torch.finfo(due.dtype).eps):
            raise InputError(
                f"{name} ({type(self.core).__name__}) makes other states of tokens that are read one by one over a "
                f"cache, by {apart:.2g} of their size, than of all in one pass: it may count its positions by another "
                "cache, and cannot be read in windows here"
            )


def unreadable(model: Any, error: Exception) -> InputError:
    """What to raise for a class that cannot be read as others."""
    said = " ".join(str(error).split())[:300]
    return InputError(
        f"{type(model).__name__} cannot be read in windows here ({type(error).__name__}: {said}); write an adapter of "
        "its own after the pattern of realmodels/adapters/janus.py"
    )


def load(
    kind: str, folder: Path, dtype: torch.dtype, device: torch.device, whole: bool = False, spare: str = ""
) -> Any:
    """A model of a class of transformers, from a folder, ready for passes.

    Args:
        kind: the name of the class.
        folder: as `save_pretrained` and downloads of checkpoints leave it.
        whole: whether layers must have a place for all weights that are there for them.
        spare: how the names of weights begin of which all may be missing, as of a tokenizer that makes pixels.

    Raises:
        InputError: files are missing or damaged, tensors are missing or of other shapes, another architecture, or
            there is no room for it.
    """
    remedy = "download the checkpoint again, all of it, and give the folder that holds its config.json"
    files.read_json(folder / "config.json", remedy)
    cls = getattr(transformers(), kind, None)
    if cls is None:
        raise InputError(f"transformers {transformers().__version__} has no {kind}; install the newest release")
    if unweighted.says(folder):
        return _random(cls, folder, dtype, device)
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            f"{folder} holds no .safetensors file; only those are read, since others can run code when they are "
            "loaded: convert the weights with safetensors.torch.save_file, or download them in that form"
        )
    try:
        model, said = cls.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            attn_implementation="sdpa",
            output_loading_info=True,
        )
        model = model.to(device)
    except torch.OutOfMemoryError as error:
        raise InputError(f"{folder} does not fit into {device} as {dtype}; use bfloat16, or a larger device") from error
    except Exception as error:  # what a damaged folder raises is anything
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        if "does not support" in str(error):  # an attention that takes masks of windows, say
            remedy = "this class of transformers cannot be read in windows here; the folder may be whole"
        raise InputError(
            f"{folder} cannot be loaded as {kind} ({type(error).__name__}: {' '.join(lines[:3])[:400]}); {remedy}"
        ) from error
    for what in ("missing_keys", "mismatched_keys"):
        keys = sorted(map(str, said[what]))
        if spare and not holds(folder, spare):
            keys = [key for key in keys if spare not in key]
        if keys:
            raise InputError(
                f"the weights in {folder} do not fit {kind}: {len(keys)} {what.replace('_', ' ')}, first {keys[0]}; "
                f"{remedy}"
            )
    if whole and (key := _dropped(model, said["unexpected_keys"])) is not None:
        raise InputError(
            f"the weights in {folder} are not those of {kind}, which has no place for {key}: another class of "
            "transformers may have one, or more layers than config.json says; see the architecture there"
        )
    if key := next((name for name, weight in model.named_parameters() if not bool(weight.isfinite().all())), None):
        raise InputError(
            f"the weights in {folder} hold NaN or infinity, first in {key}; of your own training, take an "
            f"earlier step, or else {remedy}"
        )
    return model.requires_grad_(False).eval()


def holds(folder: Path, part: str) -> bool:
    """Whether names of weights in a folder have such a part; of random ones, yes."""
    if unweighted.says(folder):
        return True
    names: list[str] = []
    for path in folder.glob("*.safetensors"):
        with safetensors.safe_open(path, "pt") as file:
            names += file.keys()
    return any(part in name for name in names)


def has_tokenizer(folder: Path) -> bool:
    """Whether any file of one is there; some releases make an empty one where there is none."""
    return any(file for kind in ("tokenizer*", "vocab*") for file in folder.glob(kind))


def _random(cls: Any, folder: Path, dtype: torch.dtype, device: torch.device) -> Any:
    """A model of the sizes that config.json says, with random weights."""
    try:
        config = transformers().AutoConfig.from_pretrained(folder, local_files_only=True, attn_implementation="sdpa")
        with unweighted.drawing(folder, dtype, device):
            model = getattr(cls, "from_config", cls)(config)
    except torch.OutOfMemoryError as error:
        raise InputError(f"{folder} does not fit into {device} as {dtype}; use bfloat16, or a larger device") from error
    except Exception as error:  # what a wrong config raises is anything
        said = " ".join(str(error).split())[:400]
        raise InputError(f"{folder} makes no {cls.__name__} ({type(error).__name__}: {said}); correct it") from error
    return model.requires_grad_(False).eval()


def _dropped(model: Any, unexpected: Iterable[str]) -> str | None:
    """A weight of a layer that the model has no place for: in one that it has, or in one more of the same."""
    modules = {name for name, _ in model.named_modules() if any(part.isdigit() for part in name.split("."))}
    for key in sorted(map(str, unexpected)):
        parts = key.split(".")
        inside = {".".join(parts[:size]) for size in range(1, len(parts))}
        inside |= {".".join([*parts[:at], "0"]) for at, part in enumerate(parts) if part.isdigit()}
        if inside & modules and not key.endswith("inv_freq"):  # a buffer, which is worked out anew
            return key
    return None


def token_ids(condition: Any, folder: Path, vocab: int) -> list[int]:
    """A prompt's token ids, by the tokenizer of the folder if it is text.

    Raises:
        InputError: no tokenizer, no tokens, or ids outside the vocabulary.
    """
    if isinstance(condition, str):
        try:
            if not has_tokenizer(folder):
                raise OSError("none of its files is there")
            tokenizer = transformers().AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            raise InputError(
                f"the condition {condition!r} is text and {folder} holds no tokenizer that can be loaded ({error}); "
                "put its files there, or give conditions as lists of token ids"
            ) from error
        condition = tokenizer(condition)["input_ids"]
    if not isinstance(condition, Sequence) or not all(type(token) is int for token in condition):
        raise InputError(f"the condition {condition!r} is neither text nor a list of token ids")
    if not condition:
        raise InputError("a condition holds no token; give at least the one that images begin with")
    if outside := [token for token in condition if not 0 <= token < vocab]:
        raise InputError(
            f"a condition, or the prompt that stands for none in guidance, holds the token {outside[0]}; the model's "
            f"are 0..{vocab - 1}"
        )
    return list(condition)


def check_room(config: Any, prompt: int, image: int, name: str) -> None:
    """Raise InputError if a prompt and an image are too long for a model, or for what its layers see.

    Args:
        config: of the model; where it holds a language model's, that one counts.
        prompt, image: how many tokens they are.
        name: of the model.
    """
    text = config.get_text_config()
    check_full_attention(text, prompt + image)
    most, needs = getattr(text, "max_position_embeddings", None), prompt + image - 1
    if most is not None and needs > most:
        raise InputError(
            f"a prompt of {prompt} tokens and {image} image tokens need {needs} positions; {name} has {most}: shorten "
            "the prompt"
        )
    kind, fixed = _stretches(text)
    if kind and needs > fixed:
        raise InputError(
            f"{name} stretches its positions by how long a pass is ({kind}) once there are more than {fixed}, and a "
            f"prompt of {prompt} tokens and {image} image tokens need {needs}: its laws then depend on the rows beside "
            "each other, so that it cannot be read in windows"
        )


def _stretches(config: Any) -> tuple[str, int]:
    """By what name rotary positions depend on the length of a pass, and up to which they do not; "" if never."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    for each in (rope, *(part for part in rope.values() if isinstance(part, dict))):  # of each kind of layer
        kind = str(each.get("rope_type", each.get("type", "")))
        if kind in ("longrope", "dynamic"):
            name = "original_max_position_embeddings"
            fixed = each.get(name) or getattr(config, name, None) or getattr(config, "max_position_embeddings", 0)
            return kind, int(fixed or 0)
    return "", 0


def check_full_attention(config: Any, slots: int) -> None:
    """Raise InputError if some layer would not see all of a sequence: the cache holds all, and masks show all."""
    kinds = set(getattr(config, "layer_types", None) or []) - {"full_attention"}
    window = getattr(config, "sliding_window", None)
    slides = kinds == {"sliding_attention"} or (not kinds and getattr(config, "layer_types", None) is None)
    if (kinds and not slides) or (slides and window is not None and window < slots):
        raise InputError(
            f"{type(config).__name__} has layers of the kind {', '.join(sorted(kinds)) or 'sliding attention'} "
            f"(window {window}), and sequences are {slots} long; only layers that see all of a sequence are supported"
        )
