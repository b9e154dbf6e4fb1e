"""`open_model`: every image model by one call, whoever made it.

    from realmodels.models import open_model

    model = open_model("digits-s", guidance=1.5)
    model = open_model("deepseek-community/Janus-Pro-1B", guidance=5.0, dtype=torch.bfloat16, device="cuda",
                       conditions=["a red bicycle", "two cats"])

Names are those of models that ship, and of plug-ins: entry points of the group `specverify.image_models`, each a
function (guidance, dtype, device, conditions, processors) -> ImageModel. A folder is a checkpoint that was downloaded;
its config.json says which adapter reads it, or an `image-model.json` beside that does. Where config.json does, that
file may say options of the adapter: {"grid": [45, 45], "negative": "blurred"} for Emu3. An id, "org/name" or
"org/name@commit", is a checkpoint that `specverify fetch` got: of several commits the one that was fetched last. A name
such as "random:janus-pro-1b" is a model of published sizes with random weights, to be timed (`realmodels.unweighted`).
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, cast, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError

from realmodels import codes, digits, janus_digits, store, unweighted
from realmodels.compiled import Compiled
from realmodels.images import ImageModel
from realmodels.session import ImageTransformer
from specverify import fetched, files
from specverify.catalogue import Catalogue, near
from specverify.errors import InputError
from specverify.model import Model
from specverify.opening import Opening
from specverify.processors import Processor, parse_processors

GROUP = "specverify.image_models"
FILE = "image-model.json"
ADAPTERS: Catalogue[str] = Catalogue(
    "adapter",
    {
        "janus": "realmodels.adapters.janus:Janus",
        "llamagen": "realmodels.adapters.llamagen:LlamaGen",
        "emu3": "realmodels.adapters.emu3:Emu3",
        "glm_image": "realmodels.adapters.glm_image:GlmImage",
        "causal": "realmodels.adapters.causal:Causal",
    },
)
"""Classes of networks, by the `model_type` of a config.json or the `adapter` of an image-model.json. To add one is to
add its file, and its line here."""

READ_BY_THEMSELVES = ("llamagen", "causal")
"""Adapters that read what an image-model.json says; to the others it is given, as options."""


def open_model(
    name: str | Path,
    *,
    guidance: float | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    conditions: Sequence[Any] | None = None,
    processors: str | Sequence[Processor] = (),
    draft: Model | None = None,
    compiled: bool = False,
    **options: Any,
) -> ImageModel:
    """An image model by name, or from a folder.

    Main arguments:
        name: one of `names()`, a folder with a checkpoint, the id of one that was fetched, or "random:SIZES".
        guidance: the scale; 1 is the conditional law, which is the default.
        dtype: of the weights.
        device: where everything lives.
        conditions: classes or prompts; row i of a batch has `conditions[i % len(conditions)]`. A folder needs them.
        processors: what shapes the law behind guidance, as objects or as "temperature=0.9,top_k_ties=2000".

    Other arguments:
        draft: a cheaper model over the same tokens, for a model from a folder; its `draft()` gives it back.
        compiled: whether torch compiles the transformer's passes; see `realmodels.compiled`.
        options: what else the adapter takes, such as the `renderer` of `realmodels.adapters.causal`.

    Raises:
        InputError: naming what is unknown, missing, damaged or does not fit, and the remedy.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # no such kind, or torch was built without it
        raise InputError(f"device {str(device)!r} is not there: {str(error).splitlines()[0]}") from error
    model = _opened(name, guidance, dtype, device, conditions, processors, draft, **options)
    if not compiled:
        return model
    if not isinstance(model, ImageTransformer):
        raise InputError(f"{name} has passes of its own, which are not compiled; leave out --compile, or compiled=True")
    model.network = Compiled(model.network)
    return model


def _opened(
    name: str | Path,
    guidance: float | None,
    dtype: torch.dtype,
    device: torch.device | str,
    conditions: Sequence[Any] | None,
    processors: str | Sequence[Processor],
    draft: Model | None,
    **options: Any,
) -> ImageModel:
    shaping = parse_processors(processors) if isinstance(processors, str) else tuple(processors)
    scale = 1.0 if guidance is None else guidance
    if not dtype.is_floating_point:
        raise InputError(f"dtype {dtype} cannot hold weights; use torch.float32, torch.bfloat16 or torch.float16")
    sizes = unweighted.folder(str(name)) if str(name).startswith(unweighted.PREFIX) else None
    checkpoint = None if sizes is not None or Path(name).is_dir() else fetched.find(name)
    if sizes is not None or checkpoint is not None or Path(name).is_dir():
        own = Path(os.path.abspath(name))  # its name is that of the model, and a folder beside it may be read
        folder = sizes or fetched.settled(own if checkpoint is None else checkpoint.folder)
        network = _network(folder, dtype, torch.device(device), options)
        if checkpoint is not None:
            network.name = checkpoint.name
        if unweighted.says(folder):
            network.name = f"{unweighted.PREFIX}{folder.name}"
            conditions = [unweighted.condition(folder)] if conditions is None else conditions
        if conditions is None:
            raise InputError(f"{name} needs conditions: a list of prompts, as text or as token ids, or of classes")
        return ImageTransformer(network, conditions, scale, shaping, draft=draft)
    if (kind := _kinds().get(str(name))) is not None:
        chosen = {} if conditions is None else {"classes": tuple(conditions)}
        return SHIPPED[kind](str(name), scale, dtype, device, processors=shaping, **chosen)
    return _plugin(str(name))(scale, dtype, device, conditions, shaping)


def kept(opening: Opening, device: str) -> ImageModel:
    """A model without guidance, opened once for all that run in turn; `like` guides it, with the same weights.

    One at a time is kept, and let go before another one is opened, or the same of other weights: two may not fit.
    """
    asked = (opening, device, fetched.stamps(opening.model))
    found = _KEPT.get(asked)
    if found is None:
        _KEPT.clear()
        found = _KEPT[asked] = open_model(
            opening.model,
            dtype=getattr(torch, opening.dtype),
            device=device,
            conditions=opening.conditions,
            processors=opening.processors,
            compiled=opening.compiled,
        )
    return found


_KEPT: dict[tuple[Opening, str, Any], ImageModel] = {}


def names() -> tuple[str, ...]:
    """Every name that `open_model` takes beside folders."""
    return (*_kinds(), *(entry.name for entry in metadata.entry_points(group=GROUP)))


def _kinds() -> dict[str, str]:
    """The kind of every image model that ships."""
    kinds = {name: str(store.read_card(name).get("kind")) for name in store.names()}
    return {name: kind for name, kind in kinds.items() if kind in SHIPPED}


SHIPPED: dict[str, Callable[..., ImageModel]] = {
    "transformer": digits.load,
    codes.KIND: codes.load,
    janus_digits.KIND: janus_digits.load,
}
"""What opens a model that ships, by the kind that its card says."""


def _plugin(name: str) -> Callable[..., ImageModel]:
    for entry in metadata.entry_points(group=GROUP):
        if entry.name == name:
            try:
                return cast("Callable[..., ImageModel]", entry.load())
            except Exception as error:
                raise InputError(f"the image model {name!r} of {entry.value} cannot be loaded ({error!r})") from error
    if "/" in name:
        id, commit = fetched.split(name) or ("ID", "")
        revision = f" --revision {commit}" if commit else ""
        raise InputError(
            f"there is no folder {name}, and no checkpoint of that name was fetched; if it is the id of one, get it "
            f"with specverify fetch {id}{revision}"
        )
    if name in store.names():
        raise InputError(
            f"{name} is a model of vectors, which specverify tradeoff --model {name} measures decoders on; here one of "
            f"ids is asked for: {', '.join(names())}, or a folder with a checkpoint"
        )
    raise InputError(f"unknown image model {name!r}; {near(name, names())}; or give a folder with a checkpoint")


def _network(folder: Path, dtype: torch.dtype, device: torch.device, options: Mapping[str, Any]) -> Any:
    """The adapter's network of a folder."""
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda was asked for, and this machine has none that torch can use; use cpu")
    path = folder / FILE
    told = files.read_json(path, "correct it") if path.is_file() else {}
    kind = str(told["adapter"]) if "adapter" in told else _of_config(folder)
    if kind == "mar":
        raise InputError(
            f"{folder} holds a model of vectors, and this opens models of ids: use realmodels.adapters.mar.Mar"
        )
    module, _, attribute = ADAPTERS[kind].partition(":")
    adapter = getattr(importlib.import_module(module), attribute)
    taken = list(inspect.signature(adapter).parameters)[3:]
    if unknown := [option for option in options if option not in taken]:
        raise InputError(f"the adapter {kind!r} does not take {', '.join(unknown)}; {near(unknown[0], taken)}")
    if kind not in READ_BY_THEMSELVES:
        options = {**_options(told, path, adapter, taken), **options}
    return adapter(folder, dtype, device, **options)


def _options(told: Mapping[str, Any], path: Path, adapter: Any, taken: list[str]) -> Mapping[str, Any]:
    """Options of an adapter that a file says, of the kinds that it states."""
    kinds, found = get_type_hints(adapter.__init__), {}
    for name, value in told.items():
        if name == "adapter":
            continue
        if name not in taken:
            raise InputError(f"{path} has the unknown setting {name!r}; {near(name, ['adapter', *taken])}")
        try:
            found[name] = TypeAdapter(kinds[name]).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            what = error.errors()[0]["msg"].lower()
            raise InputError(f"{path}: {name} is {json.dumps(value)} ({what}); correct it") from None
    return found


def _of_config(folder: Path) -> str:
    """The adapter that the config.json of a checkpoint asks for."""
    path = folder / "config.json"
    config = files.read_json(path, f"give a folder with the config.json of a checkpoint, or with an {FILE}")
    kind = str(config.get("model_type"))
    if kind not in ADAPTERS:
        architecture = (config.get("architectures") or ["no architecture"])[0]
        raise InputError(
            f"{folder} holds a model of type {kind!r} ({architecture}); adapters know "
            f"{', '.join(ADAPTERS.names())}. A causal language model whose images are a range of ids needs an "
            f"{FILE} beside its config.json, with the adapter causal: see the docstring of realmodels.adapters.causal"
        )
    return kind
