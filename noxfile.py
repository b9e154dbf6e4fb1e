"""Sessions. `nox -l` lists them; arguments after `--` are passed on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.error_on_missing_interpreters = True

# Every session but `newest` and `oldest` installs what this file says, so that releases of others break nothing.
CONSTRAINTS = Path("constraints.txt")
TORCH = os.environ.get("SPECVERIFY_TORCH", "torch==2.13.0")
# torch pins these itself, one release of theirs to one of its own.
OF_TORCH = ("torch==", "nvidia-", "cuda-", "triton==")
# Many small tensors: one thread per process is faster than sharing, and the work is spread over processes. What is
# imported is compiled once, not by each of some fifty processes, also where that is switched off.
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
# Folders with a session of their own.
APART = [f"--ignore=tests/{folder}" for folder in ("bench", "faults", "page", "soundness", "stats")]
# Seconds that an interrupted command has for its partial record and report; nox itself would give it half a second.
PATIENCE = 120.0


def install(session: nox.Session, *extras: str, torch: str = TORCH, constraints: Iterable[str] | None = None) -> None:
    """Install the project with some of its extras, by the committed constraints unless others are given."""
    if constraints is None:
        constraints = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    # Not session.create_tmp(): it moves TMPDIR into the project, and every pytest there then obeys our pyproject.toml.
    file = Path(session.virtualenv.location).resolve() / "constraints.txt"
    file.write_text("\n".join(line for line in constraints if not line.startswith(OF_TORCH)) + "\n", encoding="utf-8")
    # What is imported is compiled then: pip would compile all that it installs, which is half of its time.
    session.install("--no-compile", "-c", str(file), torch, f"-e.[{','.join(extras)}]" if extras else "-e.")


def run_tests(session: nox.Session, *options: str) -> None:
    """The suite of every day, on all cores."""
    # By file, so that what a file computes once is computed once.
    workers = () if any(a.startswith("-n") for a in session.posargs) else ("-n", "auto", "--dist", "loadfile")
    session.run(
        "pytest", *workers, "--benchmark-disable", *APART, "-m", "not slow", *options, *session.posargs, env=THREADS
    )


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite (some ten minutes on 2 cores, its environment included). `-- --seed 1` varies every seed."""
    install(session, "tests")
    run_tests(session)


@nox.session
def shapes(session: nox.Session) -> None:
    """The test suite with the shapes of all arguments and results checked against annotations (long)."""
    install(session, "tests")
    run_tests(session, "--shapes", "--jaxtyping-packages=specverify,toymodels,realmodels,typecheck.checker")


@nox.session
def newest(session: nox.Session) -> None:
    """The test suite on the newest release of everything."""
    install(session, "tests", torch=os.environ.get("SPECVERIFY_TORCH", "torch"), constraints=())
    run_tests(session)


@nox.session
def oldest(session: nox.Session) -> None:
    """The test suite on the lower bounds that pyproject.toml declares."""
    # A constraint names no extras.
    bounds = [re.sub(r"\[.*?\]", "", need).replace(">=", "==") for need in needs() if ">=" in need]
    install(session, "tests", torch=next(need for need in bounds if need.startswith("torch==")), constraints=bounds)
    run_tests(session)


@nox.session
def lock(session: nox.Session) -> None:
    """Write constraints.txt: the newest releases that pip finds for all that the sessions install."""
    install(session, "dev", constraints=())
    frozen = str(session.run("pip", "freeze", "--exclude-editable", silent=True)).splitlines()
    lines = [TORCH, *(line for line in frozen if "==" in line and not line.startswith(OF_TORCH))]
    head = "# Written by `nox -s lock`: the releases that the sessions install; plain pip reads it too (-c)."
    CONSTRAINTS.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")


def needs() -> list[str]:
    """Every requirement that pyproject.toml declares."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    return [*project["dependencies"], *(need for extra in project["optional-dependencies"].values() for need in extra)]


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: style and formatting."""
    session.install(*(need for need in needs() if need.startswith("ruff")))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict."""
    install(session, "lint", "tests")
    session.run("mypy", *session.posargs)


@nox.session
def verify(session: nox.Session) -> None:
    """The main job: prove and test every decoder on toys and on a real image model, and write the report."""
    install(session)
    session.run("specverify", "verify", *session.posargs, env=THREADS, success_codes=[0], interrupt_timeout=PATIENCE)


@nox.session
def stats(session: nox.Session) -> None:
    """The long statistical suite; `-- --seed 1` varies its seeds."""
    install(session, "tests")
    session.run("pytest", "-n", "auto", "--benchmark-disable", "tests/stats", *session.posargs, env=THREADS)


@nox.session
def soundness(session: nox.Session) -> None:
    """Subjects that once got a wrong verdict, each as a user judges it, and all tests that are slow (long)."""
    install(session, "tests")
    split = ("-n", "auto", "--benchmark-disable")
    session.run("pytest", *split, "tests/soundness", *session.posargs, env=THREADS)
    session.run("pytest", *split, "--dist", "loadfile", "-m", "slow", *APART, "tests", *session.posargs, env=THREADS)


@nox.session
def faults(session: nox.Session) -> None:
    """Campaigns that are killed, interrupted, cut short and damaged, and continued (minutes)."""
    install(session, "tests")
    session.run("pytest", "-n", "auto", "--benchmark-disable", "tests/faults", *session.posargs, env=THREADS)


@nox.session
def audit(session: nox.Session) -> None:
    """Judge packages that others publish; `-- specdec` picks some, and a run that was ended goes on where it was."""
    install(session, "transformers")
    # Without what they ask for: several pin a torch or a transformers of their own.
    session.install("--no-deps", "-r", "reports/audit/requirements.txt")
    session.run("python", "reports/audit/run.py", *session.posargs, env=THREADS, interrupt_timeout=PATIENCE)


@nox.session
def calibrate(session: nox.Session) -> None:
    """Measure the checkers' own rates: false alarms, misses at the stated delta; fails where a rate does not hold."""
    install(session)
    session.run("specverify", "calibrate", *session.posargs, env=THREADS, interrupt_timeout=PATIENCE)


@nox.session
def tradeoff(session: nox.Session) -> None:
    """Speed against quality on a trained model: relaxed rules, or `-- --model digits-gmm`, decoders of vectors."""
    install(session, "real")
    session.run("specverify", "tradeoff", *session.posargs, env=THREADS, interrupt_timeout=PATIENCE)


@nox.session
def bench(session: nox.Session) -> None:
    """Speed, in ratios to work of the same run, beside those in reports/bench.json, which `-- --keep` writes."""
    install(session, "tests")
    # No shape checks while the clock runs.
    plain = ("-s", "-rs", "-p", "no:xdist", "-p", "no:specverify", "-o", "addopts=")
    session.run("pytest", "tests/bench", "--benchmark-only", *plain, *session.posargs, env=THREADS)


@nox.session
def gpu(session: nox.Session) -> None:
    """What a GPU is needed for, part by part, in out/gpu; what is done is skipped. `-- --small` tries it on the CPU."""
    install(session, "tests")
    session.run("python", "-m", "specverify.gpu", *session.posargs, interrupt_timeout=PATIENCE)


@nox.session
def page(session: nox.Session) -> None:
    """The pages of reports in a browser: sorting, filters, links, widths, accessibility. Needs Chromium, or says so."""
    install(session, "tests", "page")
    session.run("pytest", "-rs", "--benchmark-disable", "tests/page", *session.posargs, env=THREADS)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site, in out/docs; a warning is an error."""
    install(session, "docs")
    session.run("mkdocs", "build", "--strict", "--quiet", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def train_codes(session: nox.Session) -> None:
    """Train the models of codes again, as shipped, of MNIST or CIFAR-10 by the images in `-- --data FILE`."""
    install(session, "real")
    session.run("python", "-m", "realmodels.train_vq", *session.posargs, env=THREADS)


@nox.session
def train_digits(session: nox.Session) -> None:
    """Train the models of the digits and their classifier again, as shipped."""
    install(session, "transformers")
    session.run("python", "-m", "realmodels.train", *session.posargs)
