"""Odd annotation files by the hundred: the same objects with the same masks, or one sentence that helps."""

import functools
import json

import odd_annotations
import pytest

import couplingkit as ck
from couplingkit.data.coco import AnnotatedPhotos
from couplingkit.errors import DataError

COUNT, REFUSED = 110, 41
RULES = ck.Eligibility(min_area=500, allow_border=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return json.loads(ck.write_scenes(tmp_path_factory.mktemp("odd") / "set", count=5)[0].read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cases(whole):
    return list(odd_annotations.harmless(whole, COUNT)), list(odd_annotations.refused(whole))


def objects_of(path):
    """What can be drawn from, whatever ids it has: photo, category, box, mask."""
    index = ck.read_instances(path, RULES)
    found = [
        (index.images[one.image_id].file_name, one.category, one.left, one.top, one.area, str(one.rle["counts"]))
        for one in index.objects
    ]
    return index, sorted(found)


@functools.cache
def right(text, folder):
    path = folder / "whole.json"
    path.write_text(text, encoding="utf-8")
    return objects_of(path)[1]


@pytest.mark.parametrize("number", range(COUNT))
def test_the_same_objects_are_in_it(number, cases, whole, tmp_path, tmp_path_factory):
    check(cases[0][number], whole, tmp_path, tmp_path_factory.getbasetemp())


def check(case, whole, folder, base):
    path = folder / "odd.json"
    path.write_bytes(case.content)
    index, found = objects_of(path)
    assert found == right(json.dumps(whole), base), case.name
    assert len(index.faults) == case.broken, (case.name, index.faults)
    assert f"{case.broken} broken" in index.what_was_dropped() or not case.broken
    # What is annotated on a photo is the same for the commands that take all of it.
    photos = AnnotatedPhotos(path)
    assert sum(len(photos[identity].objects) for identity in photos) == len(whole["annotations"]), case.name


@pytest.mark.parametrize("number", range(REFUSED))
def test_it_is_refused_in_one_sentence(number, cases, tmp_path):
    assert len(cases[1]) == REFUSED
    case = cases[1][number]
    (tmp_path / "odd.json").write_bytes(case.content)
    with pytest.raises(DataError, match=case.words) as caught:
        ck.read_instances(tmp_path / "odd.json")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_hundreds_more(seed, whole, tmp_path, tmp_path_factory):
    for case in odd_annotations.harmless(whole, 150, seed):
        check(case, whole, tmp_path, tmp_path_factory.getbasetemp())
