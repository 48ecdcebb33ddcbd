"""Whatever is wrong with what a user gives: one sentence, exit code 2, no number, nothing written."""

import json
import shutil

import numpy as np
import pytest
from command import run
from PIL import Image


@pytest.fixture
def copy(scenes, tmp_path):
    """A copy of the scenes that may be broken, as (annotations, images, content of the JSON)."""
    shutil.copytree(scenes[1], tmp_path / "set" / "images")
    shutil.copy(scenes[0], tmp_path / "set" / "instances.json")
    return tmp_path / "set" / "instances.json", tmp_path / "set" / "images", json.loads(scenes[0].read_text())


def refused(tmp_path, annotations, images, *words, model="control:cell"):
    """Run measure, check how it ended, and return its one sentence."""
    out = tmp_path / "run"
    done = run(
        "measure",
        model,
        "--annotations",
        annotations,
        "--images",
        images,
        "--probes",
        8,
        "--out",
        out,
        *words,
    )
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "Traceback" not in done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert not out.exists()
    return errors[0]


def test_no_such_file(tmp_path, scenes):
    assert "cannot be read" in refused(tmp_path, tmp_path / "none.json", scenes[1])
    assert "does not exist" in refused(tmp_path, scenes[0], tmp_path / "none")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ('{"images": [', "not valid JSON"),
        ("", "is empty"),
        ("[1, 2]", "Expected `object`"),
        ('{"images": [], "annotations": []}', "required field `categories`"),
        ('{"images": {}, "annotations": [], "categories": []}', "`$.images`"),
        ("\x00\x01", "not valid JSON"),
    ],
)
def test_broken_json(tmp_path, scenes, content, word):
    path = tmp_path / "broken.json"
    path.write_text(content)
    assert word in refused(tmp_path, path, scenes[1])


def first_used(content):
    """The annotation of the largest object."""
    return max(content["annotations"], key=lambda annotation: annotation["area"])


def set_segmentation(segmentation):
    """Of every object."""
    return lambda content: [annotation.update(segmentation=segmentation) for annotation in content["annotations"]]


def set_polygon(coordinates):
    return set_segmentation([coordinates])


def change_rle(**fields):
    return lambda content: [annotation["segmentation"].update(**fields) for annotation in content["annotations"]]


def double(kind, **changes):
    return lambda content: content[kind].append({**content[kind][0], **changes})


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (set_polygon([10, 10, 90, 10, 90, 90, 10]), "111 broken (annotation 1: a polygon has 7 coordinates"),
        (set_polygon([10, 10, 9e8, 10, 900, 90, 10, 90]), "far outside its photo"),
        (set_polygon([500, 10, 590, 10, 590, 90, 500, 90]), "111 no mask"),
        (set_polygon([10, 10, float("nan"), 10, 90, 90, 10, 90]), "111 broken (annotation 1: "),
        (set_polygon([10, 10, "x", 10, 90, 90, 10, 90]), "list of numbers"),
        (set_segmentation([[30, 30, 36, 30, 36, 36, 30, 36]]), "111 small"),
        (set_segmentation([[30, 30, 36, 30]]), "111 no mask"),
        (change_rle(size=[320, 383]), "RLE has size"),
        (change_rle(counts="12"), "does not cover"),
        (change_rle(counts=[5, 7]), "does not cover"),
        (change_rle(counts=[-5, 320 * 384 + 5]), "does not cover"),
        (lambda content: [one.update(image_id=999) for one in content["annotations"]], "its image is not listed"),
        (lambda content: [one.update(category_id=999) for one in content["annotations"]], "its category is not listed"),
        (lambda content: content["images"].clear(), "its image is not listed"),
        (lambda content: content["categories"].clear(), "its category is not listed"),
        (lambda content: content["annotations"].clear(), "0 eligible objects"),
        (lambda content: [one.pop("width") for one in content["images"]], "its image has no width and height"),
        (lambda content: content["images"][0].update(width=0), "width and height of image 1 must be"),
        (lambda content: content["images"][0].update(height=2**70), "width and height of image 1 must be"),
        (double("images", file_name="other.png"), "image 1 stands there twice"),
        (double("categories", name="other"), "category 1 is there twice"),
    ],
)
def test_annotations_of_which_none_can_be_used(tmp_path, copy, spoil, word):
    annotations, images, content = copy
    spoil(content)
    annotations.write_text(json.dumps(content))
    assert word in refused(tmp_path, annotations, images)


@pytest.mark.parametrize("how", ["missing", "truncated", "resized", "text", "floats"])
def test_broken_images(tmp_path, copy, how):
    annotations, images, _ = copy
    for path in images.iterdir():
        if how == "missing":
            path.unlink()
        elif how == "truncated":
            path.write_bytes(path.read_bytes()[:20000])
        elif how == "resized":
            Image.open(path).resize((320, 384)).save(path)
        elif how == "text":
            path.write_text("no image")
        else:
            Image.fromarray(np.zeros((320, 384), dtype=np.float32)).save(path, "TIFF")
    words = {"missing": "missing", "resized": "but the annotations say", "floats": "range is not known"}
    word = words.get(how, "cannot be read")
    assert word in refused(tmp_path, annotations, images)


def test_too_few_objects_say_what_was_dropped(tmp_path, scenes):
    told = refused(tmp_path, *scenes, "--min-area", 10**6)
    assert "0 eligible objects" in told
    assert "small" in told
    assert "--min-area loosens it" in told


def test_too_few_for_a_control_say_so(tmp_path, copy):
    annotations, images, content = copy
    big = sorted(content["annotations"], key=lambda annotation: -annotation["area"])
    other = next(one for one in big if one["image_id"] != big[0]["image_id"])
    content["annotations"] = [big[0], {**other, "category_id": big[0]["category_id"] % 16 + 1}]
    annotations.write_text(json.dumps(content))
    assert "--no-control" in refused(tmp_path, annotations, images)
    content["annotations"] = content["annotations"][:1]
    annotations.write_text(json.dumps(content))
    assert "1 eligible objects, and a probe needs 2" in refused(tmp_path, annotations, images)


@pytest.mark.parametrize(
    ("model", "word"),
    [
        ("resnet5", "near: resnet5"),
        ("control:sieve", "control:leak:AMOUNT"),
        ("resnet18@none.pth", "does not exist"),
        ("random:test_vit,blocks=x", "cannot be built"),
        ("@x", "not of a known form"),
    ],
)
def test_unknown_models(tmp_path, scenes, model, word):
    assert word in refused(tmp_path, *scenes, model=model)


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["--probes", "0"], "probes must be between 1 and 1,000,000"),
        (["--probes", "many"], "no number, no file and no set"),
        (["--object-size", "120"], "canvas is too small"),
        (["--gap", "70"], "canvas is too small"),
        (["--device", "abacus"], "try auto or cpu"),
        (["--mean", "3"], "mean must be"),
        (["--std", "0"], "std must be"),
        (["--eps", "0"], "eps must be"),
        (["--eps", "nan"], "eps must be"),
        (["--min-cells", "-1"], "min_cells must be"),
        (["--image-size", "100"], "multiples of 16"),
        (["--layer", "3"], "one layer"),
        (["--object-size", "2"], "none of the 8 probes"),
    ],
)
def test_options_out_of_range(tmp_path, scenes, words, word):
    assert word in refused(tmp_path, *scenes, *words)


@pytest.mark.parametrize(
    "words",
    [["--mean", "a,b"], ["--seed", "-1"], ["--canvas", "blue"], ["--visible", "2"]],
)
def test_words_that_click_refuses(tmp_path, scenes, words):
    done = run("measure", "control:cell", "--annotations", scenes[0], "--images", scenes[1], *words)
    assert done.exit_code == 2
    assert words[0] in done.stderr


def test_an_existing_out_is_refused_before_the_work_and_replaced_when_asked(tmp_path, scenes):
    out = tmp_path / "run"
    words = [
        "measure",
        "control:cell",
        "--annotations",
        scenes[0],
        "--images",
        scenes[1],
        "--probes",
        4,
        "--out",
        out,
    ]
    assert run(*words).exit_code == 0
    before = (out / "summary.json").read_bytes()
    again = run(*words, "--seed", 1)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert "probe/s" not in again.stderr
    assert (out / "summary.json").read_bytes() == before
    assert run(*words, "--seed", 1, "--overwrite").exit_code == 0
    assert (out / "summary.json").read_bytes() != before
    failed = run(*words, "--overwrite", "--object-size", 2)
    assert failed.exit_code == 2
    assert (out / "summary.json").exists()
