"""The parts of what is measured on a GPU: each some commands, and one small file of what they leave.

A part takes minutes. Those that can be continued (campaigns, sweeps, trainings) go on where they were; of the others a
step that was ended is done again.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""Of the checkout."""
SHAPES = {"janus-pro-1b": 5, "janus-pro-7b": 5, "llamagen-xl": 2, "glm-image": 1, "lumina-mgpt-7b": 4}
"""Sizes that are published, and the guidance that their makers recommend."""
LOSSLESS = "sjd,sjd-block,scd-mc,scd-gs"


@dataclass(frozen=True)
class Step:
    """A command.

    Attributes:
        name: of its files.
        command: behind the interpreter. It runs in the folder of its part.
        codes: how it may end when all it was asked for is done; anything else is tried again.
    """

    name: str
    command: tuple[str, ...]
    codes: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Part:
    """Steps that leave one file.

    Attributes:
        name: of the file.
        title: what it shows.
        steps: in their order.
        needs: what is missing here, so that it cannot be carried out; empty if nothing is.
    """

    name: str
    title: str
    steps: tuple[Step, ...]
    needs: str = ""


def parts(device: str, small: bool, images: Path | None = None) -> list[Part]:
    """All of them, in the order in which they are worth most.

    Args:
        device: where models run.
        small: sizes that a CPU carries out in minutes, to try all of it; no figure of it is one.
        images: colour images to train on, as `realmodels.train_vq` reads them.
    """
    return [
        _tests(small),
        _judging(device, small),
        _passes(device, small),
        _decoders(device, small),
        _verdicts(device, small),
        _sweep(device, small),
        _training(device, small, images),
    ]


def _tests(small: bool) -> Part:
    """A file of tests that need no GPU stands for those that do, where there is none."""
    files = ["tests/test_checksum.py"] if small else sorted(_marked())
    spread = ("-n", "4") if importlib.util.find_spec("xdist") and not small else ()
    plain = ["-o", "addopts=", "--import-mode=importlib", "-p", "no:specverify", "-p", "no:cacheprovider", "-q"]
    plain += ["-o", "filterwarnings=default"]  # other releases warn of other things
    chosen = () if small else ("-m", "gpu and not slow")
    steps = []
    for file in files:
        name = file.removesuffix(".py").replace("/", "-")
        asked = (*plain, *spread, *chosen, "--rootdir", str(ROOT), "--junitxml", f"{name}.xml")
        steps.append(Step(name, ("-m", "pytest", *asked, f"{ROOT}/{file}"), (0, 1)))
    return Part("tests", "every test that needs a GPU", tuple(steps))


def _marked() -> set[str]:
    """Files of tests that are marked, and folders whose fixtures are."""
    found = {path for path in (ROOT / "tests").rglob("*.py") if "mark.gpu" in path.read_text(encoding="utf-8")}
    places = {path.parent if path.name == "conftest.py" else path for path in found - {ROOT / "tests" / "conftest.py"}}
    inside = {path for path in places if path.parent not in places}
    return {path.relative_to(ROOT).as_posix() for path in inside}


def _judging(device: str, small: bool) -> Part:
    sizes = ("--size", "1x4x64,2x8x128") if small else ()
    command = ("-m", "specverify.bench_judging", "--device", device, *sizes, "--out", "judging.json")
    return Part("judging", "rules beside the bandwidth of a copy in the same run", (Step("judging", command),))


def _passes(device: str, small: bool) -> Part:
    """Of each model as it is, and recorded as graphs."""
    steps = []
    for name, guidance in ({"tiny": 2} if small else SHAPES).items():
        sizes = ("--batch", "1,2", "--window", "1,4") if small else ()
        scales = "1" if guidance == 1 else f"1,{guidance}"
        for label, more in [(name, ()), *([] if small else [(f"{name}-graphs", ("--compile",))])]:
            asked = (*_opened(device, small), *sizes, "--guidance", scales, *more, "--out", f"{label}.json")
            steps.append(Step(label, ("-m", "specverify.bench_passes", f"random:{name}", *asked)))
    return Part("passes", "what forward passes cost at published sizes, by window, batch and guidance", tuple(steps))


def _decoders(device: str, small: bool) -> Part:
    """Whole images, one alone and several: of published sizes, then of trained weights, whose passes mean something."""
    if small:
        chosen = [("random:tiny", 1, "4", 2, False, "sjd,sjd-block")]
    else:
        chosen = [
            ("random:janus-pro-1b", 1, "16,32", 5, True, LOSSLESS),
            ("random:janus-pro-1b", 1, "16,32", 5, False, LOSSLESS),
            ("random:janus-pro-1b", 8, "16,32", 5, True, LOSSLESS),
            ("random:llamagen-xl", 1, "16,32", 2, True, LOSSLESS),
            ("random:janus-pro-7b", 1, "16,32", 5, True, LOSSLESS),
            ("random:lumina-mgpt-7b", 1, "32", 4, True, "sjd,scd-mc"),
            *[("cifar-fsq", batch, "4,16,64", 3, True, LOSSLESS) for batch in (1, 8, 64)],
        ]
    steps = []
    for model, batch, windows, guidance, graphs, decoders in chosen:
        step = f"{model.removeprefix('random:')}-{batch}" + "-graphs" * graphs
        opened = _opened(device, small or not model.startswith("random:"))
        asked = (model, *opened, *["--compile"] * graphs, "--guidance", str(guidance), "--decoder", decoders)
        more = ("--batch", str(batch), "--window", windows, "--rounds", "1", "--out", f"{step}.json")
        steps.append(Step(step, ("-m", "specverify.cli", "bench", *asked, *more)))
    return Part("decoders", "seconds of whole images beside plain decoding, and what bounds them", tuple(steps))


def _verdicts(device: str, small: bool) -> Part:
    """A million tokens and more for each cell of the tier `full`; half precision against the laws that judged."""
    steps = []
    for name in ("digits-s",) if small else ("cifar-fsq", "mnist-vq"):
        for dtype in ("float32",) if small else ("float32", "bfloat16"):
            step = f"{name}-{dtype}"
            asked = ("--real", name, "--dtype", dtype, "--guidance", "1", "--device", device)
            own = name if dtype == "float32" else f"{name}-own"
            extent = (
                ("--tier", "quick", "--only", "real/sjd/*/b400") if small else ("--tier", "full", "--batch", "1600")
            )
            only = () if small else ("--only", f"*/{own}/*")
            steps.append(Step(step, ("-m", "specverify.cli", "verify", *asked, *extent, *only, "--out", step), (0, 1)))
    return Part("verdicts", "lossless and known-wrong decoders on real models, a million tokens each", tuple(steps))


def _sweep(device: str, small: bool) -> Part:
    """What records of `specverify tradeoff` hold: forms of drafting, windows and guidances, each with exact rules."""
    base = ("-m", "specverify.cli", "tradeoff", "--device", device, "--jobs", "1", "--model")
    rules = ("--rules", "gsd,gsd-clusters,lantern,scaling,mixture")
    many = ("--n", "5000", "--batch", "500")
    steps = []
    for label, more in (
        {"maximal": ("digits-s", "--n", "70", "--batch", "70", "--rules", "gsd", "--drafting", "maximal")}
        if small
        else {
            "maximal": ("cifar-fsq", *many, *rules, "--drafting", "maximal", "--guidance", "1,3", "--window", "16,64"),
            "drafting": ("cifar-fsq", *many, "--rules", "gsd,scaling", "--guidance", "3", "--window", "4,16,64"),
            "top-k": ("cifar-fsq", *many, *rules, "--processors", "top_k=500", "--guidance", "3", "--window", "16"),
        }
    ).items():
        steps.append(Step(label, (*base, *more, "--out", label)))
    return Part("sweep", "speed against quality of exact and relaxed decoders on colour images", tuple(steps))


def _training(device: str, small: bool, images: Path | None) -> Part:
    title = "cifar-fsq trained again, larger"
    if images is None:
        return Part("training", title, (), "colour images, given with --images FILE")
    asked = ("--data", str(images.resolve()), "--device", device, "--out", "checkpoints")
    more = ("--steps", "2", "--samples", "0") if small else ("--larger",)
    return Part("training", title, (Step("train", ("-m", "realmodels.train_vq", *asked, *more)),))


def _opened(device: str, exactly: bool) -> Sequence[str]:
    return ("--device", device, "--dtype", "float32" if exactly else "bfloat16")
