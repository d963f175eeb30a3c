from __future__ import annotations

import numpy as np
import pytest

from spikeproof.attacks import PGD, Attack, Linf
from spikeproof.data import Split, digits
from spikeproof.errors import Refusal
from spikeproof.evaluate import IBP, Conditions, Step, Suite, certify, evaluate
from spikeproof.models import MLP, Setting, build
from spikeproof.report import make_page, read_runs
from spikeproof.report._certificates import certificate_section, certified_fact
from spikeproof.report._read import read_certificate, read_evaluation
from spikeproof.statistics import wilson
from tests.report import records

SAMPLES = 40


def standing(values):
    """Which samples stand after all attacks within the budget, from the bits."""
    right = np.array(records.unpacked(values["clean"], SAMPLES))
    for step in values["steps"]:
        if (step["threat"] or records.LINF)["eps"] <= records.LINF["eps"]:
            right &= ~np.array(records.unpacked(step["success"], SAMPLES))
    return right


def read(tmp_path, values, *certificates):
    found = read_evaluation(tmp_path, values, "net")
    return found, [read_certificate(tmp_path, one) for one in certificates]


def rows(section):
    return [[cell.text for cell in row] for row in section.blocks[-1].rows]


def test_what_is_proved_stands_beside_what_attacks_left(tmp_path):
    values = records.evaluation(SAMPLES)
    sure = standing(values) & (np.arange(SAMPLES) % 2 == 0)
    less = records.LINF | {"eps": 0.05}
    made = [records.certificate(values, sure, threat=threat) for threat in (records.LINF, less)]
    found, proofs = read(tmp_path, values, *made)
    section = certificate_section(proofs, "k", found)
    figure, table = section.blocks
    near, far = table.rows
    share, (low, high) = sure.mean(), wilson(int(sure.sum()), SAMPLES)
    assert [cell.text for cell in far][:2] == ["interval bounds", "L∞ ≤ 0.1"]
    assert [far[i].value for i in (2, 4, 6)] == [SAMPLES, share, found.worst]
    assert far[5].text == f"{100 * low:.1f} to {100 * high:.1f}\u00a0%"
    step = next(s for s in values["steps"] if s["id"] == "S13-eps-0.05")
    fell = np.array(records.unpacked(step["success"], SAMPLES))
    right = np.array(records.unpacked(values["clean"], SAMPLES))
    assert near[6].value == (right & ~fell).mean()
    attacked, certified = figure.data["series"]
    assert [p[0] for p in attacked["points"]] == [0.0, *records.EPSILONS]
    known = [(0.0, right.mean()), (0.05, share), (0.1, share)]
    assert [tuple(p[:2]) for p in certified["points"]] == known
    assert figure.data["marks"][0]["y"] == found.worst
    fact = certified_fact(proofs, found)
    assert (fact.text, fact.tone) == (f"{100 * share:.1f}\u00a0%", "")


def test_a_certified_sample_that_fell_is_told_first(tmp_path):
    values = records.evaluation(SAMPLES)
    fell = records.broken_places(values)
    sure = np.isin(np.arange(SAMPLES), fell[:2])
    found, proofs = read(tmp_path, values, records.certificate(values, sure))
    section = certificate_section(proofs, "k", found)
    (card,) = section.blocks[0].cards
    assert card.tone == "bad"
    assert card.text.startswith("2 samples certified and broken")
    assert section.blocks[-1].rows[0][-1].tone == "bad"
    assert certified_fact(proofs, found).tone == "bad"


def test_a_smaller_budget_breaks_what_a_larger_one_certifies(tmp_path):
    values = records.evaluation(SAMPLES)
    step = next(s for s in values["steps"] if s["id"] == "S13-eps-0.2")
    fell = np.array(records.unpacked(step["success"], SAMPLES))
    place = next(i for i in np.flatnonzero(fell & standing(values)))
    sure = np.arange(SAMPLES) == place
    for eps, said in ((0.3, "1 sample certified and broken"), (0.19, "no certified sample fell")):
        threat = records.LINF | {"eps": eps}
        found, proofs = read(tmp_path, values, records.certificate(values, sure, threat=threat))
        assert rows(certificate_section(proofs, "k", found))[0][-1] == said


def test_a_wrong_answer_that_is_certified_contradicts_too(tmp_path):
    values = records.evaluation(SAMPLES)
    wrong = ~np.array(records.unpacked(values["clean"], SAMPLES))
    assert wrong.any()
    found, proofs = read(tmp_path, values, records.certificate(values, wrong))
    assert "certified and broken" in rows(certificate_section(proofs, "k", found))[0][-1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": {"weights_sha256": "f"}}, "other weights"),
        ({"threat": records.LINF | {"kind": "l2", "eps": 1.0}}, "not attacked within this budget"),
        ({"threat": records.LINF | {"eps": 0.001}}, "not attacked within this budget"),
        ({"data": {"tensor_sha256": "x"}}, "other samples"),
        ({"method": "smoothing"}, "a vote is another classifier"),
        ({"checks": [{"id": "sandwich", "verdict": "pass", "detail": ""}],
          "data": {"tensor_sha256": "x"}}, "passed when it was made"),
        ({"checks": [{"id": "sandwich", "verdict": "fail", "detail": ""}],
          "data": {"tensor_sha256": "x"}}, "failed when it was made"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_says_why(tmp_path, change, said):
    values = records.evaluation(SAMPLES)
    made = records.certificate(values, [True] * SAMPLES, method=change.pop("method", "ibp"))
    made |= {k: made[k] | v if k == "data" else v for k, v in change.items()}
    found, proofs = read(tmp_path, values, made)
    section = certificate_section(proofs, "k", found)
    assert said in rows(section)[0][-1]
    tone = "bad" if "failed" in said else "good" if "passed" in said else "quiet"
    assert section.blocks[-1].rows[0][-1].tone == tone


def test_certificates_are_found_beside_a_run_or_given_with_it(tmp_path):
    values = records.evaluation(SAMPLES)
    proof = records.certificate(values, standing(values))
    records.write(tmp_path / "net" / "evaluation", values)
    records.write(tmp_path / "net" / "certificate", proof)
    records.write(tmp_path / "apart", proof)
    title = "Certificates beside attacks"
    for paths, count in (
        ([tmp_path / "net"], 1),
        ([tmp_path / "net", tmp_path / "net" / "certificate" / "record.json"], 1),
        ([tmp_path / "net" / "evaluation", tmp_path / "apart"], 1),
    ):
        page = make_page(read_runs(paths))
        (section,) = [s for s in page.sections if s.title == title]
        assert len(section.blocks[-1].rows) == count
        assert page.sections[-2] is section
        (facts,) = page.sections[0].blocks
        assert "Certified" in [fact.name for fact in facts.facts]
    assert len(page.chapters) == 1


def test_a_certificate_without_its_evaluation_has_a_chapter(tmp_path):
    values = records.evaluation(SAMPLES)
    records.write(tmp_path / "proof", records.certificate(values, standing(values)))
    page = make_page(read_runs([tmp_path / "proof"]))
    assert page.verdict == "proof was certified and not evaluated."
    (section,) = page.sections
    assert rows(section)[0][-2:] == ["\u2013", "not attacked"]
    records.write(tmp_path / "other", records.evaluation(SAMPLES, seed=1))
    page = make_page(read_runs([tmp_path / "other", tmp_path / "proof"]))
    assert [chapter.subtitle for chapter in page.chapters][1:] == ["certificates"]


@pytest.mark.parametrize(
    "change", [{"clean": {"bits": "AA==", "count": 3}}, {"schema": 7}, {"method": []}, {"data": 1}]
)
def test_a_damaged_certificate_is_refused(tmp_path, change):
    made = records.certificate(records.evaluation(SAMPLES), [False] * SAMPLES) | change
    records.write(tmp_path / "r", made)
    with pytest.raises(Refusal, match=r"damaged|schema 7"):
        read_runs([tmp_path / "r"])


def test_what_certify_writes_is_read(tmp_path):
    net = build(MLP((16,)), Setting(1, 8, T=2), 0).eval()
    x = digits().test.x[:24].float() / 16
    samples = Split(x, net(x).argmax(1), 1.0)
    suite = Suite("pgd", (Step("pgd", Attack(PGD(5)), everyone=True),))
    conditions, threat = Conditions(), Linf(0.002)
    record = evaluate(net, samples, threat, suite, out=tmp_path / "run" / "evaluation",
                      conditions=conditions, checks=())  # fmt: skip
    proof = certify(net, samples, threat, IBP(), out=tmp_path / "run" / "certificate",
                    conditions=conditions)  # fmt: skip
    (run,) = read_runs([tmp_path / "run"])
    (theirs,) = run.certificates
    assert (theirs.clean, theirs.certified) == (proof.clean, proof.certified)
    section = certificate_section(run.certificates, "k", run.evaluations[0])
    row = section.blocks[-1].rows[0]
    assert [row[i].value for i in (3, 4, 6)] == [
        proof.clean_accuracy, proof.certified_accuracy, record.robust_accuracy
    ]  # fmt: skip
    assert row[-1].text == "no certified sample fell"
