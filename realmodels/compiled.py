"""Passes that take less time to ask for: compiled by torch on a CPU, recorded as CUDA graphs on a GPU.

Of small passes it is the asking for kernels that takes the time. torch.compile makes fewer and larger ones of them, in
minutes; a graph asks for all of a pass at once, and is recorded in the time of some passes, for each batch anew, since
it is of the very tensors that the batch's cache has.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from realmodels.ragged import Inputs, Ragged

SHAPES = 64
"""Compilations of one network's passes; torch's own limit is 8, behind which it goes on without a word."""
Pass = Callable[[Inputs], Tensor]
Work = Callable[[], Tensor]
Given = tuple[Tensor, Tensor, Tensor, Tensor]
Shapes = tuple[torch.Size, ...]


class Compiled:
    """A `realmodels.session.Network` whose passes are compiled or recorded, or go on as they were.

    What cannot be done here (torch.compile needs a C++ compiler on a CPU, a graph passes that wait for nothing), or
    will not as there are too many shapes, is said once, as a warning. Compiled laws differ by rounding. The pass of the
    prompts, one in a batch, is as it was.

    Args:
        network: an adapter's.
        faster: its passes, made by `compiling` or `recording`; by the device if None.
    """

    def __init__(self, network: Any, faster: Pass | None = None) -> None:
        self.network = network
        self._pass = faster or (recording if network.device.type == "cuda" else compiling)(network)
        self.failed = ""

    def __getattr__(self, name: str) -> Any:
        if name == "network":  # asked for by copying, before there is one
            raise AttributeError(name)
        return getattr(self.network, name)

    def hidden(self, inputs: Inputs) -> Float[Tensor, "rows n width"]:
        """See Network. A pass that failed is done again: it writes what it wrote at the same slots."""
        if not self.failed and inputs.cache.buffers:
            slots = inputs.cache.slot
            try:
                return self._pass(inputs)
            except torch.OutOfMemoryError:
                raise  # smaller batches may well fit
            except Exception as error:
                inputs.cache.aim(slots)  # what was noted while a pass was recorded may never have been computed
                self.failed = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                warnings.warn(
                    f"passes of {self.network.name} are not compiled, as torch could not ({self.failed})", stacklevel=2
                )
        again: Tensor = self.network.hidden(inputs)
        return again


def compiling(network: Any, backend: str | Callable[..., Any] = "inductor") -> Pass:
    """Passes by torch.compile, one shape after another; the first ones take minutes."""
    whole = torch.compile(network.hidden, backend=backend)

    def compiled(inputs: Inputs) -> Tensor:
        with torch._dynamo.config.patch(recompile_limit=SHAPES, fail_on_recompile_limit_hit=True):
            found: Tensor = whole(inputs)  # type: ignore[no-untyped-call]
        return found

    return compiled


@dataclass(frozen=True)
class _Recording:
    """A pass of one shape.

    Attributes:
        keys: of the cache's first layer, which it writes to: others are another recording's.
        inputs: what it reads: vectors, positions, mask and slots.
        replay: it; what it returns is written over by the next.
    """

    keys: Tensor
    inputs: Given
    replay: Work


def recording(network: Any, record: Callable[[Work], Work] | None = None) -> Pass:
    """Passes by graphs, each recorded when its shape is first seen with a cache.

    Args:
        network: an adapter's.
        record: carries out some work and gives back what does it again on the same tensors; a CUDA graph if None.
    """
    records = [record] if record is not None else []
    kept: WeakKeyDictionary[Ragged, dict[Shapes, _Recording]] = WeakKeyDictionary()

    def recorded(inputs: Inputs) -> Tensor:
        if not records:  # not before: what fails here is no error of who opens a model
            records.append(_Graphs(network.device))
        cache, given = inputs.cache, (inputs.vectors, inputs.positions, inputs.mask, inputs.cache.slot)
        known, keys = kept.setdefault(cache, {}), next(iter(cache.buffers.values()))[0]
        shapes = tuple(part.shape for part in given)
        found = known.get(shapes)
        if found is None or found.keys is not keys:
            found = known[shapes] = _recorded(network, records[0], cache, given, keys)
        for mine, theirs in zip(found.inputs, given, strict=True):
            mine.copy_(theirs)
        return found.replay().clone()

    return recorded


def _recorded(network: Any, record: Callable[[Work], Work], cache: Ragged, given: Given, keys: Tensor) -> _Recording:
    vectors, positions, mask, slot = (part.clone() for part in given)

    def work() -> Tensor:
        cache.aim(slot)  # part of the recording: what adapters read of a cache follows from it
        found: Tensor = network.hidden(Inputs(vectors, positions, mask, cache))
        return found

    return _Recording(keys, (vectors, positions, mask, slot), record(work))


class _Graphs:
    """Records CUDA graphs, which share their memory: what one returns is copied before the next runs.

    They are recorded on one stream, as memory is shared on one only; and one graph of nothing much is kept for good, as
    memory that no graph has any more cannot be recorded into again.

    Args:
        device: where the tensors are.
    """

    def __init__(self, device: torch.device) -> None:
        self._pool, self._aside = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device)
        one = torch.zeros(1, device=device)
        self._first = self(lambda: one + 1)

    def __call__(self, work: Work) -> Work:
        here, graph = torch.cuda.current_stream(self._aside.device), torch.cuda.CUDAGraph()
        self._aside.wait_stream(here)
        with torch.cuda.stream(self._aside):
            work()  # once as it is: what only a first call makes is no part of a graph
            torch.cuda.synchronize()
            # Not torch.cuda.graph, which collects garbage and empties the allocator first: a batch has some of these.
            graph.capture_begin(pool=self._pool)
            try:
                found = work()
            except BaseException:
                with contextlib.suppress(RuntimeError):  # which would say less of what went wrong
                    graph.capture_end()
                raise
            graph.capture_end()
        here.wait_stream(self._aside)

        def replay() -> Tensor:
            graph.replay()
            return found

        return replay
