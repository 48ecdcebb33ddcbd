"""Image files of every kind are read as a person sees them."""

import numpy as np
import pytest
from PIL import Image

from couplingkit.data import image_files
from couplingkit.data.cutouts import read_photo
from couplingkit.data.objects import ImageRecord
from couplingkit.data.photo_files import photo_files
from couplingkit.data.photos import open_photo, resize_photo
from couplingkit.errors import DataError

RED, WHITE = (255, 0, 0), (255, 255, 255)


@pytest.fixture
def picture():
    """Left half red, right half black, wider than high."""
    pixels = np.zeros((4, 8, 3), dtype=np.uint8)
    pixels[:, :4] = RED
    return pixels


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("orientation", "shape", "red_at"),
    [(1, (4, 8), (0, 0)), (2, (4, 8), (0, 7)), (3, (4, 8), (0, 7)), (6, (8, 4), (0, 0)), (8, (8, 4), (7, 0))],
)
def test_exif_turns_the_picture(tmp_path, picture, orientation, shape, red_at):
    image = Image.fromarray(picture)
    exif = image.getexif()
    exif[0x0112] = orientation
    read = open_photo(saved(tmp_path, image, "turned.png", exif=exif))
    assert read.shape == (*shape, 3)
    assert tuple(read[red_at]) == RED


def test_gray_and_palette_and_cmyk(tmp_path, picture):
    gray = np.arange(32, dtype=np.uint8).reshape(4, 8) * 8
    assert np.array_equal(open_photo(saved(tmp_path, Image.fromarray(gray), "gray.png")), gray[..., None].repeat(3, 2))
    palette = Image.fromarray(picture).quantize(4)
    assert np.array_equal(open_photo(saved(tmp_path, palette, "palette.png")), picture)
    assert np.array_equal(open_photo(saved(tmp_path, palette, "first.gif")), picture)
    ink = Image.fromarray(picture).convert("CMYK")
    assert np.abs(open_photo(saved(tmp_path, ink, "ink.tif")).astype(int) - picture).max() <= 2
    bits = Image.fromarray(gray > 100)
    assert set(open_photo(saved(tmp_path, bits, "bits.png")).ravel()) == {0, 255}


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_gray_is_scaled_not_cut(tmp_path, suffix):
    deep = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    read = open_photo(saved(tmp_path, Image.fromarray(deep), f"deep.{suffix}"))
    assert read[0, :, 0].tolist() == [0, 1, 128, 255]


def test_what_is_transparent_is_white(tmp_path, picture):
    alpha = np.dstack([picture, np.full((4, 8), 255, dtype=np.uint8)])
    alpha[:2, :, 3] = 0
    read = open_photo(saved(tmp_path, Image.fromarray(alpha), "glass.png"))
    assert tuple(read[0, 0]) == WHITE
    assert tuple(read[3, 0]) == RED
    two = Image.fromarray(np.dstack([alpha[..., 0], alpha[..., 3]]))
    assert tuple(open_photo(saved(tmp_path, two, "la.png"))[0, 7]) == WHITE
    palette = Image.fromarray(picture).quantize(2)
    index = palette.getpixel((0, 0))
    read = open_photo(saved(tmp_path, palette, "hole.png", transparency=index))
    assert tuple(read[0, 0]) == WHITE
    assert tuple(read[0, 7]) == (0, 0, 0)


def test_what_cannot_be_read_is_one_sentence(tmp_path, picture):
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.full((2, 2), 70000, dtype=np.int32)).save(tmp_path / "deep.tif")
    (tmp_path / "no.jpg").write_text("no picture")
    whole = saved(tmp_path, Image.fromarray(picture), "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name, words in {
        "float.tif": "mode F",
        "deep.tif": "mode I",
        "no.jpg": "cannot be read",
        "cut.png": "cannot be read",
        "none.png": "is missing",
        "": "is a folder",
    }.items():
        with pytest.raises(DataError, match=words) as raised:
            open_photo(tmp_path / name)
        assert str(raised.value).count("\n") == 0


def test_resizing_is_antialiased():
    fine = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
    small = resize_photo(fine.astype(np.uint8)[..., None].repeat(3, 2), (8, 12))
    assert small.shape == (8, 12, 3)
    assert np.abs(small.astype(int) - 128).max() < 10


def test_a_large_photo_is_read_and_a_limit_is_called_one(tmp_path, monkeypatch):
    """Pillow's limit is for images from the internet; a person's own slides are larger."""
    path = tmp_path / "slide.png"
    Image.new("RGB", (120, 100), (10, 20, 30)).save(path)
    record = ImageRecord(1, "slide.png", 120, 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    assert open_photo(path).shape == (100, 120, 3)
    assert read_photo(photo_files(tmp_path), record).shape == (100, 120, 3)
    assert Image.MAX_IMAGE_PIXELS == 1000, "what a script chose is put back"
    monkeypatch.setattr(image_files, "MOST_PIXELS", 5000)
    for read in (lambda: open_photo(path), lambda: read_photo(photo_files(tmp_path), record)):
        with pytest.raises(DataError, match=r"slide\.png has 120 x 100 px, and no more than .* are read"):
            read()
