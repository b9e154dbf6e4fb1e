"""Image models of published sizes with random weights, so that what passes cost is measured without a download.

    specverify bench random:janus-pro-1b --dtype bfloat16 --device cuda --guidance 5

Their folders below `realmodels/sizes` hold what a checkpoint's does, but no weights: in their place lies a
`random-weights.json`, which any folder may have that holds no weights of its own:

    {"seed": 0, "condition": [100000, 7, 7, 100016], "source": "where the sizes are published"}

`condition` is the prompt or class, unless others are asked for. Seconds, memory and shapes are those of the model; how
many drafts it keeps is not, nor are its images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from specverify import declared, files
from specverify.catalogue import near
from specverify.errors import InputError

FILE = "random-weights.json"
PREFIX = "random:"
SIZES = Path(__file__).parent / "sizes"


def folder(name: str) -> Path:
    """Where the sizes of a name lie.

    Raises:
        InputError: there are none.
    """
    names = [known for known, _ in declared.sizes()]
    if name not in names:
        raise InputError(f"unknown sizes {name!r}; {near(name, names)}")
    return SIZES / name.removeprefix(PREFIX)


def says(folder: Path) -> bool:
    """Whether a folder has random weights.

    Raises:
        InputError: it has others, too.
    """
    if not (folder / FILE).is_file():
        return False
    if weights := [path.name for kind in ("*.safetensors", "*.pt", "*.bin") for path in folder.glob(kind)]:
        raise InputError(f"{folder} holds weights ({sorted(weights)[0]}) beside a {FILE}; remove one of them")
    return True


def condition(folder: Path) -> Any:
    """The prompt or class that a folder without weights names."""
    return _settings(folder)[1]


@contextmanager
def drawing(folder: Path, dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Modules that are made within have that type and device, and weights by the seed of the folder."""
    usual, seed = torch.get_default_dtype(), _settings(folder)[0]
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.device(device):
        torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(usual)


def _settings(folder: Path) -> tuple[int, Any]:
    found = files.read_json(folder / FILE, "see the docstring of realmodels.unweighted")
    if type(found.get("seed")) is not int or "condition" not in found:
        raise InputError(f"{folder / FILE} must have a seed, which is an integer, and a condition; got {sorted(found)}")
    return found["seed"], found["condition"]
