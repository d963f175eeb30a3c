from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spikeproof.attacks import (
    APGD,
    FGSM,
    L0,
    MIFGSM,
    PGD,
    SAPGD,
    Attack,
    Linf,
    RandomSearch,
    Square,
    StepCE,
    run,
    under_attack,
)
from spikeproof.errors import Refusal
from spikeproof.models import MLP, Setting, build
from spikeproof.seeding import generator
from spikeproof.spiking import (
    ASSG,
    BPTT,
    CBA,
    Poisson,
    Rectangle,
    drawing_from,
    over_time,
    seen_through,
)
from tests.contracts.attack import (
    COUNT,
    Counted,
    Exact,
    assert_admissible,
    samples,
    small_network,
)

IDS = torch.arange(COUNT)


def wrong(model, x, y):
    return model(x).argmax(1) != y


def test_a_search_that_does_not_fit_is_refused():
    x, y = samples()
    with pytest.raises(Refusal, match=r"does not fit the threat L0.* it moves within Linf, L2"):
        run(Attack(PGD()), small_network(), x, y, L0(3.0), ids=IDS)


@pytest.mark.parametrize("knob", ["restarts", "draws", "votes"])
def test_nothing_happens_less_than_once(knob):
    with pytest.raises(Refusal, match="at least once"):
        replace(Attack(PGD()), **{knob: 0})


@pytest.mark.parametrize("make", [lambda: PGD(steps=0), lambda: Square(queries=-1)])
def test_a_search_that_asks_nothing_is_refused(make):
    with pytest.raises(Refusal, match="asks at least once"):
        make()


def test_a_network_without_steps_cannot_be_asked_for_them():
    x, y = samples()
    with pytest.raises(Refusal, match="no method steps"):
        run(Attack(PGD(), StepCE()), Counted(small_network()), x, y, Linf(0.1), ids=IDS)


def test_every_step_can_be_asked_to_be_wrong():
    model, (x, y) = small_network(), samples()
    out = run(Attack(PGD(20), StepCE()), model, x, y, Linf(0.1), ids=IDS)
    assert out.fallen.sum() > wrong(model, x, y).sum()
    assert_admissible(out, Linf(0.1), x)


def test_restarts_go_on_with_those_who_stand_and_add_up():
    model, (x, y) = Counted(small_network()), samples()
    attack = Attack(RandomSearch(2), restarts=10)
    out = run(attack, model, x, y, Linf(0.25), ids=IDS)
    assert out.forwards.sum() == model.forwards
    assert (out.forwards[~out.fallen] == 20).all()
    assert (out.at[out.fallen] == out.forwards[out.fallen]).all()
    later = out.at > 2
    assert later.any(), "no restart found anything: choose another budget"
    once = run(replace(attack, restarts=1), model, x, y, Linf(0.25), ids=IDS)
    assert torch.equal(once.fallen, out.fallen & ~later)


def test_restarts_and_seeds_and_ids_draw_other_noise():
    x, y = samples()
    asked = []

    class Sure(torch.nn.Module):
        def forward(self, x):
            asked.append(x.clone())
            return torch.nn.functional.one_hot(y, 10).float()[: len(x)]

    attack = Attack(RandomSearch(1), restarts=2)
    for seed, ids in ((0, IDS), (1, IDS), (0, IDS + 100)):
        run(attack, Sure(), x, y, Linf(0.1), ids=ids, seed=seed)
    assert len(asked) == 6
    for i in range(6):
        assert all(not torch.equal(asked[i], asked[j]) for j in range(i))


def test_an_easy_victim_costs_far_less_than_all_steps():
    model, (x, y) = small_network(), samples()
    out = run(Attack(APGD(100)), model, x, y, Linf(0.3), ids=IDS)
    assert out.fallen.all()
    assert out.backwards.sum() < 0.1 * 100 * COUNT


def transfers(source, *, rule=None, search=None):
    model, (x, y) = small_network(), samples()
    attack = Attack(search or MIFGSM(20), rule=rule)
    with under_attack(model):
        return run(attack, model, x, y, Linf(0.15), ids=IDS, source=source)


def other_network():
    x, y = samples()
    model = build(MLP((24,)), Setting(channels=1, size=8, T=3), seed=9)
    from spikeproof.data import digits

    train = digits().train.batch(torch.arange(600))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(train[0]), train[1]).backward()
        optimizer.step()
    assert wrong(model, x, y).float().mean() < 0.5
    return model.eval()


@pytest.mark.parametrize("kind", ["twin", "seed", "T", "surrogate"])
def test_a_transfer_is_judged_by_the_deployed_model(kind):
    model, (x, y) = small_network(), samples()
    source, rule = {
        "twin": (lambda: (None, CBA())),
        "seed": (lambda: (other_network(), None)),
        "T": (lambda: (over_time(model, 9), None)),
        "surrogate": (lambda: (seen_through(model, BPTT(Rectangle(2.0))), None)),
    }[kind]()
    out = transfers(source, rule=rule)
    assert_admissible(out, Linf(0.15), x)
    assert wrong(model, out.x_adv, y)[out.fallen].all()
    noise = run(Attack(RandomSearch(20)), model, x, y, Linf(0.15), ids=IDS)
    assert out.fallen.sum() > noise.fallen.sum()
    # Each gradient query also asks the deployed model; the last look asks it alone.
    stood = ~out.fallen
    assert (out.forwards[stood] == 2 * 20 + 1).all()
    assert (out.backwards[stood] == 20).all()


def noisy():
    """A network that sees each image as coin tosses, with the weights of the small one."""
    model = build(MLP((32,)), Setting(channels=1, size=8, T=4, encoder=Poisson()))
    model.load_state_dict(small_network().state_dict())
    for name, layer in list(model.named_modules()):
        if isinstance(layer, torch.nn.Linear):
            model.set_submodule(name, Exact(layer))
    return drawing_from(model.eval(), generator(1, "noise"))


@pytest.mark.parametrize("search", [PGD(6), SAPGD(6)])
def test_noise_does_not_depend_on_the_batch(search):
    model, (x, y) = noisy(), samples()
    attack = Attack(search, rule=ASSG(), draws=3, votes=5)
    whole = run(attack, model, x, y, Linf(0.1), ids=IDS)
    assert 0 < whole.fallen.sum() < COUNT
    order = torch.randperm(COUNT, generator=generator(0, "order"))
    for parts in (IDS.split(7), order.split(5)):
        for rows in parts:
            part = run(attack, model, x[rows], y[rows], Linf(0.1), ids=IDS[rows])
            for name, value in vars(part).items():
                assert torch.equal(value, getattr(whole, name)[rows]), name


def test_the_fallen_err_in_most_draws_that_nobody_has_seen():
    model, (x, y) = noisy(), samples()
    out = run(Attack(PGD(10), draws=5, votes=20), model, x, y, Linf(0.15), ids=IDS)
    rows = out.fallen
    shares = (
        torch.stack(
            [wrong(drawing_from(model, generator(k, "judge")), out.x_adv, y) for k in range(60)]
        )
        .float()
        .mean(0)
    )
    assert rows.sum() >= 5
    assert shares[rows].mean() > 0.6
    assert (shares[rows] > 0.3).all()


def test_a_still_network_casts_no_votes():
    model, (x, y) = small_network(), samples()
    few, many = (
        run(Attack(FGSM(), votes=votes), model, x, y, Linf(0.1), ids=IDS) for votes in (1, 50)
    )
    assert torch.equal(few.forwards, many.forwards)
