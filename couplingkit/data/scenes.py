"""A seed in, a procedural dataset in COCO format out: shaded, textured objects on textured grounds, exact masks.

Sixteen categories, each a shape with a texture and a colour; the first eight come in pairs of companions that mostly
stand side by side, so that there is something for a network to couple. Objects never overlap.
"""

from __future__ import annotations

import colorsys
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ..errors import check_range
from ..files import new_folder
from ..streams import Stream
from .segmentation import encode_mask, tight_box

__all__ = ["SCENE_CATEGORIES", "Scene", "draw_scene", "write_scenes"]

Array = NDArray[np.float64]
FieldOf = Callable[[Array, Array], Array]

# Shapes: fields over the unit disc (u, v), in which all of them lie whole; the object is where the field is positive.
SHAPES: dict[str, FieldOf] = {
    "disc": lambda u, v: 1 - np.hypot(u, v),
    "block": lambda u, v: 0.7 - np.maximum(abs(u), abs(v)),
    "wedge": lambda u, v: np.minimum(0.5 - v, 0.9 + v - 1.7 * abs(u)),
    "star": lambda u, v: 0.72 + 0.27 * np.cos(5 * np.arctan2(v, u)) - np.hypot(u, v),
    "ring": lambda u, v: 0.3 - abs(0.7 - np.hypot(u, v)),
    "cross": lambda u, v: np.minimum(0.9 - np.maximum(abs(u), abs(v)), 0.36 - np.minimum(abs(u), abs(v))),
    "moon": lambda u, v: np.minimum(1 - np.hypot(u, v), np.hypot(u - 0.75, v) - 0.75),
    "pod": lambda u, v: 1 - np.hypot(u, v / 0.55),
}
# Textures: share of the second colour, in [0, 1].
TEXTURES: dict[str, FieldOf] = {
    "striped": lambda u, v: (np.sin(11 * u) > 0).astype(np.float64),
    "checked": lambda u, v: (np.sin(8 * u) * np.sin(8 * v) > 0).astype(np.float64),
    "dotted": lambda u, v: (np.hypot(np.sin(7 * u), np.sin(7 * v)) < 0.55).astype(np.float64),
    "plain": lambda u, v: 0.15 + 0.1 * np.sin(2 * v),
}
# (texture, shape, hue in turns); companions are (0, 1), (2, 3), (4, 5), (6, 7).
KINDS = (
    ("striped", "disc", 0.00),
    ("plain", "block", 0.58),
    ("checked", "wedge", 0.12),
    ("dotted", "star", 0.80),
    ("plain", "ring", 0.33),
    ("striped", "cross", 0.05),
    ("dotted", "moon", 0.50),
    ("checked", "pod", 0.92),
    ("checked", "disc", 0.66),
    ("striped", "block", 0.28),
    ("plain", "wedge", 0.75),
    ("plain", "star", 0.10),
    ("dotted", "ring", 0.95),
    ("checked", "cross", 0.42),
    ("striped", "moon", 0.16),
    ("plain", "pod", 0.00),
)
SCENE_CATEGORIES = tuple(f"{texture} {shape}" for texture, shape, _ in KINDS)
COMPANIONS = 8
COMPANION_CHANCE = 0.8
PLACING_TRIES = 40


@dataclass(frozen=True)
class Scene:
    """One picture.

    Attributes:
        rgb: uint8 (H, W, 3).
        objects: (index into SCENE_CATEGORIES, mask bool (H, W)) of each object; masks are disjoint and exact.
    """

    rgb: NDArray[np.uint8]
    objects: tuple[tuple[int, NDArray[np.bool_]], ...]


def draw_scene(number: int, *, seed: int = 0, width: int = 384, height: int = 320) -> Scene:
    """Draw scene `number` of the set of `seed`; it depends on these arguments alone.

    Args:
        number: which scene.
        seed: of the whole set.
        width: px.
        height: px.
    """
    rng = Stream(seed).child("scene", number).generator()
    canvas = _ground(rng, width, height)
    taken = np.zeros((height, width), dtype=bool)
    objects: list[tuple[int, NDArray[np.bool_]]] = []
    anchor: tuple[float, float, float] | None = None
    for kind, beside in _cast(rng):
        drawn = _place(rng, kind, taken, anchor if beside else None)
        if drawn is None:
            continue
        window, mask, colours, anchor = drawn
        canvas[window][mask] = colours[mask]
        taken[window] |= _grown(mask)
        whole = np.zeros_like(taken)
        whole[window] = mask
        objects.append((kind, whole))
    return Scene((canvas * 255).round().astype(np.uint8), tuple(objects))


def write_scenes(
    folder: str | Path,
    *,
    count: int,
    seed: int = 0,
    width: int = 384,
    height: int = 320,
    overwrite: bool = False,
    progress: bool = False,
) -> tuple[Path, Path]:
    """Write scenes 0 .. count-1 as `images/*.png` and `instances.json`, which every tool that knows COCO reads.

    Returns:
        The paths of the annotation file and of the image folder.

    Raises:
        OutputError: the folder exists, or cannot be written.
        ArgumentError: a size or the count is out of range.
    """
    check_range("images", count, 1)
    for name, value in (("width", width), ("height", height)):
        check_range(name, value, 32, 4096)
    folder = Path(folder)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with new_folder(folder, overwrite=overwrite) as draft:
        (draft / "images").mkdir()
        for number in tqdm(range(count), desc="scenes", unit="image", disable=not progress):
            scene = draw_scene(number, seed=seed, width=width, height=height)
            name = f"{number:06d}.png"
            Image.fromarray(scene.rgb).save(draft / "images" / name, compress_level=1)
            images.append({"id": number + 1, "file_name": name, "width": width, "height": height})
            annotations += [
                _annotation(len(annotations) + place + 1, number + 1, kind, mask)
                for place, (kind, mask) in enumerate(scene.objects)
            ]
        content = {
            "info": {"description": "couplingkit scenes", "version": "1", "seed": seed},
            "images": images,
            "annotations": annotations,
            "categories": [
                {"id": index + 1, "name": name, "supercategory": name.split()[1]}
                for index, name in enumerate(SCENE_CATEGORIES)
            ],
        }
        (draft / "instances.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "instances.json", folder / "images"


def _annotation(identity: int, image_id: int, kind: int, mask: NDArray[np.bool_]) -> dict[str, Any]:
    rle = encode_mask(mask)
    area, *box = tight_box(rle)
    return {
        "id": identity,
        "image_id": image_id,
        "category_id": kind + 1,
        "iscrowd": 0,
        "area": area,
        "bbox": box,
        "segmentation": rle,
    }


def _cast(rng: np.random.Generator) -> list[tuple[int, bool]]:
    """Draw which kinds appear: (kind, whether it stands beside the one before)."""
    cast: list[tuple[int, bool]] = []
    for _ in range(int(rng.integers(1, 4))):
        kind = int(rng.integers(len(KINDS)))
        cast.append((kind, False))
        if kind < COMPANIONS and rng.random() < COMPANION_CHANCE:
            cast.append((kind ^ 1, True))
    return cast


def _ground(rng: np.random.Generator, width: int, height: int) -> Array:
    """Return a textured ground, float (H, W, 3) in [0, 1]: coarse colours, a tilt of light, fine grain."""
    hue, saturation, value = rng.random(), rng.uniform(0.05, 0.35), rng.uniform(0.35, 0.75)
    base = np.array(colorsys.hsv_to_rgb(hue, saturation, value))
    coarse = _cloud(rng, 5, width, height)[..., None] * rng.uniform(0.1, 0.3)
    grain = _cloud(rng, 40, width, height)[..., None] * rng.uniform(0.05, 0.15)
    ramp = np.linspace(-1, 1, height)[:, None, None] * rng.uniform(-0.12, 0.12)
    return np.clip(base + coarse + grain + ramp, 0, 1)


def _cloud(rng: np.random.Generator, cells: int, width: int, height: int) -> Array:
    # Pillow's resampling of bytes is integer arithmetic: the same on every machine.
    seeds = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
    return np.asarray(seeds.resize((width, height), Image.Resampling.BICUBIC)) / 127.5 - 1


def _place(
    rng: np.random.Generator, kind: int, taken: NDArray[np.bool_], anchor: tuple[float, float, float] | None
) -> tuple[tuple[slice, slice], NDArray[np.bool_], Array, tuple[float, float, float]] | None:
    """Find room for an object (beside `anchor` if given) and draw it; None where there is none."""
    height, width = taken.shape
    for _ in range(PLACING_TRIES):
        radius = min(width, height) * rng.uniform(0.13, 0.23)
        if anchor is None:
            x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
        else:
            turn, distance = rng.uniform(0, 2 * np.pi), anchor[2] + radius + rng.uniform(2, 10)
            x, y = anchor[0] + distance * np.cos(turn), anchor[1] + distance * np.sin(turn)
        left, top, reach = int(x - radius), int(y - radius), int(2 * radius) + 2
        if left < 3 or top < 3 or left + reach > width - 3 or top + reach > height - 3:
            continue
        window = np.s_[top : top + reach, left : left + reach]
        rows, columns = np.mgrid[0:reach, 0:reach]
        u, v = (left + columns - x) / radius, (top + rows - y) / radius
        turn = rng.uniform(0, 2 * np.pi)
        mask, colours = _object(rng, kind, u, v, turn)
        if mask.sum() >= 16 and not (taken[window] & mask).any():
            return window, mask, colours, (x, y, radius)
    return None


def _object(rng: np.random.Generator, kind: int, u: Array, v: Array, turn: float) -> tuple[NDArray[np.bool_], Array]:
    """Return mask (h, w) and colours (h, w, 3) of an object over coordinates in [-1, 1], turned and lit."""
    texture, shape, hue = KINDS[kind]
    along, across = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
    mask = SHAPES[shape](along, across) > 0
    share = TEXTURES[texture](along, across)[..., None]
    hue += rng.uniform(-0.03, 0.03)
    first = np.array(colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.65, 0.9), rng.uniform(0.7, 0.95)))
    second = np.array(colorsys.hsv_to_rgb((hue + 0.08) % 1, rng.uniform(0.2, 0.5), rng.uniform(0.25, 0.95)))
    # Light from the upper left on a dome.
    depth = np.sqrt(np.clip(1.3 - u**2 - v**2, 0, None))
    light = np.clip(0.45 + 0.5 * (depth - 0.5 * u - 0.6 * v) / 1.4, 0.2, 1.15)[..., None]
    return mask, np.clip((first * (1 - share) + second * share) * light, 0, 1)


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask with one more pixel all around, so that neighbours do not touch."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown
