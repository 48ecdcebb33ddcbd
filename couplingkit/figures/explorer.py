"""Photos and features in, one self-contained HTML page out: click on a photo, see each model's affinity map."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib import colormaps
from matplotlib.image import imsave
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..evaluation.photo_features import PhotoFeatures
from ..metrics.localization import inner_point
from ..pixels import Frame
from .labels import short_labels
from .packing import pack, pack_exactly

__all__ = ["ExplorerPhoto", "explorer_page"]

LONGEST_PX = 640
JPEG_QUALITY = 85
# Floats of the page's program are 32 bits wide.
EXACT_ERROR = 1e-6
PROMISE = 0.01


@dataclass(frozen=True)
class ExplorerPhoto:
    """One photo of the page.

    Attributes:
        name: what its button says.
        rgb: uint8 (H, W, 3).
        objects: (category, mask bool (H, W)) of what is annotated on it; may be empty.
    """

    name: str
    rgb: NDArray[np.uint8]
    objects: Sequence[tuple[str, NDArray[np.bool_]]] = ()


def explorer_page(
    photos: Sequence[ExplorerPhoto],
    models: Sequence[tuple[str, Sequence[PhotoFeatures]]],
    *,
    exact: bool = False,
    labels: Sequence[str] | None = None,
    made: Sequence[str] = (),
) -> str:
    """Return the page as text; it needs no server, no network, and asks for none.

    Args:
        photos: shown in this order.
        models: name and the features of each photo.
        exact: embed every channel; otherwise features are reduced and quantised, and the page states the error.
        labels: of the models; their names without folders by default.
        made: lines on how the page was made, for its foot.

    Raises:
        ArgumentError: nothing to show, or a model without the features of each photo.
    """
    if not photos or not models:
        raise ArgumentError("photos and models must not be empty; the explorer needs one of each.")
    if any(len(features) != len(photos) for _, features in models):
        raise ArgumentError(f"models must bring the features of each of the {len(photos)} photos.")
    packer = pack_exactly if exact else pack
    packed = [[packer(features[place].cells.numpy()) for _, features in models] for place in range(len(photos))]
    worst = max(one.error for of_photo in packed for one in of_photo)
    document = {
        "models": list(labels or short_labels([name for name, _ in models])),
        "photos": [_photo_document(photo) for photo in photos],
        "features": [
            [
                one.document() | {"frame": _frame_document(features[index].frame, features[index].stride_px)}
                for one, (_, features) in zip(of_photo, models, strict=True)
            ]
            for index, of_photo in enumerate(packed)
        ],
        "colours": [round(255 * float(part)) for part in colormaps["inferno"](range(256))[:, :3].ravel()],
        # More would be false precision where features are quantised.
        "decimals": 4 if exact else 3,
        "error": _error_sentence(worst, exact),
        "made": list(made),
    }
    page: str = _template().render(data=document)
    return page


def _template() -> Any:
    page = files(__package__) / "page"
    # The program, the style and the data are ours; names in the data are escaped by tojson and set as text.
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.globals["style"] = Markup((page / "explorer.css").read_text(encoding="utf-8"))
    environment.globals["program"] = Markup((page / "explorer.js").read_text(encoding="utf-8"))
    return environment.from_string((page / "explorer.html").read_text(encoding="utf-8"))


def _error_sentence(worst: float, exact: bool) -> str:
    if exact:
        return f"All channels are embedded: the affinities shown are exact to {EXACT_ERROR:g}."
    if worst >= PROMISE:
        return f"Features are reduced and quantised: affinities differ by up to {worst:.3f} from the exact ones."
    return (
        f"Features are reduced and quantised: the affinities shown differ by less than {PROMISE:g} from the exact ones "
        f"(largest difference found: {worst:.4f})."
    )


def _frame_document(frame: Frame, stride_px: int) -> dict[str, Any]:
    return {
        "photo": list(frame.photo),
        "top": frame.top,
        "left": frame.left,
        "height": frame.height,
        "width": frame.width,
        "stride": stride_px,
    }


def _photo_document(photo: ExplorerPhoto) -> dict[str, Any]:
    height, width = photo.rgb.shape[:2]
    scale = min(1.0, LONGEST_PX / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    first, second = _first_points(photo)
    return {
        "name": photo.name,
        "width": width,
        "height": height,
        "jpeg": _jpeg(_shrunk(photo.rgb, size)),
        "start": [first, second],
        "objects": [
            {"category": category, "size": list(size), "runs": _run_lengths(_picked(mask, size))}
            for category, mask in photo.objects
        ],
    }


def _first_points(photo: ExplorerPhoto) -> tuple[list[int], list[int]]:
    """Return where the two points stand at first: inside the two largest objects, or left and right of the middle."""
    height, width = photo.rgb.shape[:2]
    found = [[width // 2, height // 2], [width // 4, height // 2]]
    largest = sorted((mask for _, mask in photo.objects if mask.any()), key=lambda mask: -int(mask.sum()))
    for index, mask in enumerate(largest[:2]):
        found[index] = list(inner_point(mask))
    return found[0], found[1]


def _shrunk(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the picture at a smaller size, antialiased."""
    planes = torch.from_numpy(rgb).permute(2, 0, 1)[None].to(torch.float32)
    smaller = F.interpolate(planes, size=size, mode="bilinear", antialias=True)
    return smaller[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()


def _picked(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask at a smaller size, each pixel as the one in its middle."""
    plane = torch.from_numpy(mask)[None, None].to(torch.float32)
    return F.interpolate(plane, size=size, mode="nearest-exact")[0, 0].numpy() > 0


def _run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Return how long the runs outside and inside are, in turn, row by row; the first one is outside."""
    flat = np.concatenate([[False], mask.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(run) for run in np.diff(np.concatenate([[0], changes, [mask.size]]))]


def _jpeg(rgb: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    imsave(stream, rgb, format="jpg", pil_kwargs={"quality": JPEG_QUALITY})
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
