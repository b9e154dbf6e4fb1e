"""Models that nobody chose find every defect, and shrink to small ones."""

from __future__ import annotations

import jaxtyping
import pytest
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st

from specverify import defects
from specverify.decoders.registry import Settings
from specverify.evidence.enumerate import enumerate_decoder
from specverify.evidence.sequences import target_law
from specverify.model import Model
from toymodels import strategies
from toymodels.tables import TableModel

EXAMPLES = 300
LENGTH = (2, 3)
VISIBLE = {"zero-coin-inclusive": 1e-9, "residual-smoothing-leak": 1e-11}


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without type checks, which `test_exact.py` makes and which would take nine tenths of the time here."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@st.composite
def subjects(draw: st.DrawFn, defect: defects.Defect) -> tuple[Model, Model | None]:
    vocab = (2, 2) if "two tokens" in defect.needs else (2, 3)
    if "state" in defect.needs:
        model: Model = draw(strategies.windowed_models(vocab, LENGTH))
    else:
        model = draw(strategies.models(vocab, LENGTH, eos="eos" in defect.needs))
    return model, draw(strategies.draft_models(model)) if defect.smallest.draft else None


LOSSY = [name for name in defects.names() if defects.get(name).lossy]
DAILY = {defects.get(name).category: name for name in reversed(LOSSY)}.values()
"""One of each category."""


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in DAILY else [pytest.mark.slow]) for name in LOSSY]
)
def test_a_drawn_model_refutes_the_defect(name: str) -> None:
    defect = defects.get(name)

    def refutes(subject: tuple[Model, Model | None]) -> bool:
        model, draft_model = subject
        decoder = defect.build(Settings(defect.smallest.window, "repeat-left", draft_model))
        return enumerate_decoder(decoder, model).tv(target_law(model)) > VISIBLE.get(name, 1e-6)

    model, _ = find(
        subjects(defect),
        refutes,
        settings=settings(
            max_examples=EXAMPLES,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
    if isinstance(model, TableModel):
        assert len(model.table.unique(dim=0)) <= 2, "the counterexample is not small"
