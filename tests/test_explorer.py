"""The explorer page: what packing costs, that the page is whole, and that a real browser shows what Python computes."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

import couplingkit as ck
from couplingkit.data.photos import open_photo
from couplingkit.errors import ArgumentError
from couplingkit.evaluation.photo_features import PhotoFeatures, read_photos
from couplingkit.features.loading import load_layers
from couplingkit.figures.explorer import ExplorerPhoto, explorer_page
from couplingkit.figures.packing import pack, pack_exactly
from couplingkit.pixels import Frame


def smooth_features(seed, shape=(96, 14, 14), common=3.0):
    """Features like a network's: a common direction, smooth over the grid, lengths that differ."""
    generator = np.random.default_rng(seed)
    rough = generator.normal(size=(shape[0], shape[1] // 2, shape[2] // 2)).repeat(2, 1).repeat(2, 2)
    features = rough + 0.3 * generator.normal(size=shape) + common * generator.normal(size=(shape[0], 1, 1))
    return (features * generator.uniform(0.5, 20, size=(1, *shape[1:]))).astype(np.float32)


def cosines(rows):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.mark.parametrize("common", [0.0, 3.0, 30.0])
def test_packing_keeps_cosines_to_a_hundredth(common):
    features = smooth_features(0, common=common)
    packed = pack(features)
    exact = cosines(features.reshape(96, -1).T.astype(np.float64))
    found = np.abs(packed.directions() @ packed.directions().T - exact).max()
    assert found < 0.01
    assert packed.error == pytest.approx(found, rel=0.5)
    assert packed.error >= found - 1e-12
    assert packed.codes.nbytes < features.nbytes / 2
    assert pack_exactly(features).error < 1e-6


def test_packing_odd_features():
    features = smooth_features(1)
    features[:, 3, 4] = 0
    packed = pack(features)
    assert packed.lengths[3 * 14 + 4] == 0
    assert packed.error < 0.01
    same = np.ones((5, 3, 4), dtype=np.float32)
    assert pack(same).error < 1e-6
    assert pack(np.zeros((5, 3, 4), dtype=np.float32)).error == 0
    one_cell = pack(np.arange(1, 6, dtype=np.float32).reshape(5, 1, 1))
    assert one_cell.error < 1e-6


def test_noise_is_not_reduced_beyond_the_promise():
    packed = pack(np.random.default_rng(0).normal(size=(64, 10, 10)).astype(np.float32))
    assert packed.error < 0.01


NAMES = ("random:test_vit", "control:leak:0.3", "vit<script>alert(1)</script>@runs/a.pth")


@pytest.fixture(scope="module")
def photos(scenes):
    paths = sorted(scenes[1].iterdir())[:2]
    portrait = open_photo(paths[0])[:, :100]
    mask = np.zeros(portrait.shape[:2], dtype=bool)
    mask[20:60, 30:70] = True
    return [
        ExplorerPhoto("portrait</script>.png", portrait, [("thing", mask)]),
        ExplorerPhoto("b", open_photo(paths[1])),
    ]


@pytest.fixture(scope="module")
def models(photos):
    rgb = [photo.rgb for photo in photos]
    read = {
        name: [of_layers[0] for of_layers in read_photos(load_layers(name, precision="float32"), rgb, fit=fit)]
        for name, fit in (("random:test_vit", "stretch"), ("control:leak:0.3", "pad"))
    }
    return [(NAMES[0], read[NAMES[0]]), (NAMES[1], read[NAMES[1]]), (NAMES[2], read[NAMES[0]])]


@pytest.fixture(scope="module")
def page(photos, models):
    return explorer_page(photos, models, made=["made & tested"])


def test_the_page_asks_for_nothing(page):
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:|//)", page)
    assert "default-src 'none'" in page
    assert "<script>alert" not in page
    assert page.count("</script>") == 2
    assert "less than 0.01" in page


def test_exact_says_so(photos, models):
    page = explorer_page(photos, models[:1], exact=True)
    assert "All channels are embedded" in page
    with pytest.raises(ArgumentError, match="each of the 2 photos"):
        explorer_page(photos, [("a", models[0][1][:1])])
    with pytest.raises(ArgumentError, match="not be empty"):
        explorer_page([], [])


def test_a_page_of_the_usual_size_is_below_8_mb():
    """6 images x 3 models of 384 channels at 14 x 14 cells, features that hardly compress."""
    frame = Frame.fitted((480, 640), (224, 224), fit="stretch")
    generator = np.random.default_rng(0)
    noise = [torch.from_numpy(generator.normal(size=(384, 14, 14)).astype(np.float32)) for _ in range(18)]
    photos = [ExplorerPhoto(str(n), generator.integers(0, 255, (480, 640, 3), dtype=np.uint8)) for n in range(6)]
    models = [(str(m), [PhotoFeatures(noise[6 * m + n], frame, 16) for n in range(6)]) for m in range(3)]
    assert len(explorer_page(photos, models)) < 8e6


@pytest.fixture
def opened(browser, page, tmp_path):
    """The page in a browser, with what it said on the console and what it asked for."""
    (tmp_path / "explorer.html").write_text(page, encoding="utf-8")
    context = browser.new_context(viewport={"width": 1200, "height": 1800}, has_touch=True)
    shown = context.new_page()
    said, asked = [], []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto((tmp_path / "explorer.html").as_uri())
    shown.wait_for_function("document.querySelector('#cards').dataset.answeredMs")
    yield shown
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 1
    context.close()


def canvases(shown):
    return shown.locator("article canvas:visible")


def pixels(shown, number):
    return canvases(shown).nth(number).evaluate("canvas => canvas.toDataURL()")


def put(shown, photo, number, x, y, act):
    """Act with the mouse at pixel (x, y) of the photo, on one of the pictures."""
    box = canvases(shown).nth(number).bounding_box()
    height, width = photo.rgb.shape[:2]
    act(box["x"] + (x + 0.5) * box["width"] / width, box["y"] + (y + 0.5) * box["height"] / height)


def shown_values(shown):
    return [float(text) for text in shown.locator("article output:visible").all_inner_texts()[1:]]


def test_a_click_shows_what_python_computes(opened, photos, models):
    before = [pixels(opened, number) for number in range(4)]
    for x, y, at_x, at_y in ((20, 31, 70, 90), (99, 0, 5, 100), (50, 60, 50, 60)):
        put(opened, photos[0], 1, x, y, opened.mouse.click)
        put(opened, photos[0], 2, at_x, at_y, opened.mouse.move)
        assert f" {x}, {y}" in opened.locator("#status").inner_text()
        for value, (_, features) in zip(shown_values(opened), models, strict=True):
            exact = features[0].affinity([(x, y)])[0].pixels()[at_y, at_x]
            assert abs(value - exact) < 0.01
    assert all(pixels(opened, number) != picture for number, picture in enumerate(before))


def test_the_exact_page_is_exact(browser, photos, models, tmp_path):
    (tmp_path / "exact.html").write_text(explorer_page(photos, models[:2], exact=True), encoding="utf-8")
    shown = browser.new_page()
    shown.goto((tmp_path / "exact.html").as_uri())
    put(shown, photos[0], 1, 33, 44, shown.mouse.click)
    put(shown, photos[0], 1, 80, 20, shown.mouse.move)
    for value, (_, features) in zip(shown_values(shown), models[:2], strict=True):
        # Four decimals are shown.
        assert abs(value - features[0].affinity([(33, 44)])[0].pixels()[20, 80]) < 6e-5
    shown.close()


def test_everything_can_be_operated(opened, photos):
    keys = opened.keyboard
    start = pixels(opened, 1)
    put(opened, photos[0], 1, 40, 40, opened.mouse.move)
    opened.mouse.down()
    put(opened, photos[0], 1, 80, 100, opened.mouse.move)
    opened.wait_for_function("document.querySelector('#status').innerText.includes('80, 100')")
    opened.mouse.up()
    dragged = pixels(opened, 1)
    assert dragged != start
    keys.press("ArrowLeft")
    moved = pixels(opened, 1)
    assert moved != dragged
    keys.press("Shift+ArrowRight")
    assert pixels(opened, 1) != moved
    put(opened, photos[0], 1, 10, 10, opened.touchscreen.tap)
    assert "point 10, 10" in opened.locator("#status").inner_text()
    assert canvases(opened).count() == 4
    keys.press("c")
    assert canvases(opened).count() == 7
    assert "point B" in opened.locator("#status").inner_text()
    put(opened, photos[0], 2, 45, 45, opened.mouse.click)
    assert "point B 45, 45 (thing)" in re.sub(r"\s+", " ", opened.locator("#status").inner_text())
    assert "point A 10, 10" in opened.locator("#status").inner_text()
    keys.press("c")
    plain = pixels(opened, 1)
    keys.press("m")
    assert pixels(opened, 1) != plain
    keys.press("m")
    assert pixels(opened, 1) == plain
    keys.press("-")
    assert pixels(opened, 1) != plain
    keys.press("+")
    opened.locator("#range").select_option("own")
    assert "each panel" in opened.locator("#bar-high").inner_text()
    opened.locator("#range").select_option("fixed")
    opened.locator("#low").fill("0.5")
    opened.locator("#low").blur()
    assert opened.locator("#bar-low").inner_text() == "0.50"
    assert opened.locator("#range-error").is_hidden()
    opened.locator("#high").fill("0.2")
    opened.locator("#high").blur()
    assert opened.locator("#range-error").is_visible()
    opened.locator("#range").select_option("shared")
    # Without a focussed field, keys are the page's again.
    opened.locator("#range").blur()
    keys.press("]")
    assert opened.locator("#masks-label").is_hidden()
    assert opened.locator("#photos button").nth(1).get_attribute("aria-pressed") == "true"


def test_a_link_restores_what_was_shown(opened, browser, tmp_path):
    """Image, points, models and colours; what another page would hold is left at its default."""
    opened.locator("#range").select_option("own")
    opened.locator("#compare").check()
    opened.locator("#models input").nth(1).uncheck()
    opened.locator("#opacity").fill("40")
    shown, link = pixels(opened, 1), opened.evaluate("location.href")
    assert "hide=1" in link
    assert "b=" in link
    other = browser.new_page()
    other.goto(link)
    other.wait_for_timeout(300)
    assert other.evaluate("location.href") == link
    assert pixels(other, 1) == shown
    assert other.locator("#compare").is_checked()
    assert not other.locator("#models input").nth(1).is_checked()
    assert other.locator("article:visible").count() == opened.locator("article:visible").count()
    for odd in ("#photo=99&a=x,y&map=900&hide=77&range=none", "#a=-3,1e9&hide=0,1,2,3,4,5", "#%%"):
        strange = browser.new_page()
        errors = []
        strange.on("pageerror", lambda error, found=errors: found.append(error))
        strange.goto(link.split("#")[0] + odd)
        strange.wait_for_timeout(200)
        assert not errors
        assert strange.locator("article:visible").count() >= 2
    with opened.expect_download() as saved:
        opened.locator("#save").click()
    saved.value.save_as(tmp_path / "saved.png")
    with Image.open(tmp_path / "saved.png") as picture:
        assert picture.width > 200
        assert len(set(picture.convert("L").resize((32, 32)).tobytes())) > 8


def test_on_a_phone_photo_and_maps_are_seen_together(opened):
    opened.set_viewport_size({"width": 390, "height": 844})
    opened.wait_for_timeout(100)
    opened.locator("#cards article").nth(1).scroll_into_view_if_needed()
    boxes = [opened.locator("#cards article canvas").nth(place).bounding_box() for place in (0, 1)]
    assert all(0 <= box["y"] < 844 for box in boxes)
    assert boxes[0]["height"] <= 0.36 * 844


def test_dark_and_light(opened):
    paper = "getComputedStyle(document.body).backgroundColor"
    light = opened.evaluate(paper)
    opened.emulate_media(color_scheme="dark")
    dark = opened.evaluate(paper)
    assert dark != light
    opened.locator("#theme").click()
    assert opened.evaluate(paper) == light


@pytest.mark.parametrize("width", [360, 1200])
def test_names_are_text_and_nothing_is_wider_than_the_window(opened, width):
    opened.set_viewport_size({"width": width, "height": 700})
    headings = opened.locator("h2").all_inner_texts()
    assert "<script>alert(1)</script>" in headings[-1].replace("\n", "")
    assert opened.locator("img").first.get_attribute("alt") == "portrait</script>.png"
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_undefined_place_is_said(browser, tmp_path):
    features = torch.from_numpy(smooth_features(2, shape=(16, 6, 6)))
    features[:, :, :2] = 0
    frame = Frame.fitted((96, 96), (96, 96), fit="stretch")
    photo = ExplorerPhoto("a", np.zeros((96, 96, 3), dtype=np.uint8))
    page = explorer_page([photo], [("holes", [PhotoFeatures(features, frame, 16)])])
    (tmp_path / "holes.html").write_text(page, encoding="utf-8")
    shown = browser.new_page()
    shown.goto((tmp_path / "holes.html").as_uri())
    put(shown, photo, 1, 80, 40, shown.mouse.click)
    put(shown, photo, 1, 10, 10, shown.mouse.move)
    assert "undefined" in shown.locator("article output").all_inner_texts()
    put(shown, photo, 1, 60, 50, shown.mouse.move)
    expected = PhotoFeatures(features, frame, 16).affinity([(80, 40)])[0].pixels()[50, 60]
    assert abs(float(shown.locator("article output").nth(1).inner_text()) - expected) < 0.01
    shown.close()


def test_ck_names():
    assert ck.explorer_page is explorer_page


def test_features_that_cancel_between_cells_are_found_and_not_promised_away():
    """Neighbours that point in opposite directions: a point between them turns with the smallest rounding."""
    generator = np.random.default_rng(9)
    centres = generator.normal(size=(4, 16))
    kinds, signs = generator.integers(0, 4, (7, 7)), generator.choice([-1, 1], (7, 7))
    features = centres[kinds] * signs[..., None] + 0.05 * generator.normal(size=(7, 7, 16))
    features = (features * generator.uniform(0.5, 5, (7, 7, 1))).transpose(2, 0, 1).astype(np.float32)
    packed = pack(features)
    frame = Frame.fitted((112, 112), (112, 112), fit="stretch")
    decoded = (packed.directions() * packed.lengths[:, None]).T.reshape(-1, 7, 7).astype(np.float32)
    points = [(x, y) for x in range(0, 112, 3) for y in range(0, 112, 3)]
    exact, shown = (
        np.stack([one.cells for one in PhotoFeatures(torch.from_numpy(values), frame, 16).affinity(points)])
        for values in (features, decoded)
    )
    assert np.abs(exact - shown).max() < 0.01


def test_masks_belong_to_the_picture_of_the_same_folder(tmp_path):
    import json

    from command import run as run_command
    from PIL import Image

    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (80, 60)).save(tmp_path / folder / "1.png")
    square = [10, 10, 40, 10, 40, 40, 10, 40]
    content = {
        "images": [
            {"id": n, "file_name": f"{name}/1.png", "width": 80, "height": 60} for n, name in ((1, "a"), (2, "b"))
        ],
        "categories": [{"id": 1, "name": "bench"}, {"id": 2, "name": "bird"}],
        "annotations": [{"id": n, "image_id": n, "category_id": n, "segmentation": [square]} for n in (1, 2)],
    }
    (tmp_path / "j.json").write_text(json.dumps(content))

    def explore(folder):
        words = ["--image", tmp_path / folder / "1.png", "--annotations", tmp_path / "j.json"]
        words = ["explore", "control:cell", *words, "--out", tmp_path / f"{folder}.html"]
        return run_command(*words)

    assert explore("a").exit_code == explore("b").exit_code == 0
    assert '"bench"' in (tmp_path / "a.html").read_text()
    assert '"bird"' not in (tmp_path / "a.html").read_text()
    assert '"bird"' in (tmp_path / "b.html").read_text()
    refused = explore("c")
    assert refused.exit_code == 2
    assert "may be any of" in refused.stderr
