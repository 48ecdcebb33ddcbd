"""Which model a word names is what it opens: other bytes behind the same words are another model."""

import json
import os

import pytest
import torch
from checkpoint_files import VIT, ibot, network, own
from command import run

import couplingkit as ck
from couplingkit.features.identity import model_digests


def rewritten(path):
    """Change one byte of a file, and leave its size and its time as they were."""
    stamp = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stamp.st_size, stamp.st_mtime_ns)


@pytest.fixture
def words(tmp_path, monkeypatch):
    """kind -> (word, the file that it opens)."""
    monkeypatch.setenv("HOME", str(tmp_path))
    places = {name: tmp_path / name for name in ("home.pth", "a@b,c:d.pth", "bare.pth")}
    for place in places.values():
        place.write_bytes(b"weights")
    found = {
        "home": (f"{VIT}@~/home.pth", places["home.pth"]),
        "separators": (f"{VIT}@{tmp_path}/a@b,c:d.pth", places["a@b,c:d.pth"]),
        "bare separators": (f"{tmp_path}/a@b,c:d.pth", places["a@b,c:d.pth"]),
        "bare": ("~/bare.pth", places["bare.pth"]),
        "windows": (str(tmp_path / "bare.pth").replace("/", "\\"), places["bare.pth"]),
    }
    for kind, config in (("local-dir", {"architecture": VIT}), ("transformers", {"model_type": "vit"})):
        folder = tmp_path / f"of {kind}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.safetensors").write_bytes(b"weights")
        found[kind] = (f"{kind}:{folder}", folder / "model.safetensors")
        found[f"{kind}, config"] = (f"{kind}:{folder}", folder / "config.json")
        found[f"{kind}, bare"] = (str(folder), folder / "model.safetensors")
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "hubconf.py").write_text("def tiny(): ...\n")
    found["hub"] = (f"hub:{clone}:tiny", clone / "hubconf.py")
    trained = tmp_path / "trained" / "checkpoints" / "step-00000002"
    trained.mkdir(parents=True)
    (tmp_path / "trained" / "run.json").write_text("{}")
    (trained / "step.json").write_text('{"step": 2, "method": "ibot"}')
    (trained / "teacher.safetensors").write_bytes(b"weights")
    found["run"] = (str(tmp_path / "trained"), trained / "teacher.safetensors")
    return found


KINDS = [
    "home",
    "separators",
    "bare separators",
    "bare",
    "windows",
    "local-dir",
    "local-dir, config",
    "local-dir, bare",
]
KINDS += ["transformers", "transformers, config", "transformers, bare", "hub", "run"]


@pytest.mark.parametrize("kind", KINDS)
def test_other_bytes_are_another_model(words, kind):
    word, file = words[kind]
    before = model_digests(word)
    assert before
    assert model_digests(word) == before
    rewritten(file)
    assert model_digests(word) != before


def test_another_checkpoint_of_a_run_is_another_model(words, tmp_path):
    word, file = words["run"]
    before = model_digests(word)
    later = tmp_path / "trained" / "checkpoints" / "step-00000004"
    later.mkdir()
    (later / "teacher.safetensors").write_bytes(b"later weights")
    assert model_digests(word) == before  # not whole yet
    (later / "step.json").write_text('{"step": 4, "method": "ibot"}')
    assert model_digests(word) != before
    assert list(model_digests(word)) == [file.name]


def test_what_opens_no_file_has_no_digest():
    for word in ("random:test_vit", "control:cell", "timm:resnet18"):
        assert model_digests(word) == {}


def test_a_folder_that_came_out_of_git_may_be_committed_to(words):
    word, file = words["hub"]
    before = model_digests(word)
    (file.parent / ".git").mkdir()
    (file.parent / ".git" / "HEAD").write_text("x")
    assert model_digests(word) == before


def test_provenance_and_stamp_say_the_same_as_the_loader(data, tmp_path):
    own(tmp_path / "own.safetensors", network(VIT, 0))
    for file in (ibot().write(tmp_path), tmp_path / "own.safetensors"):
        digests = model_digests(str(file))
        assert ck.load_backbone(str(file), device="cpu").provenance()["files"] == digests
        out = tmp_path / f"run of {file.name}"
        assert run("measure", file, *data, "--probes", 2, "--out", out).exit_code == 0
        document = json.loads((out / "summary.json").read_text())
        assert document["run"]["models"][0]["files"] == digests
        assert document["models"][0]["provenance"]["model"]["weights_sha256"] in digests.values()


def test_weights_replaced_at_the_same_time_are_measured_anew(data, tmp_path):
    """Of the same size and time: the finished run is not 'nothing to do', and its numbers are not kept."""
    file = tmp_path / "vit.pth"
    rates = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        import timm

        torch.save(timm.create_model("test_vit").state_dict(), file)
        os.utime(file, (1e9, 1e9))
        more = ["--overwrite"] if seed else []
        done = run("measure", f"test_vit@{file}", *data, "--probes", 6, "--out", tmp_path / "run", *more)
        assert done.exit_code == 0, done.output
        assert "nothing to do" not in done.stderr
        rates.append(ck.read_run(tmp_path / "run").measurements[0].summary.cr_mean)
    assert rates[0] != rates[1]
