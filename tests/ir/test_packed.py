from __future__ import annotations

import json
import os
import resource
import struct
import zlib
from dataclasses import fields

import numpy as np
import pytest

from spikeproof.errors import Refusal
from spikeproof.ir import (
    Add,
    Affine,
    Conv,
    Flatten,
    Graph,
    Input,
    Linear,
    Neurons,
    Pool,
    Weights,
    node_bytes,
    pack,
    unpack,
)

START = struct.Struct("<8sIII")


def sparse(rng, *shape, share=0.3):
    values = rng.standard_normal(shape).astype(np.float32)
    return Weights.of(values * (rng.random(shape) < share))


def numbers(rng, n):
    return rng.standard_normal(n).astype(np.float32)


@pytest.fixture(scope="module")
def graph():
    """Every kind of node."""
    rng = np.random.default_rng(0)
    return Graph(
        (
            Input((2, 8, 8), 3, "poisson", noise=rng.random((3, 2, 8, 8)).astype(np.float32)),
            Conv(0, sparse(rng, 6, 2, 3, 3), numbers(rng, 6), padding=(1, 1)),
            Neurons(1, 0.7, 0.5, hard=False),
            Affine(2, numbers(rng, 6), numbers(rng, 6)),
            Add(2, 3, (0.5, 2.0)),
            Pool(4, "avg", (2, 2), (2, 2)),
            Neurons(5, 1.0, 1.0),
            Flatten(6),
            Linear(7, sparse(rng, 4, 96, share=1.0), numbers(rng, 4)),
        ),
        parameters=1234,
    )


@pytest.fixture(scope="module")
def packed(graph, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "net.spkp"
    return path, pack(path, graph)


def same(a, b):
    if isinstance(a, Weights):
        return a.shape == b.shape and same(a.positions, b.positions) and same(a.values, b.values)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and a == b


def test_a_graph_comes_back_bit_for_bit(graph, packed):
    back = unpack(packed[0])
    assert back.parameters == 1234
    for one, two in zip(graph.nodes, back.nodes, strict=True):
        assert type(one) is type(two)
        for field in fields(one):
            assert same(getattr(one, field.name), getattr(two, field.name)), field.name


def test_storage_is_the_file_and_its_parts(graph, packed):
    path, storage = packed
    assert storage.total == path.stat().st_size
    assert storage.values == 4 * graph.kept
    assert storage.arrays == 4 * (6 + 6 + 6 + 4 + 3 * 2 * 64)
    assert storage.dense == 4 * 1234
    assert storage.error == 0
    assert storage.ratio == storage.dense / storage.total


def test_equal_graphs_give_equal_files(graph, packed, tmp_path):
    pack(tmp_path / "again.spkp", graph)
    assert (tmp_path / "again.spkp").read_bytes() == packed[0].read_bytes()


@pytest.mark.parametrize(("precision", "width"), [("fp16", 2), ("int8", 1)])
def test_narrow_values_lose_what_is_said(graph, tmp_path, precision, width):
    storage = pack(tmp_path / "a.spkp", graph, precision)
    scales = 4 * (6 + 4) if precision == "int8" else 0
    assert storage.values == width * graph.kept + scales
    lost = []
    for one, two in zip(graph.weights, unpack(tmp_path / "a.spkp").weights, strict=True):
        assert np.array_equal(one.positions, two.positions)
        lost.append(np.abs(one.values - two.values).max() / np.abs(one.values).max())
    assert storage.error == pytest.approx(max(lost))
    assert 0 < storage.error <= (0.5 / 127 + 1e-6 if precision == "int8" else 2**-11)


def test_a_weight_beyond_fp16_is_refused(tmp_path):
    big = Weights((1, 4), np.zeros(1, np.uint32), np.full(1, 1e6, np.float32))
    net = Graph((Input((1, 2, 2), 1), Flatten(0), Linear(1, big, np.zeros(1, np.float32))))
    with pytest.raises(Refusal, match="65504"):
        pack(tmp_path / "a.spkp", net, "fp16")
    with pytest.raises(Refusal, match="fp32"):
        pack(tmp_path / "a.spkp", net, "fp8")


def rebuilt(path, change):
    """A file whose header was changed and sealed again by somebody who knows the format."""
    data = path.read_bytes()
    magic, version, length, _ = START.unpack(data[: START.size])
    header = json.loads(data[START.size : START.size + length])
    blocks = data[START.size + length :]
    changed = change(header, bytearray(blocks))
    blocks = changed if isinstance(changed, bytes) else blocks
    text = json.dumps(header).encode()
    return START.pack(magic, version, len(text), zlib.crc32(text)) + text + blocks


def hostile():
    def node(place, **new):
        return lambda header, _: header["nodes"][place].update(new)

    def weights(**new):
        return lambda header, _: header["nodes"][1]["weights"].update(new)

    def top(**new):
        return lambda header, _: header.update(new)

    def grown(header, blocks):
        header["blocks"][0][0] += 1 << 40

    def reordered(header, blocks):
        header["blocks"].reverse()

    def nan(header, blocks):
        blocks[:4] = b"\0\0\xc0\x7f"
        header["blocks"][0][1] = zlib.crc32(bytes(blocks[: header["blocks"][0][0]]))
        return bytes(blocks)

    return {
        "unknown kind": node(2, kind="pickle"),
        "missing key": lambda header, _: header["nodes"][2].pop("tau"),
        "another key": node(2, code="import os"),
        "text for a number": node(2, theta="1"),
        "whole for a number": node(2, theta=1),
        "number for a flag": node(2, hard=1),
        "nan": node(2, tau=float("nan")),
        "infinite": node(2, theta=float("inf")),
        "cycle": node(2, source=5),
        "before the first": node(2, source=-3),
        "huge window": node(5, size=[1 << 40, 1]),
        "three numbers": node(5, size=[2, 2, 2]),
        "no code": node(0, code="morse"),
        "huge map": node(0, shape=[2, 65536, 65536]),
        "huge time": node(0, steps=10_000),
        "huge integer": node(0, steps=10**400),
        "huge weights": weights(shape=[1 << 20, 2, 1 << 20, 3]),
        "other weights": weights(shape=[6, 2, 3, 4]),
        "many kept": weights(kept=10**9),
        "few kept": weights(kept=1),
        "negative kept": weights(kept=-1),
        "full": weights(k=-1),
        "wide code": weights(k=64),
        "no code of gaps": weights(k=None),
        "nested": top(nodes=[[[[[]]]]]),
        "no nodes": top(nodes=[]),
        "nodes are text": top(nodes="abc"),
        "half precision": top(values="fp16"),
        "no precision": top(values="fp8"),
        "negative parameters": top(parameters=-1),
        "blocks are numbers": top(blocks=[1, 2, 3]),
        "no blocks": top(blocks=[]),
        "grown block": grown,
        "reordered blocks": reordered,
        "nan inside": nan,
    }


@pytest.mark.parametrize("name", hostile())
def test_a_hostile_header_is_refused(packed, tmp_path, name):
    path = tmp_path / "hostile.spkp"
    path.write_bytes(rebuilt(packed[0], hostile()[name]))
    with pytest.raises(Refusal, match=r"hostile\.spkp: [^;]*; [^;]*; export it again$"):
        unpack(path)


def fuzzed(data, rng, n):
    """Cuts, flips, insertions, repetitions, zeros; with every third header sealed again."""
    broken = bytearray(data)
    way = n % 6
    if way == 0:
        del broken[int(rng.integers(0, len(data))) :]
    elif way == 1:
        for spot in rng.integers(0, len(data), 1 + n % 5):
            broken[spot] ^= 1 << int(rng.integers(0, 8))
    elif way == 2:
        spot = int(rng.integers(0, len(data)))
        broken[spot:spot] = rng.bytes(int(rng.integers(1, 200)))
    elif way == 3:
        begin, end = sorted(rng.integers(0, len(data), 2).tolist())
        broken[begin:end] = bytes(end - begin + 1)
    elif way == 4:
        broken += broken[: int(rng.integers(1, len(data)))]
    else:
        spot = int(rng.integers(START.size, START.size + 1200))
        broken[spot] = int(rng.integers(32, 127))
    length = struct.unpack_from("<I", data, 12)[0]
    if n % 3 == 2 and len(broken) >= START.size + length:
        struct.pack_into("<I", broken, 16, zlib.crc32(broken[START.size : START.size + length]))
    return bytes(broken)


def complaint(path):
    try:
        unpack(path)
    except Refusal as error:
        return str(error)
    return None


def test_two_hundred_damaged_files_are_refused_in_little_memory(packed, tmp_path):
    data, rng, path = packed[0].read_bytes(), np.random.default_rng(1), tmp_path / "fuzzed.spkp"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = set()
    for n in range(240):
        broken = fuzzed(data, rng, n)
        if broken == data:
            continue
        path.write_bytes(broken)
        if (sentence := complaint(path)) is None:
            # A header that was sealed again and still tells of a network, such as tau 0.4.
            assert n % 6 == 5
        else:
            assert sentence.count("; ") == 2
            assert "\n" not in sentence
            told.add(sentence.split(": ", 1)[1][:20])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 << 10  # kilobytes
    assert len(told) > 8


def test_only_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "absent", tmp_path.joinpath("a" * 300)):
        with pytest.raises((Refusal, OSError)):
            unpack(path)


def test_a_huge_file_of_nothing_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge.spkp"
    with path.open("wb") as file:
        file.write(START.pack(b"SPKP\r\n\x1a\n", 1, 1 << 23, 0))
        file.truncate(1 << 40)
    with pytest.raises(Refusal, match="promises"):
        unpack(path)


def test_another_version_is_told(packed, tmp_path):
    data = bytearray(packed[0].read_bytes())
    data[8] = 9
    (tmp_path / "new.spkp").write_bytes(data)
    with pytest.raises(Refusal, match="version 9"):
        unpack(tmp_path / "new.spkp")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_bytes_of_nodes_and_the_header_are_the_file(graph, tmp_path, precision):
    path = tmp_path / "net.spkp"
    storage = pack(path, graph, precision)
    sizes = node_bytes(path)
    assert len(sizes) == len(graph.nodes)
    assert sum(sizes) + storage.header == path.stat().st_size
    kept = {"fp32": 4, "fp16": 2, "int8": 1}[precision]
    for node, size in zip(graph.nodes, sizes, strict=True):
        if isinstance(node, Conv | Linear):
            own = len(node.bias) * 4 + kept * node.weights.kept
            assert own <= size < own + 4 * len(node.bias) + node.weights.size
        else:
            arrays = [v for f in fields(node) if isinstance(v := getattr(node, f.name), np.ndarray)]
            assert size == 4 * sum(array.size for array in arrays)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Refusal, match="export it again"):
        node_bytes(path)
