"""The trainer: data, crops, recipes, and runs that stop and go on as if they had not."""

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pandas as pd
import pytest
import torch
from command import free_port, run
from PIL import Image
from rates import with_rates
from torchvision.transforms import v2

import couplingkit as ck
from couplingkit.errors import ArgumentError, BackboneError, DataError, MeasurementError, OutputError
from couplingkit.runs.learning import read_curve
from couplingkit.training.callbacks import Watch
from couplingkit.training.checkpoint import checkpoints_of
from couplingkit.training.colours import SeparableBlur
from couplingkit.training.corpus import open_corpus
from couplingkit.training.loop import TrainSettings, train
from couplingkit.training.recipe import build_method, read_recipe, recipe_names, recipe_toml
from couplingkit.training.registry import method_names
from couplingkit.training.sampling import StepSampler
from couplingkit.training.views import CropDataset

CPU, GO_ON = TrainSettings("cpu"), TrainSettings("cpu", resume=True)
TINY = """
[method]
architecture = "vit_tiny_patch16_224"
options = { img_size = 32, patch_size = 8, embed_dim = 24, depth = 2, num_heads = 2 }
hidden = 32
bottleneck = 16
prototypes = 24
drop_path = 0.1
frozen_epochs = 0

[[views]]
size = 32
blur = 1.0

[[views]]
size = 32
solarize = 0.2

[decoupling]
share = 0.5

[run]
batch_size = 8
steps = 8
checkpoint_every = 2
workers = 0
"""


DENSECL = """
[method]
architecture = "resnet26"
options = { layers = [1, 1, 1, 1], channels = [4, 4, 4, 8], output_stride = 8 }
hidden = 16
dimensions = 8
queue = 20
norm_group = 2

[[views]]
size = 32

[[views]]
size = 32

[decoupling]
share = 0.5

[optimizer]
kind = "sgd"
lr = 0.05

[run]
batch_size = 8
steps = 4
checkpoint_every = 2
workers = 0
"""


def write(path, text):
    path.write_text(text)
    return str(path)


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)


@pytest.fixture(scope="module")
def corpus():
    return open_corpus("scenes:40")


# ---- recipes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "method"),
    [
        (name, method)
        for name in recipe_names()
        for method in method_names()
        if method.split("-")[0] == name.split("-")[0].replace("dinov2", "ibot")
    ],
)
def test_shipped_recipes_read_and_write(name, method, tmp_path):
    recipe = read_recipe(method, name)
    (tmp_path / "again.toml").write_text(recipe_toml(recipe))
    assert read_recipe(method, str(tmp_path / "again.toml")) == recipe
    assert recipe.augmentation.recolour == method.endswith("-d")


def test_values_are_changed_by_words(tiny):
    recipe = read_recipe("ibot-d", tiny, ["optimizer.lr=3e-4", "method.masking.strategy=random", "run.steps=5"])
    assert recipe.optimizer.lr == 3e-4
    assert recipe.method.masking.strategy == "random"
    assert recipe.run.steps == 5
    inner = build_method(recipe).inner
    # The views of an X-D are cut by RCC, whatever X does.
    assert inner.settings.masking.strategy == "rcc"


@pytest.mark.parametrize(
    ("method", "change", "sentence"),
    [
        ("ibot", "optimizer.lrr=1", r"no key 'lrr' \(near: lr"),
        ("ibot", "optimiser.lr=1", "near: optimizer"),
        ("ibot", "run.steps=0", "steps must be at least 1"),
        ("ibot", "run.steps=many", "Expected `int`, got `str`"),
        ("ibot", "run.precision=half", "float32, bfloat16"),
        ("ibot", "method.masking.strategy=blocks", "strategy must be"),
        ("ibot", "views.size=3", "no table of single values"),
        ("ibot", "lr", "TABLE.KEY=VALUE"),
        ("ibott", None, "near: ibot"),
        ("dino", None, "method must be one of ibot, ibot-d"),
    ],
)
def test_typos_are_named(tiny, method, change, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        read_recipe(method, tiny, [change] if change else [])


def test_recipes_that_are_not_there(tmp_path):
    with pytest.raises(ArgumentError, match="near: ibot-tiny"):
        read_recipe("ibot", "ibot-tyni")
    (tmp_path / "odd.toml").write_text("[run\n")
    with pytest.raises(ArgumentError, match="no valid TOML"):
        read_recipe("ibot", str(tmp_path / "odd.toml"))
    (tmp_path / "none.toml").write_text("[run]\nsteps = 3\n")
    with pytest.raises(ArgumentError, match=r"one \[\[views\]\] per crop"):
        read_recipe("ibot", str(tmp_path / "none.toml"))
    with pytest.raises(BackboneError, match="choose a vit_"):
        build_method(read_recipe("ibot", "ibot-tiny", ["method.architecture=resnet18", "method.options={}"]))


# ---- data ----------------------------------------------------------------------------------------


def picture(seed, size=(40, 50)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8))


def test_every_kind_of_data(scenes, tmp_path):
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    picture(0).save(tmp_path / "photos" / "b.png")
    picture(1).convert("L").save(tmp_path / "photos" / "deep" / "a b.JPG")
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    folder = open_corpus(str(tmp_path / "photos"))
    assert len(folder) == 2
    assert folder.read(0).shape == folder.read(1).shape == (40, 50, 3)
    annotated = open_corpus(str(scenes[0]), images=scenes[1])
    assert len(annotated) == 40
    built_in = open_corpus("scenes:7", seed=3)
    assert len(built_in) == 7
    assert not np.array_equal(built_in.read(0), built_in.read(1))
    (tmp_path / "shards").mkdir()
    for shard in range(2):
        with tarfile.open(tmp_path / "shards" / f"{shard}.tar", "w") as tar:
            for number in range(3):
                stream = io.BytesIO()
                picture(10 * shard + number).save(stream, "PNG")
                for name, content in ((f"{number}.png", stream.getvalue()), (f"{number}.cls", b"3")):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    for data in ("shards", "shards/*.tar"):
        shards = open_corpus(str(tmp_path / data))
        assert len(shards) == 6
        assert np.array_equal(shards.read(4), np.asarray(picture(11)))
    assert len(open_corpus(str(tmp_path / "shards" / "0.tar"))) == 3


def test_data_that_is_none(scenes, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.tar").write_bytes(b"no tar")
    for data, kind, sentence in (
        (tmp_path / "empty", DataError, "holds no image"),
        (tmp_path / "none", DataError, "does not exist"),
        (tmp_path / "bad.tar", DataError, "no uncompressed tar"),
        (scenes[0], ArgumentError, "needs `images`"),
        ("scenes:many", ArgumentError, "scenes:COUNT"),
    ):
        with pytest.raises(kind, match=sentence):
            open_corpus(str(data))
    with pytest.raises(DataError, match="right folder"):
        open_corpus(str(scenes[0]), images=tmp_path / "empty")


# ---- crops ---------------------------------------------------------------------------------------


def test_a_crop_depends_on_seed_epoch_image_and_view_alone(tiny, corpus):
    plain, decoupled = (
        CropDataset(corpus, read_recipe(name, tiny).augmentation, seed=0) for name in ("ibot", "ibot-d")
    )
    before = torch.random.get_rng_state()
    one = plain[0, 5]
    torch.rand(3)
    torch.random.set_rng_state(before)
    plain[0, 6]
    again, other = plain[0, 5], decoupled[0, 5]
    for v in range(2):
        assert torch.equal(one["crops"][v], again["crops"][v])
        assert torch.equal(one["crops"][v], other["crops"][v]), "X and X-D see the same crops"
        assert not torch.equal(one["crops"][v], plain[1, 5]["crops"][v])
        assert not torch.equal(other["crops"][v], other["recoloured"][v])
    assert torch.equal(before, torch.random.get_rng_state()), "global state is left as it was"
    assert one["crops"][0].shape == (3, 32, 32)
    assert one["crops"][0].dtype == torch.uint8


@pytest.mark.parametrize("size", [64, 224])
def test_blur_is_torchvisions_but_for_rounding(size):
    image = torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    kernel = max(3, size // 10 // 2 * 2 + 1)
    found = []
    for kind in (v2.GaussianBlur, SeparableBlur):
        torch.manual_seed(3)
        found.append(kind(kernel, (0.1, 2.0))(image))
    assert found[1].dtype == torch.uint8
    assert (found[0].int() - found[1].int()).abs().max() <= 1


class Broken:
    """A corpus of which some images cannot be read."""

    def __init__(self, whole, numbers):
        self.whole, self.numbers = whole, numbers

    def __len__(self):
        return len(self.whole)

    def read(self, number):
        if number in self.numbers:
            raise DataError(f"image {number} is broken")
        return self.whole.read(number)

    def describe(self):
        return self.whole.describe()


def test_broken_images_are_skipped_counted_and_too_many_stop_the_run(tiny, corpus, tmp_path):
    augmentation = read_recipe("ibot", tiny).augmentation
    data = CropDataset(Broken(corpus, {3, 4}), augmentation, seed=0)
    assert data[0, 3]["broken"] == [3, 4]
    assert data[0, 5]["broken"] == []
    train(read_recipe("ibot", tiny), Broken(corpus, {3}), tmp_path / "run", CPU)
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["broken"] == 1
    with pytest.raises(MeasurementError, match="more than 1%"):
        train(read_recipe("ibot", tiny), Broken(corpus, set(range(0, 40, 2))), tmp_path / "other", CPU)
    with pytest.raises(DataError, match="in a row"):
        CropDataset(Broken(corpus, set(range(40))), augmentation, seed=0)[0, 0]


def test_step_n_holds_the_same_images_whatever_came_before():
    def batches(**changes):
        return list(
            StepSampler(
                **{"length": 21, "batch": 4, "seed": 0, "first": 0, "count": 4, "start": 0, "steps": 12, **changes}
            )
        )

    whole = batches()
    assert batches(start=7) == whole[7:]
    halves = zip(batches(count=2), batches(first=2, count=2), strict=True)
    assert [one + other for one, other in halves] == whole
    numbers = [number for step in whole[:5] for _, number, _ in step]
    assert [{key[2] for key in step} for step in whole] == [{n} for n in range(12)], "a key says of which step it is"
    assert len(set(numbers)) == 20, "an epoch shows an image once"
    assert {epoch for step in whole for epoch, _, _ in step} == {0, 1, 2}
    assert batches(seed=1) != whole
    with pytest.raises(ArgumentError, match="at most the 21 images"):
        batches(batch=22)


# ---- runs ----------------------------------------------------------------------------------------


def state_of(run):
    return torch.load(checkpoints_of(run)[-1] / "state.pt", weights_only=True)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return one == other


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, corpus):
    folder = tmp_path_factory.mktemp("training")
    (folder / "tiny.toml").write_text(TINY)
    recipe = read_recipe("ibot-d", str(folder / "tiny.toml"))
    train(recipe, corpus, folder / "run", TrainSettings("cpu", record={"data": "scenes:40", "images": None}))
    return recipe, folder / "run"


def test_a_run_changes_the_student_and_the_teacher_follows(whole_run):
    recipe, run = whole_run
    state, start = state_of(run)["method"], build_method(recipe).state_dict()
    for branch in ("student", "teacher"):
        name = f"inner.{branch}.backbone.blocks.0.attn.qkv.weight"
        assert not torch.equal(state[name], start[name])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(8))
    for line in lines:
        assert line["total"] == pytest.approx(line["class"] + line["cells"] + line["decoupling"], abs=1e-5)
    assert [path.name for path in checkpoints_of(run)] == ["step-00000006", "step-00000008"]


def test_workers_bfloat16_and_checkpoints_that_are_kept(tiny, corpus, tmp_path):
    """The settings of the shipped recipes that the other runs leave at the simplest."""
    changes = ["run.keep_every=4", "run.checkpoint_every=1", "run.precision=bfloat16"]
    runs = []
    for workers in (0, 1):
        runs.append(tmp_path / str(workers))
        train(read_recipe("ibot-d", tiny, [*changes, f"run.workers={workers}"]), corpus, runs[-1], CPU)
        steps = [int(folder.name.removeprefix("step-")) for folder in checkpoints_of(runs[-1])]
        assert steps == [4, 7, 8]
    assert same(state_of(runs[0])["method"], state_of(runs[1])["method"])
    lines = [json.loads(line) for line in (runs[0] / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["total"]) for line in lines)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(tiny, corpus, tmp_path):
    with pytest.raises(ArgumentError, match="cuda"):
        train(read_recipe("ibot", tiny), corpus, tmp_path / "run", TrainSettings("cuda"))
    assert not (tmp_path / "run").exists()


def test_a_run_folder_is_a_model(whole_run):
    _, run = whole_run
    teacher, student = (
        ck.load_backbone(str(run), precision="float32", **extra) for extra in ({}, {"branch": "student"})
    )
    assert (teacher.stride_px, teacher.channels, teacher.size_px) == (8, 24, (32, 32))
    assert teacher.mean == (0.485, 0.456, 0.406)
    image = torch.rand(1, 3, 32, 32)
    assert not torch.equal(teacher(image), student(image))
    method = build_method(whole_run[0])
    method.load_state_dict(state_of(run)["method"])
    cells = method.inner.teacher.eval()(image)[1]
    assert torch.allclose(teacher(image), cells.permute(0, 3, 1, 2), atol=1e-5)
    with pytest.raises(BackboneError, match="no branch 'query'"):
        ck.load_backbone(str(run), branch="query")


def plug(at):
    """What pulls the plug after a step, before its checkpoint."""

    def line(values):
        if values["step"] == at:
            raise RuntimeError("the plug")

    return Watch(line=line)


@pytest.mark.parametrize("stop", [0, 3, 6])
def test_a_run_that_was_stopped_ends_with_the_same_weights(whole_run, corpus, tmp_path, stop):
    """Also before its first checkpoint, which comes after two steps."""
    recipe, run = whole_run
    with pytest.raises(RuntimeError, match="the plug"):
        train(recipe, corpus, tmp_path / "run", CPU, watch=plug(stop))
    with (tmp_path / "run" / "metrics.jsonl").open("a") as log:
        log.write('{"step": ')  # as the plug leaves it
    torch.manual_seed(99)
    train(recipe, corpus, tmp_path / "run", GO_ON)
    assert same(state_of(tmp_path / "run"), state_of(run))
    lines, expected = (
        [
            {
                key: value
                for key, value in json.loads(line).items()
                if key not in ("seconds", "waited", "images_per_s", "left_s")
            }
            for line in path.read_text().splitlines()
        ]
        for path in (tmp_path / "run" / "metrics.jsonl", run / "metrics.jsonl")
    )
    assert lines == expected


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(whole_run, corpus, tmp_path):
    recipe, run = whole_run
    shutil.copytree(run, tmp_path / "run")
    last = checkpoints_of(tmp_path / "run")[-1] / "state.pt"
    last.write_bytes(last.read_bytes()[:5000])
    train(recipe, corpus, tmp_path / "run", GO_ON)
    assert same(state_of(tmp_path / "run"), state_of(run))


def test_a_run_stays_on_its_images_and_out_of_the_folder_of_another(whole_run, corpus):
    recipe, run = whole_run
    with pytest.raises(ArgumentError, match="was begun on"):
        train(recipe, open_corpus("scenes:41"), run, GO_ON)
    with pytest.raises(ArgumentError, match="checkpoints of another run"):
        train(recipe, corpus, run, CPU)


def test_queues_and_momentum_are_part_of_what_is_resumed(corpus, tmp_path):
    recipe = read_recipe("densecl-d", write(tmp_path / "densecl.toml", DENSECL))
    train(recipe, corpus, tmp_path / "whole", CPU)
    with pytest.raises(RuntimeError, match="the plug"):
        train(recipe, corpus, tmp_path / "run", CPU, watch=plug(3))
    train(recipe, corpus, tmp_path / "run", GO_ON)
    ours, expected = state_of(tmp_path / "run"), state_of(tmp_path / "whole")
    assert int(ours["method"]["inner.queue.place"]) == 4 * 8 % 20
    assert same(ours, expected)


def test_a_loss_that_is_not_finite_stops_and_names_the_last_checkpoint(tiny, corpus, tmp_path):
    recipe = read_recipe("ibot", tiny, ["optimizer.lr=1e30", "optimizer.clip=1e30", "optimizer.warmup_epochs=0"])
    with pytest.raises(MeasurementError, match="not finite") as raised:
        train(recipe, corpus, tmp_path / "run", CPU)
    assert "class" in str(raised.value)


@pytest.mark.parametrize(("file", "word"), [("student.safetensors", "File too large"), ("state.pt", "disk full")])
def test_a_full_disk_leaves_the_older_checkpoint_whole(whole_run, tmp_path, corpus, file, word):
    """Files may not grow to their size from the third step on: the log goes on, the second checkpoint has no room."""
    recipe, run = whole_run
    limit = (checkpoints_of(run)[-1] / file).stat().st_size - 5000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(values):
        if values["step"] == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))

    try:
        with pytest.raises(OutputError, match=word):
            train(recipe, corpus, tmp_path / "run", CPU, watch=Watch(line=fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in checkpoints_of(tmp_path / "run")] == ["step-00000002"]
    assert state_of(tmp_path / "run")["step"] == 2
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1


@pytest.mark.parametrize("method", ["ibot", "ibot-d"])
def test_gradients_in_parts_are_those_of_the_whole_batch(tiny, corpus, tmp_path, method):
    """Laws of the seam: draws know their place in the whole batch, and centres take in all parts at once."""
    states = []
    for parts in (1, 4):
        # Of four parts two hold a composite.
        changes = [f"run.accumulate={parts}", "run.steps=1", "method.drop_path=0.0", "decoupling.share=0.25"]
        train(read_recipe(method, tiny, changes), corpus, tmp_path / str(parts), CPU)
        states.append(state_of(tmp_path / str(parts)))
    lines = [json.loads((tmp_path / str(parts) / "metrics.jsonl").read_text()) for parts in (1, 4)]
    for name in ("class", "cells", "total"):
        assert lines[0][name] == pytest.approx(lines[1][name], abs=1e-5)
    moments = [state["optimizer"]["state"] for state in states]
    assert moments[0].keys() == moments[1].keys()
    for key in moments[0]:
        assert torch.allclose(moments[0][key]["exp_avg"], moments[1][key]["exp_avg"], atol=1e-6)
    inner = "inner." if method == "ibot-d" else ""
    for centre in ("class_centre", "cell_centre"):
        one, other = (state["method"][inner + centre] for state in states)
        assert one.abs().max() > 0
        assert torch.allclose(one, other, atol=1e-6)
    with pytest.raises(ArgumentError, match="8 for 1 x 8"):
        train(read_recipe(method, tiny, ["run.accumulate=8"]), corpus, tmp_path / "odd", CPU)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_blocks_give_the_same_losses(tiny, corpus, tmp_path):
    lines = []
    for compiled in ("false", "true"):
        small = ["run.steps=2", "method.drop_path=0.0", "method.options.depth=1"]
        recipe = read_recipe("ibot", tiny, [f"run.compile={compiled}", *small])
        train(recipe, corpus, tmp_path / compiled, CPU)
        lines.append([json.loads(line) for line in (tmp_path / compiled / "metrics.jsonl").read_text().splitlines()])
    for plain, compiled in zip(*lines, strict=True):
        assert plain["total"] == pytest.approx(compiled["total"], abs=1e-3)
    keys = [state_of(tmp_path / name)["method"].keys() for name in ("false", "true")]
    assert keys[0] == keys[1]


def test_a_run_that_is_watched_shows_the_networks_and_ends_with_the_same_weights(whole_run, corpus, tmp_path):
    recipe, run = whole_run
    seen, lines = [], []

    def look(step, file):
        torch.randn(5)  # whoever looks may draw
        weights = ck.load_backbone(str(file), precision="float32")
        seen.append((step, weights(torch.full((1, 3, 32, 32), 0.25))))

    watch = Watch(line=lines.append, look=look, every=3)
    train(recipe, corpus, tmp_path / "run", CPU, watch=watch)
    assert [step for step, _ in seen] == [0, 3, 6, 8]
    assert [line["step"] for line in lines] == list(range(8))
    last = ck.load_backbone(str(run), precision="float32")(torch.full((1, 3, 32, 32), 0.25))
    assert torch.equal(seen[-1][1], last)
    assert not torch.equal(seen[0][1], last)
    assert same(state_of(tmp_path / "run"), state_of(run))
    assert not list((tmp_path / "run").glob(".look*"))


# ---- the command ---------------------------------------------------------------------------------


def command(*words, **options):
    script = options.pop("script", None)
    return subprocess.Popen(
        [sys.executable, *(("-m", *map(str, words)) if script is None else ("-c", *map(str, script)))],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # The same sums in the same order: bit for bit holds for one number of threads.
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_to_the_same_weights(whole_run, tiny, tmp_path, number):
    out = tmp_path / "run"
    words = ["couplingkit", "train", "ibot-d", "--data", "scenes:40", "--recipe", tiny, "--out", out, "--device", "cpu"]
    # With a process that reads images: Ctrl-C in a terminal goes to it, too.
    workers = ["--set", "run.workers=1"] if number == signal.SIGINT else []
    process = command(*words, "--checkpoint-every", 1, *workers, start_new_session=True)
    deadline = time.time() + 240
    while len(checkpoints_of(out)) < 1 and process.poll() is None and time.time() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, number)
    said, _ = process.communicate(timeout=240)
    assert b"exited unexpectedly" not in said
    assert checkpoints_of(out)
    for folder in checkpoints_of(out):
        torch.load(folder / "state.pt", weights_only=True)
    done = run("train", "--resume", str(out), "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert (out / "loss.png").stat().st_size > 3000
    # The two differ in how often they saved, and in nothing else.
    assert same(state_of(out), state_of(whole_run[1]))


TOGETHER = """
import sys
from pathlib import Path
import torch
from torch import distributed
from couplingkit.training.corpus import open_corpus
from couplingkit.streams import Stream
from couplingkit.training.loop import TrainSettings, train
from couplingkit.training.method import Batch
from couplingkit.training.methods.moco import MoCo, MoCoSettings
from couplingkit.training.recipe import read_recipe

recipe, out = sys.argv[1:]
train(read_recipe("densecl-d", recipe), open_corpus("scenes:40"), Path(out), TrainSettings("cpu"))
rank = distributed.get_rank()
# Keys come back to their images, also where a step has parts: an image's key says its number.
options = {"layers": (1, 1, 1, 1), "channels": (4, 4, 4, 8), "output_stride": 8}
method = MoCo(MoCoSettings(architecture="resnet26", options=options, hidden=4, dimensions=4, queue=8), seed=0)
method.teacher.cells = lambda images: images.mean(dim=(1, 2, 3))[:, None, None, None].expand(-1, 1, 1, 32)
for parts in (1, 2, 3):
    share, part = 12, 12 // parts
    for place in range(parts):
        first = rank * share + place * part
        numbers = torch.arange(first, first + part)
        crops = ((numbers / 100)[:, None, None, None].expand(-1, 3, 32, 32),) * 2
        batch = Batch(crops, crops, Stream(place), first, 24)
        found = method.keys(method.views(batch))[1][:, 0, 0, 0]
        assert torch.allclose(found, numbers / 100, atol=1e-5), (rank, parts, place, found)
print("keys found", flush=True)
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_dense_contrast_on_two_processes(corpus, tmp_path):
    recipe = write(tmp_path / "densecl.toml", DENSECL)
    script = write(tmp_path / "together.py", TOGETHER)
    process = command(
        "torch.distributed.run", "--nproc_per_node", 2, "--master_port", free_port(), script, recipe, tmp_path / "two"
    )
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said.decode()
    assert said.decode().count("keys found") == 2
    train(read_recipe("densecl-d", recipe), corpus, tmp_path / "one", CPU)
    for together, single in zip(lines_of(tmp_path / "two"), lines_of(tmp_path / "one"), strict=True):
        for name in ("image", "dense", "decoupling"):
            assert together[name] == pytest.approx(single[name], abs=1e-4 if together["step"] else 1e-5)
    queues = [state_of(tmp_path / name)["method"]["inner.dense_queue.keys"] for name in ("one", "two")]
    assert torch.allclose(*queues, atol=1e-3)


KILLED = """
import os, signal, sys, time
from pathlib import Path
import torch
from couplingkit.training.corpus import open_corpus
from couplingkit.training.checkpoint import last_step
from couplingkit.training.loop import TrainSettings, train
from couplingkit.training.recipe import read_recipe

recipe, out, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(int(sys.argv[4]))
recipe = read_recipe(sys.argv[5], recipe, ["run.checkpoint_every=1"])
last = int(sys.argv[6]) - 1
corpus = open_corpus("scenes:40")
draw = torch.Generator().manual_seed(7)
for kill in range(kills + 1):
    child = os.fork()  # the libraries are imported once
    if child == 0:
        train(recipe, corpus, out, TrainSettings("cpu", resume=out.exists()))
        os._exit(0)
    if kill < kills:
        # Soon after a checkpoint: within a step or a save, and of the last ones before the first step.
        begin, wait = time.time(), float(torch.rand((), generator=draw)) * 0.04
        goal = min(last_step(out) + 1, last)
        while last_step(out) < goal and time.time() - begin < 100:
            time.sleep(0.001)
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    print(os.WIFSIGNALED(os.waitpid(child, 0)[1]), last_step(out))
    for folder in (out / "checkpoints").glob("step-*"):
        torch.load(folder / "state.pt", weights_only=True)
"""


@pytest.mark.slow
def test_ten_kills_in_a_row_lose_nothing(whole_run, tiny, tmp_path):
    """A run that is killed again and again, at any moment, ends with the weights of one that never was."""
    out = tmp_path / "run"
    process = command(script=(KILLED, tiny, out, 10, torch.get_num_threads(), "ibot-d", 8))
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said.decode()
    killed = [line.split()[0] == "True" for line in said.decode().splitlines() if line.startswith(("True", "False"))]
    assert len(killed) == 11
    assert sum(killed) >= 5, said.decode()
    ours, expected = state_of(out), state_of(whole_run[1])
    assert same(ours, expected)


@pytest.mark.slow
def test_kills_lose_no_key_of_a_queue(corpus, tmp_path):
    """The same for DenseCL-D, whose queues are a part of what a step depends on."""
    recipe = write(tmp_path / "densecl.toml", DENSECL)
    whole = read_recipe("densecl-d", recipe)
    train(whole, corpus, tmp_path / "whole", CPU)
    steps = len(lines_of(tmp_path / "whole"))
    words = (KILLED, recipe, tmp_path / "run", 5, torch.get_num_threads(), "densecl-d", steps)
    process = command(script=words)
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said.decode()
    assert said.decode().count("True") >= 2, said.decode()
    ours, expected = state_of(tmp_path / "run"), state_of(tmp_path / "whole")
    assert "inner.dense_queue.keys" in ours["method"]
    assert same(ours, expected)


def lines_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def of_two(*words):
    process = command(
        "torch.distributed.run",
        "--nproc_per_node",
        2,
        "--master_port",
        free_port(),
        "-m",
        "couplingkit",
        "train",
        *words,
    )
    said, _ = process.communicate(timeout=400)
    return process.returncode, said.decode()


STEADY = "method.drop_path=0.0"  # stochastic depth draws per process


def check_losses(run, alone):
    """Whether two runs lost the same, up to the order of sums."""
    for one, other in zip(lines_of(run), lines_of(alone), strict=True):
        for name in ("class", "cells", "decoupling"):
            assert one[name] == pytest.approx(other[name], abs=1e-4 if one["step"] else 1e-5)


def test_two_processes_lose_what_one_does(tiny, corpus, tmp_path):
    out = tmp_path / "run"
    words = ["ibot-d", "--data", "scenes:40", "--recipe", tiny, "--out", out, "--device", "cpu", "--set", STEADY]
    code, said = of_two(*words, "--probe-every", 8, "--probes", 12)
    assert code == 0, said
    assert [line["step"] for line in read_curve(out)] == [0, 8]
    train(read_recipe("ibot-d", tiny, [STEADY]), corpus, tmp_path / "alone", CPU)
    check_losses(out, tmp_path / "alone")


@pytest.mark.slow
def test_two_processes_go_on_with_the_run_of_one(tiny, corpus, tmp_path):
    recipe = read_recipe("ibot-d", tiny, [STEADY])
    train(recipe, corpus, tmp_path / "alone", CPU)
    # One process makes four steps; two go on.
    begun = tmp_path / "begun"
    train(recipe, corpus, begun, TrainSettings("cpu", record={"data": "scenes:40", "images": None}))
    for folder in checkpoints_of(begun):
        if not folder.name.endswith("6"):
            shutil.rmtree(folder)
    code, said = of_two("--resume", begun, "--device", "cpu")
    assert code == 0, said
    check_losses(begun, tmp_path / "alone")


def test_the_coupling_rate_is_drawn_while_it_trains_and_goes_on_after_a_stop(tiny, tmp_path):
    out = tmp_path / "run"
    words = ["train", "ibot", "--data", "scenes:40", "--recipe", tiny, "--out", str(out), "--device", "cpu"]
    watched = ["--probe-every", "3", "--probes", "12", "--tracker", "tensorboard"]
    done = run(*words, *watched)
    assert done.exit_code == 0, done.output
    whole = (out / "coupling.csv").read_text()
    assert [line["step"] for line in read_curve(out)] == [0, 3, 6, 8]
    assert (out / "coupling.png").stat().st_size > 3000
    assert list((out / "tensorboard").glob("events*"))
    # Each published number derives from rows on the disk.
    for line in read_curve(out):
        rows = with_rates(pd.read_csv(out / "coupling" / f"step-{int(line['step']):08d}.csv"))
        assert rows["cr"].mean() == pytest.approx(line["cr_mean"], abs=1e-9)
    # As if it had been stopped after step 6, with a look that belongs to no step that is left.
    shutil.rmtree(checkpoints_of(out)[-1])
    done = run("train", "--resume", str(out), "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert (out / "coupling.csv").read_text() == whole


def test_a_watch_that_cannot_be_is_refused_before_anything_is_written(tiny, tmp_path, monkeypatch):
    words = ["train", "ibot", "--data", "scenes:40", "--recipe", tiny, "--out", str(tmp_path / "run")]
    done = run(*words, "--probe-every", "3", "--probe-images", str(tmp_path))
    assert done.exit_code == 2
    assert "go together" in done.stderr
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    done = run(*words, "--tracker", "tensorboard")
    assert done.exit_code == 2
    assert "couplingkit[tensorboard]" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "a new run needs"),
        (("ibot", "--data", "scenes:40", "--recipe", "ibot-tiny"), "a new run needs"),
        (("dino", "--data", "scenes:40", "--recipe", "ibot-tiny", "--out", "x"), "method must be one of"),
        (("ibot", "--data", "none", "--recipe", "ibot-tiny", "--out", "x"), "does not exist"),
        (("--resume", "none"), "no run folder"),
        (("--resume", "none", "--steps", "9", "--seed", "0"), "leave --seed away"),
        (("ibot", "--data", "scenes:4", "--recipe", "ibot-tiny", "--out", "x"), "at most the 4 images"),
    ],
)
def test_bad_words(tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    done = run("train", *words)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert not (tmp_path / "x" / "checkpoints").exists()


def test_a_run_of_another_method_is_not_gone_on_with(whole_run):
    done = run("train", "ibot", "--resume", str(whole_run[1]))
    assert done.exit_code == 2
    assert "is a run of ibot-d" in done.stderr
    listed = run("train", "--list").output
    assert "ibot-d" in listed
    assert "ibot-tiny" in listed
