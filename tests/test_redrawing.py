"""Figures are drawn anew from what a run's folder holds; rows of an affinity figure; one style for all."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from command import run
from PIL import Image

import couplingkit as ck
from couplingkit.errors import ArgumentError, DataError
from couplingkit.figures.forest_plots import forest_figure
from couplingkit.figures.plots import MOST_ROWS, coupling_figure
from couplingkit.figures.redrawing import drawings_of
from couplingkit.figures.style import COLOURS, STYLES, chosen_style, in_style
from couplingkit.runs.figure_rows import open_rows, read_rows

NAMES = (
    "dino_vitsmall16_pretrain", "mae_vit_base_patch16_224.mae@a/checkpoint-799",
    "vit_small_patch16_224.augreg_in21k_ft_in1k", "a", "resnet50.a1_in1k",
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory, scenes):
    """A folder of each command that is quick."""
    home = tmp_path_factory.mktemp("runs")
    data = ("--annotations", scenes[0], "--images", scenes[1])
    photo = sorted(scenes[1].iterdir())[0]
    models = ("bundled:ibot", "bundled:ibot-d")
    commands = {
        "measure": ("measure", *models, *data, "--probes", "16"),
        "sweep": ("sweep", *models, *data, "--probes", "8", "--gap", "0,32"),
        "affinity": ("affinity", "control:leak:0.2", "--image", photo, "--point", "20,30"),
        "examples": ("affinity", "control:leak:0.2", *data, "--examples", "2", "--objects", "4"),
        "probe": ("affinity", "control:leak:0.2", *data, "--probe", "3"),
        "masks": ("masks", *data[:2], "--strategy", "rcc,random", "--ratio", ".4", "--draws", "2"),
        "evaluate": ("evaluate", "knn-seg", "bundled:ibot", "bundled:ibot-d", "--data", "scenes:4+4"),
    }
    for name, words in commands.items():
        told = run(*words, "--out", home / name)
        assert told.exit_code == 0, told.output
    for name, runs in (("compare", ("measure",)), ("scores", ("evaluate",)), ("relate", ("evaluate", "measure"))):
        told = run("relate" if name == "relate" else "compare", *(home / one for one in runs), "--out", home / name)
        assert told.exit_code == 0, told.output
    return home


KINDS = ("measure", "sweep", "affinity", "examples", "probe", "masks", "evaluate", "compare", "scores", "relate")


def test_what_is_drawn_anew_is_what_was_drawn(folders, tmp_path):
    """In the usual style each figure is the run's own, pixel for pixel."""
    for kind in KINDS:
        told = run("plot", folders / kind, "--format", "png", "--out", tmp_path / kind)
        assert told.exit_code == 0, told.output
        drawn, own = (sorted(place.glob("*.png")) for place in (tmp_path / kind, folders / kind))
        assert [path.name for path in drawn] == [path.name for path in own]
        for one, other in zip(drawn, own, strict=True):
            first, second = (np.array(Image.open(path).convert("RGB"), dtype=int) for path in (one, other))
            assert first.shape == second.shape
            # A probe's pictures are kept in 8 bits.
            assert np.abs(first - second).max() <= (2 if kind == "probe" else 0), kind


def test_a_style_changes_width_and_letters(folders, tmp_path):
    out = tmp_path / "figure.pdf"
    told = run("plot", folders / "measure", "--style", "cvpr", "--out", out)
    assert told.exit_code == 0, told.output
    assert b"STIX" in out.read_bytes()
    for name in STYLES:
        with in_style(chosen_style(name)):
            figure = drawings_of(folders / "measure")["coupling"][1](chosen_style(name).column_in)
            assert figure.get_figwidth() == chosen_style(name).column_in
    with pytest.raises(ArgumentError, match="style must be one of"):
        chosen_style("nature-but-misspelt")


def test_bad_folders_are_one_sentence(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    for place, sentence in (
        (tmp_path / "nothing", "is no folder"),
        (tmp_path / "empty", "holds nothing that a figure is drawn of"),
    ):
        told = run("plot", place, "--out", tmp_path / "out")
        assert told.exit_code == 2
        assert sentence in told.output.replace("\n", " ")
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("maps.npz", "pictures.npz", "summary.json"):
        (broken / name).write_bytes((folders / "affinity" / name).read_bytes()[:100])
    assert run("plot", broken, "--out", tmp_path / "out").exit_code == 2
    two = run("plot", folders / "sweep", "--out", folders / "measure")
    assert two.exit_code == 2


@pytest.fixture(scope="module")
def measured(probes):
    return [ck.measure(ck.load_backbone(name), probes) for name in ("control:leak:0.2", "control:cell")]


@pytest.mark.parametrize("count", [1, 2, MOST_ROWS, 12, 30])
def test_one_to_thirty_models(measured, count):
    """No name is cut, nothing lies over anything, and the figure fits on a page."""
    names = [f"{NAMES[place % len(NAMES)]}-{place}" for place in range(count)]
    figure = coupling_figure([replace(measured[place % 2], name=name) for place, name in enumerate(names)])
    figure.draw_without_rendering()
    assert figure.get_figheight() <= 9
    texts = [*figure.texts]
    for axes in figure.axes:
        low, high = axes.get_xlim()
        # Ticks beyond the ends of an axis are not drawn.
        ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        texts += [label for at, label in ticks if low <= at <= high]
        texts += [*axes.texts, *axes.get_yticklabels(), axes.xaxis.label]
    texts = [text for text in texts if text.get_text().strip() and text.get_visible()]
    shown = "".join(text.get_text().replace("\n", "") for text in texts)
    assert all(name.replace("a/checkpoint", "checkpoint") in shown for name in names)
    boxes = [text.get_window_extent().padded(-1) for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert box.x0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert box.y0 >= -1, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for (one, first), (other, second) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        assert not first.overlaps(second), (one, other)


def test_one_model_that_is_far_off_does_not_hide_the_others(measured):
    wild = measured[0].summary.estimates["cr"]
    summary = replace(
        measured[0].summary, estimates={**measured[0].summary.estimates, "cr": replace(wild, value=90.0, high=900.0)}
    )
    models = [replace(measured[1], name=f"m{place}") for place in range(9)]
    figure = forest_figure([*models, replace(measured[0], name="wild", summary=summary)])
    assert figure.axes[0].get_xlim()[1] < 5


# Viénot's matrices of what eyes without red, without green see, on linear light.
BLIND = {
    "protanopia": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
    "deuteranopia": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
}


@pytest.mark.parametrize("kind", BLIND)
def test_colours_are_told_apart_by_all_eyes(kind):
    rgb = np.array([[int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)] for colour in COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(BLIND[kind]).T, 0, 1) ** (1 / 2.2)
    apart = [np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)]
    assert min(apart) > 0.12
    # The first three, which most figures need, by far.
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen[:3], 2)) > 0.2


def test_rows_of_a_figure(scenes, tmp_path):
    first, second = sorted(scenes[1].iterdir())[:2]
    (tmp_path / "rows.toml").write_text(
        f'[[row]]\nimage = "{first}"\npoint = [12, 20]\ncaption = "left hand"\n'
        f'[[row]]\nimage = "{second}"\npoint = [3, 4]\n'
    )
    rows = read_rows([f"{first}@30,40.5", str(tmp_path / "rows.toml")])
    assert [(row.image, row.x, row.y) for row in rows] == [(first, 30, 40.5), (first, 12, 20), (second, 3, 4)]
    pictures, queries, captions = open_rows(rows)
    assert len(pictures.rgb) == 2
    assert [query.photo for query in queries] == [0, 0, 1]
    assert captions == ["30, 40.5", "left hand", "3, 4"]
    out = tmp_path / "figure.png"
    words = ("--rows", f"{first}@30,40", "--rows", tmp_path / "rows.toml", "--label", "one", "--label", "two")
    for share in ("all", "model", "row", "none"):
        told = run(
            "affinity", "control:leak:0.2", "control:cell", *words, "--share-range", share, "--overlay", ".6",
            "--cmap", "viridis", "--out", out, "--overwrite",
        )  # fmt: skip
        assert told.exit_code == 0, told.output
    assert out.stat().st_size > 5000


def test_bad_rows_are_one_sentence(scenes, tmp_path):
    photo = sorted(scenes[1].iterdir())[0]
    for word in ("photo.jpg", "photo.jpg@3", "photo.jpg@a,b", "@3,4"):
        with pytest.raises(ArgumentError, match="PHOTO@X,Y"):
            read_rows([word])
    for text in ("", "row = 3", '[[row]]\nimage = "a.jpg"', '[[row]]\nimage = "a"\npoint = [1, 2]\nthing = 3'):
        (tmp_path / "rows.toml").write_text(text)
        with pytest.raises(DataError):
            read_rows([str(tmp_path / "rows.toml")])
    outside = run("affinity", "control:cell", "--rows", f"{photo}@9999,3", "--out", tmp_path / "a.png")
    assert outside.exit_code == 2
    both = run("affinity", "control:cell", "--rows", f"{photo}@3,3", "--image", photo, "--point", "3,3")
    assert both.exit_code == 2
    assert "--rows" in both.output
    old = run("affinity", "control:cell", "--rows", f"{photo}@3,3", "--range", "per-panel")
    assert "--share-range none" in old.output.replace("\n", " ")
