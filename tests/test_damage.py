"""Whatever is read may be damaged: one sentence or the same numbers, at once, and never a traceback."""

import json
import shutil
import time
from contextlib import contextmanager, nullcontext
from functools import partial

import click
import numpy as np
import pytest
import torch
from command import run
from couplingkit.cli.main import main
from damage import WORDS, damaged_bytes, damaged_json, damaged_rows, damaged_toml
from safetensors import safe_open

import couplingkit as ck
from couplingkit.data.coco import read_instances
from couplingkit.errors import CouplingKitError
from couplingkit.features.identity import resolve_run
from couplingkit.features.names import BackboneOptions, parse_model_name
from couplingkit.features.own_format import FORMAT
from couplingkit.runs.extremes import read_extremes
from couplingkit.runs.models import check_models, read_zoo
from couplingkit.runs.training import resumed_training
from couplingkit.training.corpus import open_corpus
from couplingkit.training.proposals import Proposals, read_proposals, write_proposals
from couplingkit.training.recipe import build_method, read_recipe, recipe_toml

MOST_S = 10


@contextmanager
def at_once(name):
    """Refused or read: no other error, and not for long."""
    begin, said = time.perf_counter(), ""
    try:
        yield
    except CouplingKitError as error:
        said = str(error)
    except Exception as error:
        raise AssertionError(f"{name}: {error!r}") from error
    assert "\n" not in said, name
    assert len(said) < 3000, name
    assert time.perf_counter() - begin < MOST_S, name


def numbers_of(found):
    """What a reader publishes of a run."""
    return [(one.name, one.summary.estimates, one.summary.measured) for one in found.measurements]


@pytest.fixture(scope="module")
def whole(scenes, tmp_path_factory):
    """A run of two models on 12 probes."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    words = ["--annotations", scenes[0], "--images", scenes[1], "--probes", 12, "--out", folder]
    done = run("measure", "control:leak:0.1", "control:leak:0.4", *words)
    assert done.exit_code == 0, done.output
    return folder, numbers_of(ck.read_run(folder))


@pytest.mark.parametrize(
    ("file", "damaged", "fewest"),
    [
        ("summary.json", partial(damaged_json, every=3), 100),
        ("rows.csv", damaged_rows, 60),
        ("probes.json", partial(damaged_json, every=3), 30),
    ],
)
def test_a_run_is_refused_or_says_the_same(whole, tmp_path, file, damaged, fewest):
    folder, expected = whole
    shutil.copytree(folder, tmp_path / "run")
    refused = count = 0
    for name, content in damaged((folder / file).read_text()):
        (tmp_path / "run" / file).write_bytes(content)
        count += 1
        with at_once(f"{file}: {name}"):
            try:
                found = numbers_of(ck.read_run(tmp_path / "run"))
            except CouplingKitError:
                refused += 1
                raise
            assert repr(found) == repr(expected)
    assert count >= fewest
    assert refused >= 0.6 * count


def test_what_a_reader_of_runs_refuses_the_commands_refuse(whole, tmp_path):
    folder, _ = whole
    shutil.copytree(folder, tmp_path / "run")
    for name, content in list(damaged_rows((folder / "rows.csv").read_text()))[::12]:
        (tmp_path / "run" / "rows.csv").write_bytes(content)
        for words in (("report", tmp_path / "run"), ("compare", folder, tmp_path / "run")):
            done = run(*words, "--out", tmp_path / "out", "--overwrite")
            assert done.exit_code == 2, (name, done.output)
            assert done.stderr.count("Error: ") == 1
            assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["bytes", "arrays"])
def test_extremes(whole, tmp_path, how):
    path = tmp_path / "extremes.npz"
    content = (whole[0] / "extremes.npz").read_bytes()
    if how == "bytes":
        for name, damaged in damaged_bytes(content):
            path.write_bytes(damaged)
            # What stands before a zip is nothing to it.
            with at_once(name), nullcontext() if name == "twice" else pytest.raises(CouplingKitError):
                read_extremes(path)
        return
    with np.load(whole[0] / "extremes.npz") as held:
        arrays = dict(held)
    for name, array in arrays.items():
        text = array.astype("S9" if array.dtype.kind in "Uf" else "f4")
        for other in (array[:0], text, array[..., None], np.array(3), np.array([object()])):
            np.savez(path, **{**arrays, name: other})
            with at_once(f"{name} {other.dtype} {other.shape}"), pytest.raises(CouplingKitError):
                read_extremes(path)
        np.savez(path, **{key: value for key, value in arrays.items() if key != name})
        with at_once(f"no {name}"), pytest.raises(CouplingKitError):
            read_extremes(path)


def test_manifests(scenes, tmp_path):
    drawn = ck.ProbeSet.from_coco(*scenes, count=6, spec=ck.ProbeSpec(design="pairs"))
    drawn.fingerprint()
    count = 0
    for name, content in damaged_json(drawn.manifest().text()):
        (tmp_path / "set.json").write_bytes(content)
        count += 1
        with at_once(name):
            replayed = ck.ProbeSet.from_manifest(tmp_path / "set.json", *scenes)
            # What is left of a promise is kept; without one, the probes are those of the manifest all the same.
            assert len(replayed) == 6
            replayed.fingerprint()
    assert count >= 60


def test_annotations(scenes, tmp_path):
    content = json.loads(scenes[0].read_text())
    few = {key: value[:4] if isinstance(value, list) else value for key, value in content.items()}
    few["categories"] = content["categories"]
    few["annotations"] = [
        one for one in content["annotations"] if one["image_id"] in [image["id"] for image in few["images"]]
    ]
    for name, damaged in damaged_json(json.dumps(few)):
        (tmp_path / "instances.json").write_bytes(damaged)
        with at_once(name):
            index = read_instances(tmp_path / "instances.json")
            assert all(record.area > 0 for record in index.objects)


@pytest.mark.parametrize("method", ["ibot-d", "soco"])
def test_recipes(tmp_path, method):
    base = read_recipe(method, f"{method.removesuffix('-d')}-tiny")
    count = 0
    for name, content in damaged_toml(recipe_toml(base)):
        (tmp_path / "recipe.toml").write_bytes(content)
        count += 1
        with at_once(name):
            found = read_recipe(method, str(tmp_path / "recipe.toml"))
            assert "nan" not in recipe_toml(found)
            assert "inf" not in recipe_toml(found)
    assert count >= 100


ZOO = """[[model]]
name = "random:test_vit"
label = "small"
layer = "2"
norm = "raw"
image_size = 160
mean = [0.5, 0.5, 0.5]
std = 0.5
precision = "float32"
trust_checkpoint = false

[[model]]
name = "control:cell"
"""


def test_zoos(tmp_path):
    for name, content in damaged_toml(ZOO):
        (tmp_path / "zoo.toml").write_bytes(content)
        with at_once(name):
            choices = read_zoo(tmp_path / "zoo.toml", BackboneOptions())
            check_models(choices, lenient=True)
            assert len(choices) == 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder of two steps."""
    folder = tmp_path_factory.mktemp("trained")
    small = ["run.batch_size=2", "run.checkpoint_every=1", "run.workers=0"]
    words = ["--data", "scenes:4", "--recipe", "ibot-tiny", "--steps", 2, "--device", "cpu", "--out", folder / "run"]
    done = run("train", "ibot", *words, *(word for one in small for word in ("--set", one)))
    assert done.exit_code == 0, done.output
    return folder / "run"


@pytest.mark.parametrize("file", ["run.json", "recipe.toml", "checkpoints/step-00000002/step.json"])
def test_training_runs(trained, tmp_path, file):
    whole = (trained / file).read_text()
    shutil.copytree(trained, tmp_path / "run")
    for number, (name, content) in enumerate(damaged_toml(whole) if file.endswith("toml") else damaged_json(whole)):
        (tmp_path / "run" / file).write_bytes(content)
        with at_once(name):
            request = resumed_training(tmp_path / "run", None, {})
            build_method(request.recipe)
            resolve_run(parse_model_name(str(tmp_path / "run")), None)
        if number % 12 or "probe_every" in name:
            continue  # to look at a run more often is no damage, and takes its time
        for words in (("train", "--resume", tmp_path / "run", "--device", "cpu"), ("inspect", tmp_path / "run")):
            begin = time.perf_counter()
            done = run(*words)
            assert done.exit_code in (0, 2), (name, words, done.output)
            assert time.perf_counter() - begin < MOST_S, name


def test_headers_of_weights(tmp_path):
    network = ck.load_backbone("random:test_vit", device="cpu", precision="float32")
    path = tmp_path / "own.safetensors"
    header = ck.BackboneHeader(architecture="test_vit", mean=(0.5,) * 3, std=(0.5,) * 3)
    ck.save_backbone(path, network.network.state_dict(), header)
    expected = network(torch.zeros(1, 3, *network.size_px))
    with safe_open(path, "pt") as held:
        said = held.metadata()[FORMAT]
        tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
    from safetensors.torch import save_file

    for name, content in damaged_json(said):
        try:
            save_file(tensors, path, metadata={FORMAT: content.decode()})
        except UnicodeDecodeError:
            continue
        with at_once(name):
            found = ck.load_backbone(str(path), device="cpu", precision="float32")
            # Another normalisation or another setting would be another network.
            assert torch.allclose(found(torch.zeros(1, 3, *network.size_px)), expected, atol=1e-5), name


def test_proposals(tmp_path):
    corpus = open_corpus("scenes:2")
    boxes = np.array([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]], dtype=np.float32)
    whole = Proposals(boxes, np.array([0, 1, 2]), {"version": 1, "corpus": corpus.describe(), "method": "mine"})
    path = tmp_path / "boxes.npz"
    write_proposals(path, whole)
    for name, content in damaged_bytes(path.read_bytes()):
        path.write_bytes(content)
        with at_once(name), nullcontext() if name == "twice" else pytest.raises(CouplingKitError):
            read_proposals(path, corpus)
    for name, content in damaged_json(json.dumps(whole.about)):
        said = np.frombuffer(content, dtype=np.uint8)
        np.savez(path, boxes=boxes, starts=whole.starts, couplingkit=said)
        with at_once(name):
            assert read_proposals(path, corpus).boxes.shape == (2, 4)


def leaves(group=main, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


# What else a command is told, so that it never comes to any work: its data is not there.
NOWHERE = {"--annotations": "nowhere.json", "--images": "nowhere", "--data": "nowhere", "--recipe": "nowhere.toml"}
ARGUMENTS = {"measure": ["control:cell"], "sweep": ["control:cell"], "affinity": ["control:cell"], "train": ["ibot"]}
ARGUMENTS |= {"explore": ["control:cell"], "inspect": ["nowhere.pth"], "train-pair": ["nothing"]}
ARGUMENTS |= {"compare": ["nowhere", "no"], "report": ["nowhere"]}
# These need no data: an odd word may be a good one, and then they work.
WORKING = {"demo", "scenes", "backbones", "sets"}


@pytest.mark.parametrize(
    ("path", "command"), leaves(), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_words(path, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if path[-1] in WORKING:
        pytest.skip("works without data")
    options = [one for one in command.params if isinstance(one, click.Option) and not one.is_flag and not one.hidden]
    names = {name for one in options for name in one.opts}
    base = [
        *path,
        *ARGUMENTS.get(path[-1], []),
        *(word for name, value in NOWHERE.items() if name in names for word in (name, value)),
    ]
    for number, option in enumerate(options):
        for place, word in enumerate(WORDS):
            if place % 4 != number % 4 and option.name not in ("probes", "out", "layer", "image_size"):
                continue
            name = max(option.opts, key=len)
            begin = time.perf_counter()
            done = run(*base, f"{name}={word}")
            assert done.exit_code == 2, (name, word[:20], done.output, done.exception)
            assert done.stderr.count("Error: ") == 1, (name, word[:20], done.stderr)
            assert time.perf_counter() - begin < MOST_S


@pytest.mark.parametrize("word", WORDS, ids=lambda word: ascii(word)[:12])
def test_words_that_are_models(scenes, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for form in (
        word,
        f"test_vit@{word}",
        f"random:{word}",
        f"control:{word}",
        f"hub:{word}:x",
        f"transformers:{word}",
    ):
        done = run("inspect", "--device", "cpu", "--", form)
        assert done.exit_code == 2, (form[:30], done.output, done.exception)
        assert done.stderr.count("Error: ") == 1
