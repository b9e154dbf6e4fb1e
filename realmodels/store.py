"""Checkpoints: `<name>.safetensors` (weights alone, half precision) beside `<name>.json` (what they are).

Nothing is unpickled. The JSON pins the weights by SHA-256, so that a figure belongs to exactly one file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias, TypedDict, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialise
from torch import Tensor, nn

from specverify.errors import InputError

SHIPPED = Path(__file__).parent / "checkpoints"
LOADERS = {
    "transformer": "realmodels.digits.load",
    "mixture": "realmodels.continuous.load",
    "diffusion": "realmodels.continuous.load",
    "classifier": "realmodels.classifier.load_classifier",
    "tokenizer": "realmodels.vq.load_tokenizer",
    "codes": "realmodels.models.open_model",
    "janus": "realmodels.models.open_model",
}
"""What loads a checkpoint, by the kind that its card says."""


Figure: TypeAlias = "float | str | Mapping[str, Figure] | None"
Figures: TypeAlias = dict[str, Figure]
"""What was measured, by name; of the same at several settings, likewise."""


class Card(TypedDict, total=False):
    """What stands beside weights. Whoever loads them says what they miss.

    Attributes:
        kind: what loads them, see `LOADERS`.
        shape, head: sizes of the network, and of what it gives laws by.
        levels: of a tokenizer whose codes are a grid, how many values each of their numbers takes.
        tokenizer, judge: names of the checkpoints that it is used with.
        tokenizer_sha256, classifier_sha256: of the weights that it was trained with, or judged by.
        network, network_sha256: of features that are not the classifier's, whose they are, and of its weights.
        data, licence, parameters, training: what it was made from, and how.
        figures: what it is worth.
        file: where the weights lie, if not in `<name>.safetensors`.
        sha256: of the weights themselves.
    """

    kind: str
    shape: dict[str, int]
    head: dict[str, int]
    levels: list[int]
    tokenizer: str
    tokenizer_sha256: str
    judge: str
    classifier_sha256: str
    network: str
    network_sha256: str
    data: str
    licence: str
    parameters: int
    training: Figures
    figures: Figures
    file: str
    sha256: str


def names(folder: Path = SHIPPED) -> list[str]:
    """The checkpoints of a folder."""
    return sorted(path.stem for path in folder.glob("*.json"))


def write(name: str, module: nn.Module, card: Card, folder: Path) -> None:
    """Store a module's weights in half precision, and its card (kind, shape, training, figures) with their hash."""
    write_tensors(name, module.state_dict(), card, folder)


def write_tensors(name: str, tensors: Mapping[str, Tensor], card: Card, folder: Path) -> None:
    """As `write`, of tensors that are no module's."""
    weights = serialise({key: tensor.to(torch.float16) for key, tensor in tensors.items()})
    replace(path_of(name, card, folder), weights)
    write_card(name, {**card, "sha256": hashlib.sha256(weights).hexdigest()}, folder)


def write_card(name: str, card: Card, folder: Path) -> None:
    """Store a card alone, for instance with figures that were measured on the stored weights."""
    replace(folder / f"{name}.json", (json.dumps(card, indent=2) + "\n").encode())


def read_card(name: str, folder: Path = SHIPPED) -> Card:
    """What `<name>.json` says.

    Raises:
        InputError: no such checkpoint, or a file that is not a JSON object.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        known = ", ".join(names(folder)) or "none"
        raise InputError(f"no checkpoint {name!r}: {path} does not exist (there: {known}); {remedy(name, folder)}")
    try:
        card = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); {remedy(name, folder)}") from error
    if not isinstance(card, dict):
        raise InputError(f"{path} holds a {type(card).__name__} where an object is due; {remedy(name, folder)}")
    return cast("Card", card)


def check_loader(name: str, card: Card, loader: str) -> None:
    """Raise InputError if a checkpoint is one of another loader of `LOADERS`, naming that."""
    due = LOADERS.get(str(card.get("kind")), loader)
    if due != loader:
        raise InputError(f"checkpoint {name!r} is of kind {card['kind']!r}, which {loader} does not load; use {due}")


def path_of(name: str, card: Card, folder: Path) -> Path:
    """Where the weights of a checkpoint lie."""
    return folder / card.get("file", f"{name}.safetensors")


def read_weights(name: str, card: Card, folder: Path = SHIPPED) -> dict[str, Tensor]:
    """The tensors of `<name>.safetensors`, in float32.

    Raises:
        InputError: a missing file, one whose hash is not the card's, or one that is not safetensors.
    """
    path = path_of(name, card, folder)
    if not path.is_file():
        raise InputError(f"{path} does not exist; {remedy(name, folder)}")
    blob = path.read_bytes()
    found, due = hashlib.sha256(blob).hexdigest(), card.get("sha256")
    if found != due:
        raise InputError(
            f"{path} has SHA-256 {found}, but its card says {due}: it was truncated or changed; {remedy(name, folder)}"
        )
    try:
        return {key: tensor.float() for key, tensor in parse(blob).items()}
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file ({error}); {remedy(name, folder)}") from error


def fill(name: str, module: nn.Module, card: Card, folder: Path = SHIPPED) -> None:
    """Put the weights of `<name>.safetensors` into a module built from its card.

    Raises:
        InputError: as `read_weights`, and where the names or shapes of the tensors are not the module's.
    """
    tensors = read_weights(name, card, folder)
    due = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    wrong = sorted(key for key in due.keys() | found.keys() if due.get(key) != found.get(key))
    if wrong:
        key = wrong[0]
        raise InputError(
            f"{folder / name}.safetensors does not fit its card: {key!r} has shape {found.get(key)}, expected "
            f"{due.get(key)} ({len(wrong)} such tensors); {remedy(name, folder)}"
        )
    module.load_state_dict(tensors)


def replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def remedy(name: str, folder: Path = SHIPPED) -> str:
    """What to do about a checkpoint that cannot be used."""
    if name.startswith(("mnist", "cifar")):
        made_with = name.removesuffix("-features")
        return f"train it again with: python -m realmodels.train_vq {made_with} --out {folder} --data FILE"
    return f"train it again with: python -m realmodels.train {name} --out {folder}"
