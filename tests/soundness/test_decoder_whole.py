"""Full judgements, in a process without the test run's type checks, as a user has them.

Every known-wrong decoder is refuted in seconds by a small counterexample that replays, no control is flagged, and a
decoder that somebody wrote by hand is proved in time.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from specverify import defects
from specverify.decoders import registry
from specverify.defects import sibling_trees, trees

HERE = Path(__file__).parents[1] / "subjects"
DEFECTS = """
import json, sys, time
import toymodels
from specverify import defects
from specverify.decoders.registry import Settings, build
from specverify.evidence.enumerate import enumerate_decoder
from specverify.subjects.certificate import replay
from specverify.subjects.decoder import judge_decoder

def took(function, *arguments, **options):
    start = time.process_time()
    found = function(*arguments, **options)
    return time.process_time() - start, found

jacobi, toy = build("sjd", Settings(5, "random")), toymodels.toy("dense-3x6")
unit = min(took(enumerate_decoder, jacobi, toy)[0] for _ in range(3))
for name in sys.argv[1:]:
    subject = defects.get(name).build
    seconds, judgement = took(judge_decoder, subject, name=name)
    again = replay(judgement.certificate, subject=subject)
    print(json.dumps({"units": seconds / unit, "first": judgement.to_json(), "again": again.to_json()}))
"""
CONTROLS = """
import json, sys
from specverify import defects
from specverify.subjects.decoder import judge_decoder
toys = (("guided-2x5", "ties-3x5"), ("guided-2x5", "eos-3x6"), ("guided-2x5", "penalty-3x6"))
for seed in range(3):
    judgement = judge_decoder(defects.get(sys.argv[1]).build, seed=seed, examples=40, toys=toys[seed])
    print(json.dumps(judgement.to_json()))
"""
RIGHT = """
import json, sys
from specverify.decoders import registry
from specverify.subjects.decoder import judge_decoder
toys = ("guided-2x5", "ties-3x5", "eos-3x6", "synonyms-4x5")
build = lambda settings: registry.build(sys.argv[1], settings)
print(json.dumps(judge_decoder(build, name=sys.argv[1], examples=10, toys=toys).to_json()))
"""
BROKEN = """
import json
from specverify.subjects.decoder import judge_decoder
import broken
for subject, reason in broken.BROKEN.items():
    print(json.dumps([reason, judge_decoder(subject).to_json()]))
"""
COMPANY = """
import json
from specverify.subjects.decoder import judge_decoder
for name in ("OneAcceptsForAll", "Lockstep"):
    print(json.dumps(judge_decoder(f"test_decoder_contract:{name}").to_json()))
"""
LOOKAHEAD = """
import json, time
from specverify.errors import InputError
from specverify.evidence.cases import Case
from specverify.subjects.decoder import judge_decoder
start = time.process_time()
judgement = judge_decoder("test_decoder:Lookahead")
print(json.dumps({**judgement.to_json(), "seconds": time.process_time() - start}))
for wrong in (
    lambda: judge_decoder("test_decoder:Lookahead", "lossless"),
    lambda: Case("dense-2x8", arrangement="sideways"),
):
    try:
        wrong()
    except InputError as error:
        print(json.dumps(str(error)))
"""


def plain(code, *arguments):
    """What a process prints, one JSON value a line."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path[:0] = [{str(HERE)!r}, {str(HERE.parents[1])!r}]\n{code}",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


LOSSY = [name for name in defects.names() if defects.get(name).lossy and not defects.get(name).within_rounding]
CATEGORIES = list(dict.fromkeys(defects.get(name).category for name in LOSSY))
ANYWHERE = ("accepted", "recovered", "verified", "bonus")  # verified: several drafts of one position, judged together
# a wrong chain shows in whatever is drawn behind it
SEVERAL = {defect.id for kind in (trees, sibling_trees) for defect in kind.DEFECTS}
BRANCHES = {
    "acceptance rule": ("accepted", "recovered"),  # keeping and replacing are two halves of one rule
    "residual": ("recovered", "accepted"),
    "bonus token": ("bonus", "accepted"),
}


# Units are the time of one enumeration of 700,000 worlds in the same process, some 0.8 seconds.
@pytest.mark.parametrize("category", CATEGORIES)
def test_every_defect_is_refuted_in_small(category):
    names = [name for name in LOSSY if defects.get(name).category == category]
    for name, result in zip(names, plain(DEFECTS, *names), strict=True):
        first, again = result["first"], result["again"]
        assert first["verdict"]["kind"] == "REFUTED", f"{name}: {first['verdict']['reason']}"
        assert result["units"] < (32 if name in SEVERAL else 20), f"{name} took {result['units']:.1f} units"

        model = first["certificate"]["setting"]["model"]
        assert model["vocab"] <= 3, name
        assert model["length"] <= 4, name
        assert len({tuple(law["weights"]) for law in model["laws"]}) <= 2, f"{name}: the model is not simple"
        branches = ANYWHERE if name in SEVERAL else BRANCHES.get(category, ANYWHERE)
        assert first["location"]["branch"].startswith(branches), name
        assert max(map(len, first["notes"][0].splitlines())) <= 80, name

        assert again["verdict"]["kind"] == "REFUTED", f"{name}: {again['verdict']['reason']}"
        assert again["verdict"]["reason"].startswith("the refutation stands: "), name
        assert again["certificate"]["tv"] == pytest.approx(first["certificate"]["tv"], abs=1e-15), name
        assert again["location"] == first["location"], name


@pytest.mark.parametrize("name", [name for name in defects.names() if not defects.get(name).lossy])
def test_controls_are_not_flagged(name):
    for judgement in plain(CONTROLS, name):
        assert judgement["verdict"]["kind"] in ("PROVED-FOR-ALL", "PROVED", "CONSISTENT"), judgement["verdict"][
            "reason"
        ]
        races = any("races" in line for line in judgement["not_covered"])
        assert (judgement["verdict"]["kind"] == "CONSISTENT") == races
        assert ("Races over more than two tokens were sampled" in judgement["verdict"]["reason"]) == races


def test_a_decoder_of_40_lines_is_proved_in_a_minute():
    judgement, claim, arrangement = plain(LOOKAHEAD)
    assert judgement["seconds"] < 60
    assert judgement["verdict"]["kind"] == "PROVED-FOR-ALL", judgement["verdict"]["reason"]
    assert judgement["subject"] == "Lookahead"
    assert judgement["reproduce"] == "specverify validate test_decoder:Lookahead --claim lossless --seed 0"
    assert max(row["tv"] for row in judgement["exact"] if row["precision"] == "float64") <= 1e-12
    assert len({row["model"] for row in judgement["exact"]}) >= 20
    assert judgement["certificate"]["runs"]
    assert "other windows: it comes with its own" in judgement["not_covered"]
    assert any(line.startswith("larger models: ") for line in judgement["not_covered"])
    assert claim == "'lossless' is no claim; choose Lossless(), Relaxed(tv) or ClusterLossless(partition)"
    assert arrangement == "unknown arrangement 'sideways'; choose one of together, ragged, alone"


def test_the_coupling_as_released_beside_the_right_one():
    """A draft that the coupling keeps has a new law; the code as released keeps the old one beside it."""
    (result,) = plain(DEFECTS, "stale-scores-after-coupling")
    released = result["first"]
    assert released["verdict"]["kind"] == "REFUTED"
    setting = released["certificate"]["setting"]
    assert (setting["model"]["vocab"], setting["model"]["length"], setting["window"]) == (2, 2, 2)
    assert released["certificate"]["tv"] == pytest.approx(1 / 8, abs=1e-12)
    assert released["location"]["branch"] == "accepted (redraft)"
    assert (released["location"]["position"], released["location"]["prefix"]) == (1, [1])
    first, largest, _, *lines = released["notes"][0].splitlines()
    assert largest.startswith("largest    0.")
    assert float(largest.split()[1]) > 0.3
    assert [first, *lines] == [
        "not lossless: total variation 1/8 = 0.125 from the target law",
        "setting    2 tokens, 2 positions; window 2; initial drafts repeat-left",
        "p            1/2    1/2   always",
        "wrong at   position 1, after 1 (probability 1/2); too often: 1",
        "                                    token 0    token 1",
        "           due                          1/2        1/2",
        "           came                         1/4        3/4",
        "           accepted (redraft)   1/4 not 1/2        1/2",
        "           recovered (redraft)            0  1/4 not 0",
        "branch     accepted (redraft): draft 0 is kept with probability 1/2; of drafts",
        "           with the law that these have, (1/2, 1/2), the token rule keeps 1",
        "           sequence  due  came",
        "           1 0       1/4   1/8",
        "           1 1       1/4   3/8",
    ]


@pytest.mark.parametrize("name", ["ar", "ar-race", "sd", "sjd", "scd-mc", "scd-gs", "sjd-race"])
def test_right_decoders_are_proved(name):
    (judgement,) = plain(RIGHT, name)
    races = registry.entry(name).races
    assert judgement["verdict"]["kind"].startswith("CONSISTENT" if races else "PROVED"), judgement["verdict"]["reason"]
    assert ("Races over more than two tokens were sampled" in judgement["verdict"]["reason"]) == races
    assert any("races" in line for line in judgement["not_covered"]) == races
    if name in ("sjd", "scd-mc"):
        assert {row["initial"] for row in judgement["exact"]} == {"repeat-left", "zero", "random", "sample-left"}


def test_every_broken_subject_gets_the_reason():
    results = plain(BROKEN)
    assert len(results) > 25
    for reason, judgement in results:
        name = judgement["subject"]
        assert judgement["verdict"]["kind"] == "ERROR", f"{name}: {judgement['verdict']}"
        assert reason in judgement["verdict"]["reason"], f"{name}: {judgement['verdict']['reason']}"
        assert judgement["seconds"] < 20, name


def test_rows_that_influence_each_other():
    law, speed = plain(COMPANY)
    assert law["verdict"]["kind"] == "REFUTED"
    assert "its rows influence each other" in law["verdict"]["reason"]
    assert "one row at a time it is right" in law["verdict"]["reason"]
    # One row at a time it is right, but which rows are decoded anew depends on what came: only real batches show it.
    assert speed["verdict"]["kind"] == "REFUTED"
    assert speed["verdict"]["reason"].startswith("sampled as it is, ")
    assert speed["certificate"] is None
