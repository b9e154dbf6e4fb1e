"""What stands first: a setting for each kind of cost, within the loss, and what must be known to read it."""

import re

import pytest
from rich.console import Console

from specverify.rules import registry
from specverify.tradeoff import answer, answer_frontier, choose, choose_clock, remarks, tables
from specverify.tradeoff.plan import AR, LOSSLESS
from tests.tradeoff.by_hand import row


@pytest.fixture
def told(record):
    """A sweep with small drift: by passes the best within 0.1 is timid k=1, which is slower than plain decoding."""
    paces = {"lossless": (0.25, 2.0), "timid/k=1": (0.5, 0.8), "timid/k=2": (4.0, 4.0), "wild": (8.0, 9.0)}
    for one in record["rows"]:
        batch, alone = paces.get(one["id"].partition("maximal/")[2], (1.0, 1.0))
        nearly = 1 + 0.001 * (one["id"] == "guidance-1/ar/seed-1")
        one["seconds_per_image"], one["seconds_alone"] = 0.01 * nearly / batch, 0.02 * nearly / alone
    for one in record["rows"]:
        if one["drafting"]:  # a window of its own: no pass does the same work, so that plain runs alone tell the drift
            one["window"] = 1 + record["rows"].index(one)
    return record


def by(record, what, choices=None):
    choices = choices or choose.fastest(record, 0.1)
    return choose_clock.by_clock(record, choices, choices[0], what)


def test_each_clock_has_a_setting_of_its_own_within_the_loss(told):
    """The wild one and k=2, whose limits of loss are above what was asked for, would be faster by far."""
    (choice,) = choose.fastest(told, 0.1)
    assert choice.chosen.id == "guidance-1/maximal/timid/k=1"
    alone, batch = by(told, "seconds_alone"), by(told, "seconds_per_image")
    assert alone.one.id == "guidance-1/maximal/lossless"
    assert (alone.confirmed, alone.among, choose_clock.together([choice])) == (True, 2, 4)
    assert 1 < alone.slowest < alone.pace.within[0] < 1.9 < alone.pace.value < 2.1
    assert batch.one.id == "guidance-1/maximal/timid/k=1"
    assert (batch.confirmed, batch.pace.words().partition("]")[2]) == (False, " (slower)")


def test_the_table_says_for_each_cost_what_to_take_and_where_nothing_is_faster(told, monkeypatch):
    monkeypatch.setitem(answer.USUAL, "bias", 0.1)
    section = answer.section(told)
    lines = {line.cells[1].partition(" (")[0]: line.cells for line in section.rows}
    assert lines["passes"][2] == "maximal/timid/k=1"
    assert re.search(r"alone 0\.8 times as fast \[.*\] \(slower\); in a batch 0\.5 times", lines["passes"][3])
    assert lines["seconds, images alone"][2] == "maximal/lossless"
    assert re.match(r"2 times as fast \[.*\], at least 1\.\d+ \(the fastest of 2 w", lines["seconds, images alone"][3])
    assert lines["seconds, batches of 50"][2] == "plain decoding"
    assert lines["seconds, batches of 50"][3].startswith("none of 2 within the loss is faster: the fastest is maximal/")
    assert "(2 of them)" in section.rows[-1].cells[1]
    assert not any("faster" in heading for heading in section.headings)
    assert "seconds were measured on a CPU" in section.intro
    told["hardware"]["accelerator"] = "NVIDIA H200"
    assert "seconds were measured on NVIDIA H200" in answer.section(told).intro


def test_a_gain_that_drift_may_have_made_is_not_confirmed(told):
    told["rows"][1]["seconds_alone"] *= 1.5
    timing = by(told, "seconds_alone")
    assert timing.pace.value > 2
    assert not timing.confirmed
    assert "not confirmed to be faster" in answer._clocked(choose.fastest(told, 0.1)[0], timing)


def test_where_nothing_is_within_the_loss_or_nothing_was_timed_no_clock_answers(told):
    assert by(told, "seconds_alone", choose.fastest(told, 0.1)).one is not None
    told["rows"] = [one for one in told["rows"] if one["rule"] != LOSSLESS]
    none = choose.fastest(told, 0.001)
    assert by(told, "seconds_alone", none).one is None
    line = answer._lines(told, none, none[0])[-1].cells
    assert line[2:4] == ("plain decoding", "none that was timed is confirmed to lose so little")
    assert "of seconds" not in remarks.remarks(told, none)[0].partition("All those of loss")[2]
    assert "together with at least 90%" in remarks.remarks(told, none)[0]
    for one in told["rows"]:
        one["seconds_alone"] = None
    assert by(told, "seconds_alone").one is None
    assert not any("alone" in line.cells[1] for line in answer.section(told).rows)


def test_a_speed_up_that_was_asked_for_is_one_by_the_clock_as_well(told):
    choices = choose.least_lossy(told, 1.5)
    alone = by(told, "seconds_alone", choices)
    assert alone.one.id == "guidance-1/maximal/timid/k=2"  # less loss than the wild one, which is faster
    assert alone.confirmed
    assert choose_clock.together(choices) == 2 * choices[0].compared
    none = by(told, "seconds_alone", choose.least_lossy(told, 20.0))
    assert (none.one.id, none.confirmed) == ("guidance-1/maximal/wild", False)


def test_the_fastest_of_all_is_named_with_its_loss_and_is_never_known_to_be_wrong(told):
    told["rows"].append(row("gsd-released", 8, 9.0, 0.001, seconds_per_image=1e-4, seconds_alone=1e-4))
    choices = choose.fastest(told, 0.1)
    (said,) = [one for one in remarks.remarks(told, choices) if one.startswith("Of those measured the fastest")]
    assert re.search(r"alone guidance-1/maximal/wild, 9 times as fast \[.*\], at a loss of bias of 0\.5;", said)
    assert "gsd-released" not in said
    for what in ("seconds_alone", "seconds_per_image"):
        assert "released" not in by(told, what, choices).one.id


def test_a_loss_that_is_zero_by_construction_is_not_called_measured(told, monkeypatch):
    """The bias of a lossless rule follows from its own laws; that of another rule, and another metric, do not."""
    monkeypatch.setitem(answer.USUAL, "bias", 0.05)
    (choice,) = answer.usual(told)
    assert choice.chosen.id == "guidance-1/maximal/lossless"
    own = next(one for one in told["rows"] if one["id"] == choice.chosen.id)
    own["z"] = -1.25
    assert remarks.lost(own, "bias", choice.chosen) == "0 by its rule, not measured"
    cells = answer.section(told).rows[0].cells
    assert cells[4:6] == ("0 by its rule, not measured", "-1.2")
    assert cells[6].startswith("0.00 [")
    assert any("of one that claims to be lossless it is 0 whatever" in one for one in remarks.remarks(told, [choice]))
    assert tables.cells(own, ("bias",)) == ("0 by its rule",)
    (far,) = choose.fastest(told, 0.5, "fd")
    assert not choose.by_rule(own, "fd", 0.0)
    assert "at most" in remarks.lost(own, "fd", far.free)
    own["claim"] = "relaxed(tv<=1)"
    assert remarks.lost(own, "bias", choice.chosen).startswith("0, at most 0.0")


def test_what_holds_together_is_said(told):
    said = remarks.remarks(told, choose.fastest(told, 0.1))[0]
    assert "normal limits" in said
    assert "bootstrap" in said
    assert "of loss hold with 95%, for 5 settings at once; all those of passes with 95%" in said
    assert "of seconds with 95%, for 2 settings within the loss by both clocks; everything together" in said
    assert said.index("together with at least 85%") > 0
    assert "for all of them by both clocks" in remarks.remarks(told, choose.least_lossy(told, 2.0))[0]


def test_two_runs_of_one_law_say_what_is_noise(record):
    """The plain runs have distances of 0.9 and 1.1, each known to about 0.1."""
    said = remarks.noise(record)
    assert said.startswith("Two plain runs, of one law, differ here by 0.2 in FD (95% of such pairs by up to 0.2")
    assert "0 in accuracy" in said
    assert "KD" not in said
    assert "on 100 images of each, smaller differences between settings say nothing" in said
    assert said.endswith("and 3 of 5 settings are not told from plain decoding by FD.")  # not the bold, nor the wild
    record["rows"] = [one for one in record["rows"] if one["id"] != "guidance-1/ar/seed-1"]
    assert remarks.noise(record) == ""


def test_what_the_registries_have_and_the_sweep_has_not_is_named(record):
    said = remarks.unmeasured(record)
    assert said.startswith("Not measured, and so in no answer: rules gsd-static, ")
    assert "drafting independent, gumbel" in said
    assert "lossless" not in said
    usual = [name for name in registry.names() if name != "amplify"]  # it repeats another's sweep
    for name in usual:
        value = registry.rule(name).sweep[0] if registry.rule(name).sweep else None
        record["rows"].append(row(name, 9, 2.0, 0.1, value=value))
    said = remarks.unmeasured(record)
    assert "rules" not in said
    assert re.search(r"some values of .*gsd.*, lantern", said)
    record["tokens"], record["setting"]["model"] = "patches", "digits-diff"
    said = remarks.unmeasured(record)
    assert said.startswith("Not measured, and so in no answer: decoders ")
    assert "sd-path" in said
    assert "jacobi-maximal" not in said  # it needs a density, which a chain has not


def test_windows_at_which_nothing_was_turned_are_named(record):
    for one in record["rows"]:
        one["window"] = 16 if one["drafting"] else None
    assert "At one value" not in remarks.unmeasured(record)
    record["rows"] += [row("timid", 9, 3.0, 0.1, value=1.0, window=size, id=str(size)) for size in (8, 64)]
    assert remarks.unmeasured(record).endswith("At one value of each parameter alone windows 8, 64 were measured.")


def test_the_frontier_on_a_terminal_begins_near_what_was_asked_for(record):
    record["rows"] += [row(AR, 0, guidance=2.0), row(AR, 1, guidance=2.0), row("late", 7, 2.5, 0.06, guidance=2.0)]
    screens = []
    for choices in (choose.fastest(record, 0.06), choose.least_lossy(record, 7.0), []):
        console = Console(width=120, record=True)
        answer_frontier.show(record, choices, console)
        text = console.export_text()
        found = re.findall(r"^(\S+) +(\d) +[\d.]+ .*?[\d.]+ \[[\d.-]+, [\d.]+\] .*\[", text, re.MULTILINE)
        screens.append((found, text))
    assert screens[0][0][:2] == [("timid/k=1", "1"), ("timid/k=2", "1")]
    assert screens[0][0][-1] == ("late", "2")
    assert "nearest to loss 0.06 first" in screens[0][1]
    assert screens[1][0][0] == ("wild", "1")
    assert "nearest to speed-up 7 first" in " ".join(screens[1][1].split())
    assert "fewest passes first" in screens[2][1]
