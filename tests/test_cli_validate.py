"""`specverify validate` and `specverify replay`: what they print, write and exit with."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from specverify import cli, cli_validate
from specverify.decoders import Autoregressive, sample
from specverify.errors import InputError
from specverify.subjects import isolation
from specverify.subjects.isolation import judgement_from_json
from specverify.subjects.judgement import Judgement
from specverify.verdict import Kind, Verdict
from toymodels import toy

EXAMPLES = Path(__file__).parent / "subjects" / "examples"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(EXAMPLES, tmp_path / "mine")


@pytest.fixture
def run(capsys, monkeypatch):
    """Call the command line: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("SPECVERIFY_DEBUG", raising=False)

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        found = capsys.readouterr()
        assert "Traceback" not in found.out + found.err
        shown = [line for line in found.out.splitlines() if not line.startswith("    specverify ")]  # to be copied
        assert "--json" in arguments or max(map(len, shown), default=0) <= 80
        return caught.value.code, found.out, found.err

    return call


@pytest.mark.parametrize("command", ["validate", "replay"])
def test_help(run, command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: specverify {command}")


@pytest.mark.slow
def test_a_decoder_of_forty_lines_is_proved(run, tmp_path):
    code, out, err = run("validate", "mine/lookahead.py:DECODER", "--claim", "lossless")
    assert (code, err) == (0, "")
    assert out.startswith(
        "PROVED-FOR-ALL: mine/lookahead.py:DECODER, decoder, lossless\n    for every law of the target"
    )
    folder = tmp_path / cli_validate.default_out("mine/lookahead.py:DECODER")
    written = [str((folder / name).relative_to(tmp_path)) for name in ("judgement.json", "certificate.json")]
    assert out.splitlines()[-2:] == written
    judgement = judgement_from_json(json.loads((folder / "judgement.json").read_text()))
    assert judgement.verdict.kind.proved
    assert len({row["model"] for row in judgement.exact}) > 10
    assert json.loads((folder / "certificate.json").read_text())["format"] == "specverify-proof"


@pytest.mark.slow
def test_a_wrong_one_is_refuted_saved_and_replayed(run, tmp_path):
    code, out, err = run("validate", "mine/lookahead.py:BROKEN", "--out", "found")
    assert (code, err) == (1, "")
    for words in (
        "REFUTED: mine/lookahead.py:BROKEN, decoder, lossless\n    exact TV 1/4 from the target",
        "\ncounterexample\nnot lossless: total variation 1/4",
        "p            1/2    1/2   always",
        "\nreproduce\n    specverify validate mine/lookahead.py:BROKEN --seed 0 --seconds 60\n",
        "\nfound/judgement.json\nfound/certificate.json\n",
    ):
        assert words in out
    assert json.loads((tmp_path / "found" / "certificate.json").read_text())["subject"] == "mine/lookahead.py:BROKEN"

    code, out, err = run("replay", "found")
    assert (code, err) == (1, "")
    assert "REFUTED: mine/lookahead.py:BROKEN, decoder, lossless\n    the refutation stands" in out
    assert "\ncounterexample\nnot lossless: total variation 1/4" in out

    source = tmp_path / "mine" / "lookahead.py"
    source.write_text(source.read_text().replace("forgetful=True", "forgetful=False"))
    code, out, err = run("replay", "found/certificate.json", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["verdict"]["kind"] == "CONSISTENT"


def test_a_campaigns_folder_is_no_certificate_and_its_proofs_are_named(run, tmp_path):
    (tmp_path / "out" / "proofs").mkdir(parents=True)
    for name in ("sd", "ar"):
        (tmp_path / "out" / "proofs" / f"{name}.json").write_text("{}")
    code, out, err = run("replay", "out")
    assert (code, out) == (3, "")
    assert err == "error: out is a campaign's folder; give a proof of it, such as out/proofs/ar.json\n"


@pytest.mark.slow
def test_a_counterexample_is_replayed_wherever_it_is_asked_for(run, tmp_path, monkeypatch):
    assert run("validate", "mine/lookahead.py:BROKEN", "--out", "found")[0] == 1
    (tmp_path / "elsewhere" / "mine").mkdir(parents=True)
    (tmp_path / "elsewhere" / "mine" / "lookahead.py").write_text("BROKEN = 'another'\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, out, err = run("replay", "../found")
    assert (code, err) == (1, "")
    assert "the refutation stands" in out
    (tmp_path / "moved").mkdir()
    for name in ("found", "mine"):  # together: the subject is where it was, seen from the certificate
        (tmp_path / name).rename(tmp_path / "moved" / name)
    source = tmp_path / "moved" / "mine" / "lookahead.py"
    source.write_text(source.read_text().replace("forgetful=True", "forgetful=False"))
    code, out, err = run("replay", "../moved/found/certificate.json")
    assert (code, err) == (0, "")
    assert f"{source}isnotwhatitwaswhenthecertificatewaswritten" in "".join(out.split())
    source.unlink()
    (tmp_path / "elsewhere" / "mine" / "lookahead.py").unlink()
    code, out, err = run("replay", "../moved/found")
    assert (code, out) == (3, "")
    assert "subject mine/lookahead.py:BROKEN of ../moved/found/certificate.json is not to be found from " in err
    assert "--subject REF" in err


@pytest.mark.slow
def test_a_certificate_with_a_value_changed_is_refused_and_older_ones_are_read(run, tmp_path):
    assert run("validate", "mine/lookahead.py:BROKEN", "--out", "found")[0] == 1
    path = tmp_path / "found" / "certificate.json"
    whole = json.loads(path.read_text())
    path.write_text(path.read_text().replace('"tv": 0.25', '"tv": 0.75'))
    code, out, err = run("replay", "found")
    assert (code, out) == (3, "")
    assert "found/certificate.json is not what was written: its checksum does not fit" in err
    assert "judge the subject again" in err
    older = {name: value for name, value in whole.items() if name not in ("checksum", "found_in")}
    path.write_text(json.dumps(older))
    assert run("replay", "found")[0] == 1
    judgement = json.loads((tmp_path / "found" / "judgement.json").read_text())
    with pytest.raises(InputError, match="this judgement is not what was written: its checksum does not fit"):
        judgement_from_json(judgement | {"claim": "relaxed"})


def test_a_subject_that_is_not_there_is_said_without_waiting_for_torch():
    program = (
        "import sys\nfrom specverify import cli\n"
        "try:\n    cli.main(['validate', 'mine/lookahead.py:DECODR'])\nexcept SystemExit as end:\n"
        "    assert end.code == 3\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert done.stderr == "error: mine/lookahead.py has no 'DECODR'; did you mean DECODER?\n"


@pytest.mark.slow
def test_a_claim_that_hardly_any_law_breaks_is_vacuous(run):
    code, out, err = run("validate", "mine/lookahead.py:DECODER", "--claim", "relaxed:0.9999", "--seconds", "5")
    assert (code, err) == (2, "")
    assert "relaxed(tv<=0.9999) allows nearly every law and says nothing" in " ".join(out.split())


@pytest.mark.slow
def test_plugins_are_listed_and_judged_by_name_and_a_broken_one_is_named(run, tmp_path, monkeypatch):
    info = tmp_path / "acme_decoders-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-decoders\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[specverify.decoders]\nacme-fast = mine.lookahead:BROKEN\nacme-old = mine.gone:DECODER\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    code, out, err = run("list", "decoders")
    assert (code, err) == (0, "")
    assert "plug-in of acme-decoders: mine.lookahead:BROKEN" in out
    code, out, err = run("validate", "acme-old")
    assert (code, out) == (3, "")
    assert err.startswith("error: plug-in 'acme-old' of acme-decoders is broken: no module named 'mine.gone' in ")
    code, out, err = run("validate", "acme-fast")
    assert (code, err) == (1, "")
    assert out.startswith("REFUTED: acme-fast, decoder, lossless\n    exact TV 1/4 from the target")


@pytest.mark.slow
def test_one_that_hangs_is_an_error_with_the_reason(run, monkeypatch):
    monkeypatch.setenv("SPECVERIFY_TEST_MARK", "of no use here")
    code, out, err = run("validate", "mine/misbehaving.py:hangs", "--level", "sampler", "--limit", 8)
    assert (code, err) == (3, "")
    assert out.startswith(
        "ERROR: mine/misbehaving.py:hangs, sampler, lossless\n    gave no answer within 8 s (--limit sets another), in "
    )
    assert "\nnotes\n    about to wait\n" in out


def test_a_trace_is_judged_by_its_path(run, tmp_path):
    model, n = toy("dense-3x6"), 20_000
    tokens = sample(Autoregressive(), model, n, 1).tokens
    context, logprobs = model.start(n), []
    for position in range(model.length):
        logprobs.append(model.laws(context, tokens[:, :0])[:, 0].log())
        context = model.advance(context, tokens[:, position : position + 1], torch.ones(n, dtype=torch.int64))
    np.savez(tmp_path / "engine.npz", tokens=tokens.numpy(), logprobs=torch.stack(logprobs, 1).numpy())
    code, out, err = run("validate", "engine.npz")
    assert (code, err) == (0, "")
    assert out.startswith("CONSISTENT: engine.npz, trace, lossless\n")
    assert "PIT uniformity" in out
    judgement = judgement_from_json(json.loads((tmp_path / "out/validate-engine.npz/judgement.json").read_text()))
    assert {item.check for item in judgement.evidence} >= {"PIT uniformity", "surprisal"}


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mine/lookahead.py:DECODR"], "mine/lookahead.py has no 'DECODR'; did you mean DECODER?"),
        (
            ["mine/misbehaving.py:plain"],
            "say how it is to be called: --level round if it is a function (draft_tokens, q",
        ),
        (["mine/lookahead.py:DECODER", "--claim", "perfect"], "claim 'perfect': use lossless, relaxed:TV such as"),
        (["mine/lookahead.py:DECODER", "--seconds", "0"], "seconds is 0.0; use a positive number"),
        (["mine/lookahead.py:DECODER", "--level", "kernel"], "kernel"),
        (["mine/lookahead.py:DECODER", "--delta", "0.5"], "a decoder of ids is judged without delta; leave it out"),
        (["mine/misbehaving.py:plain", "--level", "sampler", "--delta", "2"], "delta is 2.0; use a number above 0 and"),
        (
            ["mine/misbehaving.py:plain", "--level", "sampler", "--suite", "smal"],
            "unknown suite 'smal'; did you mean",
        ),
        (
            ["mine/misbehaving.py:plain", "--level", "sampler", "--target", "dense-3x7"],
            "unknown toy model 'dense-3x7'",
        ),
        (["mine/lookahead.py:DECODER", "--suite", "small"], "a decoder is judged without suite; leave it out"),
        (["absent.npz"], "absent.npz: no such file"),
    ],
)
def test_what_cannot_be_judged_is_one_line(run, arguments, words):
    code, out, err = run("validate", *arguments)
    assert (code, out) == (3, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot be read"), ("{", "is no JSON"), ("{}", "is not valid")],
)
def test_what_is_no_certificate_is_one_line(run, tmp_path, text, words):
    if text is not None:
        (tmp_path / "certificate.json").write_text(text)
    code, out, err = run("replay", "certificate.json")
    assert (code, out) == (3, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "certificate.json" in err
    assert words in err


@pytest.mark.parametrize(
    ("kind", "code"), [(Kind.CONSISTENT, 0), (Kind.REFUTED, 1), (Kind.VACUOUS, 2), (Kind.ERROR, 3)]
)
def test_it_asks_for_what_was_given_and_exits_with_the_verdict(run, monkeypatch, kind, code):
    asked = []

    def judge(*given, **named):
        asked.append((given, named))
        return Judgement(
            subject="a.b:c",
            level="round",
            claim="lossless",
            verdict=Verdict(kind, "because [bold]"),
            location={"position": 2, "prefix": [0, 1], "shares": [{"branch": "bonus", "error": 0.125}]},
        )

    monkeypatch.setattr(isolation, "judge_isolated", judge)
    given = ("--claim", "lossless", "--level", "round", "--seed", 4, "--seconds", 9, "--limit", 20, "--memory", 100)
    found, out, err = run("validate", "a.b:c", *given)
    assert (found, err) == (code, "")
    named = {"seed": 4, "seconds": 9.0, "options": {}, "limit": 20.0, "memory": 100}
    assert asked == [(("a.b:c", "round", "lossless"), named)]
    assert out.startswith(f"{kind.value}: a.b:c, round, lossless\n    because [bold]\n")
    assert "where\n    position: 2\n    prefix: (0, 1)\n\nshares\n    branch  error\n    bonus   0.125\n" in out
    assert out.endswith("out/validate-a.b-c/judgement.json\n")


def test_a_certificate_of_an_earlier_run_does_not_stay(run, tmp_path, monkeypatch):
    judgement = Judgement(subject="x", level="decoder", claim="lossless", verdict=Verdict(Kind.PROVED, "now"))
    monkeypatch.setattr(isolation, "judge_isolated", lambda *given, **named: judgement)
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "certificate.json").write_text("{}")
    assert run("validate", "x", "--out", "o")[0] == 0
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["judgement.json"]
    (tmp_path / "file").write_text("")
    code, out, err = run("validate", "x", "--out", "file")
    assert (code, out) == (3, "")
    assert err.startswith("error: cannot write to file: ")


def test_an_error_replaces_no_earlier_judgement(run, tmp_path, monkeypatch):
    found = [Verdict(Kind.ERROR, "first"), Verdict(Kind.REFUTED, "an answer"), Verdict(Kind.ERROR, "out of memory")]
    kept = []
    for verdict in found:
        judgement = Judgement(subject="x", level="sampler", claim="lossless", verdict=verdict)
        monkeypatch.setattr(isolation, "judge_isolated", lambda *given, it=judgement, **named: it)
        code, out, err = run("validate", "x", "--out", "o")
        assert (code, out.split(":")[0]) == (verdict.kind.exit_code, verdict.kind.value)
        kept.append(json.loads((tmp_path / "o" / "judgement.json").read_text())["verdict"]["reason"])
    assert kept == ["first", "an answer", "an answer"]
    assert err == "o/judgement.json holds an earlier judgement, which an error does not replace\n"
    assert "o/judgement.json" not in out


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("a.b:c", "validate-a.b-c"),
        ("y.py:D", "validate-y.py-D"),
        ("scd-mc", "validate-scd-mc"),
        ("../x/y.py:D", "validate-x-y.py-D-"),
        ("::", "validate-subject-"),
    ],
)
def test_default_folders(reference, name):
    folder = cli_validate.default_out(reference)
    assert folder.parent == Path("out")
    assert folder.name == name if name[-1] != "-" else re.fullmatch(f"{re.escape(name)}[0-9a-f]{{6}}", folder.name)


def test_subjects_of_one_name_have_folders_of_their_own():
    same = ["x/y.py:D", "../x/y.py:D", "/x/y.py:D", "x-y.py:D", "x y.py:D", "y.py:D", "z/y.py:D", "x/y.npz", "z/y.npz"]
    assert len({cli_validate.default_out(reference) for reference in same}) == len(same)
    assert cli_validate.default_out("x/../x/y.py:D").name[-6:] == cli_validate.default_out("x/y.py:D").name[-6:]
