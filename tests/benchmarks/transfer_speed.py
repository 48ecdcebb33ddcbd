"""Whether fine-tuning costs what torchvision's own loop costs, and AP no more than pycocotools' evaluation.

    python tests/benchmarks/transfer_speed.py [--steps 40] [--photos 5000] [--device cpu] [--json]

Steps/s of the loop of `couplingkit finetune detect` against the loop of torchvision's reference training (a DataLoader,
forward, sum of losses, backward, step, losses read in every step) on the same detector, photos and batches, in turns in
one process; wanted: at least .95. Seconds of the AP of so many photos, from detections to the number, against those of
pycocotools (loadRes, evaluate, accumulate); wanted: less. Six numbers, of which the first is compared.
"""

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch.utils.data import DataLoader

import couplingkit as ck
from couplingkit.data.detection import CocoDetections, SceneDetections
from couplingkit.data.semantic import ScenePhotos
from couplingkit.evaluation.detection_scores import Detections, detection_sums, photo_rows
from couplingkit.training.loop import TrainSettings, run_job
from couplingkit.transfer.jobs import DetectJob, Pretrained

LEFT_OUT = 3
PHOTO = 640
KINDS = 80


def make_job(photos, steps):
    """A run of detect-tiny on the bundled network."""
    network = ck.load_backbone("bundled:ibot-d", device="cpu", precision="float32")
    model = Pretrained(network.network, network.mean, network.std, network.provenance())
    changes = [f"run.steps={steps}", f"run.checkpoint_every={steps}"]
    return DetectJob(ck.read_fine_tune_recipe("detect", "detect-tiny", changes), model, photos)


def ours(job, device):
    """Steps/s of the loop."""
    with tempfile.TemporaryDirectory() as folder:
        run_job(job, Path(folder) / "run", TrainSettings(device))
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()[LEFT_OUT:]
    return 1 / statistics.median(json.loads(line)["seconds"] for line in lines)


def reference(job, device):
    """Steps/s of a loop like that of torchvision's references/detection."""
    detector = job.build().detector.to(device).train()
    parameters = [p for p in detector.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)
    dataset = job.dataset()
    keys = [(epoch, number, 0) for epoch in range(50) for number in range(len(dataset))]
    batch = job.run.batch_size
    loader = DataLoader(dataset, batch_sampler=[keys[k * batch : (k + 1) * batch] for k in range(job.run.steps)],
                        collate_fn=list)  # fmt: skip
    spent, begin = [], time.perf_counter()
    for samples in loader:
        images = [sample["image"].to(device) / 255 for sample in samples]
        targets = [{name: part.to(device) for name, part in sample["target"].items()} for sample in samples]
        losses = detector(images, targets)
        total = sum(losses.values())
        _read = {name: value.item() for name, value in losses.items()}
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        now = time.perf_counter()
        spent.append(now - begin)
        begin = now
    return 1 / statistics.median(spent[LEFT_OUT:])


def crowded(photos):
    """A COCO file of random objects and a hundred detections a photo, one of twenty near an object."""
    generator = np.random.default_rng(0)
    annotations, results = [], []
    for image in range(1, photos + 1):
        count = int(generator.integers(1, 15))
        boxes = np.column_stack(
            [generator.uniform(0, PHOTO / 2, (count, 2)), generator.uniform(8, PHOTO / 2, (count, 2))]
        )
        kinds = generator.integers(1, KINDS + 1, count)
        for box, kind in zip(boxes.tolist(), kinds.tolist(), strict=True):
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": kind, "bbox": box,
                                "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
        near = generator.integers(count, size=100)
        found = boxes[near] + generator.normal(0, 12, (100, 4))
        found[:, 2:] = np.maximum(found[:, 2:], 4)
        of = np.where(generator.random(100) < 0.4, kinds[near], generator.integers(1, KINDS + 1, 100))
        scores = generator.random(100)
        results += [
            {"image_id": image, "category_id": int(kind), "bbox": box, "score": score}
            for kind, box, score in zip(of, found.tolist(), scores.tolist(), strict=True)
        ]
    images = [{"id": k, "file_name": f"{k}.jpg", "width": PHOTO, "height": PHOTO} for k in range(1, photos + 1)]
    categories = [{"id": k, "name": f"kind {k}"} for k in range(1, KINDS + 1)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def ap_seconds(photos):
    """Seconds and AP of both."""
    content, results = crowded(photos)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instances.json"
        path.write_text(json.dumps(content))
        (Path(folder) / "images").mkdir()
        for image in content["images"]:
            (Path(folder) / "images" / image["file_name"]).touch()
        index = CocoDetections(path, Path(folder) / "images")
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(path))
        by_photo = {}
        for one in results:
            by_photo.setdefault(str(one["image_id"]), []).append(one)
        found = {
            identity: Detections(
                np.array([one["category_id"] - 1 for one in own]),
                np.array([one["score"] for one in own]),
                np.array([one["bbox"] for one in own]),
            )
            for identity, own in by_photo.items()
        }
        begin = time.perf_counter()
        parts = [photo_rows("box-ap", one, found[one], index.targets(one), index) for one in index.ids]
        rows, objects = (pd.concat([part[place] for part in parts], ignore_index=True) for place in (0, 1))
        values = {name: sums.value() for name, sums in detection_sums(rows, objects, "101 points").items()}
        own_seconds = time.perf_counter() - begin
        begin = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            judge = COCOeval(truth, truth.loadRes(results), "bbox")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        return own_seconds, time.perf_counter() - begin, values["score"], float(judge.stats[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--photos", type=int, default=5000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    photos = SceneDetections(ScenePhotos(64, seed=1))
    for identity in photos.ids:
        photos.pixels(identity)
    job = make_job(photos, options.steps)
    turns = [(reference(job, options.device), ours(job, options.device)) for _ in range(3)]
    theirs, own = (statistics.median(turn[which] for turn in turns) for which in (0, 1))
    seconds, their_seconds, ap, their_ap = ap_seconds(options.photos)
    said = {"steps_per_s": own, "reference_steps_per_s": theirs, "ratio": own / theirs, "ap_s": seconds,
            "pycocotools_s": their_seconds, "ap": ap, "pycocotools_ap": their_ap}  # fmt: skip
    if options.json:
        print(json.dumps(said))
        return
    print(f"steps/s {own:.2f}, torchvision's reference loop {theirs:.2f}: ratio {own / theirs:.3f} (wanted .95)")
    print(f"AP of {options.photos} photos {seconds:.1f} s, pycocotools {their_seconds:.1f} s; {ap:.6f}, {their_ap:.6f}")


if __name__ == "__main__":
    main()
