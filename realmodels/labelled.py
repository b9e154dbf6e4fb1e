"""Labelled images from a file: IDX (MNIST's own form), the binary form of CIFAR-10, or an .npz. None is shipped."""

from __future__ import annotations

import gzip
import io
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from specverify.errors import InputError

SPLIT_SEED = 0
_BYTES = 0x08
"""The code of IDX for unsigned bytes."""
_SIDE, _COLOURS = 32, 3
"""Of an image of CIFAR-10, of which a record is one byte for the class, then one for each pixel and colour."""


@dataclass(frozen=True)
class Labelled:
    """Images and the class of each.

    Attributes:
        pixels: 0..255.
        labels: from 0 on.
        test: which of them their makers set apart; None if they did not say.
    """

    pixels: UInt8[Tensor, "n channels side side"]
    labels: Int[Tensor, " n"]
    test: Bool[Tensor, " n"] | None = None

    def levels(self, index: Tensor | slice = slice(None)) -> Int[Tensor, "n levels"]:
        """As a classifier takes them: channel by channel, in raster order."""
        return self.pixels[index].flatten(1).long()

    def split(self, held_out: int) -> tuple[Labelled, Labelled, Labelled]:
        """The images to train on, those held out, and spare ones: stratified by class, and the same on every call.

        Where test images were set apart, some of these are held out, the rest of them are spare, and trained on are all
        others; else none is spare.

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
        apart = torch.ones_like(self.labels, dtype=torch.bool) if self.test is None else self.test
        among = apart.nonzero().flatten()
        if not held_out <= len(among) - classes:
            raise InputError(f"{held_out} images cannot be held out of the {len(among)} that are set apart for tests")
        parts = train_test_split(
            among.numpy(), test_size=held_out, stratify=self.labels[among], random_state=SPLIT_SEED
        )
        rest, other = (torch.from_numpy(np.sort(part)) for part in parts)
        train, spare = (rest, rest[:0]) if self.test is None else ((~apart).nonzero().flatten(), rest)
        found = [Labelled(self.pixels[some], self.labels[some]) for some in (train, other, spare)]
        return found[0], found[1], found[2]


def scaled(images: Labelled, index: Tensor | slice = slice(None)) -> Float[Tensor, "n channels side side"]:
    """Pixels from 0 to 1."""
    return images.pixels[index].float() / 255


def read(path: Path, labels: Path | None = None) -> Labelled:
    """Images with their labels.

    Args:
        path: an .npz with one array of images, uint8[n, side, side] or uint8[n, side, side, 3], and one of labels,
            int[n]; one of images as files (`jpeg`, uint8; `offsets`, int[n + 1]; `labels`; and, if some are for tests,
            `is_test`); images as IDX; or the folder of CIFAR-10's binary version, with its .bin files.
        labels: of IDX; by default the file beside them whose name has "labels-idx1" for "images-idx3".

    Raises:
        InputError: a file is missing or damaged, or holds something else.
    """
    test = None
    if path.is_dir():
        pixels, classes, test = _cifar(path)
    elif path.suffix == ".npz":
        pixels, classes, test = _npz(path)
    else:
        beside = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
        if labels is None and beside == path:
            raise InputError(f"{path} is no .npz, and where its labels are cannot be told from its name; give --labels")
        pixels, classes = _idx(path), _idx(labels or beside)
    given, pixels = list(pixels.shape), pixels[:, None] if pixels.ndim == 3 else pixels
    square = pixels.ndim == 4 and pixels.shape[2] == pixels.shape[3] and pixels.shape[1] in (1, _COLOURS)
    if pixels.dtype != np.uint8 or not square or classes.shape != pixels.shape[:1] or classes.min(initial=0) < 0:
        raise InputError(
            f"{path} gives images {pixels.dtype}{given} with labels {classes.dtype}{list(classes.shape)}; "
            "they are uint8[n, side, side], with 3 colours or without, and integers[n] from 0 on"
        )
    return Labelled(torch.from_numpy(pixels.copy()), torch.from_numpy(classes.astype(np.int64)), test)


def _npz(path: Path) -> tuple[np.ndarray, np.ndarray, Tensor | None]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as .npz ({error})") from error
    if {"jpeg", "offsets", "labels"} <= arrays.keys():
        test = torch.from_numpy(arrays["is_test"].astype(bool)) if "is_test" in arrays else None
        return _pictures(path, arrays["jpeg"], arrays["offsets"]), arrays["labels"], test
    pixels = [array for array in arrays.values() if array.ndim in (3, 4)]
    classes = [array for array in arrays.values() if array.ndim == 1 and array.dtype.kind in "iu"]
    if len(pixels) != 1 or len(classes) != 1:
        kinds = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in arrays.items())
        raise InputError(f"{path} holds {kinds}; it needs one array of images [n, side, side] and one of labels [n]")
    found = pixels[0]
    return (np.moveaxis(found, -1, 1) if found.ndim == 4 else found), classes[0], None


def _pictures(path: Path, files: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Pixels of images that are files one behind the other, uint8[n, 3, side, side]."""
    from PIL import Image, UnidentifiedImageError  # comes with matplotlib

    try:
        pixels = [
            np.asarray(Image.open(io.BytesIO(files[start:end].tobytes())).convert("RGB"))
            for start, end in pairwise(offsets)
        ]
        return np.moveaxis(np.stack(pixels), -1, 1)
    except (OSError, UnidentifiedImageError, ValueError, TypeError) as error:
        raise InputError(f"{path} holds images as files, and they cannot be read ({error})") from error


def _cifar(folder: Path) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """CIFAR-10, binary version: five files of images to train on, one of test images."""
    files = sorted(folder.glob("data_batch_*.bin")), sorted(folder.glob("test_batch.bin"))
    size = 1 + _COLOURS * _SIDE**2
    parts = [[np.frombuffer(path.read_bytes(), np.uint8) for path in some] for some in files]
    wrong = [path for some, own in zip(files, parts, strict=True)
             for path, part in zip(some, own, strict=True) if len(part) % size]  # fmt: skip
    if wrong or not all(files):
        what = f"{wrong[0].name} is cut off" if wrong else "data_batch_1.bin to 5 and test_batch.bin are not all there"
        raise InputError(f"{folder} does not hold the binary version of CIFAR-10: {what}")
    rows = [np.concatenate(own).reshape(-1, size) for own in parts]
    test = torch.arange(sum(map(len, rows))) >= len(rows[0])
    both = np.concatenate(rows)
    return both[:, 1:].reshape(-1, _COLOURS, _SIDE, _SIDE), both[:, 0], test


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
