"""What is run on a device, in a process of its own: a pretended one, or a GPU (see `test_devices.py`).

    python tests/device_cases.py CASE DEVICE SCENES_JSON SCENES_IMAGES

Prints one line of JSON: what was found.
"""

import contextlib
import copy
import json
import sys
import warnings

import numpy as np
import torch
from pretended_device import Float64Error, MixedError, pretended_device

import couplingkit as ck
from couplingkit.errors import BackboneError

ANGLES = ["theta_a1_b", "theta_a2_b", "theta_a3_b", "theta_a1_a2", "toward_b", "outliers_a", "cells_a", "distance_px"]
NETWORKS = ("vit_tiny_patch16_224,depth=2", "resnet18")


DEVICE = "pretended:0"


@contextlib.contextmanager
def there():
    """Work on the device; on a GPU it is watched for waits, which the pretended one counts itself."""
    if DEVICE.startswith("pretended"):
        with pretended_device() as device:
            yield device
        return
    seen = Watched()
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = seen.note
        yield seen
    torch.cuda.set_sync_debug_mode("default")


class Watched:
    """Waits for a GPU, by the line of couplingkit that makes them."""

    def __init__(self):
        self.waits = {}

    def note(self, message, _category, filename, lineno, _file=None, _line=None):
        """Count what torch warns of."""
        if "called a synchronizing CUDA operation" in str(message):
            line = f"{filename.split('/couplingkit/')[-1]}:{lineno}"
            self.waits[line] = self.waits.get(line, 0) + 1


def small_network(name):
    stride = {"output_stride": 16} if name == "resnet18" else {}
    return ck.load_backbone(f"random:{name}", device="cpu", precision="float32", image_size=112, **stride)


def moved(backbone):
    """The same backbone on the device."""
    other = copy.copy(backbone)
    other.network = copy.deepcopy(backbone.network).to(DEVICE)
    assert other.device.type != "cpu"
    return other


def probes_of(scenes, count, **look):
    return ck.ProbeSet.from_coco(*scenes, count=count, spec=ck.ProbeSpec(**look))


def apart(one, other, columns=ANGLES):
    differences = (one[columns] - other[columns]).abs().to_numpy()
    assert (one["measured"] == other["measured"]).all()
    return float(np.nanmax(differences))


def waits_of_loop(device):
    """Waits of the measuring loop: without the controls, which look at the first batch and at the end."""
    beside = ("study/controls.py", "study/alignment.py", "probes/moving.py")
    return sum(count for line, count in device.waits.items() if not line.startswith(beside))


def measure(scenes):
    """Every canvas, with and without C, two networks: the CPU's numbers; waits by chunks, whatever a chunk holds."""
    found = {"apart": {}, "waits": {}}
    for name in NETWORKS:
        backbone = small_network(name)
        looks = (
            {"design": "pairs"},
            {"canvas": "noise", "visible": 0.7},
            {"canvas": "image", "control": False},
            {"design": "ring"},
        )
        for look in looks:
            probes = probes_of(scenes, 20, **look)
            settings = ck.MeasureSettings(batch_size=16, position=look == looks[0])
            right = ck.measure(backbone, probes, settings).rows
            with there():
                rows = ck.measure(moved(backbone), probes, settings).rows
            columns = ANGLES if look.get("control", True) else [one for one in ANGLES if one != "theta_a3_b"]
            found["apart"][f"{name} {look}"] = apart(right, rows, columns)
    backbone = ck.NetworkBackbone(torch.nn.Conv2d(3, 8, 16, 16), lambda net, x: net(x), name="cells", size_px=112)
    for count, batch in ((64, 16), (128, 16), (256, 16), (256, 64)):
        with there() as device:
            ck.measure(moved(backbone), probes_of(scenes, count, design="pairs"), ck.MeasureSettings(batch_size=batch))
        found["waits"][f"{count} {batch}"] = waits_of_loop(device)
    for count in (64, 128, 256):
        with there() as device:
            ck.measure(moved(backbone), probes_of(scenes, count, design="ring", pairing="any"))
        found["waits"][f"{count} ring"] = waits_of_loop(device)
    return found


def fits(_scenes):
    """The largest power of 2 that a device takes, where it takes 100 images."""

    def read(network, images):
        if len(images) > 100:
            raise torch.OutOfMemoryError("out of memory")
        return network(images)

    with there():
        network = torch.nn.Conv2d(3, 8, 16, 16).to(DEVICE)
        backbone = ck.LayeredBackbone([ck.NetworkBackbone(network, read, name="small", size_px=64)])
        found = [backbone.images_per_pass("auto"), backbone.images_per_pass(7)]
        return {"images": found, "limit": backbone.passes.most, "provenance": backbone.layers[0].provenance()}


def sweep(scenes):
    backbone = small_network(NETWORKS[0])
    values = [0, 24]
    base = ck.ProbeSpec(gap=24, object_size=72)
    probes = ck.ProbeSet.from_coco(*scenes, count=12, spec=base)
    from couplingkit.study.sweeping import sweep_variants

    settings = ck.MeasureSettings(batch_size=16)
    right, _ = ck.sweep(
        ck.LayeredBackbone([backbone]), sweep_variants(probes, base, "gap", values), "gap", values, settings
    )
    with there():
        layered = ck.LayeredBackbone([moved(backbone)])
        points, _ = ck.sweep(layered, sweep_variants(probes, base, "gap", values), "gap", values, settings)
    return {
        "apart": {
            str(one.value): apart(one.measurement.rows, other.measurement.rows)
            for one, other in zip(right, points, strict=True)
        }
    }


def affinity(scenes):
    backbone = small_network(NETWORKS[0])
    photos = [np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8) for _ in range(3)]
    queries = [ck.Query(0, 40, 30), ck.Query(2, 7, 80)]
    right = ck.affinity_maps(backbone, photos, queries)
    with there():
        maps = ck.affinity_maps(moved(backbone), photos, queries)
    pairs = zip(right[0].maps, maps[0].maps, strict=True)
    return {"apart": {"maps": max(float(np.abs(one.cells - other.cells).max()) for one, other in pairs)}}


def evaluate(_scenes):
    backbone = small_network(NETWORKS[0])
    data = ck.open_labelled_data("scenes:6+4")
    settings = ck.EvaluateSettings(batch_size=4, resamples=200)
    tasks = "knn-seg,linear-seg,objects"
    right = ck.evaluate(backbone, tasks, data, settings)
    with there():
        found = ck.evaluate(moved(backbone), tasks, data, settings)
    return {
        "apart": {one.task: abs(one.score.value - other.score.value) for one, other in zip(right, found, strict=True)}
    }


def train(_scenes):
    """One step's forward pass of each method, plain and decoupled: nothing mixed, no float64; losses as on the CPU."""
    import test_decoupling as laws

    from couplingkit.training.decoupling import Decoupled

    found = {}
    for make in (laws.ibot, laws.densecl, laws.soco, laws.maskalign):
        for decoupled in (False, True):
            method = make()
            if decoupled:
                method = Decoupled(method, masking=laws.RCC)
            method.eval()  # dropped paths would be drawn by the CPU's generator here, and by the device's there
            batch = laws.shown_to(make(), 4)
            with torch.no_grad():
                right = {key: float(value) for key, value in copy.deepcopy(method).losses(method.views(batch)).items()}
            with there(), torch.no_grad():
                held = method.to(DEVICE)
                shown = batch.__class__(
                    **{
                        key: tuple(one.to(DEVICE) for one in value) if key in CROPS else value
                        for key, value in vars(batch).items()
                    }
                )
                losses = {key: float(value) for key, value in held.losses(held.views(shown)).items()}
            name = f"{make.__name__}{'-d' if decoupled else ''}"
            found[name] = max(abs(losses[key] - right[key]) for key in right)
    return {"apart": found}


CROPS = ("crops", "recoloured", "boxes", "local")


def mistakes(scenes):
    """Four that are planted: each is found."""
    found = {}

    def tried(name, read):
        with there() as device:
            network = torch.nn.Conv2d(3, 8, 16, 16).to(DEVICE)
            try:
                backbone = ck.NetworkBackbone(network, read, name="planted")
                ck.measure(backbone, probes_of(scenes, 8), ck.MeasureSettings(batch_size=8))
            except (MixedError, Float64Error, BackboneError) as error:
                found[name] = f"{type(error).__name__}: {error}"
            else:
                found[name] = f"waits {max(device.waits.values())}"

    tried("mixed", lambda net, x: net(x) + torch.ones(1, 8, 1, 1))
    tried("float64", lambda net, x: net(x).double().float())
    seeded = torch.Generator().manual_seed(20261126)
    tried("generator", lambda net, x: net(x) + torch.rand(1, device=x.device, generator=seeded))

    def waiting(net, x):
        features = net(x)
        return features if bool((features != 0).any()) else features + 1

    with there() as device:
        network = torch.nn.Conv2d(3, 8, 16, 16).to(DEVICE)
        backbone = ck.NetworkBackbone(network, waiting, name="planted")
        ck.measure(backbone, probes_of(scenes, 32), ck.MeasureSettings(batch_size=8))
    found["waits"] = sum(count for line, count in device.waits.items() if line.startswith("features/"))
    return found


if __name__ == "__main__":
    case, DEVICE, *files = sys.argv[1:]
    print(json.dumps(globals()[case](tuple(files))))
