from __future__ import annotations

import pytest
import torch

from spikeproof.catalogue import (
    Network,
    Recipe,
    Stage,
    calibration_batches,
    construct,
    from_values,
    handed_over,
    in_stages,
    read_data,
    read_recipe,
    specify,
    to_values,
)
from spikeproof.compress import Calibration, Hydra, Magnitude, masks_of
from spikeproof.errors import Refusal
from spikeproof.models import CNN
from spikeproof.spiking import IF, recorded
from spikeproof.training import SGD, CrossEntropy, Plan

RECIPE = Recipe(
    CNN((4,), 8),
    Plan(4, 32, SGD(0.1)),
    network=Network(T=2, neuron=IF(learn_theta=True)),
    calibration=Calibration(steps=4, batches=3, batch=8),
    stages=(
        Stage("dense", analog=True),
        Stage("scores", analog=True, epochs=2, lr=0.3, prune=Hydra(0.5)),
        Stage("spiking", objective=CrossEntropy(0.1)),
    ),
)


def test_stages_are_plain_recipes():
    (first, dense), (_, scores), (last, spiking) = in_stages(RECIPE)
    assert (first.name, last.name) == ("dense", "spiking")
    assert [part.network.analog for part in (dense, scores, spiking)] == [True, True, False]
    assert dense.train == spiking.train == RECIPE.train
    assert (scores.train.epochs, scores.train.optimizer.lr) == (2, 0.3)
    assert scores.prune == Hydra(0.5)
    assert dense.prune is spiking.prune is None
    assert spiking.objective == CrossEntropy(0.1)
    assert dense.objective == RECIPE.objective
    assert all(part.stages == () for part in (dense, scores, spiking))


def test_a_recipe_that_prunes_is_a_stage_of_its_own():
    recipe = Recipe(CNN(), Plan(1, 2, SGD(0.1)), prune=Magnitude(0.5))
    ((stage, part),) = in_stages(recipe)
    assert stage.name == "training"
    assert part == recipe


def test_stages_survive_the_round_trip_and_wrong_keys_are_named():
    assert from_values(Recipe, to_values(RECIPE), "test") == RECIPE
    values = to_values(RECIPE)
    values["stages"][1]["prune"]["sparsit"] = 0.3
    with pytest.raises(Refusal, match=r"stages\.1\.prune\.sparsit is not known; did you mean"):
        from_values(Recipe, values, "test")


def test_an_override_reaches_a_stage_by_its_place(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(
        """
        model = { kind = "mlp" }
        train = { epochs = 9, batch = 8, optimizer = { kind = "adam", lr = 0.01 } }
        stages = [{ name = "a", analog = true }, { name = "b" }]
        """
    )
    read = read_recipe(path, ["stages.1.epochs=3", "stages.0.prune.kind=hydra"])
    assert [stage.epochs for stage in read.stages] == [0, 3]
    assert read.stages[0].prune == Hydra()
    for wrong in (
        "stages.2.epochs=3",
        "stages.1=3",
        "stages.x.epochs=3",
        "stages." + "9" * 5000 + ".a=1",
    ):
        with pytest.raises(Refusal, match=r"goes through (stages|[2x9])"):
            read_recipe(path, [wrong])


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ((Stage("a"), Stage("a")), "a name of its own"),
        ((Stage("a"), Stage("b", analog=True)), "put the analog stages first"),
    ],
)
def test_impossible_orders_are_refused(stages, said):
    with pytest.raises(Refusal, match=said):
        Recipe(CNN(), Plan(1, 2, SGD(0.1)), stages=stages)


@pytest.mark.parametrize("name", ["", "../x", "A", "a b", "x" * 41])
def test_a_name_that_is_no_folders_is_refused(name):
    with pytest.raises(Refusal, match="its name is that of a folder"):
        Stage(name)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return read_data(RECIPE, tmp_path_factory.mktemp("none"))


def built(part, dataset, seed):
    return construct(specify(part, dataset), seed)


def test_a_network_is_handed_over_as_it_is_or_converted(dataset):
    (_, dense), (_, scores), (_, spiking) = in_stages(RECIPE)
    old = built(dense, dataset, 1)
    Magnitude(0.5).begin(old)
    x = dataset.train.batch(torch.arange(8))[0]
    old.train()(x)
    same = built(scores, dataset, 2)
    assert handed_over((dense, old), scores, same, dataset.train) == {}
    assert all(torch.equal(v, same.state_dict()[n]) for n, v in old.state_dict().items())

    new = built(spiking, dataset, 2)
    thresholds = handed_over((scores, same), spiking, new, dataset.train)
    assert [m.theta.item() for m in (new.layers[2], new.layers[6])] == [*thresholds.values()]
    assert masks_of(new).digest() == masks_of(old).digest()
    assert new.layers[1].num_batches_tracked == 3
    with recorded(new.eval()) as layers, torch.no_grad():
        new(x)
    assert all(layer.spikes.sum() > 0 for layer in layers.values())


def test_a_fresh_network_takes_masks_alone(dataset):
    (_, dense), *_, (_, spiking) = in_stages(RECIPE)
    old, new, untouched = (
        built(p, dataset, s) for p, s in ((dense, 1), (spiking, 2), (spiking, 2))
    )
    masks = Magnitude(0.5).begin(old)
    assert handed_over((dense, old), spiking, new, dataset.train, fresh=True) == {}
    assert masks_of(new).digest() == masks.digest()
    first = next(iter(masks.kept))
    kept = masks.kept[first]
    assert torch.equal(new.get_parameter(first)[kept], untouched.get_parameter(first)[kept])


def test_calibration_sees_training_samples_each_once(dataset):
    batches = calibration_batches(RECIPE, dataset.train, torch.device("cpu"))
    assert [len(batch) for batch in batches] == [8, 8, 8]
    rows = {tuple(row.flatten().tolist()) for batch in batches for row in batch}
    known = {
        tuple(r.flatten().tolist())
        for r in dataset.train.batch(torch.arange(len(dataset.train)))[0]
    }
    assert len(rows) >= 23
    assert rows <= known
    again = calibration_batches(RECIPE, dataset.train, torch.device("cpu"))
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))
