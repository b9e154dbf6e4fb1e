"""Passes that torch compiles: fewer and larger kernels, where asking for a kernel takes longer than the kernel."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from realmodels.ragged import Inputs

SHAPES = 64
"""Compilations of one network's passes; torch's own limit is 8, behind which it goes on without a word."""


class Compiled:
    """A `realmodels.session.Network` that compiles its passes, one shape after another, or goes on without.

    What torch cannot compile here (it needs a C++ compiler on a CPU, and triton on a GPU), or will not as there are too
    many shapes, is said once, as a warning, and passes are as they were. Laws differ by rounding. The first passes take
    minutes; that of the prompts, one in a batch, is not compiled.

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
        if not self.failed and inputs.cache.buffers:
            try:
                with torch._dynamo.config.patch(recompile_limit=SHAPES, fail_on_recompile_limit_hit=True):
                    found: Tensor = self._pass(inputs)  # type: ignore[no-untyped-call]
                return found
            except Exception as error:
                self.failed = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                warnings.warn(
                    f"passes of {self.network.name} are not compiled, as torch could not ({self.failed})", stacklevel=2
                )
        again: Tensor = self.network.hidden(inputs)
        return again
