"""Odd photos: in the frame of their masks with the right pixels, or one sentence; and pictures read alike."""

import numpy as np
import odd_photos
import pytest

import couplingkit as ck
from couplingkit.data.objects import ImageRecord
from couplingkit.data.photo_files import photo_files
from couplingkit.data.photos import open_photo, read_photo
from couplingkit.errors import DataError

CASES = odd_photos.every()


def read(case, place):
    record = ImageRecord(1, case.file_name, *case.size, case.exif)
    files = photo_files(place)
    files.check([case.file_name])
    return read_photo(files, record)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_photo_is_read_right_or_refused_in_one_sentence(case, tmp_path):
    for container in ("folder", "zip", "tar"):
        place = odd_photos.laid(case, tmp_path, container)
        if case.pixels is None:
            with pytest.raises(DataError, match=case.words) as caught:
                read(case, place)
            assert "\n" not in str(caught.value)
            continue
        found = read(case, place)
        assert found.shape == case.pixels.shape
        assert np.abs(found.astype(int) - case.pixels).max() <= case.close


@pytest.mark.parametrize("case", [case for case in CASES if "," not in case.name], ids=lambda case: case.name)
def test_a_picture_is_read_alike(case, tmp_path):
    """`affinity --image` shows a picture as `measure` cuts it, rotation tags apart."""
    place = odd_photos.laid(case, tmp_path, "folder") / (case.lies_at or case.file_name)
    if case.pixels is None:
        if case.words in ("cannot be read", "range is not known"):
            with pytest.raises(DataError):
                open_photo(place)
        return
    assert np.abs(open_photo(place).astype(int) - case.pixels).max() <= case.close


def test_there_are_many():
    assert len(CASES) >= 60


def test_the_option_decides_and_a_manifest_keeps_it(scenes, tmp_path):
    """Photos that are stored upside down, with a tag: refused, or cut from either."""
    from PIL import Image

    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[odd_photos.ORIENTATION] = 3
    for path in scenes[1].iterdir():
        Image.open(path).convert("RGB").rotate(180).save(tmp_path / "images" / path.name, exif=exif)
    right = ck.ProbeSet.from_coco(*scenes, count=4)
    with pytest.raises(DataError, match="`exif=apply`"):
        ck.ProbeSet.from_coco(scenes[0], tmp_path / "images", count=4).fingerprint()
    rules = {kind: ck.Eligibility(exif=kind) for kind in ("apply", "ignore")}
    sets = {
        kind: ck.ProbeSet.from_coco(scenes[0], tmp_path / "images", count=4, eligibility=rules[kind]) for kind in rules
    }
    assert sets["apply"].fingerprint() == right.fingerprint()
    assert sets["ignore"].fingerprint() != right.fingerprint()
    (tmp_path / "set.json").write_text(sets["apply"].manifest().text())
    again = ck.ProbeSet.from_manifest(tmp_path / "set.json", scenes[0], tmp_path / "images")
    assert again.index.eligibility.exif == "apply"
    assert again.fingerprint() == right.fingerprint()
