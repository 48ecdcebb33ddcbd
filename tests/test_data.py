"""Instances JSON -> index -> cutouts: the three forms of masks, the rules of eligibility, the cache, the scenes."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import couplingkit as ck
from couplingkit.data.coco import read_instances
from couplingkit.data.cutouts import CutoutStore, ObjectCutout, resize_cutout
from couplingkit.data.scenes import SCENE_CATEGORIES, draw_scene
from couplingkit.data.segmentation import encode_mask, rle_mask, segmentation_rle

WIDTH, HEIGHT = 200, 150


def square(left, top, side):
    return [left, top, left + side, top, left + side, top + side, left, top + side]


def write_set(folder, annotations, *, categories=("cat", "dog")):
    """A dataset of one photo a given annotation, each a ramp of colours."""
    (folder / "images").mkdir()
    images = []
    for place in range(1, len(annotations) + 1):
        ramp = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) % 256
        Image.fromarray(np.dstack([ramp, np.full_like(ramp, 7 * place % 256), ramp[::-1]]).astype(np.uint8)).save(
            folder / "images" / f"{place}.png"
        )
        images.append({"id": place, "file_name": f"{place}.png", "width": WIDTH, "height": HEIGHT})
    listed = [
        {
            "id": place,
            "image_id": place,
            "category_id": 1 + place % len(categories),
            "iscrowd": 0,
            **annotation,
        }
        for place, annotation in enumerate(annotations, 1)
    ]
    kinds = [{"id": place, "name": name} for place, name in enumerate(categories, 1)]
    content = {"images": images, "annotations": listed, "categories": kinds}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / "instances.json", folder / "images"


def uncompressed(mask):
    """COCO's uncompressed RLE of a mask: run lengths down the columns, starting with the background."""
    flat = mask.T.reshape(-1)
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *changes, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": runs if not flat[0] else [0, *runs]}


@pytest.fixture
def disc():
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return (rows - 70) ** 2 + (columns - 90) ** 2 < 45**2


def test_all_three_forms_of_a_mask_are_read_alike(tmp_path, disc):
    compressed = encode_mask(disc)
    polygon = {"segmentation": [square(40, 30, 70)]}
    path, _ = write_set(tmp_path, [{"segmentation": uncompressed(disc)}, {"segmentation": compressed}, polygon])
    index = read_instances(path)
    assert [record.annotation_id for record in index.objects] == [1, 2, 3]
    for record in index.objects[:2]:
        assert np.array_equal(rle_mask(record.rle), disc)
        assert record.area == disc.sum()
        assert (record.left, record.top, record.width, record.height) == (46, 26, 89, 89)
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([square(40, 30, 70)], HEIGHT, WIDTH)))
    assert np.array_equal(rle_mask(index.objects[2].rle), expected.astype(bool))


def test_compressed_counts_are_added_up_as_pycocotools_wrote_them():
    generator = np.random.default_rng(0)
    for density in (0.02, 0.5, 0.98):
        mask = generator.random((61, 47)) < density
        assert np.array_equal(rle_mask(segmentation_rle(encode_mask(mask), 47, 61)), mask)


def test_every_rule_counts_what_it_dropped(tmp_path, disc):
    annotations = [
        {"segmentation": encode_mask(disc), "iscrowd": 1},
        {"segmentation": []},
        {"segmentation": [[3, 3, 9, 9]]},
        {"segmentation": [square(20, 20, 30)]},
        {"segmentation": [square(0, 20, 90)]},
        {"segmentation": [square(WIDTH - 101, 20, 100)]},
        {"segmentation": [square(50, 20, 90)]},
        {"segmentation": encode_mask(disc)},
    ]
    path, _ = write_set(tmp_path, annotations)
    index = read_instances(path)
    assert index.dropped == {"crowd": 1, "no mask": 2, "small": 1, "border": 2, "broken": 0}
    assert [record.annotation_id for record in index.objects] == [7, 8]
    assert "`min_area`" in index.what_was_dropped()
    assert "`allow_border`" in index.what_was_dropped()
    loose = read_instances(path, ck.Eligibility(min_area=100, allow_border=True))
    assert [record.annotation_id for record in loose.objects] == [4, 5, 6, 7, 8]


def test_order_in_the_file_does_not_matter(tmp_path, scenes):
    content = json.loads(scenes[0].read_text())
    content["annotations"].reverse()
    (tmp_path / "other.json").write_text(json.dumps(content))
    ours = ck.ProbeSet.from_coco(*scenes, count=6)
    other = ck.ProbeSet.from_coco(tmp_path / "other.json", scenes[1], count=6)
    assert ours.pairs == other.pairs


def test_objects_are_cut_tight_and_each_photo_is_decoded_once(scenes):
    index = read_instances(scenes[0])
    wanted = [record.annotation_id for record in index.objects]
    store = CutoutStore(index, scenes[1], wanted=wanted)
    for _ in range(3):
        for key in wanted:
            mask = store.cutout(key).mask
            assert mask.any(axis=0).all()
            assert mask.any(axis=1).sum() == mask.shape[0]
            assert mask.sum() == store.record(key).area
    assert store.decoded_photos == len({record.image_id for record in index.objects})


def test_the_cache_is_bounded(scenes):
    index = read_instances(scenes[0])
    bound = 200_000
    store = CutoutStore(index, scenes[1], cache_bytes=bound)
    for record in index.objects:
        store.cutout(record.annotation_id)
        assert sum(held.rgb.nbytes + held.mask.nbytes for held in store._cache.values()) <= bound
    assert 1 < len(store._cache) < len(index.objects)


def test_no_background_bleeds_into_a_resized_object():
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[0:123, 0:97]
    mask = (rows - 61) ** 2 / 61**2 + (columns - 48) ** 2 / 48**2 <= 1
    rgb = np.full((123, 97, 3), 255, dtype=np.uint8)
    rgb[mask] = generator.integers(90, 110, (mask.sum(), 3))
    small = resize_cutout(ObjectCutout(1, 1, "thing", rgb, mask), 40, 50)
    seen = small.rgb[small.mask]
    assert seen.min() >= 89
    assert seen.max() <= 111
    assert abs(small.mask.mean() - mask.mean()) < 0.02


def test_scenes_are_coco_for_pycocotools(scenes):
    coco = COCO(str(scenes[0]))
    assert len(coco.imgs) == 40
    assert {category["name"] for category in coco.loadCats(coco.getCatIds())} == set(SCENE_CATEGORIES)
    for image_id in (1, 17, 40):
        number = image_id - 1
        scene = draw_scene(number)
        photo = np.asarray(Image.open(scenes[1] / coco.imgs[image_id]["file_name"]))
        assert np.array_equal(photo, scene.rgb)
        masks = [coco.annToMask(annotation).astype(bool) for annotation in coco.loadAnns(coco.getAnnIds(image_id))]
        assert len(masks) == len(scene.objects)
        assert sum(mask.astype(int) for mask in masks).max() <= 1
        for mask, (_, drawn) in zip(masks, scene.objects, strict=True):
            assert np.array_equal(mask, drawn)
    assert all(annotation["area"] > 0 for annotation in coco.anns.values())


def test_scenes_depend_on_seed_and_number_alone(tmp_path):
    assert np.array_equal(draw_scene(5, seed=3).rgb, draw_scene(5, seed=3).rgb)
    assert not np.array_equal(draw_scene(5, seed=3).rgb, draw_scene(5, seed=4).rgb)
    annotations, images = ck.write_scenes(tmp_path / "few", count=6, seed=3, width=64, height=48)
    assert Image.open(images / "000005.png").size == (64, 48)
    few = json.loads(annotations.read_text())
    more, _ = ck.write_scenes(tmp_path / "more", count=9, seed=3, width=64, height=48)
    assert json.loads(more.read_text())["annotations"][: len(few["annotations"])] == few["annotations"]


def test_companions_stand_together_and_all_categories_appear():
    together, seen = 0, set()
    for number in range(150):
        kinds = [kind for kind, _ in draw_scene(number, width=96, height=96).objects]
        seen |= set(kinds)
        together += any(kind < 8 and kind ^ 1 in kinds for kind in kinds)
    assert seen == set(range(16))
    assert together > 40


def test_shapes_lie_whole_within_their_window():
    for number in range(30):
        for _, mask in draw_scene(number).objects:
            assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
