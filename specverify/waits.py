"""What a host waits for its device for, seen on any device: on a CPU, too, where nothing is waited for."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READS = {
    "_local_scalar_dense",
    "_unique",
    "_unique2",
    "allclose",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "repeat_interleave",
    "unique_consecutive",
    "unique_dim",
}
"""Operations whose result is a value of the host, or has a shape that a tensor's values decide."""
MASKED = {"index", "index_put", "index_put_", "_index_put_impl_"}
"""Operations that are such where an index of theirs is a mask."""
COPIES = {"tolist", "numpy", "cpu", "__array__"}
"""Methods of a tensor that are nothing on a CPU, or that no operation shows, and a copy to the host elsewhere."""


class Waits:
    """Notes, while it is entered, what reads a tensor's values on the host, or makes a shape of them.

    Attributes:
        seen: operations, and how often.
    """

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._entered = ExitStack()

    def __enter__(self) -> Waits:
        for mode in (_Operations(self.seen), _Methods(self.seen)):
            self._entered.enter_context(mode)
        return self

    def __exit__(self, *raised: Any) -> None:
        self._entered.close()


class _Operations(TorchDispatchMode):
    def __init__(self, seen: Counter[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.name().removeprefix("aten::").partition(".")[0]
        masked = name in MASKED and any(map(_is_mask, args[1]))
        reads = name in READS and not (kwargs or {}).get("output_size")
        if masked or reads or _fetches(name, args, kwargs):
            self.seen[f"aten::{name}"] += 1
        return function(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, seen: Counter[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name in COPIES and getattr(Tensor, name, None) is function:
            self.seen[f"Tensor.{name}"] += 1
        return function(*args, **(kwargs or {}))


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


def _fetches(name: str, args: Any, kwargs: Any) -> bool:
    """Whether an operation copies from a device to the host."""
    if name == "copy_":
        return bool(args[1].device.type != "cpu" and args[0].device.type == "cpu")
    to = (kwargs or {}).get("device")
    return name == "_to_copy" and to is not None and to.type == "cpu" and args[0].device.type != "cpu"
