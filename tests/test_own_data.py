"""Masks that people have become the probes of an instances JSON of the same masks; what is wrong is one sentence."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command import run
from PIL import Image

import couplingkit as ck
from couplingkit.data.mask_folders import instances_of_masks, read_mask_names
from couplingkit.data.masked_photos import label_objects
from couplingkit.data.sam_masks import mask_records
from couplingkit.data.segmentation import rle_mask
from couplingkit.errors import ArgumentError, CouplingKitError, DataError

COUNT = 24


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Photos, masks and categories of built-in scenes, as a program would hold them."""
    annotations, images = ck.write_scenes(tmp_path_factory.mktemp("own") / "scenes", count=COUNT)
    content = json.loads(annotations.read_text())
    names = {one["id"]: one["name"] for one in content["categories"]}
    photos = []
    for image in content["images"]:
        own = [one for one in content["annotations"] if one["image_id"] == image["id"]]
        masks = [rle_mask(one["segmentation"]) for one in own]
        rgb = np.array(Image.open(images / image["file_name"]).convert("RGB"))
        photos.append((image["file_name"], rgb, masks, [names[one["category_id"]] for one in own]))
    return annotations, images, photos


def label_map(masks, numbers=None):
    shown = np.zeros(masks[0].shape, dtype=np.uint8)
    for number, mask in zip(numbers or range(1, len(masks) + 1), masks, strict=True):
        shown[mask] = number
    return shown


def pictures_of(probes):
    return probes.digests(range(len(probes)))


def drawn(annotations, images, **how):
    return ck.ProbeSet.from_coco(annotations, images, count=8, eligibility=ck.Eligibility(min_area=500), **how)


@pytest.fixture(scope="module")
def expected(scenes):
    return pictures_of(drawn(scenes[0], scenes[1]))


FORMS = {
    "flags": lambda rgb, masks: (rgb, np.stack(masks)),
    "lists": lambda rgb, masks: (Image.fromarray(rgb), list(masks)),
    "tensors": lambda rgb, masks: (
        torch.from_numpy(rgb).permute(2, 0, 1) / 255,
        torch.from_numpy(np.stack(masks)).to(torch.uint8),
    ),
    "label map": lambda rgb, masks: (rgb, label_map(masks)),
    "PIL map": lambda rgb, masks: (rgb, Image.fromarray(label_map(masks))),
    "runs": lambda rgb, masks: (rgb, [ck_rle(mask) for mask in masks]),
}


def ck_rle(mask):
    flat = np.concatenate([[0], mask.T.ravel().astype(int), [0]])
    edges = np.flatnonzero(np.diff(flat))
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, mask.size]).tolist()}


@pytest.mark.parametrize("form", FORMS)
def test_masks_of_a_program_are_the_same_probes(scenes, expected, form, tmp_path):
    read = [FORMS[form](rgb, masks) for _, rgb, masks, _ in scenes[2]]
    rules = ck.Eligibility(min_area=500)
    folder = tmp_path / "kept"
    found = ck.ProbeSet.from_masks(
        [photo for photo, _ in read], [masks for _, masks in read], [names for *_, names in scenes[2]],
        folder=folder, count=8, eligibility=rules,
    )  # fmt: skip
    assert pictures_of(found) == expected
    # What was written is a data set like any other: a later program draws from it again.
    again = drawn(folder / "instances.json", folder / "images")
    assert again.manifest().text() == found.manifest().text()


def test_paths_and_the_cache(scenes, expected):
    paths = [scenes[1] / name for name, *_ in scenes[2]]
    both = [
        ck.ProbeSet.from_masks(
            paths, (masks for _, _, masks, _ in scenes[2]), [names for *_, names in scenes[2]],
            count=8, eligibility=ck.Eligibility(min_area=500),
        )
        for _ in range(2)
    ]  # fmt: skip
    assert pictures_of(both[0]) == expected
    assert both[0].index.path == both[1].index.path


def test_rows_of_measure_are_the_same(scenes, tmp_path):
    _, images, photos = scenes
    own = ck.ProbeSet.from_masks(
        [rgb for _, rgb, _, _ in photos], [masks for *_, masks, _ in photos], [names for *_, names in photos],
        folder=tmp_path / "kept", count=8, eligibility=ck.Eligibility(min_area=500),
    )  # fmt: skip
    network = ck.load_backbone("control:leak:0.2")
    first, second = ck.measure(network, own), ck.measure(network, drawn(scenes[0], images))
    pd.testing.assert_frame_equal(first.rows, second.rows)


def test_unnamed_objects_are_paired_with_any(scenes, caplog):
    photos = [(rgb, masks) for _, rgb, masks, _ in scenes[2]]
    found = ck.ProbeSet.from_masks(
        [rgb for rgb, _ in photos], [masks for _, masks in photos], count=40, eligibility=ck.Eligibility(min_area=500)
    )
    assert found.categories(0) == ("object",) * 3
    assert (found.source_images[:, 0] != found.source_images[:, 1]).all()
    assert "nobody named" in caplog.text


class CocoDetection:
    """As torchvision's: items are (PIL, annotations)."""

    def __init__(self, annotations, images):
        content = json.loads(Path(annotations).read_text())
        self.images, self.root = content["images"], images
        self.annotations = content["annotations"]
        self.coco = type("Coco", (), {"cats": {one["id"]: one for one in content["categories"]}})()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, number):
        image = self.images[number]
        own = [one for one in self.annotations if one["image_id"] == image["id"]]
        return Image.open(self.root / image["file_name"]).convert("RGB"), own


def test_torchvisions_own_detection_set(scenes, expected):
    from torchvision.datasets import CocoDetection as Real

    rules = {"count": 8, "eligibility": ck.Eligibility(min_area=500)}
    for dataset in (Real(str(scenes[1]), str(scenes[0])), CocoDetection(scenes[0], scenes[1])):
        assert pictures_of(ck.ProbeSet.from_dataset(dataset, **rules)) == expected


def test_torchvisions_voc_and_pets(tmp_path, scenes):
    """The real classes on files of their own layout."""
    from torchvision.datasets import OxfordIIITPet, VOCSegmentation

    voc, pets = tmp_path / "VOCdevkit" / "VOC2012", tmp_path / "oxford-iiit-pet"
    for folder in (voc / "JPEGImages", voc / "SegmentationClass", voc / "ImageSets" / "Segmentation", pets / "images"):
        folder.mkdir(parents=True)
    (pets / "annotations" / "trimaps").mkdir(parents=True)
    stems, lines = [], []
    for number, (_, rgb, masks, _) in enumerate(scenes[2]):
        stem = f"{('Abyssinian', 'Bengal')[number % 2]}_{number}"
        stems.append(stem)
        lines.append(f"{stem} {number % 2 + 1} 1 1")
        for place in (voc / "JPEGImages", pets / "images"):
            Image.fromarray(rgb).save(place / f"{stem}.jpg", quality=95)
        Image.fromarray(label_map(masks, [1 + one % 20 for one in range(len(masks))])).save(
            voc / "SegmentationClass" / f"{stem}.png"
        )
        trimap = np.full(masks[0].shape, 2, dtype=np.uint8)
        trimap[masks[0]] = 1
        Image.fromarray(trimap).save(pets / "annotations" / "trimaps" / f"{stem}.png")
    (voc / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(stems))
    (pets / "annotations" / "trainval.txt").write_text("\n".join(lines))
    rules = {"count": 4, "eligibility": ck.Eligibility(min_area=500)}
    found = ck.ProbeSet.from_dataset(VOCSegmentation(str(tmp_path), image_set="train"), **rules)
    assert set(found.index.objects.category_names) <= {"aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car"}
    pet = OxfordIIITPet(str(tmp_path), target_types=["category", "segmentation"], download=False)
    found = ck.ProbeSet.from_dataset(pet, **rules)
    # The background, number 2, is no object.
    assert len(found.index.objects.category_names) == 2
    assert found.index.annotations < 3 * COUNT


def test_dicts_of_hugging_face(scenes):
    photos = [
        {"image": Image.fromarray(rgb), "annotation": Image.fromarray(label_map(masks))}
        for _, rgb, masks, _ in scenes[2]
    ]
    rules = {"count": 4, "eligibility": ck.Eligibility(min_area=500)}
    named = ck.ProbeSet.from_dataset(photos, names={1: "first", 2: "second"}, **rules)
    assert named.index.objects.category_names == ["first", "second"]
    with pytest.raises(DataError, match=r"item 0 of the dataset has no masks at 'truth'|has no masks at truth"):
        ck.ProbeSet.from_dataset(photos, masks="truth", **rules)


@pytest.fixture
def folders(scenes, tmp_path):
    """A folder of each form that `--masks` takes, of the same objects."""
    for name in ("maps", "parts", "sam"):
        (tmp_path / name).mkdir()
    whole = {}
    for name, _, masks, categories in scenes[2]:
        stem = Path(name).stem
        Image.fromarray(label_map(masks)).save(tmp_path / "maps" / f"{stem}_mask.png")
        (tmp_path / "parts" / stem).mkdir()
        for number, mask in enumerate(masks):
            Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "parts" / stem / f"{number}.png")
        records = [
            {"segmentation": ck_rle(mask), "category": category, "predicted_iou": 0.9}
            for mask, category in zip(masks, categories, strict=True)
        ]
        (tmp_path / "sam" / f"{stem}.json").write_text(json.dumps(records))
        whole[name] = records
    (tmp_path / "all.json").write_text(json.dumps(whole))
    return tmp_path


def test_folders_of_masks_hold_the_same_objects(scenes, folders, expected):
    _, images, photos = scenes
    truth = sorted(int(mask.sum()) for *_, masks, _ in photos for mask in masks)
    for name in ("maps", "parts", "sam", "all.json"):
        path = instances_of_masks(folders / name, images)
        content = json.loads(path.read_text())
        assert sorted(one["area"] for one in content["annotations"]) == truth
        assert [one["file_name"] for one in content["images"]] == [one[0] for one in photos]
        if name in ("sam", "all.json"):
            assert pictures_of(drawn(path, images)) == expected
        # Kept, and made anew where a mask changes.
        assert instances_of_masks(folders / name, images) == path


def test_a_mask_that_changes_is_read_anew(scenes, folders):
    before = instances_of_masks(folders / "maps", scenes[1])
    place = next((folders / "maps").iterdir())
    Image.fromarray(np.zeros(np.array(Image.open(place)).shape, np.uint8)).save(place)
    assert instances_of_masks(folders / "maps", scenes[1]) != before


def test_measure_takes_masks(scenes, folders):
    words = ("--images", scenes[1], "--probes", "8", "--min-area", "500", "--out", folders / "run")
    told = run("measure", "control:leak:0.2", "--masks", folders / "maps", *words)
    assert told.exit_code == 0, told.output
    summary = json.loads((folders / "run" / "summary.json").read_text())
    assert "control:leak:0.2" in json.dumps(summary)
    again = run("measure", "control:leak:0.2", "--masks", folders / "maps", *words)
    assert "nothing to do" in again.output


def test_classes_are_taken_apart():
    numbers = np.zeros((8, 12), dtype=np.int64)
    numbers[1:3, 1:3] = numbers[5:7, 8:11] = 3
    numbers[4, 4] = 255
    assert [kind for kind, _ in label_objects(numbers, "classes")] == ["3", "3"]
    assert len(label_objects(numbers)) == 1
    binary = np.where(numbers == 3, 255, 0)
    assert len(label_objects(binary)) == 1
    # Of classes, 255 is no object, whatever else a map holds.
    assert label_objects(binary, "classes") == []
    assert label_objects(numbers, "classes", {1: "cat"}) == []


COLOURS = np.dstack([np.eye(8, dtype=np.uint8) * 9] * 2 + [np.eye(8, dtype=np.uint8)])
LOST = b'[{"segmentation": [[1, 1, 4, 1, 4, 4]]}]'
BAD = {
    "no folder": (lambda place: place / "nothing", "does not exist"),
    "no masks": (lambda place: made(place / "empty"), "hold 0 PNG"),
    "of no photo": (lambda place: made(place / "strange", "stranger.png"), "no mask of a photo"),
    "colours": (lambda place: made(place / "rgb", "000000.png", COLOURS), "has mode RGB"),
    "broken": (lambda place: made(place / "bytes", "000000.png", b"no image"), "cannot be read"),
    "no objects": (lambda place: made(place / "black", "000000.png", np.zeros((8, 8), np.uint8)), "no object"),
    "no JSON": (lambda place: made(place / "text", "000000.json", b"{"), "are no JSON"),
    "other JSON": (lambda place: made(place / "other", "000000.json", b'{"a": 1}'), "hold no masks"),
    "lost photo": (lambda place: made(place / "lost", "zebra.json", LOST), "not in"),
    "other size": (lambda place: made(place / "size", "000000.png", np.eye(7, dtype=np.uint8)), "the annotations say"),
}  # fmt: skip


def made(folder, name=None, content=None):
    folder.mkdir()
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    elif name:
        Image.fromarray(np.eye(8, dtype=np.uint8) if content is None else content).save(folder / name)
    return folder


@pytest.mark.parametrize("kind", BAD)
def test_bad_masks_are_one_sentence(scenes, tmp_path, kind):
    place, sentence = BAD[kind]
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(photos / f"{number:06d}.png")
    masks = place(tmp_path)
    if kind == "other size":
        for number in (1, 2):
            Image.fromarray(np.eye(7, dtype=np.uint8)).save(masks / f"{number:06d}.png")
    words = ("--masks", masks, "--images", photos, "--min-area", "1", "--allow-border", "--no-control")
    told = run("measure", "control:cell", *words, "--probes", "2", "--out", tmp_path / "run")
    assert told.exit_code == 2
    assert sentence in told.output.replace("\n", " ")
    assert "Traceback" not in told.output
    assert not (tmp_path / "run").exists()


def test_words_that_contradict(scenes, folders):
    both = run(
        "measure", "control:cell", "--masks", folders / "maps", "--annotations", scenes[0], "--images", scenes[1]
    )
    alone = run(
        "measure", "control:cell", "--mask-values", "classes", "--annotations", scenes[0], "--images", scenes[1]
    )
    lost = run("measure", "control:cell", "--masks", folders / "maps")
    for told, sentence in ((both, "two ways"), (alone, "which is missing"), (lost, "needs --images")):
        assert told.exit_code == 2
        assert sentence in told.output


def test_bad_arrays_are_one_sentence():
    photo, flags = np.zeros((8, 8, 3), np.uint8), np.ones((1, 8, 8), bool)
    for images, masks, categories, sentence in (
        ([photo] * 2, [flags], None, "must be as many"),
        ([photo], [np.ones((1, 8, 9), bool)], None, "where the photo has"),
        ([photo], [np.full((2, 8, 8), 7)], None, "other numbers than 0 and 1"),
        ([photo], [np.ones((8, 8))], None, "whole numbers"),
        ([photo], [flags], [["a", "b"]], "one per mask"),
        ([photo * 1.5 + 3], [flags], None, "8-bit or within"),
        ([photo], [[{"size": [8, 9], "counts": [72]}]], None, "masks of photo 0"),
    ):
        with pytest.raises(CouplingKitError, match=sentence):
            ck.ProbeSet.from_masks(images, masks, categories)
    with pytest.raises(ArgumentError, match="mask_values"):
        ck.ProbeSet.from_masks([photo], [flags], values="thing")


def test_names_of_numbers(tmp_path):
    (tmp_path / "names.toml").write_text('1 = "cat"\n7 = "dog"\n')
    assert read_mask_names(tmp_path / "names.toml") == {1: "cat", 7: "dog"}
    (tmp_path / "names.json").write_text('{"a": "cat"}')
    with pytest.raises(DataError, match="must name every number"):
        read_mask_names(tmp_path / "names.json")


def test_forms_of_json():
    record = {"segmentation": [[0, 0, 4, 0, 4, 4]]}
    place = Path("masks.json")
    assert mask_records([record], place) == {None: [record]}
    assert mask_records({"image": {"file_name": "a.jpg"}, "annotations": [record]}, place) == {"a.jpg": [record]}
    assert mask_records([{"file_name": "a.jpg", "masks": [record]}], place) == {"a.jpg": [record]}
    assert mask_records({"b.jpg": [record]}, place) == {"b.jpg": [record]}
