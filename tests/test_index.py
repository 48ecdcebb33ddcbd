"""The index of a large annotation file: columns, its cache, and photos in archives."""

import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest

import couplingkit as ck
from couplingkit.data.coco import Eligibility, read_instances, read_objects
from couplingkit.data.photo_files import photo_files
from couplingkit.data.segmentation import rle_mask, tight_box
from couplingkit.errors import DataError

PADDING = " " * 2**20  # smaller files are not worth a cache


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("COUPLINGKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def copy(scenes, tmp_path):
    """A copy of the annotations that is worth a cache."""
    path = tmp_path / "instances.json"
    path.write_text(scenes[0].read_text() + PADDING)
    return path


def plant(kept):
    """Change the first letter of the first category in the one cache there is, by which readers of it are known."""
    (path,) = kept.iterdir()
    with np.load(path) as arrays:
        columns = dict(arrays)
    columns["categories"][0] = ord("Q")
    np.savez(path, **columns)


def from_cache(index):
    """Whether an index was read from a cache that was planted."""
    return any(record.category.startswith("Q") for record in index.objects)


def contents(index):
    return [
        (record.annotation_id, record.image_id, record.category, record.area, record.rle["counts"])
        for record in index.objects
    ]


def test_a_second_reading_takes_the_cache_and_says_the_same(copy, kept):
    first, second = read_instances(copy), read_instances(copy)
    assert contents(first) == contents(second)
    assert first.sha256 == second.sha256
    assert first.dropped == second.dropped
    assert dict(first.images) == dict(second.images)
    assert [path.suffix for path in kept.iterdir()] == [".npz"]
    assert not from_cache(second)
    plant(kept)
    assert from_cache(read_instances(copy))
    # Rules are not part of the cache.
    loose = read_instances(copy, Eligibility(min_area=1))
    assert len(loose.objects) > len(first.objects)
    assert from_cache(loose)


def test_a_file_that_was_only_touched_is_believed_by_its_hash(copy, kept):
    read_instances(copy)
    plant(kept)
    os.utime(copy, (1.1e9, 1.1e9))
    assert from_cache(read_instances(copy))


def one_digit_changed(text):
    """The same size, and other content: the area that the last annotation states."""
    start = text.rindex('"area": ') + len('"area": ')
    return text[:start] + ("1" if text[start] != "1" else "2") + text[start + 1 :]


@pytest.mark.parametrize("same_time", [False, True])
def test_a_changed_file_is_read_anew(copy, kept, same_time):
    """Of the same size, at another time or at the same, as many ways of copying leave it."""
    os.utime(copy, (1e9, 1e9))
    before = read_instances(copy)
    plant(kept)
    stamp = copy.stat().st_mtime_ns
    copy.write_text(one_digit_changed(copy.read_text()))
    os.utime(copy, ns=(stamp, stamp) if same_time else (stamp + 10**9, stamp + 10**9))
    again = read_instances(copy)
    assert again.sha256 != before.sha256
    assert again.sha256 == hashlib.sha256(copy.read_bytes()).hexdigest()
    assert not from_cache(again)


def test_another_file_in_its_place_is_read_anew(copy, kept, tmp_path):
    """Renamed into place with size and time of the old one."""
    read_instances(copy)
    plant(kept)
    other = tmp_path / "other.json"
    other.write_text(one_digit_changed(copy.read_text()))
    os.utime(other, ns=(copy.stat().st_mtime_ns,) * 2)
    other.replace(copy)
    assert not from_cache(read_instances(copy))


@pytest.mark.parametrize("spoil", ["cut", "empty", "other", "folder", "rows", "ends", "numbers"])
def test_a_broken_cache_is_made_again(copy, kept, spoil):
    expected = contents(read_instances(copy))
    plant(kept)
    (path,) = kept.iterdir()
    with np.load(path) as arrays:
        columns = dict(arrays)
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:-2000])
    elif spoil == "empty":
        path.write_bytes(b"")
    elif spoil == "other":
        np.savez(path, nothing=np.zeros(3))
    elif spoil == "folder":
        path.unlink()
        path.mkdir()
    elif spoil == "rows":
        np.savez(path, **{**columns, "area": columns["area"][:-3]})
    elif spoil == "ends":
        np.savez(path, **{**columns, "category_ends": columns["category_ends"] + 1000})
    else:
        np.savez(path, **{**columns, "category": columns["category"] + 10**6})
    assert contents(read_instances(copy)) == expected
    assert contents(read_instances(copy)) == expected


def test_no_cache_is_no_error(copy, tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("COUPLINGKIT_CACHE", str(tmp_path / "a file" / "below"))
    assert len(read_instances(copy).objects) > 10


def _read(path, wait):
    wait.wait()
    return contents(read_instances(path))


def test_two_processes_make_the_cache_at_once(copy, kept):
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager, context.Pool(4) as pool:
        found = pool.starmap(_read, [(copy, manager.Barrier(4))] * 4)
    assert all(one == found[0] for one in found)
    assert [path.suffix for path in kept.iterdir()] == [".npz"]
    assert contents(read_instances(copy)) == found[0]


def test_records_are_what_the_file_says(scenes):
    content = json.loads(scenes[0].read_text())
    index = read_instances(scenes[0], Eligibility(min_area=1, allow_border=True))
    listed = {annotation["id"]: annotation for annotation in content["annotations"]}
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert len(index.objects) == len(listed)
    for record in index.objects:
        said = listed[record.annotation_id]
        assert (record.image_id, record.category, record.area) == (
            said["image_id"],
            names[said["category_id"]],
            said["area"],
        )
        assert record.rle["counts"].decode() == said["segmentation"]["counts"]
        assert [record.left, record.top, record.width, record.height] == said["bbox"]
    assert index.objects[-1] == index.record(index.objects[-1].annotation_id)
    with pytest.raises(DataError, match="no eligible object 10000000"):
        index.record(10**7)


def test_area_and_box_decide_where_they_are_stated_and_masks_where_they_are_not(scenes, tmp_path):
    content = json.loads(scenes[0].read_text())
    for annotation in content["annotations"]:
        del annotation["area"], annotation["bbox"]
    path = tmp_path / "bare.json"
    path.write_text(json.dumps(content))
    assert contents(read_instances(path)) == contents(read_instances(scenes[0]))


def test_what_real_annotations_state_agrees_with_their_masks(real_coco):
    index = read_instances(real_coco[0])
    assert len(index.objects) > 200
    for record in index.objects:  # raises where it does not
        assert tight_box(record.rle)[0] == record.area


def test_all_objects_of_a_photo_are_read(scenes):
    content = json.loads(scenes[0].read_text())
    wanted = content["images"][3]["id"]
    found = read_objects(scenes[0], [wanted])[wanted]
    expected = [one["id"] for one in content["annotations"] if one["image_id"] == wanted]
    assert [record.annotation_id for record in found.objects] == sorted(expected)
    assert found.image.file_name == content["images"][3]["file_name"]
    assert all(rle_mask(record.rle).sum() == record.area for record in found.objects)


# Not `ru_maxrss`: a process inherits its parent's, and the tests are large.
MEMORY = """
import sys
peak = lambda: int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
before = peak()
{work}
print(peak() - before)
"""
OURS = "from couplingkit.data.coco import read_instances\nindex = read_instances(sys.argv[1])"
THEIRS = "from pycocotools.coco import COCO\nsys.stdout = sys.stderr; COCO(sys.argv[1]); sys.stdout = sys.__stdout__"


def grown(work, path, cache):
    """MiB that a fresh interpreter needed more for some work."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY.format(work=work), str(path)],
        env={**os.environ, "COUPLINGKIT_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[-1]) / 2**10


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")
def test_memory_of_a_large_file(tmp_path):
    """A tenth of COCO train2017; `benchmarks/index_size.py` makes the whole and takes the time, too.

    Of a third of it, measured on the whole file, two fifths are left here: what both import weighs more in a small one.
    """
    from benchmarks.index_size import write_annotations

    path = tmp_path / "large.json"
    write_annotations(path, photos=11_800, annotations=86_000)
    theirs = grown(THEIRS, path, tmp_path / "cache")
    first, second = (grown(OURS, path, tmp_path / "cache") for _ in range(2))
    assert first < 0.5 * theirs, (first, theirs)
    assert second < 100, second


@pytest.fixture
def archives(scenes, tmp_path):
    """The scenes' photos as a zip with a folder in front, and as a tar without one."""
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted(scenes[1].iterdir()):
            archive.write(path, f"val2017/{path.name}")
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for path in sorted(scenes[1].iterdir()):
            archive.add(path, path.name)
    return tmp_path


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar"])
def test_photos_are_read_from_archives_as_from_folders(scenes, archives, name):
    plain = ck.ProbeSet.from_coco(*scenes, count=6)
    packed = ck.ProbeSet.from_coco(scenes[0], archives / name, count=6)
    assert packed.fingerprint() == plain.fingerprint()
    assert sorted(path.name for path in archives.iterdir()) == ["photos.tar", "photos.zip"]


def test_archives_that_cannot_be_read_in_place_say_so(scenes, archives, tmp_path):
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as archive:
        archive.add(scenes[1])
    with pytest.raises(DataError, match=r"no uncompressed tar"):
        photo_files(tmp_path / "photos.tar.gz")
    (tmp_path / "cut.zip").write_bytes((archives / "photos.zip").read_bytes()[:5000])
    with pytest.raises(DataError, match="no folder, no zip"):
        photo_files(tmp_path / "cut.zip")
    with zipfile.ZipFile(tmp_path / "few.zip", "w") as archive:
        archive.write(next(scenes[1].iterdir()), "a.png")
    with pytest.raises(DataError, match="images missing in"):
        ck.ProbeSet.from_coco(scenes[0], tmp_path / "few.zip", count=6)
    names = [path.name for path in sorted(scenes[1].iterdir())]
    with zipfile.ZipFile(tmp_path / "double.zip", "w") as archive:
        for folder in ("a", "b"):
            for one in names:
                archive.write(scenes[1] / one, f"{folder}/{one}")
    with pytest.raises(DataError, match="more than once"):
        ck.ProbeSet.from_coco(scenes[0], tmp_path / "double.zip", count=6)


def test_a_damaged_member_is_named(scenes, archives):
    raw = bytearray((archives / "photos.zip").read_bytes())
    for start in range(300, len(raw) - 6000, 4000):
        raw[start] ^= 0xFF
    (archives / "photos.zip").write_bytes(raw)
    with pytest.raises(DataError, match=r"image .*photos.zip/.* cannot be read"):
        ck.ProbeSet.from_coco(scenes[0], archives / "photos.zip", count=6).fingerprint()


def test_names_of_photos_are_found_as_other_systems_write_them(tmp_path):
    names = {"train\\a.jpg": "train/a.jpg", "caf\u00e9.jpg": "cafe\u0301.jpg", "cafe\u0301b.jpg": "caf\u00e9b.jpg"}
    folder = tmp_path / "photos"
    for number, there in enumerate(names.values()):
        (folder / there).parent.mkdir(parents=True, exist_ok=True)
        (folder / there).write_bytes(bytes([number]))
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for number, there in enumerate(names.values()):
            archive.writestr(f"top/{there}", bytes([number]))
    for place in (folder, tmp_path / "photos.zip"):
        files = photo_files(place)
        files.check(names)
        for number, asked in enumerate(names):
            with files.open(asked) as stream:
                assert stream.read() == bytes([number])
            assert files.stamp(asked)[0] > 0


def test_an_archive_with_the_paths_of_windows_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = "val\\a.jpg"
        archive.writestr(info, b"7")
    files = photo_files(tmp_path / "photos.zip")
    for asked in ("val/a.jpg", "val\\a.jpg", "a.jpg"):
        with files.open(asked) as stream:
            assert stream.read() == b"7"


@pytest.mark.parametrize("archive", [False, True])
def test_other_capitals_are_hinted_at_and_not_guessed(tmp_path, archive):
    place = tmp_path / "photos"
    place.mkdir()
    (place / "Photo.JPG").write_bytes(b"1")
    if archive:
        with zipfile.ZipFile(tmp_path / "photos.zip", "w") as packed:
            packed.write(place / "Photo.JPG", "Photo.JPG")
        place = tmp_path / "photos.zip"
    with pytest.raises(DataError, match=r"there is Photo\.JPG, whose capitals are other ones"):
        photo_files(place).check(["photo.jpg"])


def test_names_from_lvis_and_a_mark_in_front_change_nothing(scenes, tmp_path):
    content = json.loads(scenes[0].read_text(encoding="utf-8"))
    right = read_instances(scenes[0])
    for image in content["images"]:
        image["coco_url"] = "http://images.cocodataset.org/train2017/" + image.pop("file_name")
    for annotation in content["annotations"]:
        del annotation["iscrowd"]
    (tmp_path / "lvis.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "mark.json").write_bytes(b"\xef\xbb\xbf" + scenes[0].read_bytes())
    for name in ("lvis.json", "mark.json"):
        found = read_instances(tmp_path / name)
        assert [one.annotation_id for one in found.objects] == [one.annotation_id for one in right.objects]
        assert [found.images[one.image_id] for one in found.objects] == [
            right.images[one.image_id] for one in right.objects
        ]
        assert [one.rle for one in found.objects] == [one.rle for one in right.objects]
    del content["images"][2]["coco_url"]
    (tmp_path / "none.json").write_text(json.dumps(content), encoding="utf-8")
    found = read_instances(tmp_path / "none.json")
    assert set(found.faults.values()) == {"its image has no file name"}
    assert set(found.faults) == {one["id"] for one in content["annotations"] if one["image_id"] == 3}
