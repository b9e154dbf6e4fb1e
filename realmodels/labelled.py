"""Labelled images of one channel from a file: MNIST's own IDX form (.gz or not), or an .npz. None is shipped."""

from __future__ import annotations

import gzip
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from specverify.errors import InputError

SPLIT_SEED = 0
_BYTES = 0x08
"""The code of IDX for unsigned bytes."""


@dataclass(frozen=True)
class Labelled:
    """Images and the class of each.

    Attributes:
        pixels: 0..255.
        labels: from 0 on.
    """

    pixels: UInt8[Tensor, "n side side"]
    labels: Int[Tensor, " n"]

    def split(self, held_out: int) -> tuple[Labelled, Labelled]:
        """The images to train on and those held out: stratified by class, and the same on every call.

        Raises:
            InputError: fewer of either than classes.
        """
        from sklearn.model_selection import train_test_split  # slow to import, and models run without it

        classes = int(self.labels.max()) + 1
        if not classes <= held_out <= len(self.labels) - classes:
            raise InputError(
                f"{held_out} images of {len(self.labels)} cannot be held out: {classes} classes need one each, on both "
                "sides"
            )
        parts = train_test_split(
            np.arange(len(self.labels)), test_size=held_out, stratify=self.labels, random_state=SPLIT_SEED
        )
        train, other = (torch.from_numpy(np.sort(part)) for part in parts)
        return Labelled(self.pixels[train], self.labels[train]), Labelled(self.pixels[other], self.labels[other])


def scaled(images: Labelled, index: Tensor | slice = slice(None)) -> Float[Tensor, "n 1 side side"]:
    """Pixels from 0 to 1."""
    return images.pixels[index][:, None].float() / 255


def read(path: Path, labels: Path | None = None) -> Labelled:
    """Images with their labels.

    Args:
        path: an .npz with one array of images, uint8[n, side, side], and one of labels, int[n]; or images as IDX.
        labels: of IDX; by default the file beside them whose name has "labels-idx1" for "images-idx3".

    Raises:
        InputError: a file is missing or damaged, or holds something else.
    """
    if path.suffix == ".npz":
        pixels, classes = _npz(path)
    else:
        beside = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
        if labels is None and beside == path:
            raise InputError(f"{path} is no .npz, and where its labels are cannot be told from its name; give --labels")
        pixels, classes = _idx(path), _idx(labels or beside)
    square = pixels.ndim == 3 and pixels.shape[1] == pixels.shape[2]
    if pixels.dtype != np.uint8 or not square or classes.shape != pixels.shape[:1] or classes.min(initial=0) < 0:
        raise InputError(
            f"{path} gives images {pixels.dtype}{list(pixels.shape)} with labels {classes.dtype}{list(classes.shape)}; "
            "they are uint8[n, side, side] and integers[n] from 0 on"
        )
    return Labelled(torch.from_numpy(pixels.copy()), torch.from_numpy(classes.astype(np.int64)))


def _npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as .npz ({error})") from error
    pixels = [array for array in arrays.values() if array.ndim == 3]
    classes = [array for array in arrays.values() if array.ndim == 1 and array.dtype.kind in "iu"]
    if len(pixels) != 1 or len(classes) != 1:
        kinds = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in arrays.items())
        raise InputError(f"{path} holds {kinds}; it needs one array of images [n, side, side] and one of labels [n]")
    return pixels[0], classes[0]


def _idx(path: Path) -> np.ndarray:
    """Bytes of the form that MNIST came in: two zeros, a type, the number of sizes, the sizes, the numbers."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        if content[:2] != b"\0\0" or content[2] != _BYTES:
            raise ValueError(f"it begins with {content[:4].hex()}")
        sizes = np.frombuffer(content, ">i4", content[3], 4)
        return np.frombuffer(content, np.uint8, int(sizes.prod()), 4 + 4 * len(sizes)).reshape(sizes)
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise InputError(f"{path} cannot be read as IDX of bytes ({error}); give such a file, or an .npz") from error
