"""What a notebook shows of records; and the notebooks of the examples, executed."""

import inspect
import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import couplingkit as ck

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
EMPTY = ("img", "br")


class Balanced(HTMLParser):
    """Refuses what is no well-formed HTML."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += f" {data}"


def shown(record):
    parser = Balanced()
    html = record._repr_html_()
    parser.feed(html)
    assert not parser.open
    assert " at 0x" not in html
    return parser.text


@pytest.fixture(scope="module")
def measured(probes):
    return [ck.measure(ck.load_backbone(name), probes) for name in ("control:leak:0.2", "control:cell")]


def test_records_show_their_numbers(measured, probes, scenes):
    first = measured[0]
    for record in (first, first.summary):
        text = shown(record)
        for name in ("cr", "specificity", "leak", "displacement"):
            assert name in text
        assert f"{first.summary.cr:.3f}" in text
        assert "24 of 24 probes measured" in text
    comparison = ck.compare_models({one.name: one for one in measured})
    assert "control:cell" in shown(comparison)
    assert "24 probes" in shown(probes)
    assert "data:image/png" in probes._repr_html_()
    backbone = ck.load_backbone("control:leak:0.2")
    assert "stride_px" in shown(backbone)
    assert "stride 16 px" in repr(backbone)
    assert "control:cell" in shown(ck.load_layers("control:cell"))
    index = ck.read_instances(scenes[0], ck.Eligibility(min_area=500))
    (scores,) = ck.localize(backbone, ck.draw_queries(index, count=8), scenes[1])
    assert "auroc_px" in shown(scores)
    data = ck.open_labelled_data("scenes:4+4")
    (evaluation,) = ck.evaluate(backbone, "knn-seg", data)
    assert f"{evaluation.score.value:.3f}" in shown(evaluation)


def test_figures_show_themselves(measured):
    assert ck.coupling_figure(measured)._repr_png_().startswith(b"\x89PNG")


def test_signatures_say_what_can_be_given():
    for function, names in (
        (ck.load_backbone, {"layer", "image_size", "mean", "precision", "device", "seed"}),
        (ck.load_layers, {"layer", "norm"}),
        (ck.ProbeSet.from_masks, {"count", "seed", "spec", "categories"}),
        (ck.ProbeSet.vary, {"gap", "canvas"}),
    ):
        parameters = inspect.signature(function).parameters
        assert names <= set(parameters)
        assert all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in parameters.values())


TWICE = """
import logging, numpy as np, couplingkit as ck
scenes = ck.ScenePhotos(20)
photos = [scenes.read(one)[0] for one in scenes.ids]
masks = [[part.mask for part in scenes.objects(one)] for one in scenes.ids]
for _ in range(3):
    ck.ProbeSet.from_masks(photos, masks, folder="own", count=2)
{more}
"""


@pytest.mark.parametrize(
    ("more", "times"),
    [("", 1), ("logging.basicConfig(); ck.ProbeSet.from_masks(photos, masks, folder='own', count=2)", 2)],
)
def test_notes_are_said_once(more, times, tmp_path):
    """Unless the program listens by itself: then each time, as it wishes."""
    done = subprocess.run(
        [sys.executable, "-c", TWICE.format(more=more)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr.count("nobody named the objects") == times


def test_dir_shows_statistics(measured):
    assert {"cr", "leak", "specificity"} <= set(dir(measured[0].summary))


# The build of the site executes all of them, too.
QUICK = "own_network"


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[] if path.stem == QUICK else [pytest.mark.slow]) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_notebooks_run(path, tmp_path):
    """From a fresh kernel, in an empty folder; and what is kept has no outputs of somebody's machine."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env={**os.environ, "OMP_NUM_THREADS": "1"})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert any("text/html" in output.get("data", {}) for output in outputs)
    assert " object at 0x" not in json.dumps(outputs)


def test_there_are_three_notebooks():
    assert len(NOTEBOOKS) == 3
