"""Where the arrays of a trace come from: memory, npz or safetensors, the large ones in blocks."""

from __future__ import annotations

import contextlib
import io
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import safetensors
import torch
from torch import Tensor

from specverify.errors import InputError

ALL = slice(None)


@runtime_checkable
class Source(Protocol):
    """Arrays by name, read in blocks."""

    def names(self) -> list[str]:
        """The arrays that there are."""

    def shape(self, name: str) -> tuple[int, ...]:
        """One array's shape."""

    def digits(self, name: str) -> float:
        """The rounding of its floating-point numbers, relative to 1."""

    def read(self, name: str, rows: slice = ALL, positions: slice = ALL) -> np.ndarray:
        """All of an array, or some rows and of them some positions.

        An array's blocks are asked for in order; who asks for the first again begins anew.
        """


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Source]:
    """A file, told by its content. Nothing in it is executed: pickled objects are refused.

    Raises:
        InputError: there is none, or it is neither npz nor safetensors.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; a trace is a npz or safetensors file")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield Npz(archive, path)
        return
    with path.open("rb") as begun:
        if begun.read(4) == b"PK\x03\x04":  # as every zip archive begins, whose list of contents stands at its end
            raise InputError(f"{path} begins as a npz but does not end as one: it was cut short; write it again")
    try:
        file = safetensors.safe_open(path, framework="pt")
    except safetensors.SafetensorError as error:
        raise InputError(f"{path} is neither npz nor safetensors ({error})") from None
    with file:
        yield Safetensors(file)


class Arrays:
    """Arrays in memory."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.arrays = {name: x if isinstance(x, Tensor) else np.asarray(x) for name, x in arrays.items()}
        for name, array in self.arrays.items():
            if isinstance(array, np.ndarray) and array.dtype.hasobject:
                raise InputError(f"{name} holds objects; give an array of numbers")

    def names(self) -> list[str]:
        """See Source."""
        return list(self.arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        """See Source."""
        return tuple(self.arrays[name].shape)

    def digits(self, name: str) -> float:
        """See Source."""
        dtype = self.arrays[name].dtype
        return float(torch.finfo(dtype).eps if isinstance(dtype, torch.dtype) else np.finfo(dtype).eps)

    def read(self, name: str, rows: slice = ALL, positions: slice = ALL) -> np.ndarray:
        """See Source."""
        array = self.arrays[name]
        part = array[rows] if array.ndim < 2 else array[rows, positions]
        return _numpy(part) if isinstance(part, Tensor) else part


class Safetensors:
    """A safetensors file; slices of it are read, not the whole."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def names(self) -> list[str]:
        """See Source."""
        return list(self.file.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        """See Source."""
        return tuple(self.file.get_slice(name).get_shape())

    def digits(self, name: str) -> float:
        """See Source."""
        kinds = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
        return torch.finfo(kinds.get(self.file.get_slice(name).get_dtype(), torch.float64)).eps

    def read(self, name: str, rows: slice = ALL, positions: slice = ALL) -> np.ndarray:
        """See Source."""
        part = self.file.get_slice(name)
        return _numpy(part[rows] if len(part.get_shape()) < 2 else part[rows, positions])


class Npz:
    """A npz file. Blocks come straight from its stream, so that an array need not fit into memory."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self.archive, self.path = archive, path
        self.streams: dict[str, tuple[Any, tuple[int, ...], np.dtype[Any]]] = {}
        self.begun: set[str] = set()

    def names(self) -> list[str]:
        """See Source."""
        return [name.removesuffix(".npy") for name in self.archive.namelist() if name.endswith(".npy")]

    def shape(self, name: str) -> tuple[int, ...]:
        """See Source."""
        return self._stream(name)[1]

    def digits(self, name: str) -> float:
        """See Source."""
        return float(np.finfo(self._stream(name)[2]).eps)

    def read(self, name: str, rows: slice = ALL, positions: slice = ALL) -> np.ndarray:
        """See Source."""
        if name in self.begun and not (rows.start or positions.start):
            self.begun.remove(name)
            del self.streams[name]
        stream, shape, dtype = self._stream(name)
        self.begun.add(name)
        wanted = [len(range(*part.indices(size))) for part, size in zip((rows, positions), shape, strict=False)]
        size = (*wanted, *shape[2:])
        count = math.prod(size)
        try:
            data = stream.read(count * dtype.itemsize)
        except zipfile.BadZipFile as error:
            raise InputError(f"{self.path}: {name} is damaged ({error})") from None
        if len(data) < count * dtype.itemsize:
            raise InputError(f"{self.path}: {name} ends before its {math.prod(shape):,} numbers; write it again")
        return np.frombuffer(data, dtype).reshape(size)

    def _stream(self, name: str) -> tuple[Any, tuple[int, ...], np.dtype[Any]]:
        if name not in self.streams:
            stream = self.archive.open(f"{name}.npy")
            try:
                version = np.lib.format.read_magic(stream)
                header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, fortran, dtype = header[version](stream)
            except (ValueError, KeyError) as error:
                raise InputError(f"{self.path}: {name} is no array ({error})") from None
            if dtype.hasobject:
                raise InputError(f"{self.path}: {name} holds objects; give an array of numbers")
            if fortran and len(shape) > 1:  # columns first, as `array.T` is saved: turned round as a whole
                self.streams[name] = stream, shape[::-1], dtype
                stream = io.BytesIO(np.ascontiguousarray(self.read(name).T).tobytes())
                self.begun.remove(name)
            self.streams[name] = stream, shape, dtype
        return self.streams[name]


def _numpy(tensor: Tensor) -> np.ndarray:
    # numpy has no bfloat16
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().cpu().numpy()
