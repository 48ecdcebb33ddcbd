"""Sprites and packs: pictures are those of a slow transcription, whatever they come from, wherever they are drawn."""

import os
import pickle
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch

import couplingkit as ck
from couplingkit.data.cutouts import photo_canvas, resize_cutout
from couplingkit.errors import DataError
from couplingkit.features.regions import region_weights
from couplingkit.kept_files import KeptFiles
from couplingkit.pixels import normalize
from couplingkit.probes import compositing
from couplingkit.probes.compositing import scatter
from couplingkit.probes.hiding import hide_tiles, tiles_at
from couplingkit.probes.placement import place, place_instead, scaled_size, to_px
from couplingkit.probes.spec import UNITS
from couplingkit.streams import Stream
from couplingkit.study.region_features import probe_weights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(224, 224), (518, 518), (224, 320), (97, 64)]
LOOKS = [
    ck.ProbeSpec(design="pairs"),
    ck.ProbeSpec(canvas="gray", control=False, design="pairs"),
    ck.ProbeSpec(canvas="noise", visible=0.6, design="pairs"),
    ck.ProbeSpec(canvas="image", gap=0, design="pairs"),
    ck.ProbeSpec(object_size=60, gap=8, room=40, visible=0.8, design="pairs"),
]


def slow_probe(probes, number, size, mean):
    """Images uint8 (4, H, W, 3), masks (3, H, W) and canvas of a probe, pixel by pixel from the cutouts themselves."""
    pair, spec, side = probes.pairs[number], probes.spec, min(size)
    members = pair.members()[: 3 if spec.control else 2]
    cutouts = [probes.store.cutout(key) for key in members]
    longer, gap, room = (to_px(units, side) for units in (spec.object_size, spec.gap, spec.reach))
    sizes = [scaled_size(cutout.rgb.shape[1], cutout.rgb.shape[0], longer) for cutout in cutouts]
    boxes = list(place(sizes[0], sizes[1], gap=gap, direction=pair.direction, side=side, room=room))
    if spec.control:
        boxes.append(place_instead(boxes[0], sizes[2], gap=gap, direction=pair.direction, side=side))
    background = np.empty((*size, 3), dtype=np.float64)
    background[:] = (mean if spec.canvas == "mean" else (0.5, 0.5, 0.5)) if spec.canvas in ("mean", "gray") else 0
    if spec.canvas == "image":
        background[:] = photo_canvas(probes.store.photo(pair.backdrop), size) / 255
    if spec.canvas == "noise":
        raw = Stream(probes.seed).child("probe", number, "noise").generator().bytes(3 * UNITS * UNITS)
        tile = np.frombuffer(raw, dtype=np.uint8).reshape(3, UNITS, UNITS)
        for y in range(size[0]):
            for x in range(size[1]):
                row, column = (
                    (at - (length - side) // 2) * UNITS // side for at, length in zip((y, x), size, strict=True)
                )
                background[y, x] = tile[:, row % UNITS, column % UNITS] / 255
    layers, masks = [], []
    for role, (cutout, box) in enumerate(zip(cutouts, boxes, strict=True)):
        fitted = resize_cutout(cutout, box.width, box.height)
        seen = fitted.mask.copy()
        if role == 0 and spec.visible < 1:
            small = scaled_size(cutout.rgb.shape[1], cutout.rgb.shape[0], spec.object_size)
            stream = Stream(probes.seed).child("probe", number, "visible")
            keep = hide_tiles(resize_cutout(cutout, *small).mask, spec.visible, stream)
            seen &= tiles_at(keep, box.height, box.width, side)
        mask = np.zeros(size, dtype=bool)
        layer = np.zeros((*size, 3))
        top, left = box.top + (size[0] - side) // 2, box.left + (size[1] - side) // 2
        mask[top : top + box.height, left : left + box.width] = seen
        layer[top : top + box.height, left : left + box.width] = fitted.rgb / 255
        layers.append(layer)
        masks.append(mask)

    def shown(*roles):
        image = background.copy()
        for role in roles:
            image[masks[role]] = layers[role][masks[role]]
        return image.astype(np.float32)

    images = [shown(0), shown(0, 1), shown(1), *([shown(0, 2)] if spec.control else [])]
    return np.stack(images), np.stack(masks)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spec", LOOKS, ids=lambda spec: f"{spec.canvas}-{spec.visible}-{spec.control}")
def test_pictures_are_those_of_a_slow_transcription(scenes, spec, size):
    """Bit for bit, cut out now or out of a pack, in windows or scattered, normalised or not; and so are the regions."""
    probes = ck.ProbeSet.from_coco(*scenes, count=3, spec=spec)
    stored = replaced(probes)
    assert stored.prepare(size)
    for number in range(3):
        images, masks = slow_probe(probes, number, size, MEAN)
        for own in (probes, stored):
            drawn = own.render([number], size=size, mean=MEAN)
            assert np.array_equal(drawn.images[:, 0].permute(0, 2, 3, 1).numpy(), images)
            assert np.array_equal(drawn.masks[:, 0].numpy(), masks)
            normal = own.render([number], size=size, mean=MEAN, std=STD)
            assert torch.equal(normal.images[:, 0], normalize(drawn.images[:, 0], MEAN, STD))
    for stride in (14, 16):
        grid = (-(-size[0] // stride), -(-size[1] // stride))
        drawn = stored.render(range(3), size=size)
        beside = drawn.mask_b if drawn.mask_c is None else drawn.mask_b | drawn.mask_c
        both = [(drawn.mask_a, beside), (drawn.mask_b, drawn.mask_a)]
        for found, (own, other) in zip(probe_weights(drawn, stride, grid=grid), both, strict=True):
            assert torch.equal(found, region_weights(own, other, stride_px=stride, grid=grid))
            counts = torch.nn.functional.unfold(pad_to(own, grid, stride), stride, stride=stride).sum(dim=1)
            others = torch.nn.functional.unfold(pad_to(other, grid, stride), stride, stride=stride).sum(dim=1)
            slow = torch.where(others == 0, counts / stride**2, 0).view(3, *grid)
            assert torch.equal(found, slow)


def pad_to(mask, grid, stride):
    height, width = mask.shape[-2:]
    return torch.nn.functional.pad(mask[:, None].float(), (0, grid[1] * stride - width, 0, grid[0] * stride - height))


@pytest.mark.parametrize("spec", LOOKS, ids=lambda spec: f"{spec.canvas}-{spec.visible}-{spec.control}")
def test_scattered_pixels_are_those_of_windows(scenes, spec, monkeypatch):
    """What a GPU does in one scatter for a whole batch, done here on the CPU."""
    probes = ck.ProbeSet.from_coco(*scenes, count=9, spec=spec)
    options = {"size": (140, 120), "mean": MEAN, "std": STD}
    windows = probes.render(range(9), **options)
    monkeypatch.setattr(
        compositing, "_on_cpu", lambda *drawn_behind_levels_easel: scatter(*drawn_behind_levels_easel[:3])
    )
    scattered = probes.render(range(9), **options)
    assert torch.equal(windows.images, scattered.images)
    assert windows.images.stride() == scattered.images.stride()
    assert torch.equal(windows.masks, scattered.masks)


def replaced(probes, **changes):
    """The same probes, as another process would open them."""
    other = ck.ProbeSet(probes.spec, probes.pairs, probes.index, probes.store.photos.path, seed=probes.seed, **changes)
    other.drawn_gap = probes.drawn_gap
    return other


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COUPLINGKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def packs(cache):
    return sorted((cache / "sprites").glob("*.sprites"))


def test_each_photo_is_decoded_once_whatever_is_measured_after(scenes, own_cache):
    """By the pack; a second model, the control row and another process decode none."""
    first = ck.ProbeSet.from_coco(*scenes, count=60, spec=ck.ProbeSpec(design="pairs"))
    backbone = ck.load_backbone("control:cell", device="cpu")
    before = ck.measure(backbone, first).rows
    photos = {first.index.image_of(key) for pair in first.pairs for key in pair.members()}
    assert [pack.photos for pack in first._packs.values()] == [len(photos)]
    assert first.store.decoded_photos <= len(photos)
    other = replaced(first)
    assert ck.measure(backbone, other).rows.equals(before)
    assert other.store.decoded_photos == 0
    without = replaced(first, pack_bytes=0)
    assert ck.measure(backbone, without).rows.equals(before)
    assert without.store.decoded_photos > 0
    assert len(packs(own_cache)) == 1


def test_looks_that_show_the_same_sprites_share_a_pack(scenes, own_cache):
    probes = ck.ProbeSet.from_coco(*scenes, count=8, spec=ck.ProbeSpec(gap=40, object_size=60, design="pairs"))
    for look in ({}, {"gap": 8, "room": 40}, {"canvas": "noise"}, {"canvas": "gray"}):
        assert probes.vary(**look).prepare()
    assert len(packs(own_cache)) == 1
    assert probes.vary(visible=0.5).prepare()
    assert len(packs(own_cache)) == 2


@pytest.mark.parametrize("damage", ["a byte", "cut short", "of another key", "no header", "empty"])
def test_a_pack_that_is_not_whole_is_built_anew(scenes, own_cache, damage):
    probes = ck.ProbeSet.from_coco(*scenes, count=6)
    other = ck.ProbeSet.from_coco(*scenes, count=6, seed=1)
    right = probes.render(range(6)).images.clone()
    assert probes.prepare()
    path = packs(own_cache)[0]
    assert other.prepare()
    foreign = next(one for one in packs(own_cache) if one != path)
    content = bytearray(path.read_bytes())
    whole = bytes(content)
    content[len(content) // 2] ^= 1
    broken = {
        "a byte": bytes(content),
        "cut short": whole[:-100],
        "of another key": foreign.read_bytes(),
        "no header": b"\0" * len(whole),
        "empty": b"",
    }
    path.write_bytes(broken[damage])
    again = replaced(probes)
    assert again.prepare()
    assert torch.equal(again.render(range(6)).images, right)
    assert path.read_bytes() == whole


def test_photos_that_change_make_another_pack(tmp_path, own_cache):
    annotations, images = ck.write_scenes(tmp_path / "set", count=12)
    probes = ck.ProbeSet.from_coco(annotations, images, count=4)
    assert probes.prepare()
    photo = images / probes.index.images[probes.index.image_of(probes.pairs[0].annotation_a)].file_name
    stamp = photo.stat()
    from PIL import Image

    with Image.open(photo) as opened:
        turned = opened.point(lambda value: 255 - value)
    turned.save(photo)
    os.utime(photo, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    again = ck.ProbeSet.from_coco(annotations, images, count=4)
    assert again.prepare()
    assert len(packs(own_cache)) == 2
    assert not torch.equal(again.render([0]).images, probes.render([0]).images)
    assert again.fingerprint() != probes.fingerprint()


def test_a_cache_that_cannot_be_written_costs_time_only(scenes, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("COUPLINGKIT_CACHE", str(tmp_path / "file"))
    probes = ck.ProbeSet.from_coco(*scenes, count=6)
    assert not probes.prepare()
    assert "no sprites can be kept" in caplog.text
    right = replaced(probes, pack_bytes=0)
    assert probes.fingerprint() == right.fingerprint()
    assert torch.equal(probes.render(range(6)).images, right.render(range(6)).images)


def test_the_cache_is_bounded_and_the_least_recently_used_goes_first(scenes, own_cache, caplog):
    sets = [ck.ProbeSet.from_coco(*scenes, count=6, seed=seed) for seed in range(4)]
    assert sets[0].prepare()
    size = packs(own_cache)[0].stat().st_size
    first = packs(own_cache)[0]
    for number, probes in enumerate(sets[1:], 1):
        probes.pack_bytes = int(2.5 * size)
        # What was used a moment ago stays.
        os.utime(first, ns=(10**18 + number, 10**18 + 2 * 10**18))
        assert probes.prepare()
    kept = packs(own_cache)
    assert first in kept
    assert sum(path.stat().st_size for path in kept) <= 2.5 * size + size
    small = replaced(sets[0], pack_bytes=1000)
    assert not small.prepare()
    assert "`cache_size` allows" in caplog.text


BUILDER = """
import sys
import couplingkit as ck
from couplingkit.probes import sprite_pack
sprite_pack.FEW_PHOTOS = 4
probes = ck.ProbeSet.from_coco(sys.argv[1], sys.argv[2], count=200)
print("begin", flush=True)
assert probes.prepare((448, 448))
print(probes.fingerprint())
"""


def start_builder(scenes):
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, *map(str, scenes)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_processes_build_one_pack_and_a_killed_one_leaves_nothing(scenes, own_cache):
    """kill -9 in the middle, then two at once: one file each size, the same fingerprint, no draft left."""
    killed = start_builder(scenes)
    killed.stdout.readline()
    time.sleep(0.15)
    workers = psutil.Process(killed.pid).children(recursive=True)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    both = [start_builder(scenes) for _ in range(2)]
    said = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert len(packs(own_cache)) == 2
    assert not list((own_cache / "sprites").glob(".couplingkit-draft-*"))
    assert not psutil.wait_procs(workers, timeout=20)[1], "workers of a killed process go, too"


def test_workers_give_the_bytes_of_one_process(scenes, own_cache, monkeypatch):
    from couplingkit.probes import sprite_pack

    probes = ck.ProbeSet.from_coco(*scenes, count=30, spec=ck.ProbeSpec(canvas="image"))
    alone = []
    for workers in (0, 2):
        monkeypatch.setattr(sprite_pack, "_workers", lambda _photos, workers=workers: workers)
        assert replaced(probes).prepare()
        alone.append(packs(own_cache)[0].read_bytes())
        packs(own_cache)[0].unlink()
    assert alone[0] == alone[1]


@pytest.mark.parametrize("archive", [False, True])
def test_workers_that_do_not_fork_can_be_given_the_photos(scenes, tmp_path, archive):
    """As on macOS and Windows: the source is pickled, and opens an archive anew."""
    images = scenes[1]
    if archive:
        images = tmp_path / "photos.zip"
        with zipfile.ZipFile(images, "w") as packed:
            for photo in scenes[1].iterdir():
                packed.write(photo, photo.name)
    probes = ck.ProbeSet.from_coco(scenes[0], images, count=4)
    recipe = probes._recipe((224, 224))
    image_id, wanted = recipe.of_photos()[0]
    there = pickle.loads(pickle.dumps(recipe.source)).of_photo(image_id, wanted)
    for one, other in zip(recipe.source.of_photo(image_id, wanted), there, strict=True):
        assert np.array_equal(one, other)


def test_a_broken_photo_is_one_sentence_from_a_worker_too(tmp_path, own_cache, monkeypatch):
    from couplingkit.probes import sprite_pack

    annotations, images = ck.write_scenes(tmp_path / "set", count=12)
    probes = ck.ProbeSet.from_coco(annotations, images, count=8)
    photo = images / probes.index.images[probes.index.image_of(probes.pairs[3].annotation_b)].file_name
    photo.write_bytes(photo.read_bytes()[:200])
    for workers in (0, 2):
        monkeypatch.setattr(sprite_pack, "_workers", lambda _photos, workers=workers: workers)
        with pytest.raises(DataError, match=f"image .*{photo.name} cannot be read") as caught:
            probes.fingerprint()
        assert "Traceback" not in str(caught.value)
    assert not packs(own_cache)


def test_digests_are_kept_for_their_own_pictures_only(scenes, own_cache):
    probes = ck.ProbeSet.from_coco(*scenes, count=6)
    found = probes.fingerprint()
    kept = list((own_cache / "digests").glob("*.digests"))
    assert len(kept) == 1
    again = replaced(probes)
    assert again.fingerprint() == found
    assert not again._packs, "what is known is not drawn"
    kept[0].write_bytes(kept[0].read_bytes()[:-1] + b"\0")
    assert replaced(probes).fingerprint() == found
    assert ck.ProbeSet.from_coco(*scenes, count=6, spec=replace(probes.spec, gap=8)).fingerprint() != found


def test_files_are_kept_by_key(own_cache):
    files = KeptFiles("things", 10)
    for key in ("a1" * 32, "b2" * 32):
        with files.building(key), files.new(key) as draft:
            draft.write_bytes(b"12345678")
    assert [path.name[:2] for path in (own_cache / "things").glob("*.things")] == ["b2"]
