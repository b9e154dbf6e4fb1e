"""Sessions. `nox -l` lists them; arguments after `--` are passed on."""

from __future__ import annotations

import os

import nox

nox.needs_version = ">=2025.2"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.error_on_missing_interpreters = True

# Sessions pin torch so that every run of a release sees the same one; the package itself takes any from 2.6 on.
TORCH = os.environ.get("SPECVERIFY_TORCH", "torch==2.13.0")
# Many small tensors: one thread per process is faster than sharing, and the work is spread over processes.
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def install(session: nox.Session, *extras: str) -> None:
    session.install(TORCH, f"-e.[{','.join(extras)}]" if extras else "-e.")


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite (under 12 minutes on 2 cores). `-- --seed 1` varies every seed."""
    install(session, "tests")
    workers = () if any(a.startswith("-n") for a in session.posargs) else ("-n", "auto")
    apart = ("--ignore=tests/bench", "--ignore=tests/stats", "--ignore=tests/soundness")
    session.run("pytest", *workers, "--benchmark-disable", *apart, *session.posargs, env=THREADS)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: style and formatting."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    session.install(*(need for need in project["optional-dependencies"]["lint"] if need.startswith("ruff")))
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
    session.run("specverify", "verify", *session.posargs, env=THREADS, success_codes=[0])


@nox.session
def stats(session: nox.Session) -> None:
    """The long statistical suite; `-- --seed 1` varies its seeds."""
    install(session, "tests")
    session.run("pytest", "-n", "auto", "--benchmark-disable", "tests/stats", *session.posargs, env=THREADS)


@nox.session
def soundness(session: nox.Session) -> None:
    """Subjects that once got a wrong verdict, each through `specverify validate` as a user runs it (minutes)."""
    install(session, "tests")
    session.run("pytest", "-n", "auto", "--benchmark-disable", "tests/soundness", *session.posargs, env=THREADS)


@nox.session
def calibrate(session: nox.Session) -> None:
    """Measure the checkers' own rates: false alarms, misses at the stated delta; fails where a rate does not hold."""
    install(session)
    session.run("specverify", "calibrate", *session.posargs, env=THREADS)


@nox.session
def tradeoff(session: nox.Session) -> None:
    """Speed against quality on a model of digits: relaxed rules, or `-- --model digits-gmm`, decoders of vectors."""
    install(session, "real")
    session.run("specverify", "tradeoff", *session.posargs, env=THREADS)


@nox.session
def bench(session: nox.Session) -> None:
    """pytest-benchmark: sampling and enumeration speed."""
    install(session, "tests")
    plain = ("-s", "-p", "no:xdist", "-p", "no:specverify", "-o", "addopts=")  # no shape checks while the clock runs
    session.run("pytest", "tests/bench", "--benchmark-only", *plain, *session.posargs, env=THREADS)


@nox.session
def train_digits(session: nox.Session) -> None:
    """Train the digits model and its classifier again, as shipped."""
    install(session)
    session.run("python", "-m", "realmodels.train", *session.posargs)
