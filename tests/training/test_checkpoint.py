from __future__ import annotations

import errno
import itertools
import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from spikeproof.errors import Refusal
from spikeproof.seeding import isolated
from spikeproof.training import load_weights, save_model
from spikeproof.training._checkpoint import _write, load_state, save_state


def network(width: int = 4, seed: int = 0) -> nn.Module:
    with isolated(seed, "network"):
        return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


def chain(*widths: int) -> nn.Module:
    with isolated(0, "chain"):
        return nn.Sequential(*(nn.Linear(m, n) for m, n in itertools.pairwise(widths)))


def trained(rule: type, steps: int = 3, **knobs) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = network()
    optimizer = rule(model.parameters(), lr=0.01, **knobs)
    for k in range(steps):
        optimizer.zero_grad()
        model(torch.eye(3) + k).square().sum().backward()
        optimizer.step()
    return model, optimizer


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(m == n and torch.equal(a, b) for (m, a), (n, b) in pairs)


def test_weights_come_back_bit_for_bit(tmp_path: Path):
    model, _ = trained(torch.optim.SGD)
    save_model(tmp_path, model, {"name": "small", "width": 4})
    assert json.loads((tmp_path / "spec.json").read_text()) == {"name": "small", "width": 4}
    for source in (tmp_path, tmp_path / "model.safetensors"):
        other = network(seed=1)
        load_weights(source, other)
        assert same(model, other)


def test_odd_tensors_come_back(tmp_path: Path):
    model = nn.Module()
    model.wide = nn.Parameter(torch.arange(6.0).reshape(3, 2).bfloat16().t())
    model.tied = model.wide
    model.register_buffer("count", torch.tensor(7))
    model.register_buffer("mask", torch.tensor([True, False]))
    model.register_buffer("nothing", torch.empty(0, 3))
    save_model(tmp_path, model, {})
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        model.wide.zero_()
        model.count.zero_()
        model.mask.zero_()
    load_weights(tmp_path, model)
    assert model.tied is model.wide
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("rule", "knobs"),
    [
        (torch.optim.SGD, {}),
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.Adam, {}),
        (torch.optim.AdamW, {}),
    ],
)
def test_a_state_gives_the_optimizer_its_memory_back(tmp_path: Path, rule: type, knobs: dict):
    model, optimizer = trained(rule, **knobs)
    save_state(tmp_path / "state", model, optimizer, NOTE)
    other = network(seed=1)
    fresh = rule(other.parameters(), lr=0.01, **knobs)
    note = load_state(tmp_path / "state", other, fresh)
    assert note == NOTE | {"kind": "state"}
    assert same(model, other)
    before, after = optimizer.state_dict()["state"], fresh.state_dict()["state"]
    assert before.keys() == after.keys()
    for i, memory in before.items():
        for name, value in memory.items():
            assert value is None or torch.equal(value, after[i][name])


def test_frozen_weights_do_not_shift_the_memory(tmp_path: Path):
    model, fresh = network(), network(seed=1)
    made = []
    for each in (model, fresh):
        each[0].requires_grad_(False)
        free = [p for p in each.parameters() if p.requires_grad]
        made.append(torch.optim.Adam(free, lr=0.01))
    model(torch.eye(3)).square().sum().backward()
    made[0].step()
    save_state(tmp_path / "state", model, made[0], NOTE)
    load_state(tmp_path / "state", fresh, made[1])
    one, other = model[2].weight, fresh[2].weight
    assert torch.equal(made[0].state[one]["exp_avg"], made[1].state[other]["exp_avg"])


COUNTERS = {"step": 3, "epoch": 1, "loss": 0.5, "seen": 7, "best": 0.1, "best_epoch": 1}
NOTE = {"run": "a", "counters": COUNTERS, "scaler": {}}


def saved_state(folder: Path) -> bytes:
    model, optimizer = trained(torch.optim.SGD, momentum=0.9)
    save_state(folder / "state", model, optimizer, NOTE)
    return (folder / "state").read_bytes()


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_byte_is_refused_and_nothing_is_loaded(tmp_path: Path, data):
    whole = saved_state(tmp_path)
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    # Half of the draws hit the header, which is where a reader could be led astray.
    place = data.draw(st.integers(0, header - 1) | st.integers(0, len(whole) - 1))
    mask = data.draw(st.integers(1, 255))
    spoilt = bytearray(whole)
    spoilt[place] ^= mask
    (tmp_path / "spoilt").write_bytes(spoilt)
    model = network(seed=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    is_padding = whole[place : place + 1] == b" " and whole[place:header].strip() == b""
    if is_padding and bytes(spoilt[place : place + 1]).isspace():
        return  # white space after the header means nothing
    with pytest.raises(Refusal) as refusal:
        load_state(tmp_path / "spoilt", model, optimizer)
    assert str(tmp_path / "spoilt") in str(refusal.value)
    assert same(model, network(seed=1))
    assert not optimizer.state


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(tmp_path: Path, share: float):
    whole = saved_state(tmp_path)
    (tmp_path / "short").write_bytes(whole[: int(share * len(whole))])
    model = network()
    with pytest.raises(Refusal, match="not a whole safetensors file"):
        load_state(tmp_path / "short", model, torch.optim.SGD(model.parameters()))


def test_states_and_models_are_not_confused(tmp_path: Path):
    saved_state(tmp_path)
    with pytest.raises(Refusal, match="is the resume state of a run"):
        load_weights(tmp_path / "state", network())
    save_model(tmp_path, network(), {})
    with pytest.raises(Refusal, match="is not the state of a run"):
        load_state(tmp_path / "model.safetensors", network(), torch.optim.SGD([torch.ones(1)]))


def test_another_architecture_is_one_clear_sentence(tmp_path: Path):
    save_model(tmp_path, network(width=5), {})
    with pytest.raises(Refusal) as refusal:
        load_weights(tmp_path, network(width=4))
    assert str(refusal.value) == (
        f"{tmp_path}/model.safetensors does not fit Sequential: "
        "0.bias is float32[5] there and float32[4] here, "
        "0.weight is float32[5, 3] there and float32[4, 3] here, "
        "1.bias is float32[5] there and float32[4] here (and 4 more); "
        "names, shapes and dtypes must be equal; build the network that its spec.json names"
    )


def test_missing_and_unknown_names_are_told(tmp_path: Path):
    save_model(tmp_path, chain(3, 4, 2, 2), {})
    with pytest.raises(Refusal, match=r"it lacks 1\.num_batches_tracked, 1\.running_mean"):
        load_weights(tmp_path, network())
    with pytest.raises(Refusal, match=r"it has unknown 1\.bias, 1\.weight, 2\.bias and 1 more"):
        load_weights(tmp_path, chain(3, 4))


def test_another_dtype_is_refused(tmp_path: Path):
    save_model(tmp_path, network().double(), {})
    with pytest.raises(Refusal, match=r"float64\[4\] there and float32\[4\] here"):
        load_weights(tmp_path, network())


def test_a_refused_file_leaves_the_network_alone(tmp_path: Path):
    for value in (torch.nan, torch.inf):
        spoilt = network()
        with torch.no_grad():
            spoilt[2].bias[1] = value
        save_model(tmp_path, spoilt, {})
        model = network(seed=1)
        with pytest.raises(Refusal, match=r"holds NaN or infinity in 2\.bias"):
            load_weights(tmp_path, model)
        assert same(model, network(seed=1))


def with_counter(**changed) -> dict:
    return NOTE | {"counters": {k: v for k, v in (COUNTERS | changed).items() if v is not None}}


@pytest.mark.parametrize(
    "note",
    [
        {},
        NOTE | {"run": 3},
        NOTE | {"scaler": []},
        NOTE | {"counters": [3]},
        with_counter(more=1),
        with_counter(step=None),
        with_counter(step=-3),
        with_counter(step=1 << 60),
        with_counter(step=3.0),
        with_counter(step=True),
        with_counter(epoch=4),
        with_counter(best_epoch=2),
        with_counter(loss="0.5"),
    ],
    ids=repr,
)
def test_a_resealed_state_with_a_strange_note_is_refused(tmp_path: Path, note: dict):
    model, optimizer = trained(torch.optim.SGD)
    save_state(tmp_path / "state", model, optimizer, note)
    other = network(seed=1)
    with pytest.raises(Refusal, match="is not the state of a run"):
        load_state(tmp_path / "state", other, torch.optim.SGD(other.parameters()))
    assert same(other, network(seed=1))


def test_a_state_before_the_first_epoch_has_no_best(tmp_path: Path):
    model, optimizer = trained(torch.optim.SGD)
    note = with_counter(epoch=0, best=None, best_epoch=0)
    save_state(tmp_path / "state", model, optimizer, note)
    assert load_state(tmp_path / "state", model, optimizer)["counters"] == note["counters"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stray", torch.ones(1)),
        ("optimizer/0.weight", torch.ones(1)),
        ("optimizer/9.weight/exp_avg", torch.ones(1)),
        ("optimizer/0.weight/unknown", torch.ones(1)),
        ("optimizer/0.weight/exp_avg", torch.ones(1)),
        ("optimizer/0.weight/exp_avg", None),
    ],
)
def test_a_resealed_state_with_another_memory_is_refused(tmp_path: Path, name: str, value):
    model, optimizer = trained(torch.optim.Adam)
    save_state(tmp_path / "state", model, optimizer, NOTE)
    tensors = load_file(tmp_path / "state") | {name: value}
    _write(
        tmp_path / "state",
        {k: t for k, t in tensors.items() if t is not None},
        NOTE | {"kind": "state"},
    )
    other = network(seed=1)
    fresh = torch.optim.Adam(other.parameters())
    with pytest.raises(Refusal, match="is no memory of this optimizer"):
        load_state(tmp_path / "state", other, fresh)
    assert same(other, network(seed=1))
    assert not fresh.state


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_named_and_never_run(tmp_path: Path, zipped: bool):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save(
        {"weights": torch.ones(2), "trap": Trap()},
        tmp_path / "model.pth",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(Refusal, match=r"is a pickle as torch\.save writes it"):
        load_weights(tmp_path / "model.pth", network())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("length", [0x0280, 0x0480])
def test_a_header_as_long_as_a_pickle_begins_is_no_pickle(tmp_path: Path, length: int):
    model = chain(2, 2)
    path = tmp_path / "file.safetensors"
    for pad in range(length):
        save_file(model.state_dict(), path, {"pad": " " * pad})
        if struct.unpack("<Q", path.read_bytes()[:8])[0] == length:
            break
    assert path.read_bytes()[0] == 0x80
    load_weights(path, model)


def test_foreign_safetensors_are_read_without_a_seal(tmp_path: Path):
    model = network(seed=2)
    save_file(model.state_dict(), tmp_path / "theirs.safetensors")
    other = network()
    load_weights(tmp_path / "theirs.safetensors", other)
    assert same(model, other)


def test_what_we_write_others_read(tmp_path: Path):
    model = network(seed=2)
    save_model(tmp_path, model, {})
    read = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(read[name], tensor) for name, tensor in model.state_dict().items())


def test_nothing_there_is_told(tmp_path: Path):
    for source in (tmp_path, tmp_path / "absent.safetensors"):
        with pytest.raises(Refusal, match="does not exist"):
            load_weights(source, network())


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = saved_state(tmp_path)
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        write(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    model, optimizer = trained(torch.optim.Adam)
    with pytest.raises(OSError, match="No space left"):
        save_state(tmp_path / "state", model, optimizer, NOTE)
    assert (tmp_path / "state").read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["state"]
