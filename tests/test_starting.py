"""Runs that go on from a model that exists, runs that are made longer, and what runs tell while they train."""

import json
import math
import shutil
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from command import run
from test_training import CPU, DENSECL, GO_ON, TINY, plug, same, state_of, write

import couplingkit as ck
from couplingkit.errors import ArgumentError, BackboneError
from couplingkit.runs.training import TrainRequest, resumed_training, run_training
from couplingkit.training.corpus import open_corpus
from couplingkit.training.loop import train
from couplingkit.training.method import Progress
from couplingkit.training.optimizers import build_optimizer, schedule
from couplingkit.training.recipe import build_method, read_recipe, recipe_toml
from couplingkit.training.settings import Optimizer
from couplingkit.training.starting import load_start, starting_from
from couplingkit.training.telemetry import effective_rank

LOCAL = "\n[[local_views]]\nsize = 16\ncount = 2\n"


@pytest.fixture
def corpus():
    return open_corpus("scenes:40")


@pytest.fixture
def begun(tmp_path, corpus):
    """A run of iBOT that others go on from."""
    recipe = read_recipe("ibot", write(tmp_path / "tiny.toml", TINY), ["run.steps=3", "run.checkpoint_every=3"])
    train(recipe, corpus, tmp_path / "begun", CPU)
    return tmp_path / "begun"


# ---- starting from a model -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ibot", "ibot-d"])
def test_networks_and_head_are_those_of_the_run(begun, method):
    recipe = starting_from(
        read_recipe(method, str(begun / "recipe.toml"), ["run.seed=5", "start.head_steps=9"]), str(begun)
    )
    assert recipe.start.head_steps == 0, "the run has a head"
    network = build_method(recipe)
    before = network.core().student.head.prototypes.clone()
    load_start(network, recipe)
    held = state_of(begun)["method"]
    for branch in ("student", "teacher"):
        own = getattr(network.core(), branch).state_dict()
        # Both begin as the network that the run is evaluated by.
        assert same(
            {n: v for n, v in own.items() if n.startswith("backbone.")},
            {
                f"backbone.{n.removeprefix('teacher.backbone.')}": v
                for n, v in held.items()
                if n.startswith("teacher.backbone.")
            },
        )
        assert torch.equal(own["head.prototypes"], held[f"{branch}.head.prototypes"])
    assert not torch.equal(before, network.core().student.head.prototypes)


def test_architecture_and_normalisation_become_the_models(tmp_path):
    recipe = starting_from(read_recipe("ibot-d", write(tmp_path / "t.toml", TINY)), "bundled:ibot")
    bundled = ck.load_backbone("bundled:ibot", precision="float32")
    assert recipe.method.options["embed_dim"] == 128
    assert (recipe.method.mean, recipe.method.std) == (bundled.mean, bundled.std)
    network = build_method(recipe).eval()
    load_start(network, recipe)
    image = torch.rand(1, 3, 64, 64)
    assert torch.allclose(network.inner.teacher(image)[1].permute(0, 3, 1, 2), bundled(image), atol=1e-5)
    assert torch.allclose(network.inner.student(image)[1].permute(0, 3, 1, 2), bundled(image), atol=1e-5)


def test_a_resnet_and_a_checkpoint_of_the_authors(tmp_path):
    random = ck.load_backbone("random:resnet18", precision="float32")
    recipe = starting_from(read_recipe("densecl-d", write(tmp_path / "d.toml", DENSECL)), "random:resnet18")
    network = build_method(recipe)
    load_start(network, recipe)
    for branch in network.branches().values():
        assert all(torch.equal(value, branch.state_dict()[name]) for name, value in random.network.state_dict().items())
    # iBOT as it was released: student and teacher with a head that both tokens share.
    small = read_recipe(
        "ibot", write(tmp_path / "t.toml", TINY), ["method.options.patch_size=16", "method.options.embed_dim=192"]
    )
    source = build_method(small)
    names = {"layers.0": "mlp.0", "layers.2": "mlp.2", "layers.4": "mlp.4"}

    def authors(branch):
        held = {f"module.backbone.{name}": value for name, value in branch.backbone.state_dict().items()}
        if branch is source.student:
            held["module.backbone.masked_embed"] = torch.full((1, 192), 0.5)
        for name, value in branch.head.state_dict().items():
            theirs = name.replace("prototypes", "last_layer.weight_v").replace("lengths", "last_layer.weight_g")
            for ours, original in names.items():
                theirs = theirs.replace(ours, original)
            held[f"module.head.{theirs}"] = value + 1
        return held

    saved = {"student": authors(source.student), "teacher": authors(source.teacher), "epoch": 3}
    centres = {"center": torch.full((1, 24), 0.1), "center2": torch.full((1, 1, 24), 0.2)}
    torch.save({**saved, "ibot_loss": centres}, tmp_path / "checkpoint.pth")
    # Without its centres it is half of what iBOT goes on from.
    torch.save(saved, tmp_path / "half.pth")
    built = "vit_tiny_patch16_224,img_size=32,patch_size=16,embed_dim=192,depth=2,num_heads=2"
    asked = read_recipe("ibot", write(tmp_path / "t.toml", TINY), ["run.seed=3", "start.head_steps=2"])
    assert starting_from(asked, f"{built}@{tmp_path / 'half.pth'}").start.head_steps == 2
    other = starting_from(asked, f"{built}@{tmp_path / 'checkpoint.pth'}")
    assert other.start.head_steps == 0
    network = build_method(other)
    load_start(network, other)
    assert torch.equal(network.student.head.prototypes, source.student.head.prototypes + 1)
    assert torch.equal(network.teacher.head.lengths, source.teacher.head.lengths + 1)
    assert torch.equal(network.teacher.backbone.cls_token, source.teacher.backbone.cls_token)
    assert (network.student.mask_token == 0.5).all()
    assert (network.class_centre == 0.1).all()
    assert (network.cell_centre == 0.2).all()


def test_what_cannot_be_started_from(tmp_path):
    recipe = read_recipe("ibot", write(tmp_path / "t.toml", TINY))
    with pytest.raises(BackboneError, match="choose a vit_"):
        build_method(starting_from(recipe, "random:resnet18"))
    with pytest.raises(ArgumentError, match="only those that timm builds are trained"):
        starting_from(read_recipe("moco", write(tmp_path / "d.toml", DENSECL)), "random:torchvision:resnet18")
    with pytest.raises(ck.CouplingKitError, match=r"no\.pth"):
        starting_from(recipe, "no.pth")
    fitting = starting_from(recipe, "bundled:ibot")
    wrong = read_recipe("ibot", write(tmp_path / "t.toml", TINY), ["start.model=bundled:ibot"])
    assert fitting.method != wrong.method
    with pytest.raises(ArgumentError, match="does not fit the student"):
        load_start(build_method(wrong), wrong)


def states_of(run, *steps):
    folders = [run / "checkpoints" / f"step-{step:08d}" / "state.pt" for step in steps]
    return [torch.load(folder, weights_only=True)["method"] for folder in folders]


@pytest.mark.parametrize(("method", "text", "model"), [("ibot", TINY, ""), ("densecl", DENSECL, "random:resnet26,")])
def test_heads_move_alone_at_first(method, text, model, begun, tmp_path, corpus):
    """Backbones are left as they are, running statistics of their norms included."""
    built = "layers=(1,1,1,1),channels=(4,4,4,8),output_stride=8"
    changes = ["start.head_steps=2", "optimizer.warmup_epochs=0", "run.steps=4", "run.checkpoint_every=1"]
    if method == "ibot":
        changes.append("method.bottleneck=12")
    asked = read_recipe(method, write(tmp_path / "t.toml", text), [*changes, "run.keep_every=1"])
    recipe = starting_from(asked, f"{model}{built}" if model else str(begun))
    assert recipe.start.head_steps == 2
    start = build_method(recipe)
    load_start(start, recipe)
    first = start.state_dict()
    train(recipe, corpus, tmp_path / "run", CPU)
    one, two, three = states_of(tmp_path / "run", 1, 2, 3)
    backbone = [name for name in first if name.startswith(("student.backbone.", "teacher.backbone."))]
    head = next(name for name in first if name.startswith("student.head.") and name.endswith("0.weight"))
    for state in (one, two):
        # The teacher's moving average of equal weights rounds them.
        assert all(torch.allclose(state[name], first[name], atol=1e-6) for name in backbone)
        assert all(torch.equal(state[name], first[name]) for name in backbone if name.startswith("student."))
        assert not torch.equal(state[head], first[head])
    assert any(not torch.equal(three[name], first[name]) for name in backbone if "num_batches" not in name)


def test_a_head_phase_that_never_ends_or_holds_random_weights_is_refused(begun, corpus, tmp_path):
    recipe = starting_from(
        read_recipe("ibot", write(tmp_path / "t.toml", TINY), ["start.head_steps=8", "method.bottleneck=12"]),
        str(begun),
    )
    with pytest.raises(ArgumentError, match="must be below the 8 steps of the run"):
        train(recipe, corpus, tmp_path / "x", CPU)
    alone = read_recipe("ibot", write(tmp_path / "t.toml", TINY), ["start.head_steps=2"])
    with pytest.raises(ArgumentError, match="there is no model to start from"):
        train(alone, corpus, tmp_path / "x", CPU)
    assert not (tmp_path / "x").exists()


def test_a_head_is_taken_whole_or_not_at_all(tmp_path, corpus):
    """MoCo's run has no dense head; SoCo's and MaskAlign's heads have names of their own."""
    small = ["run.steps=1", "run.batch_size=4", "run.workers=0"]
    for name, method, taken in (("moco", "densecl", False), ("soco", "soco-d", True), ("maskalign", "maskalign", True)):
        recipe = read_recipe(name, f"{name}-tiny", small)
        train(recipe, corpus, tmp_path / name, CPU)
        asked = read_recipe(method, f"{method.removesuffix('-d')}-tiny", ["run.seed=7", "start.head_steps=2"])
        found = starting_from(asked, str(tmp_path / name))
        assert found.start.head_steps == (0 if taken else 2)
        network = build_method(found)
        fresh = {key: value.clone() for key, value in network.core().state_dict().items()}
        load_start(network, found)
        held = state_of(tmp_path / name)["method"]
        beside = [
            key for key in fresh if key.startswith(("student.regions", "student.projector", "alignment", "predictor"))
        ]
        for key in beside:
            assert torch.equal(network.core().state_dict()[key], held[key]) == taken, key
        if not taken:
            heads = [key for key in fresh if "head" in key or "queue" in key]
            assert all(torch.equal(network.core().state_dict()[key], fresh[key]) for key in heads)


def test_the_same_command_goes_on_where_options_are_tuples(tmp_path):
    recipe = starting_from(
        read_recipe("densecl", write(tmp_path / "d.toml", DENSECL)),
        "random:resnet26,layers=(1,1,1,1),channels=(4,4,4,8)",
    )
    again = read_recipe("densecl", write(tmp_path / "again.toml", recipe_toml(recipe)))
    assert again == recipe


def test_earlier_layers_move_less(tmp_path):
    recipe = read_recipe("ibot", write(tmp_path / "t.toml", TINY), ["optimizer.layer_decay=0.5"])
    method = build_method(recipe)
    optimizer = build_optimizer(method, recipe.optimizer)
    lr, _ = schedule(optimizer, Progress(6, 8, 5), recipe.optimizer, head_steps=2)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    # The warm-up of a backbone begins behind the head phase: at most half of what is left of the run.
    base = recipe.optimizer.lr + (recipe.optimizer.final_lr - recipe.optimizer.lr) * (1 - math.cos(math.pi / 3)) / 2
    network = method.student.backbone
    # Two blocks: patches are 3 layers below the head; the final norm is as the last block.
    expected = {
        "patch_embed.proj.weight": 3,
        "pos_embed": 3,
        "blocks.0.mlp.fc1.weight": 2,
        "blocks.1.norm1.bias": 1,
        "norm.weight": 1,
    }
    for name, below in expected.items():
        assert rates[id(dict(network.named_parameters())[name])] == pytest.approx(base * 0.5**below)
    assert rates[id(method.student.head.prototypes)] == lr
    decayed = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decayed[id(network.norm.weight)] == 0 < decayed[id(method.student.head.lengths)]


def test_a_run_that_was_started_from_a_model_and_stopped_goes_on_bit_for_bit(begun, corpus, tmp_path):
    """Also with local crops, layer-wise decay and a head that learns alone at first."""
    text = (begun / "recipe.toml").read_text() + LOCAL
    changes = [
        "run.steps=6",
        "run.checkpoint_every=2",
        "optimizer.layer_decay=0.7",
        "run.seed=2",
        "method.bottleneck=12",
        "start.head_steps=3",
    ]
    recipe = starting_from(read_recipe("ibot-d", write(tmp_path / "more.toml", text), changes), str(begun))
    assert recipe.start.head_steps == 3, "a head of another width is no head for it"
    assert len(recipe.augmentation.local) == 2
    train(recipe, corpus, tmp_path / "whole", CPU)
    for stop in (1, 3, 4):
        with pytest.raises(RuntimeError, match="the plug"):
            train(recipe, corpus, tmp_path / f"cut{stop}", CPU, watch=plug(stop))
        train(recipe, corpus, tmp_path / f"cut{stop}", GO_ON)
        assert same(state_of(tmp_path / f"cut{stop}"), state_of(tmp_path / "whole"))


def test_the_command_goes_on_from_a_model_and_says_so(begun, tmp_path):
    out = tmp_path / "out"
    words = [
        "train",
        "ibot-d",
        "--data",
        "scenes:24",
        "--recipe",
        begun / "recipe.toml",
        "--from",
        begun,
        "--out",
        out,
        "--device",
        "cpu",
    ]
    done = run(*words)
    assert done.exit_code == 0, done.output
    record = json.loads((out / "run.json").read_text())
    assert len(record["started"]) == 1
    assert f'model = "{begun}"' in (out / "recipe.toml").read_text()
    refused = run(*(word if word != begun else "bundled:nothing" for word in words))
    assert refused.exit_code == 2
    assert "Traceback" not in refused.stderr


def test_a_run_that_has_to_begin_once_more_with_another_model_is_refused(begun, tmp_path):
    """It was stopped before its first checkpoint, and its start was trained on meanwhile."""
    model, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(begun, model)
    recipe = starting_from(read_recipe("ibot-d", str(begun / "recipe.toml")), str(model))
    request = TrainRequest(recipe, out, "scenes:40")
    run_training(request, device="cpu")
    assert list(json.loads((out / "run.json").read_text())["started"].values())
    shutil.rmtree(out / "checkpoints")
    weights = model / "checkpoints" / "step-00000003" / "teacher.safetensors"
    shutil.copy(weights.with_name("student.safetensors"), weights)
    with pytest.raises(ArgumentError, match="which has changed since"):
        run_training(replace(request, resume=True), device="cpu")


# ---- longer runs ---------------------------------------------------------------------------------


def test_a_run_is_made_longer_and_no_shorter_than_it_is(begun, corpus):
    assert resumed_training(begun, None, {}).recipe.run.steps == 3
    with pytest.raises(ArgumentError, match="steps must be at least the 3 that"):
        resumed_training(begun, None, {}, steps=2)


def test_the_command_makes_a_run_longer(tmp_path):
    recipe = write(tmp_path / "tiny.toml", TINY)
    words = [
        "train",
        "ibot",
        "--data",
        "scenes:24",
        "--recipe",
        recipe,
        "--steps",
        3,
        "--out",
        tmp_path / "run",
        "--device",
        "cpu",
    ]
    assert run(*words).exit_code == 0
    longer = run("train", "--resume", tmp_path / "run", "--steps", 6, "--device", "cpu")
    assert longer.exit_code == 0, longer.output
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(6))
    assert "steps = 6" in (tmp_path / "run" / "recipe.toml").read_text()
    # Schedules are those of six steps from there on.
    settings = Optimizer()
    assert lines[4]["weight_decay"] == pytest.approx(
        settings.final_weight_decay
        + (settings.weight_decay - settings.final_weight_decay) * (1 + math.cos(math.pi * 4 / 6)) / 2
    )
    again = run("train", "--resume", tmp_path / "run", "--device", "cpu")
    assert again.exit_code == 0
    assert run("train", "--resume", tmp_path / "run", "--steps", 4).exit_code == 2


# ---- what a run tells ----------------------------------------------------------------------------


def test_effective_rank_against_numpy_and_at_its_ends():
    rng = np.random.default_rng(0)
    for shape in ((20, 7), (7, 20), (600, 5)):
        vectors = rng.normal(size=shape) @ np.diag(rng.uniform(0.01, 2, shape[1]))
        chosen = vectors[:: math.ceil(shape[0] / 512)]
        values = np.linalg.svd(chosen, compute_uv=False)
        shares = values / values.sum()
        assert effective_rank(torch.from_numpy(vectors)).item() == pytest.approx(
            np.exp(-(shares * np.log(shares)).sum()), rel=1e-4
        )
    assert effective_rank(torch.ones(30, 8)).item() == pytest.approx(1, abs=1e-3), "collapse"
    assert effective_rank(torch.eye(8)).item() == pytest.approx(8)


def test_the_log_says_how_it_goes(tmp_path, corpus):
    recipe = read_recipe("ibot-d", write(tmp_path / "t.toml", TINY), ["run.steps=3", "optimizer.clip=1e-3"])
    train(recipe, corpus, tmp_path / "run", CPU)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert line["grad_norm"] > 1e-3, "before it is clipped"
        assert 0 < line["teacher_entropy"] <= math.log(24) + 1e-6
        assert line["left_s"] >= 0
    assert lines[-1]["left_s"] == 0
    assert lines[0]["weight_decay"] == pytest.approx(0.04)
    assert 1 < lines[0]["feature_rank"] <= 16
    assert "feature_rank" not in lines[1]


@pytest.mark.parametrize("method", ["moco", "densecl-d", "soco-d", "maskalign-d"])
def test_every_method_shows_its_rank(method, tmp_path, corpus):
    recipe = read_recipe(method, f"{method.split('-')[0]}-tiny", ["run.steps=1", "run.batch_size=4", "run.workers=0"])
    train(recipe, corpus, tmp_path / "run", CPU)
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert line["feature_rank"] > 1


def test_looks_show_how_objects_are_told_apart(tmp_path):
    out = tmp_path / "run"
    words = [
        "train",
        "ibot",
        "--data",
        "scenes:24",
        "--recipe",
        write(tmp_path / "t.toml", TINY),
        "--steps",
        2,
        "--out",
        out,
    ]
    done = run(*words, "--device", "cpu", "--probe-every", 2, "--probes", 12, "--tracker", "tensorboard")
    assert done.exit_code == 0, done.output
    looks = pd.read_csv(out / "coupling.csv")
    assert list(looks["step"]) == [0, 2]
    assert (looks["knn_low"] <= looks["knn"]).all()
    assert looks["knn"].between(0, 1).all()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert {"coupling/knn", "coupling/specificity", "grad_norm", "teacher_entropy"} <= set(events.Tags()["scalars"])
    assert events.Scalars("coupling/knn")[-1].value == pytest.approx(looks["knn"].iloc[-1])


def test_trackers_that_are_not_there(tmp_path, monkeypatch):
    words = [
        "train",
        "ibot",
        "--data",
        "scenes:24",
        "--recipe",
        write(tmp_path / "t.toml", TINY),
        "--out",
        tmp_path / "x",
    ]
    monkeypatch.setitem(sys.modules, "wandb", None)
    missing = run(*words, "--tracker", "tensorboard,wandb")
    assert missing.exit_code == 2
    assert "couplingkit[wandb]" in missing.stderr
    typo = run(*words, "--tracker", "tensorbord")
    assert typo.exit_code == 2
    assert "near: tensorboard" in typo.stderr
    assert not (tmp_path / "x").exists()


# ---- words ---------------------------------------------------------------------------------------


def test_one_of_several_views_is_changed_by_words(tmp_path):
    path = write(tmp_path / "t.toml", TINY + LOCAL)
    recipe = read_recipe("ibot", path, ["views[1].size=48", "views[1].scale=[0.5, 1.0]", "local_views[0].count=5"])
    assert [view.size for view in recipe.views] == [32, 48]
    assert recipe.views[1].scale == (0.5, 1.0)
    assert len(recipe.augmentation.local) == 5
    for change, sentence in (
        ("views[2].size=3", "has 2 views, numbered from 0"),
        ("views.size=3", r"say which of them, like views\[0\]"),
        ("views[x].size=3", "numbered from 0"),
        ("run[0].steps=3", "is a single table, without a number"),
    ):
        with pytest.raises(ArgumentError, match=sentence):
            read_recipe("ibot", path, [change])
    with pytest.raises(ArgumentError, match="local_views are for methods with a class token"):
        read_recipe("densecl", write(tmp_path / "d.toml", DENSECL + LOCAL))
