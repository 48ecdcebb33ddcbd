"""Figures keep their labels inside, whatever is drawn; tables escape and shorten."""

import dataclasses

import numpy as np
import pytest

import couplingkit as ck
from couplingkit.figures.labels import short_labels
from couplingkit.figures.plots import coupling_figure, probe_sheet, save_figure
from couplingkit.figures.style import COLUMN_IN, PAGE_IN
from couplingkit.figures.tables import render


@pytest.fixture(scope="module")
def measurements(probes):
    names = ("control:leak:0.2", "random:test_vit", "control:cell")
    return [ck.measure(ck.load_backbone(name, precision="float32"), probes) for name in names]


def renamed(measurement, name):
    return dataclasses.replace(measurement, name=name)


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("width", [COLUMN_IN, PAGE_IN])
def test_no_label_is_cut_and_none_overlap(measurements, tmp_path, count, width):
    long = "vit_base_patch16_224_with_a_long_name@" + "runs/" * 9 + "checkpoint_of_the_last_epoch_{}.pth"
    rows = [renamed(measurements[place % 3], long.format(place)) for place in range(count)]
    figure = coupling_figure(rows, width_in=width)
    save_figure(figure, tmp_path / "figure.png")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    texts = [*axes.texts, axes.xaxis.label, *axes.get_xticklabels()]
    boxes = [text.get_window_extent() for text in texts]
    whole = figure.bbox
    for text, box in zip(texts, boxes, strict=True):
        assert box.x0 >= whole.x0 - 1, text
        assert box.x1 <= whole.x1 + 1, text
        assert box.y0 >= whole.y0 - 1, text
        assert box.y1 <= whole.y1 + 1, text
    for place, box in enumerate(boxes):
        for other in boxes[place + 1 :]:
            assert not box.overlaps(other)


def test_plot_is_one_row(measurements):
    figure = ck.coupling_figure(measurements[:1])
    assert "control:leak:0.2" in [text.get_text() for text in figure.axes[0].texts]


def test_figures_do_not_change_from_day_to_day(measurements, tmp_path):
    for name in ("a", "b"):
        save_figure(coupling_figure(measurements), tmp_path / f"{name}.pdf")
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    assert b"FontFile2" in (tmp_path / "a.pdf").read_bytes()


def test_sheet_has_a_picture_for_every_image(tmp_path):
    pictures = [[np.full((20, 20, 3), 0.1 * column, dtype=np.float32) for column in range(4)] for _ in range(2)]
    figure = probe_sheet(pictures, ["first", "second"], ["A", "B", "C", "D"])
    shown = [axes.images[0].get_array()[0, 0, 0] for axes in figure.axes]
    assert np.allclose(shown, [0, 0.1, 0.2, 0.3] * 2)


def test_labels_keep_models_apart():
    names = ["vit@a/b/last.pth", "vit@a/c/last.pth", "vit@x/first.pth"]
    assert short_labels(names) == ["vit@b/last.pth", "vit@c/last.pth", "vit@x/first.pth"]
    assert len(set(short_labels([f"a@{'x/' * 30}{place}/b.pth" for place in range(3)]))) == 3


def test_latex_escapes_and_unknown_formats_are_refused(measurements):
    assert "random:test\\_vit" in render(ck.Run(measurements), "latex")
    with pytest.raises(ck.CouplingKitError, match="format"):
        render(ck.Run(measurements), "yaml")
