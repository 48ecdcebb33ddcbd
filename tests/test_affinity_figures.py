"""The figures of affinity maps: whatever is drawn, nothing overlaps, is cut or loses its meaning."""

import re

import numpy as np
import pytest

from couplingkit.errors import ArgumentError
from couplingkit.evaluation.affinity import AffinityMaps, ProbeMaps, Query
from couplingkit.evaluation.photo_features import CellMap
from couplingkit.figures.affinity_plots import MapLook, affinity_figure, probe_figure
from couplingkit.figures.map_layout import TALLEST_IN
from couplingkit.figures.plots import save_figure
from couplingkit.figures.style import COLUMN_IN, PAGE_IN
from couplingkit.pixels import Frame

LONG = "vit_base_patch16_224_with_a_long_name@runs/a/run/of/last/week/checkpoint_of_the_last_epoch_{}.pth"
PHOTOS = [np.full((*size, 3), 90, dtype=np.uint8) for size in ((60, 80), (240, 60), (40, 300))]
QUERIES = [Query(0, 79, 0), Query(1, 30, 200), Query(2, 5, 39), Query(0, 0, 59)]


def model(name, seed=0, span=1.0):
    generator = np.random.default_rng(seed)
    maps = []
    for query in QUERIES:
        frame = Frame.fitted(PHOTOS[query.photo].shape[:2], (112, 112), fit="stretch")
        maps.append(CellMap(span * generator.uniform(-1, 1, size=(7, 7)), frame, 16))
    return AffinityMaps(name, tuple(maps), {})


def texts_of(figure):
    figure.draw_without_rendering()
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += [*axes.texts, *(axes.get_yticklabels() if axes.axison else [])]
    return [text for text in texts if text.get_text().strip()]


def pictures_of(figure):
    return [axes for axes in figure.axes if not axes.axison]


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("width", [COLUMN_IN, PAGE_IN])
@pytest.mark.parametrize("colours", ["all", "model", "row", "panel"])
@pytest.mark.parametrize("name", [LONG, "vit_{}"])
def test_nothing_overlaps_and_nothing_is_cut(count, width, colours, name):
    models = [model(name.format(place), place) for place in range(count)]
    captions = ["a very long category name, longer than its picture"] * len(QUERIES)
    figure = affinity_figure(PHOTOS, QUERIES, models, captions=captions, look=MapLook(width, colour_range=colours))
    assert figure.get_figwidth() == width
    assert figure.get_figheight() <= TALLEST_IN + 1e-6
    texts = texts_of(figure)
    boxes = [text.get_window_extent() for text in texts]
    panels = [axes.get_window_extent() for axes in figure.axes]
    whole = figure.bbox
    for text, box in zip(texts, boxes, strict=True):
        assert whole.x0 - 1 <= box.x0, text
        assert box.x1 <= whole.x1 + 1, text
        assert whole.y0 - 1 <= box.y0, text
        assert box.y1 <= whole.y1 + 1, text
    for place, box in enumerate(boxes):
        for other, text in zip(boxes[place + 1 :], texts[place + 1 :], strict=True):
            assert not box.padded(-1).overlaps(other.padded(-1)), (texts[place], text)
        for panel in panels:
            assert not box.padded(-1).overlaps(panel.padded(-1)), texts[place]
    for place, panel in enumerate(panels):
        assert not any(panel.padded(-1).overlaps(other.padded(-1)) for other in panels[place + 1 :])
    assert len(pictures_of(figure)) == len(QUERIES) * (1 + count)


def test_every_name_can_be_read_somewhere():
    figure = affinity_figure(
        PHOTOS, QUERIES, [model(LONG.format(place)) for place in range(5)], look=MapLook(COLUMN_IN)
    )
    written = re.sub(r"\s", "", "".join(text.get_text() for text in texts_of(figure)))
    for place in range(5):
        assert f"({chr(97 + place)})" in written
        assert f"checkpoint_of_the_last_epoch_{place}.pth" in written


def limits(figure):
    # The first panel of each row is the photo.
    maps = [axes for axes in pictures_of(figure) if axes.images[0].get_cmap().name == "inferno"]
    return [axes.images[0].get_clim() for axes in maps]


def test_one_range_for_all_models_unless_asked_otherwise():
    models = [model("wide", 0), model("narrow", 1, span=0.1)]
    shared = limits(affinity_figure(PHOTOS, QUERIES, models))
    assert len(set(shared)) == 1
    assert shared[0][0] < -0.5
    assert shared[0][1] > 0.5
    own = affinity_figure(PHOTOS, QUERIES, models, look=MapLook(colour_range="panel"))
    assert len(set(limits(own))) == len(QUERIES) * 2
    written = " ".join(text.get_text().replace("\n", " ") for text in texts_of(own))
    assert "each panel its own range" in written
    low, high = limits(own)[0]
    assert f"{low:.2f} to {high:.2f}" in written
    assert set(limits(affinity_figure(PHOTOS, QUERIES, models, look=MapLook(colour_range=(0, 1))))) == {(0, 1)}
    for wrong in ((1, 0), "mine"):
        with pytest.raises(ArgumentError, match="range must"):
            affinity_figure(PHOTOS, QUERIES, models, look=MapLook(colour_range=wrong))
    with pytest.raises(ArgumentError, match="not be empty"):
        affinity_figure(PHOTOS, [], models)


def test_the_query_is_marked_where_it_is_on_every_panel():
    figure = affinity_figure(PHOTOS, QUERIES, [model("a"), model("b")])
    for row, query in enumerate(QUERIES):
        for axes in pictures_of(figure)[3 * row : 3 * row + 3]:
            (dot,) = axes.lines
            assert dot.get_xydata().tolist() == [[query.x, query.y]]
            assert dot.get_markeredgecolor() == "white"
            height, width = PHOTOS[query.photo].shape[:2]
            assert axes.get_xlim() == (-0.5, width - 0.5)
            assert axes.get_ylim() == (height - 0.5, -0.5)


def test_undefined_cells_are_gray_and_said(tmp_path):
    one = model("a")
    one.maps[0].cells[0, 0] = np.nan
    figure = affinity_figure(PHOTOS[:1], QUERIES[:1], [AffinityMaps("a", one.maps[:1], {})])
    assert any("gray: undefined" in text.get_text().replace("\n", " ") for text in texts_of(figure))
    (panel,) = [axes for axes in pictures_of(figure) if axes.images[0].get_cmap().name == "inferno"]
    values = panel.images[0].get_array()
    assert values.mask[0, 0]
    assert not values.mask[-1, -1]


def test_outlines_and_labels():
    masks = [np.zeros(PHOTOS[query.photo].shape[:2], dtype=bool) for query in QUERIES]
    for mask in masks:
        mask[5:20, 10:30] = True
    figure = affinity_figure(PHOTOS, QUERIES, [model("a"), model("b")], outlines=masks, labels=["first", "second"])
    assert {"first", "second"} <= {text.get_text() for text in texts_of(figure)}
    for axes in pictures_of(figure):
        (lines,) = axes.collections
        (path,) = lines.get_paths()
        assert path.vertices.min(axis=0) == pytest.approx([9.5, 4.5])
        assert path.vertices.max(axis=0) == pytest.approx([29.5, 19.5])


def test_fonts_travel_with_the_file(tmp_path):
    figure = affinity_figure(PHOTOS[:1], QUERIES[:1], [AffinityMaps("my$model_name", model("a").maps[:1], {})])
    for suffix in ("pdf", "svg", "png"):
        save_figure(figure, tmp_path / f"figure.{suffix}")
    pdf = (tmp_path / "figure.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"<text" not in (tmp_path / "figure.svg").read_bytes()
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_the_probe_figure_has_three_rows_and_two_bars():
    frame = Frame.fitted((224, 224), (112, 112), fit="pad")
    generator = np.random.default_rng(0)
    alone, together = (CellMap(generator.uniform(-1, 1, (7, 7)), frame, 16) for _ in range(2))
    models = [ProbeMaps(LONG.format(place), alone, together, (0.5, 0.4), (0.1, 0.4), {}) for place in range(3)]
    picture = np.zeros((224, 224, 3))
    figure = probe_figure(picture, picture, (50, 60), models, captions=("A alone: cat", "beside B: dog, probe 17"))
    assert len(pictures_of(figure)) == 2 + 3 * 3
    maps = {axes.images[0].get_cmap().name for axes in pictures_of(figure)}
    assert {"inferno", "RdBu_r"} <= maps
    change = [axes for axes in pictures_of(figure) if axes.images[0].get_cmap().name == "RdBu_r"]
    low, high = change[0].images[0].get_clim()
    assert low == -high
    # Differences may be larger than any cosine.
    assert high > 1
    assert {"difference", "change"} <= {text.get_text() for text in texts_of(figure)}


def test_a_map_that_is_undefined_everywhere_changes_no_range():
    one, empty = model("a", span=0.02), model("b")
    for cell_map in empty.maps:
        cell_map.cells[:] = np.nan
    assert (
        limits(affinity_figure(PHOTOS, QUERIES, [one]))[0] == limits(affinity_figure(PHOTOS, QUERIES, [one, empty]))[0]
    )
    own = affinity_figure(PHOTOS, QUERIES, [one, empty], look=MapLook(colour_range="panel"))
    assert "undefined" in [text.get_text() for text in texts_of(own)]
    frame = one.maps[0].frame
    small = CellMap(np.linspace(-0.01, 0.01, 49).reshape(7, 7), frame, 16)
    nothing = CellMap(np.full((7, 7), np.nan), frame, 16)
    both = [ProbeMaps(name, part, part, (0, 0), (0, 0), {}) for name, part in (("a", small), ("b", nothing))]
    figure = probe_figure(PHOTOS[0], PHOTOS[0], (5, 5), both, captions=("A", "B"))
    change = [axes for axes in pictures_of(figure) if axes.images[0].get_cmap().name == "RdBu_r"]
    assert change[0].images[0].get_clim() == (-1e-3, 1e-3)


def test_more_columns_than_can_be_seen_are_refused():
    with pytest.raises(ArgumentError, match="at most 9 columns"):
        affinity_figure(PHOTOS, QUERIES, [model(f"vit_{place}") for place in range(12)], look=MapLook(COLUMN_IN))
    with pytest.raises(ArgumentError, match="range must go up"):
        affinity_figure(PHOTOS, QUERIES, [model("a")], look=MapLook(colour_range=(0, float("inf"))))
