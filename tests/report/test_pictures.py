from __future__ import annotations

import base64
import dataclasses
import hashlib
import io

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from spikeproof.records import read_json
from spikeproof.report._pictures import (
    ADDED,
    MOVED,
    REMOVED,
    STANDING,
    Originals,
    picture_section,
    png,
)
from spikeproof.report._read import read_evaluation
from tests.report import records


def opened(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def made(tmp_path, values, x_adv, places):
    folder = records.write(tmp_path / "run", values, x_adv, places)
    return read_evaluation(folder / "record.json", read_json(folder / "record.json"), "run")


@pytest.fixture
def images(tmp_path):
    values = records.evaluation(40)
    places = records.broken_places(values)
    generator = np.random.default_rng(0)
    x = generator.random((40, 1, 8, 8), np.float32) * 0.8 + 0.1
    x_adv = (x + 0.05 * np.sign(generator.standard_normal(x.shape))).astype(np.float32)
    return made(tmp_path, values, x_adv[places], places), x, x_adv


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 3), (1, 1)])
def test_a_picture_is_a_png_that_others_read(shape):
    pixels = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    image = Image.open(io.BytesIO(png(pixels)))
    image.verify()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels)


def test_examples_show_clean_perturbed_and_what_changed(images):
    found, x, x_adv = images

    def look(evaluation, numbers, perturbed):
        assert np.array_equal(perturbed, x_adv[numbers])
        said = tuple((n + 1) % 10 for n in numbers)
        return Originals(x[numbers], tuple(n % 10 for n in numbers), said, tuple("abcdefghij"))

    section = picture_section(found, "k", look)
    (gallery,) = section.blocks
    assert len(gallery.examples) == min(12, len(records.broken_places(found.values)))
    for example in gallery.examples:
        place = int(example.text.split(",")[0].removeprefix("sample "))
        assert example.title == f"{'abcdefghij'[place % 10]} → {'abcdefghij'[(place + 1) % 10]}"
        clean, perturbed, change = (opened(p.uri).astype(float) for p in example.pictures)
        assert np.abs(clean - 255 * x[place, 0]).max() <= 0.5
        assert np.abs(perturbed - 255 * x_adv[place, 0]).max() <= 0.5
        moved = np.sign(x_adv[place, 0] - x[place, 0])
        assert np.array_equal(np.sign(change - 127.5), moved)
        assert example.pictures[2].name == "change \u00d7 10"
        first = next(s.id for s in found.steps if s.counts and s.success[place])
        assert first in example.text


def test_classes_are_spread(images):
    found, _, _ = images
    (_, gallery) = picture_section(found, "k").blocks
    titles = [example.title for example in gallery.examples]
    labels = {place % 10 for place in records.broken_places(found.values)}
    assert {f"class {label}" for label in labels} == set(titles)


@pytest.mark.parametrize("wrong", ["labels", "shape", "absent"])
def test_without_the_clean_inputs_only_adversarials_are_shown(images, wrong):
    found, x, _ = images

    def look(evaluation, numbers, perturbed):
        labels = [n % 10 for n in numbers]
        return {
            "labels": Originals(x[numbers], tuple(9 - n for n in labels)),
            "shape": Originals(x[numbers][..., :4], tuple(labels)),
            "absent": None,
        }[wrong]

    note, gallery = picture_section(found, "k", look).blocks
    assert "not beside this record" in note.text
    assert all(len(example.pictures) == 1 for example in gallery.examples)


def test_a_changed_or_missing_file_is_not_shown(images):
    found, _, _ = images
    path = found.path.parent / "adversarials.safetensors"
    path.write_bytes(path.read_bytes() + b" ")
    (note,) = picture_section(found, "k").blocks
    assert "not the one that the record names" in note.text
    path.unlink()
    (note,) = picture_section(found, "k").blocks
    assert "not beside" in note.text


def test_a_file_that_is_none_of_ours_is_told(tmp_path):
    values = records.evaluation(40)
    for x_adv, said in ((np.zeros((1, 3), np.float32), "no images"),):
        found = made(tmp_path, values, x_adv, [0])
        (note,) = picture_section(found, "k").blocks
        assert said in note.text


def test_no_artifacts_no_section(tmp_path):
    found = read_evaluation(tmp_path, records.evaluation(), "run")
    assert picture_section(found, "k") is None


def test_events_are_coloured_by_what_became_of_them(tmp_path):
    values = records.evaluation(40, shape=(3, 2, 4, 4))
    places = records.broken_places(values)
    x = np.zeros((40, 3, 2, 4, 4), np.float32)
    x[:, 0, 0, 0, 0] = 1  # stays
    x[:, 0, 1, 1, 1] = 1  # is removed
    x[:, 0, 0, 2, 2] = 1  # moves to step 2
    x_adv = x.copy()
    x_adv[:, 0, 1, 1, 1] = 0
    x_adv[:, 0, 0, 2, 2] = 0
    x_adv[:, 1, 0, 2, 2] = 1
    x_adv[:, 2, 0, 3, 3] = 1  # is added
    found = made(tmp_path, values, x_adv[places].astype(np.uint8), places)

    def look(evaluation, numbers, perturbed):
        return Originals(x[numbers], tuple(n % 10 for n in numbers))

    (gallery,) = picture_section(found, "k", look).blocks
    assert [name for _, name in gallery.legend] == ["stays", "added", "removed", "moved in time"]
    first, second, third = (opened(p.uri) for p in gallery.examples[0].pictures)
    white = (255, 255, 255)
    assert tuple(first[0, 0]) == STANDING
    assert tuple(first[1, 1]) == REMOVED
    assert tuple(first[2, 2]) == white
    assert tuple(second[2, 2]) == MOVED
    assert tuple(third[3, 3]) == ADDED
    coloured = [int((p != 255).any(-1).sum()) for p in (first, second, third)]
    assert coloured == [2, 1, 1]


def test_clean_inputs_and_answers_lie_beside_the_record(images):
    found, x, x_adv = images
    places = records.broken_places(found.values)
    kept = places[1::2]
    said = np.asarray([(place + 1) % 10 for place in kept])
    file = found.path.parent / "originals.safetensors"
    save_file({"places": np.asarray(kept), "x": x[kept], "said": said}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    told = {"file": file.name, "sha256": digest, "classes": list("abcdefghij")}
    values = {**found.values, "artifacts": {**found.values["artifacts"], "originals": told}}
    whole = dataclasses.replace(found, values=values)

    def look(*_):
        pytest.fail("nothing needs to be looked up")

    (gallery,) = picture_section(whole, "k", look).blocks
    assert gallery.examples
    for example in gallery.examples:
        place = int(example.text.split(",")[0].removeprefix("sample "))
        assert place in kept
        assert example.title == f"{'abcdefghij'[place % 10]} → {'abcdefghij'[(place + 1) % 10]}"
        clean, perturbed, _ = (opened(p.uri).astype(float) for p in example.pictures)
        assert np.abs(clean - 255 * x[place, 0]).max() <= 0.5
        assert np.abs(perturbed - 255 * x_adv[place, 0]).max() <= 0.5
    file.write_bytes(file.read_bytes() + b" ")
    note, gallery = picture_section(whole, "k").blocks
    assert "not beside this record" in note.text
    assert all(len(example.pictures) == 1 for example in gallery.examples)
