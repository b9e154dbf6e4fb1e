"""Passes that torch compiles: fewer and larger kernels, where asking for a kernel takes longer than the kernel."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from realmodels.ragged import Inputs


class Compiled:
    """A `realmodels.session.Network` that compiles its passes, one shape after another, or goes on without.

    What torch cannot compile here (it needs a C++ compiler on a CPU, and triton on a GPU) is said once, as a warning,
    and passes are as they were. Laws differ by rounding. The first passes take minutes.

    Args:
        network: an adapter's.
        backend: of torch.compile.
    """

    def __init__(self, network: Any, backend: str = "inductor") -> None:
        self.network = network
        self._pass = torch.compile(network.hidden, backend=backend)
        self.failed = ""

    def __getattr__(self, name: str) -> Any:
        if name == "network":  # asked for by copying, before there is one
            raise AttributeError(name)
        return getattr(self.network, name)

    def hidden(self, inputs: Inputs) -> Float[Tensor, "rows n width"]:
        """See Network. A pass that failed is done again: it writes what it wrote at the same slots."""
        if not self.failed:
            try:
                found: Tensor = self._pass(inputs)  # type: ignore[no-untyped-call]
                return found
            except Exception as error:
                self.failed = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                warnings.warn(
                    f"passes of {self.network.name} are not compiled, as torch could not ({self.failed})", stacklevel=2
                )
        again: Tensor = self.network.hidden(inputs)
        return again
