"""Long runs: killed, stopped, refused or failed, they lose nothing and end with the same files."""

import json
import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from command import run, start
from filelock import FileLock
from networks import Counting, control_images, counted_hub

import couplingkit as ck
from couplingkit.errors import BackboneError, DataError, OutputError
from couplingkit.runs.measuring import described
from couplingkit.runs.workspace import open_workspace
from couplingkit.study.rows import Parts

KILLED = """
import os, signal, sys, time
import torch
import couplingkit as ck
from couplingkit.study.rows import Parts
torch.set_num_threads(1)
annotations, images, folder, kills = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
probes = ck.ProbeSet.from_coco(annotations, images, count=88, spec=ck.ProbeSpec(design="pairs"))
probes.fingerprint()
backbone = ck.load_layers("control:leak:0.3", device="cpu")
parts = Parts(__import__("pathlib").Path(folder), size=4)
draw = torch.Generator().manual_seed(3)
for kill in range(kills + 1):
    child = os.fork()  # the libraries are imported once
    if child == 0:
        (found,) = ck.measure_layers(backbone, probes, ck.MeasureSettings(batch_size=4), parts=parts)
        found.rows.to_csv(folder + ".csv", index=False)
        os._exit(0)
    if kill < kills:
        # At any moment of the next two chunks: in a forward pass, or while a file is written.
        begin, goal = time.time(), min(len(parts.done()) + 1, 20)
        while len(parts.done()) < goal and time.time() - begin < 60:
            time.sleep(0.0005)
        time.sleep(float(torch.rand((), generator=draw)) * 0.05)
        os.kill(child, signal.SIGKILL)
    print(os.WIFSIGNALED(os.waitpid(child, 0)[1]), len(parts.done()), flush=True)
"""


@pytest.mark.slow
def test_ten_kills_in_a_row_end_with_the_same_rows(scenes, tmp_path):
    probes = ck.ProbeSet.from_coco(*scenes, count=88, spec=ck.ProbeSpec(design="pairs"))
    whole = ck.measure(ck.load_backbone("control:leak:0.3", device="cpu"), probes, ck.MeasureSettings(batch_size=4))
    whole.rows.to_csv(tmp_path / "whole.csv", index=False)
    words = [scenes[0], scenes[1], tmp_path / "parts", 10]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, words)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert sum(killed == "True" for killed, _ in lines) >= 8, done.stdout
    counts = [int(count) for _, count in lines]
    assert counts == sorted(counts)
    assert counts[-1] == 22
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_what_is_there_is_not_measured_again_and_what_is_broken_is(probes, tmp_path):
    counting = Counting()
    backbone = ck.LayeredBackbone([counting])
    options = {"settings": ck.MeasureSettings(batch_size=4), "parts": Parts(tmp_path / "parts", size=4)}
    (whole,) = ck.measure_layers(backbone, probes, **options)
    assert options["parts"].done() == list(range(6))
    files = sorted((tmp_path / "parts").iterdir())
    files[1].unlink()
    files[3].write_text("\n".join(files[3].read_text().splitlines()[:-1]) + "\n")
    files[4].write_text(files[4].read_text()[:40])
    # Three chunks of four probes; then none, but the controls, for which the first batch is read.
    for broken in (3, 1):
        counting.shown.clear()
        (again,) = ck.measure_layers(backbone, probes, **options)
        assert len(counting.shown) == broken * 4 * 4 + control_images(4)
        pd.testing.assert_frame_equal(again.rows, whole.rows)


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """Words that measure a network that counts its images, and how many it was shown so far."""
    note = tmp_path / "shown" / "count"
    note.parent.mkdir()
    monkeypatch.setenv("COUNTED", str(note))
    return counted_hub(tmp_path / "hub"), lambda: int(note.read_text()) if note.exists() else 0


def kept(folder):
    return sorted(path.name for path in folder.iterdir() if path.name not in ("hub", "shown"))


def words_of(scenes, out, *more):
    data = ["--annotations", scenes[0], "--images", scenes[1], "--design", "pairs"]
    return ["measure", "control:leak:0.2", *data, "--out", out, *more]


def test_a_finished_run_does_nothing_and_says_so(scenes, tmp_path, counted):
    model, shown = counted
    words = ["measure", *model, *words_of(scenes, tmp_path / "run", "--probes", 8)[2:]]
    assert run(*words).exit_code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    passes = shown()
    assert passes >= 8 * 4
    again = run(*words)
    assert again.exit_code == 0
    assert "nothing to do" in again.stderr
    assert shown() - passes <= 2  # the network is not even looked at closely
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    other = run(*words, "--min-cells", 2)
    assert other.exit_code == 2
    assert "exists" in other.stderr
    passes = shown()
    assert run(*words, "--overwrite").exit_code == 0
    assert shown() - passes >= 8 * 4
    assert kept(tmp_path) == ["run"]


def test_a_finished_run_that_was_damaged_is_measured_anew(scenes, tmp_path):
    words = words_of(scenes, tmp_path / "run", "--probes", 8)
    assert run(*words).exit_code == 0
    rows = (tmp_path / "run" / "rows.csv").read_bytes()
    for damage in (lambda path: path.unlink(), lambda path: path.write_bytes(rows[:200])):
        damage(tmp_path / "run" / "rows.csv")
        again = run(*words)
        assert again.exit_code == 0
        assert "measured anew" in again.stderr
        assert (tmp_path / "run" / "rows.csv").read_bytes() == rows
    (tmp_path / "run" / "rows.csv").unlink()
    other = run(*words, "--min-cells", 2)
    assert other.exit_code == 2
    assert not (tmp_path / "run" / "rows.csv").exists()


def test_a_stopped_run_goes_on_and_only_its_own_command_does(scenes, tmp_path, counted, monkeypatch):
    model, shown = counted
    words = ["measure", *model, *words_of(scenes, tmp_path / "run", "--probes", 150)[2:]]
    whole = ["measure", *model, *words_of(scenes, tmp_path / "whole", "--probes", 150)[2:]]
    assert run(*whole).exit_code == 0
    passes = shown()
    monkeypatch.setenv("STOP_AT", str(passes + 600))
    stopped = run(*words)
    assert stopped.exit_code == 1
    assert "the same command goes on" in stopped.stderr
    assert kept(tmp_path) == ["run.unfinished", "whole"]
    with pytest.raises(DataError, match="not finished"):
        ck.read_run(tmp_path / "run")
    other = run(*words, "--min-cells", 2)
    assert other.exit_code == 2
    assert "another command (other settings)" in other.stderr
    monkeypatch.delenv("STOP_AT")
    before = shown()
    assert run(*words).exit_code == 0
    # 64 of the 150 probes were there.
    assert (150 - 64) * 4 <= shown() - before <= (150 - 64) * 4 + control_images(64)
    assert (tmp_path / "run" / "rows.csv").read_bytes() == (tmp_path / "whole" / "rows.csv").read_bytes()
    assert kept(tmp_path) == ["run", "whole"]


def test_changed_weights_are_not_taken_for_the_same(scenes, tmp_path):
    import timm

    weights = tmp_path / "vit.pth"
    words = ["--annotations", scenes[0], "--images", scenes[1], "--probes", 6, "--out", tmp_path / "run"]
    rows = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(timm.create_model("test_vit").state_dict(), weights)
        done = run("measure", f"test_vit@{weights}", *words, *(["--overwrite"] if seed else []))
        assert done.exit_code == 0, done.output
        rows.append((tmp_path / "run" / "rows.csv").read_text())
        if not seed:
            torch.manual_seed(5)
            torch.save(timm.create_model("test_vit").state_dict(), weights)
            refused = run("measure", f"test_vit@{weights}", *words)
            assert refused.exit_code == 2
            assert "exists" in refused.stderr
    assert rows[0] != rows[1]


def test_two_runs_into_one_folder(scenes, tmp_path):
    out = tmp_path / "run"
    (tmp_path / "run.unfinished").mkdir()
    with FileLock(tmp_path / "run.unfinished" / "lock"):
        done = run(*words_of(scenes, out, "--probes", 4))
    assert done.exit_code == 2
    assert "is being written by another run" in done.stderr
    assert run(*words_of(scenes, out, "--probes", 4)).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_what_lies_in_the_way_is_left_alone(scenes, tmp_path):
    """A folder of the user's that happens to have the work folder's name, or a file that was put there since."""
    mine = tmp_path / "run.unfinished"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    refused = run(*words_of(scenes, tmp_path / "run", "--probes", 4))
    assert refused.exit_code == 2
    assert "holds what couplingkit did not write (notes.txt)" in refused.stderr
    assert (mine / "notes.txt").read_text() == "mine"
    with open_workspace(tmp_path / "other", {"a": 1}, overwrite=False) as opened:
        (opened.work / "log.txt").write_text("mine")
        opened.close()
    assert [path.name for path in (tmp_path / "other.unfinished").iterdir()] == ["log.txt"]


def test_other_pairs_of_the_same_look_are_another_run(scenes, tmp_path):
    """Manifests without a fingerprint, whose third objects alone differ."""
    data = ["--annotations", scenes[0], "--images", scenes[1]]
    for name, more in (("one", []), ("two", ["--widest-gap", 64])):
        words = [
            "--annotations",
            scenes[0],
            "--design",
            "pairs",
            "--probes",
            20,
            *more,
            "--out",
            tmp_path / f"{name}.json",
        ]
        assert run("probes", "make", *words).exit_code == 0
    words = ["measure", "control:cell", *data, "--out", tmp_path / "run"]
    assert run(*words, "--probes", tmp_path / "one.json").exit_code == 0
    other = run(*words, "--probes", tmp_path / "two.json")
    assert other.exit_code == 2
    assert "exists" in other.stderr


def test_photos_written_anew_are_another_run(scenes, tmp_path):
    shutil.copytree(scenes[1], tmp_path / "images")
    words = ["measure", "control:cell", "--annotations", scenes[0], "--images", tmp_path / "images", "--probes", 4]
    assert run(*words, "--out", tmp_path / "run").exit_code == 0
    assert "nothing to do" in run(*words, "--out", tmp_path / "run").stderr
    for path in (tmp_path / "images").iterdir():
        os.utime(path, (1e9, 1e9))
    assert run(*words, "--out", tmp_path / "run").exit_code == 2


def test_rows_are_kept_for_a_kind_of_device_not_for_one_of_several_gpus():
    layers = [SimpleNamespace(provenance=lambda: {"device": "cuda:1"}, device=torch.device("cuda:1"))]
    assert described(SimpleNamespace(layers=layers)) == [{"device": "cuda"}]


FULL = """
import resource, signal, sys
from couplingkit.cli.main import main
# Writing past the limit is refused, as on a full disk; files of photos and weights are not written.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
main(sys.argv[2:])
"""


def test_a_disk_that_fills_is_one_sentence_and_loses_nothing(scenes, tmp_path):
    words = words_of(scenes, "run", "--probes", 70)
    for limit, left in ((1000, []), (30_000, ["run.unfinished"])):
        done = subprocess.run(
            [sys.executable, "-c", FULL, str(limit), *map(str, words)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 1
        assert "File too large" in errors[0]
        assert "Traceback" not in done.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == left
    os.chdir(tmp_path)
    assert run(*words).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_an_unwritable_place_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError), open_workspace(tmp_path / "file" / "run", {}, overwrite=False):
        pass


ZOO = """
[[model]]
name = "random:test_vit"
label = "small"
layer = "2"

[[model]]
name = "random:test_vit"
label = "raw"
norm = "raw"
image_size = "192x224"
mean = 0.4

[[model]]
name = "no_such_file.pth"

[[model]]
name = "control:leak:0.2"
"""


@pytest.mark.slow
def test_a_zoo_goes_on_when_a_model_fails_and_tries_it_again(scenes, tmp_path):
    (tmp_path / "zoo.toml").write_text(ZOO)
    data = ["--annotations", scenes[0], "--images", scenes[1], "--probes", 6]
    words = ["measure", "--models", tmp_path / "zoo.toml", *data, "--out", tmp_path / "run"]
    done = run(*words)
    assert done.exit_code == 2
    assert "1 of 4 models failed: no_such_file.pth" in done.stderr
    found = {one.name: one for one in ck.read_run(tmp_path / "run").measurements}
    assert list(found) == ["small", "raw", "control:leak:0.2", "control:cell"]
    assert found["small"].provenance["model"]["layer"] == "2 of 0..5"
    raw = found["raw"].provenance["model"]
    assert (raw["norm"], raw["image_size"], raw["mean"]) == ("raw", [192, 224], [0.4] * 3)
    rows = (tmp_path / "run" / "rows.csv").read_bytes()
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "run.unfinished" / "parts").glob("*/*")}
    assert parts
    again = run(*words)
    assert again.exit_code == 2
    assert "1 of 4 models failed" in again.stderr
    assert all(path.stat().st_mtime_ns == time for path, time in parts.items())
    assert (tmp_path / "run" / "rows.csv").read_bytes() == rows


HUNGRY = """
import torch
class Hungry(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 16, 16)
    def forward(self, images):
        if len(images) > 4:
            raise torch.OutOfMemoryError("out of memory. Tried to allocate 2.00 GiB.")
        return self.conv(images)
def hungry():
    return Hungry()
def greedy():
    raise torch.OutOfMemoryError("out of memory. Tried to allocate 80.00 GiB.")
"""


def test_memory_that_runs_out_halves_the_batch_and_fails_one_model_at_most(scenes, tmp_path):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "hubconf.py").write_text(HUNGRY)
    hungry, greedy = (f"random:hub:{tmp_path / 'hub'}:{entry}" for entry in ("hungry", "greedy"))
    tables = [f"[[model]]\nname = '{name}'\nlayer = 'conv'\nmean = 0.5\nstd = 0.5\n" for name in (hungry, greedy)]
    (tmp_path / "zoo.toml").write_text("".join(tables) + "[[model]]\nname = 'control:leak:0.2'\n")
    words = ["measure", "--models", tmp_path / "zoo.toml", *words_of(scenes, tmp_path / "run", "--probes", 6)[2:]]
    done = run(*words)
    assert done.exit_code == 2
    assert "1 of 3 models failed" in done.stderr
    assert "greedy cannot be built: out of memory" in done.stderr
    assert "memory ran out: forward passes of 3 images instead of 32" in done.stderr
    assert "Traceback" not in done.stderr
    measured = {one.name: one for one in ck.read_run(tmp_path / "run").measurements}
    assert list(measured) == [hungry, "control:leak:0.2", "control:cell"]
    look = ["--layer", "conv", "--mean", "0.5", "--std", "0.5", "--batch-size", 3]
    assert run("measure", hungry, *look, *words_of(scenes, tmp_path / "small", "--probes", 6)[2:]).exit_code == 0
    small = ck.read_run(tmp_path / "small").measurements[0]
    assert "images_per_pass" not in small.provenance["model"]
    assert small.rows.equals(measured[hungry].rows)


def test_what_does_not_fit_one_by_one_is_said(probes):
    failing = []

    def read(network, images):
        if failing:
            raise RuntimeError("CUDA error: out of memory")
        return network(images)

    backbone = ck.NetworkBackbone(torch.nn.Conv2d(3, 8, 16, 16), read, name="greedy")
    failing.append(True)
    with pytest.raises(BackboneError, match=r"greedy: an image of 224 x 224 px does not fit .* smaller `image_size`"):
        ck.measure(backbone, probes)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[[model]\n", "no valid TOML"),
        ("", "[[model]] table"),
        ("[models]\na = 1\n", "knows no models"),
        ('[[model]]\nlabel = "x"\n', "required field `name`"),
        ('[[model]]\nname = "resnet18"\nlayers = "3"\n', "near: layer"),
        ('[[model]]\nname = "resnet18"\nmean = [1, 2]\n', "length 3, got 2"),
        ('[[model]]\nname = "resnet18"\nimage_size = "big"\n', "must be a side like 224"),
        ('[[model]]\nname = "resnet18"\n[[model]]\nname = "resnet18"\n', "named 2 times"),
    ],
)
def test_what_is_no_zoo_is_refused(scenes, tmp_path, text, word):
    (tmp_path / "zoo.toml").write_text(text)
    done = run(
        "measure",
        "--models",
        tmp_path / "zoo.toml",
        "--annotations",
        scenes[0],
        "--images",
        scenes[1],
        "--out",
        tmp_path / "run",
    )
    assert done.exit_code == 2
    assert word in done.stderr
    assert not (tmp_path / "run").exists()


def test_neither_models_nor_data(tmp_path, scenes):
    assert "name a MODEL" in run("measure", "--out", tmp_path / "run").stderr
    assert "--annotations and --images are needed" in run("measure", "control:cell", "--out", tmp_path / "run").stderr


def test_a_run_is_read_as_it_was(scenes, tmp_path, probes):
    done = run(*words_of(scenes, tmp_path / "run", "--probes", 24))
    assert done.exit_code == 0, done.output
    (found, cell) = ck.read_run(tmp_path / "run").measurements
    direct = ck.measure(ck.load_backbone("control:leak:0.2"), probes)
    pd.testing.assert_frame_equal(found.rows, direct.rows, check_dtype=False)
    assert found.summary.estimates == direct.summary.estimates
    assert cell.name == "control:cell"
    document = json.loads((tmp_path / "run" / "summary.json").read_text())
    (tmp_path / "run" / "rows.csv").write_text("model\nx\n")
    with pytest.raises(DataError, match="older couplingkit"):
        ck.read_run(tmp_path / "run")
    del document["models"]
    (tmp_path / "run" / "summary.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="required field `models`"):
        ck.read_run(tmp_path / "run")


def test_two_processes_write_the_rows_of_one(scenes, tmp_path):
    """Three models and two chunks; one of the models fails in both."""
    words = ["measure", "random:test_vit", "no_such_model", "control:leak:0.3", "--probes", 70]
    data = ["--annotations", scenes[0], "--images", scenes[1]]
    process = start(*words, *data, "--out", "two", processes=2, cwd=tmp_path)
    said, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "1 of 3 models failed: no_such_model" in errors
    assert said.count("cr_mean\n") == 1
    assert run(*words, *data, "--out", tmp_path / "one").exit_code == 2
    one, two = (pd.read_csv(tmp_path / name / "rows.csv") for name in ("one", "two"))
    assert one["probe"].tolist() == two["probe"].tolist()
    pd.testing.assert_frame_equal(one, two, atol=1e-5, rtol=0)
    assert (tmp_path / "one/probes.json").read_bytes() == (tmp_path / "two/probes.json").read_bytes()


@pytest.mark.slow
def test_a_process_that_dies_ends_all_and_what_was_measured_stays(scenes, tmp_path):
    words = ["measure", "random:vit_tiny_patch16_224", "--annotations", scenes[0], "--images", scenes[1]]
    words += ["--probes", 320, "--batch-size", 8, "--out", "run"]
    process = start(*words, processes=2, cwd=tmp_path)
    parts = tmp_path / "run.unfinished" / "parts"
    begin = time.time()
    while not list(parts.glob("*/chunk-*.csv")) and time.time() - begin < 240 and process.poll() is None:
        time.sleep(0.2)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    os.kill(max(map(int, children.stdout.split())), 9)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "goes on" in errors
    kept = len(list(parts.glob("*/chunk-*.csv")))
    assert kept >= 1
    assert not (tmp_path / "run").exists()
