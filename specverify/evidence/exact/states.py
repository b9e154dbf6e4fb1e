"""States between the calls of a decoder that is followed: how they wait, and that they are only lent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from specverify import tree
from specverify.evidence.exact.draws import NamedDraws
from specverify.evidence.exact.numbers import OutOfReach
from specverify.evidence.exact.tensors import Named
from specverify.noise import Noise


class Names(Tensor):
    """Names, in a state that waits."""


def shown(named: Named, draws: NamedDraws, tensor: Tensor) -> Tensor:
    """A tensor of a state that waits, as a decoder is given it."""
    if isinstance(tensor, Noise):
        return named.noise(draws.shown(tensor))  # type: ignore[no-any-return]
    if not isinstance(tensor, Names):
        return tensor.clone()
    names = tree.plain(tensor)
    return named.bind(named.values(names).clone(), names)


def hidden(named: Named, tensor: Tensor, noise: Iterator[Tensor]) -> Tensor:
    """A tensor of a decoder's state, as it waits.

    Args:
        named: of the run.
        tensor: it.
        noise: the state's races, numbered anew.

    Raises:
        OutOfReach: it came of a test of laws, or does not hold what its names stand for.
    """
    if named.has_tests(tensor) or (named.has_names(tensor) and not tensor.is_floating_point()):
        raise OutOfReach("it keeps the outcome of a test of laws in its state")
    if isinstance(tensor, Noise):
        return next(noise)
    if not tensor.is_floating_point():
        return tensor
    names = named.names(tensor).clone()
    named.check(tensor, names)
    return names.as_subclass(Names)


def check_lent(named: Named, draws: NamedDraws, before: Any, given: Any) -> None:
    """Raise OutOfReach if a state was changed that was only lent: a buffer behind it would have been, too.

    Args:
        named: of the run.
        draws: of the call.
        before: the state as it waited.
        given: as it was lent.
    """
    for mine, lent in zip(tree.tensors(before), tree.tensors(given), strict=True):
        now = named.names(lent) if isinstance(mine, Names) else tree.plain(lent)
        if not torch.equal(tree.plain(draws.shown(mine)), now):
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
