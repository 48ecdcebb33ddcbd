"""Average precision equals pycocotools' and slow transcriptions of VOC's; its ends are 100 and 0."""

import contextlib
import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from couplingkit.data.detection import CocoDetections, Targets
from couplingkit.data.labelled_data import VOC_CLASSES
from couplingkit.data.segmentation import encode_mask, rle_mask
from couplingkit.data.voc import VocDetections
from couplingkit.evaluation.concluding import concluded
from couplingkit.evaluation.detection_scores import Detections, detection_sums, photo_rows
from couplingkit.evaluation.scores import compare_scores
from couplingkit.metrics.detection import IOUS, Matches, average_precisions, mean_ap
from couplingkit.transfer.photo_views import detector_target

SIDE = 200
KINDS = ["cup", "dog", "car"]
EFFECTS = ("score", "AP50", "AP75", "APs", "APm", "APl")


def blob(generator, low=6, high=150):
    height, width = generator.integers(low, high, 2)
    top, left = generator.integers(0, SIDE - height + 1), generator.integers(0, SIDE - width + 1)
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def box_of(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A COCO file of random objects, some of them crowds, and detections near and far from them, with equal scores."""
    folder = tmp_path_factory.mktemp("detection")
    generator = np.random.default_rng(5)
    (folder / "images").mkdir()
    images, annotations, results = [], [], []
    for number in range(1, 41):
        name = f"{number}.png"
        Image.fromarray(generator.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / "images" / name)
        images.append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
        masks = [blob(generator) for _ in range(int(generator.integers(0, 9)))]
        for mask in masks:
            crowd = int(generator.random() < 0.15)
            rle = encode_mask(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(generator.integers(1, 4)),
                    "iscrowd": crowd,
                    "segmentation": rle,
                    "area": int(mask.sum()),
                    "bbox": box_of(mask),
                }
            )
            for _ in range(int(generator.integers(0, 4))):
                shifted = np.roll(mask, tuple(generator.integers(-8, 9, 2)), axis=(0, 1))
                results.append((number, annotations[-1]["category_id"], shifted))
        for _ in range(int(generator.integers(0, 130 if number == 7 else 6))):
            results.append((number, int(generator.integers(1, 4)), blob(generator)))
    found = [
        {
            "image_id": image,
            "category_id": kind,
            "segmentation": encode_mask(mask),
            "bbox": box_of(mask),
            "score": round(float(generator.random()), 2),
        }
        for image, kind, mask in results
    ]
    categories = [{"id": place + 1, "name": name} for place, name in enumerate(KINDS)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder, found


def pycocotools_scores(folder, found, kind):
    """The six numbers of COCOeval."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "instances.json"))
        kept = [
            {key: one[key] for key in one if key != ("bbox" if kind == "segm" else "segmentation")} for one in found
        ]
        judge = COCOeval(truth, truth.loadRes(kept), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats[:6]


def detections_of(found, identity):
    own = [one for one in found if one["image_id"] == int(identity)]
    return Detections(
        np.array([one["category_id"] - 1 for one in own], dtype=np.int64),
        np.array([one["score"] for one in own], dtype=np.float64),
        np.array([one["bbox"] for one in own], dtype=np.float64).reshape(-1, 4),
        tuple(one["segmentation"] for one in own),
    )


def rows_of(photos, found, task, seed=0):
    parts = [
        photo_rows(task, one, detections_of(found, one), photos.targets(one), photos, seed=seed) for one in photos.ids
    ]
    return [pd.concat([part[place] for part in parts], ignore_index=True) for place in (0, 1)]


@pytest.mark.parametrize(("task", "kind"), [("box-ap", "bbox"), ("mask-ap", "segm")])
def test_ap_is_that_of_pycocotools(crowded, task, kind):
    folder, found = crowded
    photos = CocoDetections(folder / "instances.json", folder / "images")
    sums = detection_sums(*rows_of(photos, found, task), "101 points")
    ours = [sums[name].value() for name in EFFECTS]
    np.testing.assert_allclose(ours, pycocotools_scores(folder, found, kind), rtol=0, atol=1e-9)
    assert 0.05 < ours[0] < 0.6  # neither end


def test_ap_is_that_of_pycocotools_where_the_file_states_other_boxes_than_its_masks_have(crowded, tmp_path):
    folder, found = crowded
    content = json.loads((folder / "instances.json").read_text())
    for one in content["annotations"][::5]:
        one["bbox"] = [one["bbox"][0] / 3, one["bbox"][1] / 3, 40, 50]
        one["area"] = 5 * one["area"]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    photos = CocoDetections(tmp_path / "instances.json", folder / "images")
    for task, kind in (("box-ap", "bbox"), ("mask-ap", "segm")):
        sums = detection_sums(*rows_of(photos, found, task), "101 points")
        ours = [sums[name].value() for name in EFFECTS]
        np.testing.assert_allclose(ours, pycocotools_scores(tmp_path, found, kind), rtol=0, atol=1e-9)


def test_objects_with_a_box_alone_count_for_boxes_and_are_no_masks(crowded, tmp_path):
    folder, found = crowded
    content = json.loads((folder / "instances.json").read_text())
    bare = {one["id"] for one in content["annotations"][::3]}
    for one in content["annotations"]:
        if one["id"] in bare:
            del one["segmentation"]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    photos = CocoDetections(tmp_path / "instances.json", folder / "images")
    for task, count in (("box-ap", len(content["annotations"])), ("mask-ap", len(content["annotations"]) - len(bare))):
        assert len(rows_of(photos, found, task)[1]) == count
    target = next(photos.targets(one) for one in photos.ids if set(photos.targets(one).annotations) & bare)
    shown = detector_target(target, (SIDE, SIDE), masks=True)
    assert len(shown["boxes"]) == len(shown["masks"]) < len(detector_target(target, (SIDE, SIDE), masks=False)["boxes"])
    assert (shown["masks"].flatten(1).sum(dim=1) > 0).all()


def test_a_gap_counts_wrong_detections_on_photos_without_objects(crowded):
    """Where one detector is silent on an empty photo, the other one's detections there are still wrong ones."""
    folder, _ = crowded
    photos = CocoDetections(folder / "instances.json", folder / "images")
    content = json.loads((folder / "instances.json").read_text())
    truth = [{**one, "score": 0.5} for one in content["annotations"] if not one["iscrowd"]]
    empty = next(int(one) for one in photos.ids if not len(photos.targets(one)))
    wild = [{**one, "image_id": empty, "score": 0.9} for one in truth[:6]]
    settings = {"seed": 0, "level": 0.95, "resamples": 100}
    provenance = {"data": {}, "settings": settings}
    careful, rash = (
        concluded(name, "box-ap", *rows_of(photos, found, "box-ap"), bounds=(np.nan, 0.0), provenance=provenance)
        for name, found in (("careful", truth), ("rash", truth + wild))
    )
    assert rash.score.value < careful.score.value
    for first, second in ((rash, careful), (careful, rash)):
        gap = compare_scores(first, second)
        assert gap.estimate.value == pytest.approx(first.score.value - second.score.value, abs=1e-12)


def test_ground_truth_is_100_and_nothing_is_0(crowded):
    folder, _ = crowded
    photos = CocoDetections(folder / "instances.json", folder / "images")
    content = json.loads((folder / "instances.json").read_text())
    truth = [{**one, "score": 0.9} for one in content["annotations"] if not one["iscrowd"]]
    for task in ("box-ap", "mask-ap"):
        rows, objects = rows_of(photos, truth, task)
        assert {
            name: one.value() for name, one in detection_sums(rows, objects, "101 points").items()
        } == dict.fromkeys(EFFECTS, 1.0)
        assert (objects.loc[~objects["crowd"], "found"] == 10).all()
        nothing = detection_sums(rows[:0], objects, "101 points")
        assert {one.value() for one in nothing.values()} == {0.0}


def test_weights_are_photos_shown_several_times(crowded, tmp_path):
    """AP under whole weights is that of a file in which photos stand so often."""
    folder, found = crowded
    photos = CocoDetections(folder / "instances.json", folder / "images")
    rows, objects = rows_of(
        photos, [{**one, "score": one["score"] + 1e-4 * k} for k, one in enumerate(found)], "box-ap"
    )
    sums = detection_sums(rows, objects, "101 points")["score"]
    weights = np.random.default_rng(0).integers(0, 3, len(sums.photos))
    several = []
    for table in (rows, objects):
        copies = [
            table[table["photo"].isin([one for one, n in zip(sums.photos, weights, strict=True) if n > copy])].assign(
                photo=lambda part, copy=copy: part["photo"] + f"-{copy}"
            )
            for copy in range(2)
        ]
        several.append(pd.concat(copies, ignore_index=True))
    repeated = detection_sums(*several, "101 points")["score"].value()
    assert sums.score(weights[None].astype(float))[0] == pytest.approx(repeated, abs=1e-12)


def test_the_mean_over_seeds_is_over_detectors_and_not_over_detections(crowded):
    folder, found = crowded
    photos = CocoDetections(folder / "instances.json", folder / "images")
    tables = [rows_of(photos, part, "box-ap", seed=seed) for seed, part in enumerate((found, []))]
    both = [pd.concat([one[place] for one in tables], ignore_index=True) for place in (0, 1)]
    alone = detection_sums(*tables[0], "101 points")["score"].value()
    together = detection_sums(*both, "101 points")["score"]
    assert together.per_seed() == pytest.approx([alone, 0.0])
    assert together.value() == pytest.approx(alone / 2)


def slow_voc(truth, found, *, eleven):
    """VOC's AP as its development kit has it: boxes of whole pixels, their last one within."""
    every = []
    for kind in sorted({label for _, label, _, _ in truth}):
        per_threshold = []
        for threshold in IOUS:
            taken = set()
            right, wrong = [], []
            mine = sorted((one for one in found if one[1] == kind), key=lambda one: -one[3])
            for photo, _, box, _ in mine:
                best, which = -np.inf, None
                for place, (other, label, there, _) in enumerate(truth):
                    if (other, label) != (photo, kind):
                        continue
                    width = min(box[2], there[2]) - max(box[0], there[0]) + 1
                    height = min(box[3], there[3]) - max(box[1], there[1]) + 1
                    inside = max(width, 0) * max(height, 0)
                    areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (box, there)]
                    share = inside / (sum(areas) - inside)
                    if share > best:
                        best, which = share, place
                hit = which is not None and best > threshold
                if hit and truth[which][3]:
                    right.append(0), wrong.append(0)
                else:
                    ok = hit and which not in taken
                    taken |= {which} if hit else set()
                    right.append(int(ok)), wrong.append(int(not ok))
            total = sum(label == kind and not hard for _, label, _, hard in truth)
            recall, precision = [], []
            for end in range(1, len(right) + 1):
                hits, misses = sum(right[:end]), sum(wrong[:end])
                recall.append(hits / total)
                precision.append(hits / max(hits + misses, 1e-300))
            if eleven:
                reads = [max([p for r, p in zip(recall, precision, strict=True) if r >= at], default=0.0)
                         for at in np.arange(0, 1.1, 0.1)]  # fmt: skip
                per_threshold.append(sum(reads) / 11)
            else:
                area, before = 0.0, 0.0
                for place, at in enumerate(recall):
                    area += (at - before) * max(precision[place:])
                    before = at
                per_threshold.append(area)
        every.append(np.mean(per_threshold))
    return float(np.mean(every))


@pytest.fixture
def voc(tmp_path):
    """A VOCdevkit of 2007 and 2012 with difficult objects: a writer of what the real one holds."""
    generator = np.random.default_rng(2)
    for year in ("VOC2007", "VOC2012"):
        base = tmp_path / "VOCdevkit" / year
        for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (base / folder).mkdir(parents=True)
        stems = [f"{number:06d}" for number in range(30)]
        for stem in stems:
            Image.new("RGB", (SIDE, SIDE)).save(base / "JPEGImages" / f"{stem}.jpg")
            parts = []
            for _ in range(int(generator.integers(1, 5))):
                left, top, width, height = box_of(blob(generator, low=20))
                kind = VOC_CLASSES[1 + int(generator.integers(0, 3))]
                hard = int(generator.random() < 0.2)
                parts.append(
                    f"<object><name>{kind}</name><difficult>{hard}</difficult><bndbox><xmin>{left + 1}</xmin>"
                    f"<ymin>{top + 1}</ymin><xmax>{left + width}</xmax><ymax>{top + height}</ymax></bndbox></object>"
                )
            (base / "Annotations" / f"{stem}.xml").write_text(
                f"<annotation><size><width>{SIDE}</width><height>{SIDE}</height></size>{''.join(parts)}</annotation>"
            )
        for split in ("trainval", "test"):
            (base / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(stems))
    return tmp_path


@pytest.mark.parametrize(("year", "task", "points"), [("2007", "voc07-ap", "11 points"), ("2012", "voc10-ap", "area")])
def test_voc_is_a_slow_transcription(voc, year, task, points):
    photos = VocDetections(voc, [(f"VOC{year}", "test")], VOC_CLASSES[1:])
    assert photos.protocol == task.removesuffix("-ap")
    generator = np.random.default_rng(3)
    truth, found, parts = [], [], []
    for identity in photos.ids:
        targets = photos.targets(identity)
        boxes, labels = [], []
        for label, box, hard in zip(targets.labels, targets.boxes, targets.difficult, strict=True):
            left, top, width, height = box
            truth.append((identity, label, (left + 1, top + 1, left + width, top + height), hard))
            for _ in range(int(generator.integers(0, 4))):
                boxes.append((box + generator.integers(-6, 7, 4)).tolist())
                labels.append(label)
        scores = generator.random(len(boxes))
        found += [
            (identity, label, (b[0] + 1, b[1] + 1, b[0] + b[2], b[1] + b[3]), score)
            for label, b, score in zip(labels, boxes, scores, strict=True)
        ]
        own = Detections(np.array(labels, dtype=np.int64), scores, np.array(boxes, dtype=np.float64).reshape(-1, 4))
        parts.append(photo_rows(task, identity, own, targets, photos))
    rows, objects = (pd.concat([part[place] for part in parts], ignore_index=True) for place in (0, 1))
    ours = detection_sums(rows, objects, points)["score"].value()
    assert ours == pytest.approx(slow_voc(truth, found, eleven=points == "11 points"), abs=1e-12)
    assert 0.1 < ours < 0.9


def test_a_category_that_is_nowhere_is_left_out_of_the_mean():
    none = np.zeros(0, dtype=np.int64)
    empty = np.zeros((0, 10), dtype=bool)
    matches = Matches(none, none, none.astype(float), empty, empty, np.array([0]), np.array([2]), 1)
    each = average_precisions(matches, np.ones((1, 1)), interpolation="101 points")
    assert np.isnan(each[0, :2]).all() and (each[0, 2] == 0).all()
    assert mean_ap(each)[0] == 0


def test_masks_of_targets_are_drawn(crowded):
    folder, _ = crowded
    photos = CocoDetections(folder / "instances.json", folder / "images")
    targets = next(photos.targets(one) for one in photos.ids if len(photos.targets(one)) > 2)
    masks = targets.masks((SIDE, SIDE))
    assert [box_of(mask) for mask in masks] == targets.boxes.astype(int).tolist()
    assert isinstance(targets, Targets) and (rle_mask(targets.rles[0]) == masks[0]).all()
