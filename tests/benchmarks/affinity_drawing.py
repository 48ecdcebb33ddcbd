"""Drawing against forward passes, for 6 photos x 3 ViT-S models; and what a click on the explorer page costs.

    python tests/benchmarks/affinity_drawing.py

Photos are of the built-in scenes, weights are random. Baseline of the first ratio: the forward passes of the same run
(target: below 1). The page's times need a Chromium; the first click is given apart, since the browser compiles then.
"""

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import couplingkit as ck
from couplingkit.features.loading import load_layers
from couplingkit.figures.plots import save_figure

MODELS = ("random:vit_small_patch16_224", "random:deit_small_patch16_224", "random:deit3_small_patch16_224")


def clicks(page, count=20):
    """Milliseconds from a click to the picture that answers it, each on another place."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1400, "height": 1000})
        shown.goto(page.as_uri())
        shown.wait_for_function("document.querySelector('#cards').dataset.answeredMs")
        box = shown.locator("article canvas:visible").nth(1).bounding_box()
        times = []
        for number in range(count):
            shown.mouse.click(box["x"] + 20 + 12 * number, box["y"] + 30 + 7 * number)
            times.append(float(shown.locator("#cards").get_attribute("data-answered-ms")))
        browser.close()
    return times


def main():
    with tempfile.TemporaryDirectory() as folder:
        annotations, images = ck.write_scenes(Path(folder) / "scenes", count=40)
        index = ck.read_instances(annotations)
        drawn = {query.target.image_id: query for query in ck.draw_queries(index, count=60, seed=0)}
        chosen = list(drawn.values())[:6]
        photos = [ck.open_photo(images / query.photo.image.file_name) for query in chosen]
        queries = [ck.Query(number, query.x, query.y) for number, query in enumerate(chosen)]
        backbones = [load_layers(name, precision="float32") for name in MODELS]
        for backbone in backbones:
            warm = ck.affinity_maps(backbone, photos[:1], queries[:1])
        save_figure(ck.affinity_figure(photos, queries[:1], warm), Path(folder) / "warm.png")
        start = time.perf_counter()
        maps = [of_layer for backbone in backbones for of_layer in ck.affinity_maps(backbone, photos, queries)]
        forward = time.perf_counter() - start
        for suffix in ("png", "pdf"):
            start = time.perf_counter()
            save_figure(ck.affinity_figure(photos, queries, maps), Path(folder) / f"figure.{suffix}")
            draw = time.perf_counter() - start
            print(f"forward passes {forward:.2f} s, drawing the {suffix} {draw:.2f} s, ratio {draw / forward:.3f}")
        start = time.perf_counter()
        features = [(backbone.name, [one[0] for one in ck.read_photos(backbone, photos)]) for backbone in backbones]
        forward = time.perf_counter() - start
        for exact in (False, True):
            start = time.perf_counter()
            page = Path(folder) / "explorer.html"
            shown = [ck.ExplorerPhoto(str(number), photo) for number, photo in enumerate(photos)]
            page.write_text(ck.explorer_page(shown, features, exact=exact), encoding="utf-8")
            pack = time.perf_counter() - start
            size = page.stat().st_size / 1e6
            print(
                f"page{' with --exact' * exact}: {size:.1f} MB, packing {pack:.2f} s, {pack / forward:.3f} of forward"
            )
            if shutil.which("chromium"):
                first, *rest = clicks(page)
                print(
                    f"  a click: {first:.0f} ms the first, then {statistics.median(rest):.0f}, at most {max(rest):.0f}"
                )


if __name__ == "__main__":
    main()
