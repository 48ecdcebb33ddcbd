"""Draws of colours in, the same change of pixels out: image by image in a worker, or of a whole batch on a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import gaussian_blur

from ..features.hardware import whole_float32

__all__ = ["ColourDraws", "SeparableBlur", "draw_colours", "recolour", "stacked"]

# torchvision's order of the factors of a jitter, which `order` numbers.
FACTORS = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
# Of red, green and blue in gray (ITU-R 601-2), as torchvision has them.
GRAY = (0.2989, 0.587, 0.114)
THRESHOLD = 128
# float32 of [0, 1] to bytes, as torchvision does it.
BYTES = 256 - 1e-3
# Images (n, 3, H, W), factors f and 1 - f (n, 1, 1, 1) -> images.
Step = Callable[[Tensor, Tensor, Tensor], Tensor]


class SeparableBlur(v2.GaussianBlur):  # type: ignore[misc]
    """torchvision's blur, one axis after the other: the same draws, the same pixels but for rounding, in less time."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Blur an image of bytes."""
        shown = inpt.to(torch.float32)
        for kernel in ([self.kernel_size[0], 1], [1, self.kernel_size[1]]):
            shown = gaussian_blur(shown, kernel, params["sigma"])
        return shown.round_().to(inpt.dtype)


class ColourDraws(NamedTuple):
    """What is done to the colours of images, on the CPU; the first axis, where there is one, are images.

    Attributes:
        order: int64 (..., 4), the places in `FACTORS` of the jitter's steps, in their order; -1 where there is none.
        factors: float64 (..., 4), of `FACTORS`.
        gray: bool (...), whether the image loses its colours.
        sigma: float64 (...), of the blur, px; 0 for none.
        solarized: bool (...), whether bytes from 128 on are inverted.
    """

    order: Tensor
    factors: Tensor
    gray: Tensor
    sigma: Tensor
    solarized: Tensor


def draw_colours(jitter: v2.ColorJitter, blur: v2.GaussianBlur, shares: dict[str, float]) -> ColourDraws:
    """Draw the colours of an image from torch's global generator, in the order in which torchvision's transforms would.

    Args:
        jitter: whose parameters are drawn.
        blur: likewise.
        shares: probabilities of `jitter`, `gray`, `blur` and `solarize`.
    """
    order, factors, sigma = torch.full((4,), -1), torch.ones(4, dtype=torch.float64), 0.0
    if torch.rand(1) < shares["jitter"]:
        drawn = jitter.make_params([])
        given = [drawn[name] for name in FACTORS]
        steps = [int(step) for step in drawn["fn_idx"] if given[int(step)] is not None]
        order[: len(steps)] = torch.tensor(steps, dtype=torch.int64)
        factors = torch.tensor([1.0 if factor is None else factor for factor in given], dtype=torch.float64)
    gray = torch.rand(1)[0] < shares["gray"]
    if torch.rand(1) < shares["blur"]:
        sigma = blur.make_params([])["sigma"][0]
    solarized = torch.rand(1)[0] < shares["solarize"]
    return ColourDraws(order, factors, gray, torch.tensor(sigma, dtype=torch.float64), solarized)


def stacked(draws: Sequence[ColourDraws]) -> ColourDraws:
    """Return the draws of several images as those of a batch."""
    return ColourDraws(*(torch.stack(parts) for parts in zip(*draws, strict=True)))


def recolour(images: Tensor, draws: ColourDraws, *, kernel: int) -> Tensor:
    """Change the colours of a batch as torchvision would change those of each image: float32 (B, 3, H, W) in [0, 1].

    Bytes are whole numbers of float32 here, and are cut off behind each step as torchvision cuts them off; sums in
    another order may move a pixel by 1/255.

    Args:
        images: uint8 (B, 3, H, W), on any device, for which nothing is waited.
        draws: of each image, on the CPU.
        kernel: side of the blur's, px.
    """
    shown = images.to(torch.float32)
    device = images.device
    factors = _sent(torch.stack([draws.factors, 1 - draws.factors]).to(torch.float32), device)[..., None, None, None]
    for step in range(draws.order.shape[1]):
        for which, change in enumerate(STEPS):
            rows = (draws.order[:, step] == which).nonzero()[:, 0]
            _change(shown, rows, partial(_stepped, change, factors[:, :, which]))
    _change(shown, draws.gray.nonzero()[:, 0], lambda part, _: _gray(part).floor_().expand_as(part))
    rows = (draws.sigma > 0).nonzero()[:, 0]
    if len(rows):
        taps = _sent(_taps(draws.sigma[rows], kernel), device)
        sides = [blur_matrices(taps, side) for side in shown.shape[-2:]]
        _change(shown, rows, lambda part, _: _blurred(part, *sides))
    _change(shown, draws.solarized.nonzero()[:, 0], lambda part, _: torch.where(part >= THRESHOLD, 255 - part, part))
    return shown.div_(255)


def _stepped(change: Step, factors: Tensor, part: Tensor, at: Tensor) -> Tensor:
    return change(part, *factors[:, at])


def _sent(values: Tensor, device: torch.device) -> Tensor:
    """Return a small tensor on a device, without waiting for it."""
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)


def _change(shown: Tensor, rows: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Change some images of a batch, in place; which ones is known on the CPU."""
    if len(rows):
        at = _sent(rows, shown.device)
        shown.index_copy_(0, at, change(shown.index_select(0, at), at))


def _gray(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(dim=1)
    return (red * GRAY[0]).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2])[:, None]  # (B, 1, H, W)


def _cut(values: Tensor) -> Tensor:
    """Return values as bytes are: whole numbers from 0 to 255."""
    return values.clamp_(0, 255).floor_()


def _brightness(images: Tensor, factor: Tensor, _rest: Tensor) -> Tensor:
    return _cut(images * factor)


def _contrast(images: Tensor, factor: Tensor, rest: Tensor) -> Tensor:
    mean = _gray(images).floor_().mean(dim=(1, 2, 3), keepdim=True)
    return _cut(images * factor + mean * rest)


def _saturation(images: Tensor, factor: Tensor, rest: Tensor) -> Tensor:
    return _cut(images * factor + _gray(images).floor_() * rest)


def _hue(images: Tensor, turn: Tensor, _rest: Tensor) -> Tensor:
    """Turn the hue by a share of the circle (Smith, 1978: hue, saturation and value)."""
    shares = images / 255
    value, least = shares.amax(dim=1), shares.amin(dim=1)  # (B, H, W)
    span = value - least
    safe = torch.where(span == 0, 1.0, span)
    red, green, blue = shares.unbind(dim=1)
    # Where along the circle the colour lies, from the channel that is the largest.
    of_blue = 4 + (red - green) / safe
    of_green = 2 + (blue - red) / safe
    sixths = torch.where(value == red, (green - blue) / safe, torch.where(value == green, of_green, of_blue))
    hue = torch.where(span == 0, 0.0, (sixths / 6) % 1)
    hue = (hue + turn[:, 0]) % 1
    # Each channel falls from the value to the least and rises again: r, g and b begin at 5, 3 and 1 sixths.
    begins = torch.tensor([5.0, 3.0, 1.0]).view(1, 3, 1, 1)
    place = (_sent(begins, images.device) + hue[:, None] * 6) % 6
    fall = torch.minimum(place, 4 - place).clamp_(0, 1)
    return _cut((value[:, None] - span[:, None] * fall) * BYTES)


STEPS: tuple[Step, ...] = (_brightness, _contrast, _saturation, _hue)


def _taps(sigma: Tensor, kernel: int) -> Tensor:
    """Return the weights of blurs of sigma px, float64 (n,): float32 (n, kernel)."""
    half = kernel // 2
    taps = torch.exp(-0.5 * (torch.arange(-half, half + 1, dtype=torch.float64) / sigma[:, None]) ** 2)
    return (taps / taps.sum(dim=1, keepdim=True)).to(torch.float32)


def blur_matrices(taps: Tensor, side: int) -> Tensor:
    """Return what blurs of taps (n, kernel) do to a line of pixels, mirrored at its ends: float32 (n, side, side)."""
    half, device = taps.shape[1] // 2, taps.device
    reach = torch.arange(side, device=device)[:, None] + torch.arange(-half, half + 1, device=device)
    reach = torch.where(reach < 0, -reach, torch.where(reach >= side, 2 * (side - 1) - reach, reach))
    matrices = torch.zeros(len(taps), side, side, device=device)
    # A pixel that two taps reach, one of them mirrored, gets the same sum in whatever order.
    return matrices.scatter_add_(2, reach.expand(len(taps), -1, -1), taps[:, None].expand(-1, side, -1))


def _blurred(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Return images (n, 3, H, W) blurred by matrices (n, H, H) and (n, W, W)."""
    # Whatever a run allows its network: a tap that is rounded to TF32 moves pixels.
    with whole_float32():
        lines = images @ across.transpose(1, 2)[:, None]
        return (down[:, None] @ lines).round_()
