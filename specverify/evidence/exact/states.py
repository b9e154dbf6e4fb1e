"""States between the calls of a decoder that is followed: what they may hold, and that they are only lent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from specverify import tree
from specverify.evidence.exact.numbers import OutOfReach
from specverify.evidence.exact.tensors import Named


class Names(Tensor):
    """Names, in a state that waits."""


def check_lent(named: Named, before: Any, given: Any) -> None:
    """Raise OutOfReach if a state was changed that was only lent: a buffer behind it would have been, too.

    Args:
        named: of the run.
        before: the state as it waited.
        given: as it was lent.
    """
    for mine, lent in zip(tree.tensors(before), tree.tensors(given), strict=True):
        if not torch.equal(mine.as_subclass(Tensor), named.names(lent) if isinstance(mine, Names) else lent):
            raise OutOfReach("it writes to the state that it is given; make a new one")


def check_parts(state: Any, first: list[Any] | None) -> list[Any]:
    """What is no tensor in a state, and must be the same in all.

    Args:
        state: a state.
        first: what was found in the first; None if this is it.

    Raises:
        OutOfReach: it is not, or is nothing that could be compared.
    """
    parts = list(tree.others(state))
    for part in parts:
        if not isinstance(part, tree.PLAIN):
            raise OutOfReach(
                f"its state holds a {type(part).__name__}; make it a dataclass or a named tuple of tensors"
            )
    if first is not None and parts != first:
        raise OutOfReach(f"its state holds {parts}, once {first}; what may differ is a tensor with a row for each")
    return parts
