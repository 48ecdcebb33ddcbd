"""`inspect` and `backbones` as their user runs them, and the checkpoint options of `measure`."""

import json

import pandas as pd
import pytest
import timm
import torch
from checkpoint_files import ibot, maskalign, moco, network, state
from command import run

from couplingkit.features.catalogue import catalogue, catalogue_text


@pytest.fixture
def data(scenes):
    return ["--annotations", scenes[0], "--images", scenes[1], "--probes", 3]


def told(output, label):
    (line,) = [line for line in output.splitlines() if line.startswith(f"{label} ")]
    return line[len(label) :].strip()


def test_inspect_says_how_a_file_is_read(tmp_path):
    file = ibot().write(tmp_path)
    done = run("inspect", file, "--out", tmp_path / "record.json")
    assert done.exit_code == 0, done.output
    assert told(done.stdout, "format") == "iBOT"
    assert told(done.stdout, "branch") == "teacher (--branch student reads another)"
    assert told(done.stdout, "architecture").startswith("vit_tiny_patch16_224,img_size=224")
    assert told(done.stdout, "map") == "stride 16 px, 192 channels"
    assert told(done.stdout, "mean, std").startswith("0.485 0.456 0.406, 0.229 0.224 0.225 (by the file's layout")
    assert "student.module.backbone (151 tensors, 21.1 MiB)" in told(done.stdout, "left out")
    written = json.loads((tmp_path / "record.json").read_text())
    (record,) = written["models"]
    assert record["weights_sha256"] in done.stdout
    refused = run("inspect", file, "--out", tmp_path / "record.json")
    assert refused.exit_code == 2
    assert json.loads((tmp_path / "record.json").read_text()) == written


def test_inspect_of_layers_sizes_and_branches(tmp_path):
    file = ibot().write(tmp_path)
    done = run("inspect", file, "--branch", "student", "--layer", "3,last", "--image-size", "192x224", "--norm", "raw")
    assert done.exit_code == 0, done.output
    assert done.stdout.count("branch        student") == 2
    assert "layer         3 of 0..11" in done.stdout
    assert "input         192 x 224 px (by img_size; native 224 x 224 px)" in done.stdout
    assert "interpolation pos_embed" in done.stdout
    done = run("inspect", maskalign().write(tmp_path))
    assert told(done.stdout, "norm") == "raw"
    assert "never trained" in told(done.stdout, "note")


def test_inspect_of_what_cannot_be_measured_yet(tmp_path):
    file = tmp_path / "supervised.pth"
    torch.save(timm.create_model("vit_tiny_patch16_224").state_dict(), file)
    done = run("inspect", file)
    assert done.exit_code == 0, done.output
    assert told(done.stdout, "mean, std").startswith("not known; measure needs --mean and --std")
    torch.save(timm.create_model("test_convnext").state_dict(), file)
    done = run("inspect", file, "random:test_vit")
    assert done.exit_code == 2
    assert "name the architecture" in done.stderr
    assert "test_vit" in done.stdout
    assert "Traceback" not in done.output


def test_measure_takes_bare_files_and_records_them(data, tmp_path):
    (tmp_path / "a").mkdir()
    vit, resnet = ibot().write(tmp_path), moco().write(tmp_path / "a")
    out = tmp_path / "run"
    done = run("measure", vit, resnet, *data, "--layer", "2,last", "--out", out, "--precision", "float32")
    assert done.exit_code == 0, done.output
    models = json.loads((out / "summary.json").read_text())["models"]
    names = [f"{vit} (layer 2)", f"{vit} (layer last)", f"{resnet} (layer 2)", f"{resnet} (layer last)", "control:cell"]
    assert [model["name"] for model in models] == names
    record = models[0]["provenance"]["model"]
    assert (record["format"], record["branch"], record["layer"], record["norm"]) == (
        "iBOT",
        "teacher",
        "2 of 0..11",
        "applied",
    )
    assert record["interpolation"] == "none"
    assert "by the file's layout: MoCo" in done.stderr
    assert list(pd.read_csv(out / "rows.csv")["model"].unique()) == names


@pytest.fixture(scope="module")
def measured_without(scenes, tmp_path_factory):
    """maker -> (its file, what is measured of it without any option); each once."""
    found = {}

    def get(maker):
        if maker not in found:
            folder = tmp_path_factory.mktemp("without")
            file = maker().write(folder)
            words = ("--annotations", scenes[0], "--images", scenes[1], "--probes", 3)
            assert run("measure", file, *words, "--out", folder / "run").exit_code == 0
            found[maker] = file, json.loads((folder / "run" / "summary.json").read_text())["models"][0]
        return found[maker]

    return get


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["--key", "student.module.backbone", "--mean", ".4", "--std", ".2"], "format", "given by key"),
        pytest.param(["--branch", "student"], "branch", "student", marks=pytest.mark.slow),
        pytest.param(["--image-size", "224x288"], "image_size", [224, 288], marks=pytest.mark.slow),
        pytest.param(["--output-stride", 16], "stride_px", 16, marks=pytest.mark.slow),
        (["--mean", "0.3"], "normalisation", "as chosen, the rest by the file's layout: iBOT"),
    ],
    ids=str,
)
def test_options_of_checkpoints_reach_the_measurement(data, tmp_path, measured_without, words, key, value):
    file, without = measured_without(moco if "--output-stride" in words else ibot)
    done = run("measure", file, *data, *words, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "run" / "summary.json").read_text())["models"][0]
    assert found["provenance"]["model"][key] == value
    assert found["statistics"]["cr_mean"] != without["statistics"]["cr_mean"]


def test_trusting_a_checkpoint_is_asked_for(data, tmp_path):
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": state(network("resnet18", 1)), "loader": pd.Timestamp(0)}, file)
    done = run("measure", file, *data, "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "--trust-checkpoint" in done.stderr
    assert run("inspect", file, "--trust-checkpoint").exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["random:test_vit", "--layer", "3,,4"], "several different ones"),
        (["random:test_vit", "--layer", "3,17"], "from 0 to 5"),
        (["random:test_vit", "--image-size", "224x"], "HEIGHTxWIDTH"),
        (["random:test_vit", "--image-size", "8"], "between 16 and 4096"),
        (["random:test_vit", "--image-size", "224x200"], "224 x 200 px"),
        (["random:vit_tiny_patch16_224", "--output-stride", "8"], "output_stride"),
        (["random:test_vit", "--branch", "teacher"], "no weights file"),
        (["random:test_vit", "random:test_vit"], "named 2 times"),
        (["no/such/file.pth"], "none of that name"),
    ],
    ids=str,
)
def test_bad_words_end_in_one_sentence(data, tmp_path, words, said):
    done = run("measure", *words, *data, "--out", tmp_path / "run")
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert "Traceback" not in done.output
    assert done.stdout == ""
    assert not (tmp_path / "run").exists()


def test_backbones_lists_what_can_be_named(tmp_path):
    done = run("backbones", "--search", "dinov2 small", "--out", tmp_path / "list.csv")
    assert done.exit_code == 0, done.output
    assert "vit_small_patch14_reg4_dinov2" in done.stdout
    assert "resnet50" not in done.stdout
    assert list(pd.read_csv(tmp_path / "list.csv")["stride"]) == [14, 14]
    whole = run("backbones").stdout
    assert "hub:CLONE:ENTRY" in whole
    assert "torchvision:resnet50" in whole
    failing = run("backbones", "--failing", "--format", "csv").stdout
    assert "inception_v3" in failing
    assert "resnet50" not in failing
    nothing = run("backbones", "--search", "no such thing")
    assert nothing.exit_code == 2
    assert "try fewer words" in nothing.stderr


def test_the_table_is_written_as_it_is_read():
    lines = catalogue_text(catalogue()).splitlines()
    assert len(lines) == len(catalogue()) + 1
    assert catalogue_text(catalogue()[:1]).splitlines()[1] == lines[1]


def test_the_pages_name_what_fails():
    from pathlib import Path

    readme = (Path(__file__).parent.parent / "docs" / "your_own.md").read_text()
    failing = [entry for entry in catalogue() if not entry.stride]
    for entry in failing:
        assert entry.name in readme or entry.family == "crossvit", entry
    of_timm = [entry for entry in failing if entry.source == "timm"]
    assert f"{len(of_timm)} of timm's 1,371 architectures" in readme
    assert len([entry for entry in of_timm if entry.family == "crossvit"]) == 9
