"""Photos with a class for each pixel: scenes, instances JSONs, PNG maps, arrays; and what is refused of them."""

import json

import numpy as np
import pytest
from PIL import Image

from couplingkit.data.label_maps import ArrayPhotos, PngPhotos
from couplingkit.data.labelled_data import LabelledData, halves_of, open_labelled_data
from couplingkit.data.segmentation import encode_mask
from couplingkit.data.semantic import BACKGROUND, CocoPhotos, ScenePhotos
from couplingkit.errors import ArgumentError, CouplingKitError, DataError


def square(left, top, side):
    return [[left, top, left + side, top, left + side, top + side, left, top + side]]


@pytest.fixture
def coco(tmp_path):
    """A photo with a large and a small object that overlap, and a crowd; and a photo with nothing on it."""
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / name)
    kinds = [(1, "cat", "animal"), (2, "dog", "animal"), (3, "cup", "kitchen")]
    objects = [(1, 1, square(2, 2, 20), 0), (2, 3, square(8, 8, 6), 0), (3, 2, square(30, 20, 8), 1)]
    content = {
        "images": [{"id": n, "file_name": name, "width": 40, "height": 30} for n, name in ((1, "a.png"), (2, "b.png"))],
        "categories": [{"id": n, "name": name, "supercategory": above} for n, name, above in kinds],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": kind, "segmentation": mask, "iscrowd": crowd}
            for n, kind, mask, crowd in objects[:2]
        ],
    }
    rle = np.zeros((30, 40), dtype=bool)
    rle[20:28, 30:38] = True
    content["annotations"].append(
        {"id": 3, "image_id": 1, "category_id": 2, "segmentation": encode_mask(rle), "iscrowd": 1}
    )
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path / "instances.json", tmp_path / "images"


def test_of_an_instances_json_the_smaller_object_lies_on_top_and_crowds_are_ignored(coco):
    photos = CocoPhotos(*coco)
    assert photos.classes == (BACKGROUND, "cat", "dog", "cup")
    _, labels = photos.read("1")
    assert labels[10, 10] == 3 and labels[3, 3] == 1 and labels[0, 39] == 0 and labels[22, 33] == -1
    assert (labels == 3).sum() == 36 and (labels == 1).sum() == 400 - 36 and (labels == -1).sum() == 64
    assert [(one.annotation, one.label) for one in photos.objects("1")] == [(1, 1), (2, 3)]
    assert not photos.objects("2") and not photos.read("2")[1].any()


def test_supercategories_are_classes_where_they_are_asked_for(coco):
    photos = CocoPhotos(*coco, classes="super")
    assert photos.classes == (BACKGROUND, "animal", "kitchen")
    assert sorted(np.unique(photos.read("1")[1])) == [-1, 0, 1, 2]


def test_a_category_without_a_supercategory_is_named(coco):
    content = json.loads(coco[0].read_text())
    del content["categories"][1]["supercategory"]
    coco[0].write_text(json.dumps(content))
    with pytest.raises(DataError, match="dog has no supercategory"):
        CocoPhotos(*coco, classes="super")


def test_scenes_have_the_labels_of_their_objects():
    photos = ScenePhotos(3, start=5, seed=1)
    assert photos.ids == ("5", "6", "7")
    for identity in photos.ids:
        rgb, labels = photos.read(identity)
        assert labels.shape == rgb.shape[:2]
        objects = photos.objects(identity)
        assert all((labels[one.mask] == one.label).all() for one in objects)
        assert (labels > 0).sum() == sum(one.mask.sum() for one in objects)


def test_halves_of_scenes_are_other_scenes_and_have_other_hashes():
    data = open_labelled_data("scenes:2+3")
    assert (len(data.train), len(data.test)) == (2, 3)
    assert data.identity() == open_labelled_data("scenes:2+3").identity()
    assert data.train.fingerprint() != data.test.fingerprint()
    assert not set(data.train.ids) & set(data.test.ids)


def pngs(folder, count=2, values=(0, 1, 255), mode="L"):
    """A folder with images/ and masks/ of the same stems, 12 x 8 px; the masks hold all values."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (12, 8), (number * 10, 5, 5)).save(folder / "images" / f"{folder.name}{number}.jpg")
        mask = np.resize(np.array(values, dtype=np.uint8), 96).reshape(8, 12)
        # A gray map that was saved in colours is read; one of colours is not.
        shown = np.dstack([mask, mask // 2, mask // 3]) if mode == "RGB" else mask
        Image.fromarray(shown).convert(mode).save(folder / "masks" / f"{folder.name}{number}.png")


def described(tmp_path, extra="", classes='0 = "sky"\n1 = "ground"'):
    text = "".join(f'[{half}]\nimages = "{half}/images"\nmasks = "{half}/masks"\n' for half in ("train", "test"))
    (tmp_path / "my.toml").write_text(f"{extra}\n{text}[classes]\n{classes}\n")
    return str(tmp_path / "my.toml")


def test_a_toml_file_describes_own_photos_and_maps(tmp_path):
    for half in ("train", "test"):
        pngs(tmp_path / half)
    data = open_labelled_data(described(tmp_path))
    assert data.classes == ("sky", "ground")
    rgb, labels = data.test.read("test0")
    gray = tmp_path / "test" / "masks" / "test0.png"
    Image.open(gray).convert("RGB").save(gray)
    assert np.array_equal(data.test.read("test0")[1], labels)
    assert rgb.shape == (8, 12, 3) and sorted(np.unique(labels)) == [-1, 0, 1]
    assert (labels == -1).sum() == 32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: described(path, extra="ignore = []"), "holds 255"),
        (lambda path: described(path, classes='0 = "sky"\n1 = "sky"'), "two classes are called 'sky'"),
        (lambda path: described(path, classes='x = "sky"'), "whole number"),
        (lambda path: (path / "train" / "masks" / "train1.png").unlink() or described(path), "no map"),
        (lambda path: pngs(path / "test", mode="RGB") or described(path), "mode RGB"),
        (lambda path: Image.new("L", (5, 5)).save(path / "test/masks/test0.png") or described(path), "of one size"),
        (lambda path: (path / "test/masks/test0.png").write_bytes(b"x") and described(path), "cannot be read"),
        (lambda path: described(path, extra="ignored = [1]"), "ignored"),
    ],
)
def test_what_is_wrong_with_own_maps_is_one_sentence(tmp_path, change, words):
    for half in ("train", "test"):
        pngs(tmp_path / half)
    with pytest.raises(CouplingKitError, match=words):
        data = open_labelled_data(change(tmp_path))
        for half in (data.train, data.test):
            for identity in half.ids:
                half.read(identity)


def test_voc_is_read_as_it_is_unpacked(tmp_path):
    place = tmp_path / "VOCdevkit" / "VOC2012"
    lists = place / "ImageSets" / "Segmentation"
    for folder in (lists, place / "JPEGImages", place / "SegmentationClass", place / "SegmentationObject"):
        folder.mkdir(parents=True)
    for split, stem in (("train", "2007_1"), ("val", "2007_2")):
        (lists / f"{split}.txt").write_text(f"{stem}\n")
        Image.new("RGB", (10, 6)).save(place / "JPEGImages" / f"{stem}.jpg")
        numbers = np.zeros((6, 10), dtype=np.uint8)
        numbers[1:4, 1:4], numbers[1:4, 6:9], numbers[0] = 15, 8, 255
        Image.fromarray(numbers).convert("P").save(place / "SegmentationClass" / f"{stem}.png")
        Image.fromarray(numbers // 7).convert("P").save(place / "SegmentationObject" / f"{stem}.png")
    palette = Image.fromarray(numbers, mode="P")
    palette.putpalette([number for number in range(256) for _ in range(3)])
    palette.save(place / "SegmentationClass" / "2007_2.png")
    for root in (tmp_path / "VOCdevkit", place, tmp_path):
        data = open_labelled_data(f"voc:{root}")
        _, labels = data.test.read("2007_2")
        assert len(data.classes) == 21 and data.classes[15] == "person"
        assert sorted(np.unique(labels)) == [-1, 0, 8, 15]
    assert sorted(one.label for one in data.test.objects("2007_2")) == [8, 15]


def test_ade20k_ignores_0_and_has_150_classes(tmp_path):
    for split in ("training", "validation"):
        for kind, suffix in (("images", "jpg"), ("annotations", "png")):
            folder = tmp_path / "ADEChallengeData2016" / kind / split
            folder.mkdir(parents=True)
            Image.fromarray(np.resize(np.array([0, 1, 150], dtype=np.uint8), (4, 6))).save(folder / f"{split}.{suffix}")
    data = open_labelled_data(f"ade20k:{tmp_path}")
    assert len(data.classes) == 150
    assert sorted(np.unique(data.test.read("validation")[1])) == [-1, 0, 149]


def test_items_of_any_sequence_are_photos():
    torch = pytest.importorskip("torch")
    labels = np.array([[0, 1], [1, 255]])
    floats = torch.rand(3, 2, 2)
    items = [
        {"image": Image.new("RGB", (2, 2), (9, 8, 7)), "annotation": Image.fromarray(labels.astype(np.uint8))},
        {"image": floats, "annotation": torch.from_numpy(labels)},
        {"image": np.zeros((2, 2), dtype=np.uint8), "annotation": labels},
    ]
    photos = ArrayPhotos(items, ["sky", "ground"], photo="image", labels="annotation")
    for identity in photos.ids:
        rgb, read = photos.read(identity)
        assert rgb.shape == (2, 2, 3) and rgb.dtype == np.uint8
        assert read.tolist() == [[0, 1], [1, -1]]
    assert (photos.read("1")[0] == (floats.permute(1, 2, 0).numpy() * 255).round()).all()


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ((np.zeros((4, 4, 3)), np.zeros((4, 4))), "whole numbers"),
        ((np.zeros((4, 4, 3)), np.zeros((4, 5), dtype=int)), "of shape"),
        ((np.zeros((4, 4, 3)), np.full((4, 4), 7)), "below 2"),
        ((np.full((4, 4, 3), 300.0), np.zeros((4, 4), dtype=int)), "within"),
    ],
)
def test_items_that_cannot_be_photos_are_named(item, words):
    with pytest.raises(DataError, match=words):
        ArrayPhotos([item], ["a", "b"]).read("0")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("scenes:10", "TRAIN\\+TEST"),
        ("scenes:0+5", "TRAIN\\+TEST"),
        ("scenes:1+2+3", "TRAIN\\+TEST"),
        ("nothing", "must be one of"),
        ("voc:/nowhere/at/all", "is no folder"),
        ("missing.toml", "cannot be read"),
    ],
)
def test_words_that_name_no_photos_are_refused(words, says):
    with pytest.raises(CouplingKitError, match=says):
        open_labelled_data(words)


def test_halves_must_have_the_same_classes():
    photos = [ArrayPhotos([(np.zeros((4, 4, 3)), np.zeros((4, 4), dtype=int))], [name]) for name in "ab"]
    with pytest.raises(DataError, match="same classes"):
        LabelledData("two", *photos)


def test_one_file_is_halved_by_its_seed(coco, scenes):
    first, again, other = (halves_of(*scenes, seed=seed) for seed in (0, 0, 1))
    assert first.identity() == again.identity() != other.identity()
    assert len(first.train) == len(first.test) == 20
    assert not set(first.train.ids) & set(first.test.ids)


def test_a_map_that_changes_changes_the_hash(tmp_path):
    pngs(tmp_path / "set", count=1)
    arguments = (
        tmp_path / "set/images",
        tmp_path / "set/masks",
        {0: "a", 1: "b", 255: None},
        [("set0.jpg", "set0.png")],
    )
    before = PngPhotos("own", *arguments).fingerprint()
    assert PngPhotos("own", *arguments).fingerprint() == before
    pngs(tmp_path / "set", count=1, values=(1, 0, 255))
    assert PngPhotos("own", *arguments).fingerprint() != before


def test_a_kind_that_is_unknown_is_refused():
    with pytest.raises(ArgumentError, match="must be one of"):
        open_labelled_data("lvis:root")
