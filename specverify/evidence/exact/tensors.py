"""Ordinary tensors whose numbers have names: every torch function that a decoder calls is carried out twice.

Once on the tensors as they are, real and plain, so that a decoder sees the types, shapes and values that it sees
elsewhere; and once on the names of their numbers (`numbers.py`). Names belong to a tensor's memory, so that views and
writing in place need no rules of their own. What is not known to be carried out right on names is refused, and so is
whatever would let a value out: only what is allowed below can come of a law. Results are held against the values that
their names stand for, so that a rule which mistakes a function, or a write that went unseen, is found out.
"""

from __future__ import annotations

import gc
import sys
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from specverify.evidence.exact import functions, intact, moving, watch
from specverify.evidence.exact.algebra import Algebra
from specverify.evidence.exact.choosing import Decided, Test, Undecided
from specverify.evidence.exact.numbers import Assumptions, NeedsOrder, Numbers, OutOfReach
from specverify.noise import Noise

CLOSE = 1e-9
"""How far a tensor's number may be from the value that its name stands for, relative to the larger of that and 1."""
_BITS, _LONGEST = 31, 200
_SHOWING = ("showwarning", "_showwarnmsg", "_showwarnmsg_impl")
"""What Python runs when a function in C warns."""
_OWN_STORAGES, _OWN_REFERENCES = 2, 2
"""Of a tensor that nobody else holds: of its storage, and of itself while they are counted."""


class Named(TorchFunctionMode):
    """A mode in which tensors of laws have names.

    Args:
        algebra: of the numbers.

    Attributes:
        stopped: why the decoder cannot be followed, once it was refused something; whoever catches that goes nowhere.
        read: where the memory of models' laws lies that was computed with.
    """

    def __init__(self, algebra: Algebra) -> None:
        super().__init__()
        self.algebra = algebra
        self.numbers: Numbers = algebra.numbers
        self.stopped: OutOfReach | None = None
        self.read: set[int] = set()
        self._lasting: dict[int, tuple[Tensor, Tensor, bool]] = {}
        self._memory: dict[int, tuple[Tensor, Tensor, bool]] = {}
        self._noise: dict[int, Tensor] = {}
        self._sets: list[Assumptions] = [frozenset()]
        self._undecided: dict[Undecided, int] = {}
        self._by_number: list[Undecided] = []
        self._set_names: dict[Assumptions, int] = {frozenset(): 0}
        self._values = np.zeros(0)
        self._showing = [vars(warnings).get(name) for name in _SHOWING]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry out a function on tensors, and on the names of their numbers."""
        kwargs = kwargs or {}
        if self.stopped is not None:
            raise self.stopped
        try:
            self.check_watched()
            with torch._C._DisableTorchDispatch():
                intact.check(func)
                watch.refuse(func, (args, kwargs))
                watch.plain((args, kwargs))
                given = [*moving.tensors_in((args, kwargs))]
                noise = any(isinstance(tensor, Noise) for tensor in given)
                if func in moving.UNFILLED and not noise:
                    return moving.unfilled(self, func, args, kwargs)
                with_names = any(self.has_names(tensor) for tensor in given)
                if noise:
                    return self.noise(watch.opaque(func, with_names, args, kwargs))
                if not with_names:
                    return func(*args, **kwargs)
                return self._carried_out(func, args, kwargs)
        except OutOfReach as error:
            self.stopped = error
            raise

    def _carried_out(self, func: Any, args: Any, kwargs: Any) -> Any:
        """On laws; whatever goes wrong there is no error that a decoder may catch."""
        try:
            return functions.carry_out(self, func, args, kwargs)
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST]
            raise OutOfReach(f"it uses {getattr(func, '__name__', func)} on laws, which raised {text}") from error

    def begin(self) -> None:
        """Forget all tensors but those of models."""
        self._memory, self._noise = {}, {}

    def check_untouched(self) -> None:
        """Raise OutOfReach if a law was computed with since `begin`, or since it was bound for good."""
        if self._memory:
            raise OutOfReach("it computes with laws when it is made")

    def check_let_go(self) -> None:
        """Raise OutOfReach if anybody still holds a tensor with names, who may look at it in another call."""
        if self._any_held():
            gc.collect()  # what only a circle holds is gone with it
            if self._any_held():
                raise OutOfReach("it keeps a law, or the outcome of a test of laws, outside of its state")

    def check_watched(self) -> None:
        """Raise OutOfReach if a decoder has switched off what watches it, or warnings would run code of its own."""
        if torch._C._dispatch_tls_is_dispatch_key_excluded(torch._C.DispatchKey.Python):
            raise OutOfReach("it switches off what watches it")
        if any(vars(warnings).get(name) is not own for name, own in zip(_SHOWING, self._showing, strict=True)):
            raise OutOfReach("it replaces how warnings are shown")

    def _any_held(self) -> bool:
        with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
            return any(map(self._held, [*self._memory]))

    def _held(self, place: int) -> bool:
        """Whether memory is in use by more than what stands here."""
        storage = self._memory[place][0].untyped_storage()
        return torch._C._storage_Use_Count(storage._cdata) > _OWN_STORAGES or self._references(place) > _OWN_REFERENCES

    def _references(self, place: int) -> int:
        return sys.getrefcount(self._memory[place][0])

    def bind(self, tensor: Tensor, names: Tensor, lasting: bool = False, tests: bool = False) -> Tensor:
        """Give names to a tensor's numbers, and so to all its memory; views of what has names have theirs.

        Args:
            tensor, names: they.
            lasting: whether it is a model's.
            tests: whether they are no names, but the numbers of what is assumed for each outcome of a test, which may
                stand in the tensor as True and False, or as 1 and 0 of any type.

        Raises:
            OutOfReach: the tensor does not hold the values that these names stand for, or not in float64.
        """
        if tensor.numel() == 0:
            return tensor
        if not tests:
            self.check(tensor, names)
        if not self.has_names(tensor):
            storage = tensor.untyped_storage()
            if not lasting and not storage.resizable():
                raise OutOfReach("it puts laws into memory that others than torch can read")
            own = torch.zeros(storage.nbytes() // tensor.element_size(), dtype=torch.int64)
            place = self._lasting if lasting else self._memory
            place[storage.data_ptr()] = tensor, own, tests
        self._own(tensor, tests).copy_(names)
        return tensor

    def noise(self, found: Any) -> Any:
        """What came of a function of noise, of which the memory is known for noise's from now on."""
        for tensor in moving.tensors_in(found):
            if isinstance(tensor, Noise) and tensor.numel() > 0:
                self._noise[watch.place(tensor)] = tensor
        return found

    def has_names(self, tensor: Tensor) -> bool:
        """Whether a tensor's memory has names."""
        return tensor.numel() > 0 and self._found(tensor) is not None

    def has_tests(self, tensor: Any) -> bool:
        """Whether it is a tensor whose memory holds the outcomes of tests of laws."""
        if not isinstance(tensor, Tensor) or tensor.numel() == 0:
            return False
        found = self._found(tensor)
        return found is not None and found[2]

    def names(self, tensor: Any) -> Tensor:
        """The names of a tensor's numbers, or of a constant's: Int[*shape]. Those of named tensors may be written to.

        Raises:
            OutOfReach: it is noise, or holds the outcome of a test, or a number that is no constant.
        """
        if not isinstance(tensor, Tensor):
            return torch.tensor(self.numbers.constant(tensor))
        watch.numbers(tensor)
        return self._own(tensor, tests=False) if self.has_names(tensor) else self._constants(tensor)

    def _own(self, tensor: Tensor, tests: bool) -> Tensor:
        """What stands beside a named tensor: names, or the numbers of tests, whichever is asked for."""
        found = self._found(tensor)
        assert found is not None
        if found[2] and not tests:
            raise OutOfReach(
                "it computes with the outcome of a test of laws; multiply numbers by it, or choose with torch.where"
            )
        if tests and not found[2]:
            raise OutOfReach("it takes laws for the outcome of a test; compare them with 0")
        if found[0].dtype != tensor.dtype:
            raise OutOfReach(f"it looks at the bits of numbers, as {tensor.dtype}")
        return found[1].as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())

    def check(self, tensor: Tensor, names: Tensor) -> None:
        """Raise OutOfReach unless a tensor holds the values that names stand for."""
        if tensor.dtype != torch.float64:
            raise OutOfReach(f"it turns laws into {tensor.dtype}, which rounds them")
        due = self.values(names)
        if bool(((tensor - due).abs() <= CLOSE).all()):  # as nearly always
            return
        gap = ~((tensor - due).abs() <= CLOSE * due.abs().clamp(min=1)) & ~due.isnan()  # NaN is not close
        if bool(gap.any()):  # but stands where something that is assumed not to be 0 is so at the real point
            vanishing = [
                any(not self._apart(x.number) for x in self.numbers.assumed[k]) for k in names.reshape(-1).tolist()
            ]
            gap &= ~(tensor.isnan() & torch.tensor(vanishing).reshape(names.shape))
        if bool(gap.any()):
            raise OutOfReach(
                f"it holds {float(tensor[gap][0]):.6g} where the law has {float(due[gap][0]):.6g}: numbers were "
                "written or read by a way that cannot be followed"
            )

    def _apart(self, name: int) -> bool:
        """Whether a number is not 0 at the real point."""
        return abs(self.numbers.value[name]) > CLOSE

    def values(self, names: Tensor) -> Tensor:
        """The values that names stand for at the real point."""
        if len(self._values) < len(self.numbers):
            self._values = np.array(self.numbers.value)
        return torch.from_numpy(self._values)[names]

    def pairwise(self, operation: str, one: Any, other: Any) -> Tensor:
        """The names of an operation's results, number by number."""
        a, b = torch.broadcast_tensors(self.names(one), self.names(other))
        return self.each(lambda x, y: self.algebra.apply(operation, x, y), a, b)

    def each(self, function: Any, one: Tensor, other: Tensor) -> Tensor:
        """A function of pairs of names, asked once for each different pair."""
        keys, place = ((one << _BITS) + other).unique(return_inverse=True)
        found = [function(key >> _BITS, key & ((1 << _BITS) - 1)) for key in keys.tolist()]
        return torch.tensor(found, dtype=torch.int64)[place].reshape(one.shape)

    def tests(self, tensor: Tensor, undecided: bool = False) -> Tensor:
        """Of outcomes, under which assumptions each is as it is, by number: Int[*shape]; 0 for none.

        Args:
            tensor: it.
            undecided: whether comparisons may be among them that are not decided: numbers below 0.

        Raises:
            NeedsOrder: there are, and may not be.
            OutOfReach: it is noise, or holds laws.
        """
        watch.numbers(tensor)
        named = self.has_names(tensor)
        found = self._own(tensor, tests=True) if named else torch.zeros(tensor.shape, dtype=torch.int64)
        if not undecided and bool((found < 0).any()):
            raise NeedsOrder("it compares numbers whose order depends on the laws")
        return found

    def undecided(self, test: Undecided) -> int:
        """The number of a test that is not decided, below 0."""
        if (known := self._undecided.get(test)) is None:
            self._by_number.append(test)
            known = self._undecided[test] = -len(self._by_number)
        return known

    def test(self, number: int, outcome: bool) -> Test:
        """The test with a number and an outcome."""
        return self._by_number[-1 - number] if number < 0 else Decided(outcome, self.assumptions(number))

    def assumptions(self, number: int) -> Assumptions:
        """The assumptions with this number."""
        return self._sets[number]

    def number(self, assumed: Assumptions) -> int:
        """The number of some assumptions."""
        if (known := self._set_names.get(assumed)) is None:
            known = self._set_names[assumed] = len(self._sets)
            self._sets.append(assumed)
        return known

    def opposite(self, tensor: Tensor) -> Tensor:
        """The numbers of the tests that come out otherwise: what is assumed stays."""
        found = self.tests(tensor, undecided=True)
        return self.every(lambda x: self.undecided(self._by_number[-1 - x].opposite()) if x < 0 else x, found)

    def tested(self, outcome: Tensor, assumed: Tensor) -> Tensor:
        """Outcomes, with the numbers of what is assumed for each."""
        return self.bind(outcome, assumed, tests=True) if bool(assumed.any()) else outcome

    def chosen(self, names: Tensor, instead: Tensor, tests: Tensor) -> Tensor:
        """The names of numbers that tests have chosen before others."""
        if not bool(tests.any()):
            return names
        return self.every(self._chosen, names, instead, tests)

    def every(self, function: Any, *columns: Tensor) -> Tensor:
        """A function of some numbers, asked once for each different row of these; all of one shape."""
        rows, place = torch.stack(columns).reshape(len(columns), -1).unique(dim=1, return_inverse=True)
        found = [function(*row) for row in rows.T.tolist()]
        return torch.tensor(found, dtype=torch.int64)[place].reshape(columns[0].shape)

    def _chosen(self, name: int, instead: int, test: int) -> int:
        if test == 0:
            return name
        if test > 0:
            return self.algebra.chosen(name, instead, self.assumptions(test))
        undecided = self._by_number[-1 - test]
        return undecided.choice(
            self.algebra, *((name, instead) if undecided.outcome(self.algebra) else (instead, name))
        )

    def _found(self, tensor: Tensor) -> tuple[Tensor, Tensor, bool] | None:
        try:
            place = watch.place(tensor)
        except Exception:  # a decoder that catches it would go on with what it does instead
            raise OutOfReach("it computes with tensors that have no plain memory: sparse, batched or wrapped") from None
        if isinstance(tensor, Noise) != (place in self._noise):
            raise OutOfReach(watch.NO_NUMBERS)
        if place in self._lasting:
            self.read.add(place)
        return self._memory.get(place) or self._lasting.get(place)

    def _constants(self, tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            raise OutOfReach("it computes with complex numbers")
        different, place = tensor.double().reshape(-1).unique(return_inverse=True)
        names = [self.numbers.constant(value) for value in different.tolist()]
        return torch.tensor(names, dtype=torch.int64)[place].reshape(tensor.shape)


class Unseen(TorchDispatchMode):
    """Refuses what reaches the numbers of laws without passing `Named`: scripted functions, switched off modes.

    Args:
        named: that it goes with.
    """

    def __init__(self, named: Named) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.named = named

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry out what has nothing to do with laws."""
        if any(self.named.has_names(tensor) for tensor in moving.tensors_in((args, kwargs or {}))):
            self.named.stopped = OutOfReach(f"it computes with laws where nobody can look, by {func}")
            raise self.named.stopped
        return func(*args, **(kwargs or {}))
