"""What a device is fed in training is what workers would have made of the images, and nothing is lost on the way."""

import json
import time
from copy import deepcopy

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from couplingkit.errors import ArgumentError, MeasurementError
from couplingkit.features.sources.timm_convnets import convnet_to_train
from couplingkit.training import loop, outcome
from couplingkit.training.batch import Progress
from couplingkit.training.callbacks import Watch
from couplingkit.training.colours import ColourDraws, recolour, stacked
from couplingkit.training.corpus import open_corpus
from couplingkit.training.engine import float32_products
from couplingkit.training.feed import fed
from couplingkit.training.loop import TrainSettings, train
from couplingkit.training.outcome import outcome_of
from couplingkit.training.recipe import read_recipe
from couplingkit.training.recomputing import recompute_blocks
from couplingkit.training.settings import Run
from couplingkit.training.views import Augmentation, CropDataset, View, collate

CPU = TrainSettings("cpu")
SMALL = ["run.workers=0", "run.steps=6", "run.batch_size=8", "run.checkpoint_every=3"]


@pytest.fixture(scope="module")
def corpus():
    return open_corpus("scenes:24")


def one_step(images, **changes):
    """Draws that change nothing but what is said."""
    count = len(images)
    nothing = {
        "order": torch.full((count, 4), -1),
        "factors": torch.ones(count, 4, dtype=torch.float64),
        "gray": torch.zeros(count, dtype=torch.bool),
        "sigma": torch.zeros(count, dtype=torch.float64),
        "solarized": torch.zeros(count, dtype=torch.bool),
    }
    return ColourDraws(**(nothing | changes))


# ---- colours -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [33, 64, 224])
def test_colours_of_a_batch_are_those_that_workers_give_each_image(corpus, size):
    views = (View(size=size, blur=1.0), View(size=size, blur=0.1, solarize=0.2), View(size=size, jitter=0.0, gray=0.5))
    augmentation = Augmentation(views, local=(View(size=48, blur=0.5),), recolour=True)
    keys = [(2, number) for number in range(16)]
    by_workers, drawn = (
        collate([CropDataset(corpus, augmentation, seed=1, coloured=coloured)[key] for key in keys])
        for coloured in (True, False)
    )
    assert not drawn["recoloured"], "the same crops do not travel twice"
    pairs = [
        *zip(by_workers["crops"], drawn["crops"], views, drawn["colours"], strict=True),
        *zip(by_workers["recoloured"], drawn["crops"], views, drawn["colours again"], strict=True),
        *zip(by_workers["local"], drawn["local"], augmentation.local, drawn["local colours"], strict=True),
    ]
    assert len(pairs) == 7
    for right, crops, view, draws in pairs:
        found = recolour(crops, draws, kernel=view.kernel) * 255
        apart = (found - right).abs()
        # A pixel that is rounded the other way may be moved on by the steps behind: one in ten thousand.
        assert (apart > 1.001).float().mean() < 1e-4
        assert apart.max() < 6
        assert (apart > 0.001).float().mean() < 2e-3


def image_of_all_colours():
    """Two images whose pixels have all sorts of colours, grays and ends among them."""
    images = torch.randint(0, 256, (2, 3, 60, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[:, :, :8] = torch.arange(64, dtype=torch.uint8) * 4
    images[:, :, 8:10], images[:, :, 10:12] = 0, 255
    return images


@pytest.mark.parametrize("factor", [-0.5, -0.1, 0.02, 0.4])
@pytest.mark.parametrize("which", range(4))
def test_each_step_is_torchvisions_within_one_level(which, factor):
    images = image_of_all_colours()
    how = (v2.functional.adjust_brightness, v2.functional.adjust_contrast, v2.functional.adjust_saturation)
    change, value = (v2.functional.adjust_hue, factor) if which == 3 else (how[which], 1 + factor)
    factors = torch.ones(2, 4, dtype=torch.float64)
    factors[:, which] = value
    found = recolour(images, one_step(images, order=torch.tensor([[which, -1, -1, -1]] * 2), factors=factors), kernel=3)
    right = torch.stack([change(image, value) for image in images])
    assert ((found * 255) - right).abs().max() < 1.001


def test_gray_blur_and_solarisation_are_torchvisions_within_one_level():
    images = image_of_all_colours()
    yes = torch.ones(2, dtype=torch.bool)
    for changes, right in (
        ({"gray": yes}, v2.functional.rgb_to_grayscale(images, 3)),
        ({"solarized": yes}, v2.functional.solarize(images, 128)),
        ({"sigma": yes * 1.3}, v2.functional.gaussian_blur(images, [23, 23], [1.3, 1.3])),
    ):
        assert (recolour(images, one_step(images, **changes), kernel=23) * 255 - right).abs().max() < 1.001


def test_only_the_images_that_are_meant_change():
    images = image_of_all_colours()
    found = recolour(images, one_step(images, gray=torch.tensor([False, True])), kernel=3)
    assert torch.equal(found[0], images[0].float() / 255)
    assert torch.equal(found[1, 0], found[1, 2])
    assert torch.equal(recolour(images, one_step(images), kernel=3), images.float() / 255)


def test_draws_are_stacked_image_by_image():
    draws = [one_step(torch.zeros(1, 3, 4, 4)) for _ in range(3)]
    assert stacked([ColourDraws(*(part[0] for part in one)) for one in draws]).order.shape == (3, 4)


# ---- the loop ------------------------------------------------------------------------------------


def losses_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", ["ibot-d", "densecl"])
def test_a_run_that_colours_on_the_device_and_looks_a_step_later_is_the_same(corpus, tmp_path, monkeypatch, name):
    recipe = read_recipe(name, f"{name.removesuffix('-d')}-tiny", SMALL)
    train(recipe, corpus, tmp_path / "plain", CPU)
    whole = CropDataset.__init__
    monkeypatch.setattr(
        CropDataset, "__init__", lambda self, *given, **named: whole(self, *given, **{**named, "coloured": False})
    )
    monkeypatch.setattr(loop, "steps_ahead", lambda device: 1)
    train(recipe, corpus, tmp_path / "ahead", CPU)
    one, other = (losses_of(tmp_path / folder) for folder in ("plain", "ahead"))
    assert [line["step"] for line in other] == list(range(6))
    for left, right in zip(one, other, strict=True):
        # Some pixels are a level apart, and what is learnt from them moves on.
        assert left["total"] == pytest.approx(right["total"], abs=2e-3 if left["step"] == 0 else 5e-2)
        assert {"grad_norm", "lr", "seconds", "waited", "images_per_s", "left_s"} <= set(right)
    assert "feature_rank" in other[0]


def test_a_loss_that_is_lost_is_found_a_step_later_and_never_saved(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "steps_ahead", lambda device: 1)
    recipe = read_recipe("ibot", "ibot-tiny", [*SMALL, "run.checkpoint_every=5"])
    made = outcome.outcome_of

    def lost(where, losses, *rest, **named):
        broken = {key: value * float("nan") for key, value in losses.items()} if where.step == 2 else losses
        return made(where, broken, *rest, **named)

    monkeypatch.setattr("couplingkit.training.step.outcome_of", lost)
    with pytest.raises(MeasurementError, match=r"step 2 lost a number .* there is no checkpoint yet"):
        train(recipe, corpus, tmp_path / "run", CPU)
    assert [line["step"] for line in losses_of(tmp_path / "run")] == [0, 1]
    # Where the step is saved it is looked at first.
    recipe = read_recipe("ibot", "ibot-tiny", [*SMALL, "run.checkpoint_every=3"])
    with pytest.raises(MeasurementError, match="step 2 lost"):
        train(recipe, corpus, tmp_path / "other", CPU)
    assert not list((tmp_path / "other").glob("step-*"))


def test_an_outcome_holds_losses_numbers_and_the_wish_to_stop(tmp_path):
    said = {"one": torch.tensor(2.0), "total": torch.tensor(3.0)}
    seen = {"entropy": torch.tensor(0.5), "features": torch.eye(4)}
    made = outcome_of(Progress(10, 20, 5), said, seen, {"lr": 0.1}, asked=True)
    losses, others, stop = made.settled(tmp_path)
    assert losses == {"one": 2.0, "total": 3.0}
    assert others == {"lr": 0.1, "entropy": 0.5, "feature_rank": pytest.approx(4.0)}
    assert stop
    assert not outcome_of(Progress(11, 20, 5), said, seen, {}, asked=False).settled(tmp_path)[2]


def test_what_is_fed_is_what_was_read():
    batches = [
        {
            "crops": [torch.full((2, 3), n)],
            "boxes": [],
            "local": [],
            "cuts": {("view", 0): torch.tensor([n])},
            "step": n,
        }
        for n in range(4)
    ]
    found = list(fed(iter(batches), torch.device("cpu")))
    assert [batch["step"] for batch in found] == [0, 1, 2, 3]
    assert all(torch.equal(one["crops"][0], two["crops"][0]) for one, two in zip(batches, found, strict=True))
    assert found[3]["cuts"]["view", 0].tolist() == [3]


def test_products_are_as_the_recipe_says_and_put_back():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with float32_products("bfloat16"):
        assert torch.get_float32_matmul_precision() == "high"
    with pytest.raises(ValueError, match="x"), float32_products("float32"):
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("highest", False)
        raise ValueError("x")
    assert before == (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)


def test_what_else_goes_wrong_hides_no_lost_number_and_loses_no_line(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "steps_ahead", lambda device: 1)
    recipe = read_recipe("ibot", "ibot-tiny", [*SMALL, "run.checkpoint_every=6"])
    made, advance = outcome.outcome_of, loop.advance

    def fails(running, sample, where, *rest, **named):
        if where.step == 4:
            raise RuntimeError("the device is gone")
        return advance(running, sample, where, *rest, **named)

    monkeypatch.setattr(loop, "advance", fails)
    with pytest.raises(RuntimeError, match="the device is gone"):
        train(recipe, corpus, tmp_path / "whole", CPU)
    assert [line["step"] for line in losses_of(tmp_path / "whole")] == [0, 1, 2, 3]

    def lost(where, losses, *rest, **named):
        broken = {key: value * float("nan") for key, value in losses.items()} if where.step == 3 else losses
        return made(where, broken, *rest, **named)

    monkeypatch.setattr("couplingkit.training.step.outcome_of", lost)
    with pytest.raises(MeasurementError, match="step 3 lost"):
        train(recipe, corpus, tmp_path / "lost", CPU)


def test_a_line_says_what_was_so_at_its_own_step_and_times_add_up(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "steps_ahead", lambda device: 1)
    recipe = read_recipe("ibot", "ibot-tiny", SMALL)
    advance = loop.advance

    def broken_at_two(running, sample, where, *rest, **named):
        return advance(running, {**sample, "broken": [7] if where.step == 2 else []}, where, *rest, **named)

    monkeypatch.setattr(loop, "advance", broken_at_two)
    begin = time.perf_counter()
    train(recipe, corpus, tmp_path / "run", CPU)
    lines, whole = losses_of(tmp_path / "run"), time.perf_counter() - begin
    assert [line["broken"] for line in lines] == [0, 0, 1, 1, 1, 1]
    # No time is counted twice.
    assert sum(line["seconds"] for line in lines) < whole


def test_a_look_sees_products_of_float32(corpus, tmp_path):
    seen = []
    watch = Watch(look=lambda step, weights: seen.append(torch.get_float32_matmul_precision()), every=2)
    words = [*SMALL, "run.steps=4", 'run.precision="bfloat16"']
    train(read_recipe("ibot", "ibot-tiny", words), corpus, tmp_path / "run", CPU, watch=watch)
    assert seen == ["highest"] * 3


# ---- less memory ---------------------------------------------------------------------------------


def test_what_is_computed_again_gives_the_same_gradients_and_moves_statistics_once():
    network = convnet_to_train("resnet18", seed=0).train()
    other = deepcopy(network)
    recompute_blocks([other.layer1, other.layer3])
    images = torch.randn(4, 3, 64, 64)
    for one in (network, other):
        one.forward_features(images).square().mean().backward()
    for (name, one), two in zip(network.named_parameters(), other.parameters(), strict=True):
        if one.grad is not None:
            assert torch.allclose(one.grad, two.grad, atol=1e-6), name
    for (name, one), two in zip(network.named_buffers(), other.buffers(), strict=True):
        assert torch.equal(one, two), name


def test_blocks_that_compute_again_keep_less():
    kept = []
    for again in (False, True):
        blocks = nn.Sequential(*(nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 8)) for _ in range(3)))
        if again:
            recompute_blocks(blocks)
        held = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, held=held: held.append(x.numel()) or x, lambda x: x):
            blocks(torch.randn(16, 8, requires_grad=True))
        kept.append(sum(held))
    assert kept[1] < kept[0] / 2


def test_a_run_that_computes_again_is_the_same(corpus, tmp_path):
    for name in ("ibot-d", "soco"):
        lines = []
        for again in ("false", "true"):
            words = [*SMALL, "run.steps=3", f"run.gradient_checkpointing={again}"]
            recipe = read_recipe(name, f"{name.removesuffix('-d')}-tiny", words)
            train(recipe, corpus, tmp_path / f"{name}{again}", CPU)
            lines.append([line["total"] for line in losses_of(tmp_path / f"{name}{again}")])
        assert lines[0] == pytest.approx(lines[1], abs=1e-5), name


def test_compiling_and_computing_again_exclude_each_other():
    with pytest.raises(ArgumentError, match="cannot both be true"):
        Run(compile=True, gradient_checkpointing=True)
