"""Odd photos, many of them: modes, formats, rotation tags, names and containers, with the pixels that are right."""

import io
import random
import tarfile
import zipfile
from dataclasses import dataclass

import numpy as np
from PIL import Image

ORIENTATION = 0x0112
# `file_name` -> the name of the file, where it is written in another way.
NAMES = {
    "caf\u00e9.png": "cafe\u0301.png",
    "cafe\u0301.png": "caf\u00e9.png",
    "train\\x\\a.png": "train/x/a.png",
    "./a.png": "a.png",
    "x/../a.png": "a.png",
    **dict.fromkeys(("a b.png", "a%20b.png", "#1.png", "\u7167\u7247.png", "a@b:c,d.png", "[a]*.png", "-a.png"), ""),
    **dict.fromkeys(("a..png", "no_suffix", "A.JPG", "\U0001f600.png"), ""),
}
# How a camera's tag turns what is stored: (rows, columns, channels) -> the same as a viewer shows it.
TURNS = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels.transpose(1, 0, 2)[:, ::-1],
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: pixels.transpose(1, 0, 2)[::-1],
}


@dataclass
class Odd:
    """A file of a photo, what the annotations say of it, and what is right.

    Attributes:
        name: of the case.
        content: bytes of the file.
        file_name: that the annotations have.
        lies_at: the name of the file itself; `file_name` by default.
        size: width and height that the annotations state.
        exif: as `Eligibility.exif`.
        pixels: what is right; None where it is refused.
        close: largest difference of a level, of formats that lose some.
        words: that the refusal has.
    """

    name: str
    content: bytes
    file_name: str
    size: tuple
    pixels: np.ndarray | None = None
    lies_at: str = ""
    exif: str = "auto"
    close: int = 0
    words: str = ""


def picture(generator, width=40, height=28):
    """Large patches, which JPEG keeps to a few levels."""
    small = np.array(
        [[[generator.randrange(256) for _ in range(3)] for _ in range(width // 8 + 1)] for _ in range(height // 8 + 1)]
    )
    return small.repeat(8, axis=0).repeat(8, axis=1)[:height, :width].astype(np.uint8)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tagged(image, orientation, kind="PNG"):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(image, kind, exif=exif, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {}))


def turned(generator):
    """Rotation tags: of an oblong the size decides, of a square or a mirrored one somebody has to."""
    for orientation in TURNS:
        stored = picture(generator)
        seen = TURNS[orientation](stored)
        content, kind = tagged(Image.fromarray(stored), orientation), f"tag {orientation}"
        size, other = (40, 28), seen.shape[1::-1]
        sideways = other != size
        if sideways or orientation == 1:
            yield Odd(f"{kind}, as stored", content, "a.png", size, stored)
        if sideways:
            yield Odd(f"{kind}, as seen", content, "a.png", other, np.ascontiguousarray(seen))
            yield Odd(f"{kind}, of another size", content, "a.png", (41, 28), words="masks would not fit")
            yield Odd(f"{kind}, apply", content, "a.png", other, seen, exif="apply")
            yield Odd(f"{kind}, ignore", content, "a.png", size, stored, exif="ignore")
        elif orientation > 1:
            yield Odd(f"{kind}, untold", content, "a.png", size, words="exif=ignore")
            yield Odd(f"{kind}, apply", content, "a.png", size, seen, exif="apply")
            yield Odd(f"{kind}, ignore", content, "a.png", size, stored, exif="ignore")
    square = picture(generator, 32, 32)
    content = tagged(Image.fromarray(square), 6, "JPEG")
    yield Odd("a turned square", content, "a.jpg", (32, 32), words="rotation tag")
    yield Odd("a turned square, apply", content, "a.jpg", (32, 32), TURNS[6](square), exif="apply", close=12)


def modes(generator):
    rgb = picture(generator)
    size, image = (40, 28), Image.fromarray(rgb)
    gray = np.asarray(image.convert("L"))
    three = np.stack([gray] * 3, axis=2)
    yield Odd("gray", encoded(image.convert("L"), "PNG"), "a.png", size, three)
    yield Odd("gray jpeg", encoded(image.convert("L"), "JPEG", quality=100), "a.jpg", size, three, close=6)
    deep = gray.astype(np.uint16) * 257
    yield Odd("16 bits", encoded(Image.fromarray(deep), "PNG"), "a.png", size, three)
    yield Odd("16 bits of tiff", encoded(Image.fromarray(deep), "TIFF"), "a.tif", size, three)
    alpha = np.full(gray.shape, 255, np.uint8)
    alpha[:, :20] = 0
    clear = np.where((alpha == 0)[..., None], 255, rgb).astype(np.uint8)
    yield Odd("transparent", encoded(Image.fromarray(np.dstack([rgb, alpha])), "PNG"), "a.png", size, clear)
    opaque = np.where((alpha == 0)[..., None], 255, three).astype(np.uint8)
    yield Odd("gray and transparent", encoded(Image.fromarray(np.dstack([gray, alpha])), "PNG"), "a.png", size, opaque)
    black = np.where(gray > 127, 255, 0).astype(np.uint8)
    yield Odd(
        "black and white", encoded(Image.fromarray(black).convert("1"), "PNG"), "a.png", size, np.stack([black] * 3, 2)
    )
    few = image.quantize(16)
    yield Odd("palette", encoded(few, "PNG"), "a.png", size, np.asarray(few.convert("RGB")))
    yield Odd("gif", encoded(few, "GIF"), "a.gif", size, np.asarray(few.convert("RGB")))
    more = [Image.fromarray(picture(generator)) for _ in range(3)]
    yield Odd("moving", encoded(image, "PNG", save_all=True, append_images=more), "a.png", size, rgb)
    yield Odd("several pages", encoded(image, "TIFF", save_all=True, append_images=more), "a.tif", size, rgb)
    for kind, suffix, options in (
        *(("BMP", "bmp", {}), ("TIFF", "tif", {}), ("TIFF", "tiff", {"compression": "tiff_lzw"}), ("PPM", "ppm", {})),
        *(("WEBP", "webp", {"lossless": True}), ("TGA", "tga", {}), ("PNG", "PNG", {"optimize": True})),
        ("PNG", "jpg", {}),
    ):
        yield Odd(f"{kind} named {suffix}", encoded(image, kind, **options), f"a.{suffix}", size, rgb)
    for name, options in (("progressive", {"progressive": True}), ("with a profile", {"icc_profile": b"x" * 200})):
        yield Odd(name, encoded(image, "JPEG", quality=100, subsampling=0, **options), "a.jpg", size, rgb, close=12)
    inks = image.convert("CMYK")
    yield Odd("inks", encoded(inks, "TIFF"), "a.tif", size, np.asarray(inks.convert("RGB")))
    for name, values in (("floats", np.float32), ("32 bits", np.int32)):
        numbers = Image.fromarray(gray.astype(values))
        yield Odd(name, encoded(numbers, "TIFF"), "a.tif", size, words="range is not known")


def damaged(generator):
    whole = encoded(Image.fromarray(picture(generator, 400, 280)), "JPEG", quality=100)
    for name, content in {
        "empty": b"", "half": whole[: len(whole) // 2], "text": b"not a photo", "page": b"<html></html>",
        "zeros": bytes(500), "a beginning": whole[:30], "a video": b"\x00\x00\x00\x18ftypmp42" + bytes(99),
        "lfs": b"version https://git-lfs.github.com/spec/v1\n", "raw": b"II*\x00\x10\x00\x00\x00CR\x02\x00" + bytes(20),
    }.items():  # fmt: skip
        yield Odd(f"damaged: {name}", content, "a.jpg", (400, 280), words="cannot be read")
    yield Odd("another size", whole, "a.jpg", (280, 401), words="masks would not fit")


def named(generator):
    pixels = picture(generator)
    content = encoded(Image.fromarray(pixels), "PNG")
    for name, lies_at in NAMES.items():
        yield Odd(f"named {name!a}", content, name, (40, 28), pixels, lies_at=lies_at)
    yield Odd("other capitals", content, "IMG.PNG", (40, 28), lies_at="img.png", words="capitals are other ones")


def every(seed=0):
    """Return all cases."""
    generator = random.Random(seed)
    return [*turned(generator), *modes(generator), *damaged(generator), *named(generator)]


def laid(case, folder, container):
    """Put a photo into a folder, a zip or a tar, and return the place."""
    name = case.lies_at or case.file_name
    if container == "folder":
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(case.content)
        return folder / "photos"
    place = folder / f"photos.{container}"
    if container == "zip":
        with zipfile.ZipFile(place, "w") as archive:
            archive.writestr(name, case.content)
    else:
        with tarfile.open(place, "w") as archive:
            entry = tarfile.TarInfo(name)
            entry.size = len(case.content)
            archive.addfile(entry, io.BytesIO(case.content))
    return place
