"""The pytest plug-in: a verdict as a test. Installed with specverify, as a fixture and a marker.

    import pytest

    @pytest.mark.specverify(claim="lossless", seconds=20)
    def test_my_decoder(specverify_judge):
        judgement = specverify_judge("mypackage.lookahead:DECODER")
        assert judgement.exact                        # on which toys it was proved

    def test_my_kernel(specverify_judge):
        specverify_judge("mypackage.kernels:verify", level="round", seconds=30)

The fixture judges, and fails the test unless the verdict is PROVED-FOR-ALL, PROVED or CONSISTENT, with the reason,
where the law goes wrong, the counterexample and a line that reproduces it. Its arguments are those of
`isolation.judge_isolated`; the marker, on a test, a class or a module, gives defaults for them. A subject that is
named by text runs in a process of its own with a time limit. One that is handed over as an object runs in the test's
process, with neither. A test that asks for the fixture and never calls it fails, and so does one with the marker of its
own that never asks: it would pass without a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # pytest imports plug-ins at every start: nothing here may wait for torch
    from specverify.subjects.judgement import Judgement

_FIXTURE = "specverify_judge"
_JUDGED = pytest.StashKey[bool]()
_ARGUMENTS = ("level", "claim", "seed", "seconds", "options", "limit", "memory")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"specverify({', '.join(f'{name}=...' for name in _ARGUMENTS)}): defaults for the fixture specverify_judge",
    )


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fail a test that passed, was to judge something, and did not."""
    passed = yield
    if _FIXTURE in pyfuncitem.fixturenames:
        if not pyfuncitem.stash.get(_JUDGED, False):
            pytest.fail(
                f"this test has the fixture {_FIXTURE} and judges nothing: call it with a subject", pytrace=False
            )
    elif any(mark.name == "specverify" for mark in pyfuncitem.own_markers):
        pytest.fail(f"this test is marked with specverify and judges nothing: ask for {_FIXTURE}", pytrace=False)
    return passed


@pytest.fixture
def specverify_judge(request: pytest.FixtureRequest) -> Callable[..., Judgement]:
    """A function `judge(subject, claim=..., level=..., seconds=...) -> Judgement` that fails unless the claim holds."""
    markers = list(request.node.iter_markers("specverify"))
    if bare := next((marker.args for marker in markers if marker.args), None):
        raise pytest.UsageError(f"the marker specverify takes named arguments only, not {bare}")
    # The nearest comes last, and counts.
    defaults = {name: value for marker in reversed(markers) for name, value in marker.kwargs.items()}

    def judge(subject: object, **arguments: Any) -> Judgement:
        __tracebackhide__ = True
        request.node.stash[_JUDGED] = True
        given = defaults | arguments
        if unknown := sorted(set(given) - set(_ARGUMENTS)):
            raise pytest.UsageError(f"specverify_judge has no argument {unknown[0]!r}; use {', '.join(_ARGUMENTS)}")
        from specverify.errors import SpecverifyError
        from specverify.report.judgement import text
        from specverify.subjects import here, isolation

        try:
            if isinstance(subject, str):
                judgement = isolation.judge_isolated(subject, **given)
            else:
                judgement = here.judge_here(subject, **given)
        except SpecverifyError as error:
            pytest.fail(f"specverify: {error}", pytrace=False)
        if judgement.verdict.kind.exit_code != 0:
            pytest.fail(text(judgement), pytrace=False)
        return judgement

    return judge
