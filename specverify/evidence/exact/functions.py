"""Which torch functions can be carried out on named numbers, and how; all others are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from specverify.evidence.exact import computing, fused, moving, ordering
from specverify.evidence.exact.moving import Handler, known, name_of
from specverify.evidence.exact.numbers import OutOfReach

if TYPE_CHECKING:
    from specverify.evidence.exact.tensors import Named

_SHAPES = (
    "size dim ndimension numel nelement stride storage_offset element_size is_contiguous is_floating_point is_complex "
    "__len__ get_device requires_grad_ is_pinned __hash__ is_tensor"
)
_PROPERTIES = "shape dtype device ndim layout requires_grad is_sparse is_cuda is_quantized is_nested is_meta names grad"
_FRESH = "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty"
_MOVED = (
    "gather take_along_dim index_select reshape view view_as flatten unflatten expand expand_as broadcast_to squeeze "
    "unsqueeze permute transpose swapaxes movedim flip roll repeat repeat_interleave tile narrow select unbind split "
    "chunk tensor_split clone contiguous detach cat concat concatenate stack hstack vstack __getitem__ diagonal t "
    "double float half int long bool type to type_as cpu masked_select index_copy index_put"
)
_WRITTEN = "copy_ zero_ index_copy_ index_put_"
_VIEWED = "T mT data H"
_INSTEAD = {
    "isnan": "ask whether what is divided by is 0",
    "isfinite": "ask whether what is divided by is 0",
    "log": "compute with probabilities, and not with their logarithms",
    "topk": "ask for sort with stable=True",
    "nonzero": "choose with torch.where and three arguments",
}
_ALONE = known(
    f"{_SHAPES} relu relu_ nan_to_num nan_to_num_ normalize abs __abs__ absolute neg __neg__ negative pow __pow__ "
    "square sum mean prod cumsum cumprod any all sort argsort amax amin argmax argmin pad"
)
"""Functions of one tensor: nothing of a law, nor what came of a test of one, may be among their settings."""
_ORDERS = {"gt": "gt", "greater": "gt", "ge": "ge", "lt": "lt", "less": "lt", "le": "le", "eq": "eq", "ne": "ne"}


def carry_out(named: Named, func: Any, args: Any, kwargs: Any) -> Any:
    """A function on tensors of which some have names.

    Raises:
        OutOfReach: it cannot be followed.
    """
    handler = _HANDLERS.get(func)
    if handler is None:
        owner = getattr(getattr(func, "__self__", None), "__name__", "")
        handler = _of_property(owner) if getattr(func, "__name__", "") == "__get__" else None
    if func in _ALONE and moving.any_named(named, (args[1:], kwargs)):
        raise OutOfReach(f"it sets {name_of(func)} by numbers of laws, or by outcomes of tests of laws")
    if handler is None or kwargs.get("out") is not None:
        instead = _INSTEAD.get(name_of(func))
        raise OutOfReach(f"it uses {name_of(func)} on laws" + (f"; {instead}" if instead else ""))
    return handler(named, func, args, kwargs)


def _of_property(owner: str) -> Handler | None:
    return moving.as_it_is if owner in _PROPERTIES.split() else moving.moved if owner in _VIEWED.split() else None


_HANDLERS: dict[Any, Handler] = {}
for _names, _handler in (
    (_SHAPES, moving.as_it_is),
    (_FRESH, moving.fresh),
    (_MOVED, moving.moved),
    (_WRITTEN, moving.written),
    ("__setitem__", moving.set_item),
    ("scatter scatter_", moving.filled(3)),
    ("index_fill index_fill_", moving.filled(3)),
    ("fill_", moving.filled(1)),
    ("where", moving.chosen_where),
    ("masked_fill masked_fill_", moving.masked_fill),
    ("pad", moving.padded),
    ("add add_ __add__ __iadd__ __radd__", computing.arithmetic("add")),
    ("sub sub_ subtract __sub__ __isub__", computing.arithmetic("sub")),
    ("rsub __rsub__", computing.arithmetic("sub", swapped=True)),
    ("mul mul_ multiply __mul__ __imul__ __rmul__", computing.arithmetic("mul")),
    ("div div_ divide true_divide __truediv__ __itruediv__", computing.arithmetic("div")),
    ("__rtruediv__ __rdiv__", computing.arithmetic("div", swapped=True)),
    ("minimum fmin", computing.arithmetic("minimum")),
    ("maximum fmax", computing.arithmetic("maximum")),
    ("neg __neg__ negative", computing.negative),
    ("relu relu_", computing.single("positive_part")),
    ("nan_to_num nan_to_num_", computing.finite),
    ("normalize", computing.normalized),
    ("abs __abs__ absolute", computing.single("absolute")),
    ("pow __pow__ square", computing.power),
    ("clamp clamp_ clip clip_", computing.clamp(1, 2)),
    ("clamp_min clamp_min_", computing.clamp(1, None)),
    ("clamp_max clamp_max_", computing.clamp(None, 1)),
    ("sum", computing.folded("add", running=False)),
    ("mean", computing.folded("add", running=False, mean=True)),
    ("prod", computing.folded("mul", running=False)),
    ("cumsum", computing.folded("add", running=True)),
    ("cumprod", computing.folded("mul", running=True)),
    ("scatter_add scatter_add_", computing.scatter_add),
    ("index_add index_add_", computing.index_add),
    ("matmul __matmul__ bmm mm mv", computing.matmul),
    ("logical_not bitwise_not __invert__", computing.logic("not")),
    ("logical_and bitwise_and __and__ __rand__", computing.logic("and")),
    ("logical_or bitwise_or __or__ __ror__", computing.logic("or")),
    ("logical_xor bitwise_xor __xor__ __rxor__", computing.logic("xor")),
    ("any all", computing.reduced),
    ("sort", ordering.sorted_by("both")),
    ("argsort", ordering.sorted_by("indices")),
    ("max", ordering.extreme(True, "both")),
    ("min", ordering.extreme(False, "both")),
    ("amax", computing.folded("maximum", running=False)),
    ("amin", computing.folded("minimum", running=False)),
    ("argmax", ordering.extreme(True, "indices")),
    ("argmin", ordering.extreme(False, "indices")),
    *((names, fused.composed(formula, carry_out)) for names, formula in fused.FORMULAS.items()),
):
    _HANDLERS |= dict.fromkeys(known(_names), _handler)
for _spelling, _order in _ORDERS.items():
    _HANDLERS |= dict.fromkeys(known(f"{_spelling} __{_spelling}__"), computing.compared(_order))
