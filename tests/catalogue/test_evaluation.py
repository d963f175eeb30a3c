from __future__ import annotations

import pytest

from spikeproof.attacks import L0, L1, L2, PGD, SAPGD, Attack, Flips, Linf, Margin, Retiming
from spikeproof.catalogue import KINDS, read_rule, read_suite, read_threat
from spikeproof.errors import Refusal
from spikeproof.evaluate import Step
from spikeproof.spiking import ASSG, BPTR, BPTT, CBA, ATan


@pytest.mark.parametrize(
    ("text", "threat"),
    [
        ("linf:8/255", Linf(8 / 255)),
        ("linf:0.1:-1:1", Linf(0.1, -1.0, 1.0)),
        ("l2:0.5", L2(0.5)),
        ("l1:12", L1(12.0)),
        ("l0:10", L0(10.0)),
        ("flips:200", Flips(200)),
        ("flips:200:false", Flips(200, binary=False)),
        ("retiming:2", Retiming(2)),
        ("retiming:b0:1000", Retiming(1000, "b0")),
        ("retiming:4000:b1", Retiming(4000, "b1")),
    ],
)
def test_a_threat_is_written_as_its_kind_and_its_values(text, threat):
    assert read_threat(text) == threat


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("linfinity:8/255", "is no threat; did you mean"),
        ("", "is no threat; choose one of"),
        ("linf", "lacks eps; a threat has the form linf:eps:low:high"),
        ("linf:a", "has 'a', which fits no field"),
        ("linf:8/0", "has '8/0', which fits no field"),
        ("linf:0.1:0:1:2", "has '2', which fits no field"),
        ("linf:8", "did you mean 8/255"),
        ("linf:-0.1", "eps is -0.1"),
        ("flips:0.5", "has '0.5', which fits no field"),
        ("retiming:b7:5", "has 'b7', which fits no field"),
    ],
)
def test_a_threat_that_is_none_is_refused(text, said):
    with pytest.raises(Refusal, match=said):
        read_threat(text)


def written(tmp_path, text):
    path = tmp_path / "suite.toml"
    path.write_text(text)
    return path


def test_a_suite_is_read_with_every_choice(tmp_path):
    text = """
    name = "mine"
    [[steps]]
    id = "a"
    everyone = true
    attack = { search = { kind = "pgd", steps = 7 } }
    [[steps]]
    id = "b"
    limit = 100
    [steps.attack]
    search = { kind = "sapgd" }
    loss = { kind = "margin" }
    rule = { kind = "assg", vanishing = 0.9 }
    restarts = 3
    [[steps]]
    id = "c"
    attack = { search = { kind = "pgd" }, rule = { kind = "cba", activation = "clip_floor" } }
    """
    suite = read_suite(written(tmp_path, text))
    assert suite.name == "mine"
    assert suite.steps == (
        Step("a", Attack(PGD(7)), everyone=True),
        Step("b", Attack(SAPGD(), Margin(), ASSG(vanishing=0.9), 3), limit=100),
        Step("c", Attack(PGD(), rule=CBA("clip_floor"))),
    )


def test_a_suite_without_a_name_has_that_of_its_file(tmp_path):
    text = '[[steps]]\nid = "a"\nattack = { search = { kind = "pgd" } }'
    assert read_suite(written(tmp_path, text)).name == "suite"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps = 3", "steps are tables"),
        ("steps = [3]", "a step is 3"),
        ("name = 3", "name is a text"),
        ("stpes = []", "stpes is not known; did you mean 'steps'"),
        ("", "no attack that counts"),
        ("[[steps]]", "step 1: (id|attack) is missing"),
        ('[[steps]]\nid = "a"\nattack = {}', "attack.search is missing"),
        ('[[steps]]\nid = "a"\nattack = { search = { kind = "pdg" } }', "did you mean 'pgd'"),
        (
            '[[steps]]\nid="a"\nattack={search={kind="pgd"}, rule={kind="asg"}}',
            "did you mean 'assg'",
        ),
        ('[[steps]]\nid="a"\nattack={search={kind="pgd", steps="x"}}', "steps is 'x'"),
        ('[[steps]]\nid="a"\nattack={search={kind="pgd", step=1}}', "step is not known"),
        ('[[steps]]\nid="a"\nattack={search={kind="pgd", steps=0}}', "steps is 0"),
        ("[[steps", "is not TOML"),
    ],
)
def test_a_suite_that_is_wrong_is_refused_with_the_step(tmp_path, text, said):
    with pytest.raises(Refusal, match=said):
        read_suite(written(tmp_path, text))


def test_every_kind_of_attack_can_be_written():
    from spikeproof import attacks

    for kind in (attacks.Search, attacks.Loss, attacks.Threat):
        concrete = {
            thing
            for name in attacks.__all__
            if isinstance(thing := getattr(attacks, name), type)
            and issubclass(thing, kind)
            and not getattr(thing, "__abstractmethods__", None)
        }
        assert concrete == set(KINDS[kind])


def test_a_rule_is_named_by_its_kind_or_its_surrogate():
    names = ("own", "assg", "bptr", "cba", "atan")
    assert [*map(read_rule, names)] == [None, ASSG(), BPTR(), CBA(), BPTT(ATan())]


def test_a_rule_of_no_kind_is_refused():
    with pytest.raises(Refusal, match="'asg' is no gradient rule; did you mean 'assg'"):
        read_rule("asg")
