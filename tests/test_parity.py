"""The methods held against what their originals do: first weights, schedules, clipping, positions, pyramid levels."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_decoupling import (
    METHODS,
    PROGRESS,
    RCC,
    TINY,
    batch_of,
    densecl,
    ibot,
    shown_to,
    slow_cross_entropy,
    soco,
    soft,
    toy,
)
from torch import nn

from couplingkit.errors import ArgumentError
from couplingkit.features.sources.timm_convnets import convnet_to_train, last_map
from couplingkit.features.sources.timm_training import vit_to_train
from couplingkit.streams import Stream
from couplingkit.training.decoupling import Decoupled, composites
from couplingkit.training.engine import synchronise_norms
from couplingkit.training.method import Masking, Progress, in_place
from couplingkit.training.methods.ibot import IBOT
from couplingkit.training.methods.maskalign import fix_positions
from couplingkit.training.methods.prototypes import Head
from couplingkit.training.recipe import read_recipe
from couplingkit.training.region_features import RegionHead
from couplingkit.training.settings import Optimizer
from couplingkit.training.step import clip_gradients
from couplingkit.training.views import Collation

# ---- iBOT ----------------------------------------------------------------------------------------


def test_prototypes_begin_as_a_linear_layer_of_torch_and_their_lengths_learn():
    head = Head(16, bottleneck=256, prototypes=2000, hidden=32)
    plain = nn.Linear(256, 2000, bias=False)
    norms = head.prototypes.norm(dim=1)
    # Uniform within +-1/sqrt(D): rows of length 1/sqrt(3).
    assert norms.mean().item() == pytest.approx(3**-0.5, abs=2e-3)
    assert norms.std().item() == pytest.approx(plain.weight.norm(dim=1).std().item(), rel=0.1)
    assert head.prototypes.abs().max() <= 1 / 16
    assert (head.lengths == 1).all()
    assert head.lengths.requires_grad
    assert head.lengths.ndim == 2, "of two dimensions, so that they have weight decay as the authors'"
    unit = nn.functional.normalize(torch.randn(5, 256), dim=-1)
    slow = unit.double() @ (head.prototypes.double() / head.prototypes.double().norm(dim=1, keepdim=True)).T
    assert torch.allclose(head.logits(unit).double(), slow, atol=1e-6)


def test_prototypes_turn_as_fast_as_a_weight_normalised_layer_of_torch():
    """The step that had trained models fall behind untrained ones: AdamW could not turn rows of length 16."""
    torch.manual_seed(0)
    unit = nn.functional.normalize(torch.randn(512, 64), dim=-1)
    target = torch.randint(128, (512,))

    def angle(weights, logits, parameters):
        before = nn.functional.normalize(weights().detach().clone(), dim=1)
        optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.04)
        for _ in range(120):
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits(unit) / 0.1, target).backward()
            optimizer.step()
        after = nn.functional.normalize(weights().detach(), dim=1)
        return torch.rad2deg(torch.acos((before * after).sum(dim=1).clamp(-1, 1))).mean().item()

    head = Head(16, bottleneck=64, prototypes=128, hidden=32)
    ours = angle(lambda: head.prototypes, head.logits, [head.prototypes, head.lengths])
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(64, 128, bias=False), dim=0)
    with torch.no_grad():
        layer.parametrizations.weight.original1.copy_(head.prototypes.new_empty(128, 64).uniform_(-1 / 8, 1 / 8))
        layer.parametrizations.weight.original0.fill_(1.0)
    theirs = angle(lambda: layer.weight, layer, list(layer.parameters()))
    assert ours == pytest.approx(theirs, rel=0.05)
    assert ours > 30


@pytest.mark.parametrize("sizes", [(16,), (16, 16, 24), (32,)])
def test_local_crops_against_loops_in_float64(sizes):
    """DINO's multi-crop: the student alone sees them, whole, and says what the teacher makes of each global view."""
    method = ibot().eval()
    method.before_step(PROGRESS)
    with torch.no_grad():
        method.class_centre.normal_(std=0.1)
        for p in method.teacher.parameters():
            p.add_(0.02 * torch.randn_like(p))
    batch = batch_of(3)
    local = tuple(torch.rand(3, 3, size, size) for size in sizes)
    views = method.views(replace(batch, local=local))
    shown = []
    method.teacher.register_forward_hook(lambda _, given, __: shown.append(tuple(given[0].shape[-2:])))
    found, without = method.losses(views), method.losses(method.views(batch))
    assert shown == [(32, 32)] * 4, "the teacher sees global views only"
    assert found["cells"].item() == pytest.approx(without["cells"].item(), rel=1e-6), "nobody asks for their cells"
    logits = {}
    for v, crop in enumerate(batch.crops):
        logits["teacher", v] = method.teacher.head(method.teacher(crop)[0]).detach().double().numpy()
        logits["student", v] = (
            method.student.head(method.student(crop, keep=views.keep[v])[0]).detach().double().numpy()
        )
    for v, crop in enumerate(local, 2):
        logits["student", v] = method.student.head(method.student(crop)[0]).detach().double().numpy()
    centre = method.class_centre.double().numpy()
    terms = [
        slow_cross_entropy(
            logits["student", v][image], soft(logits["teacher", q][image] - centre, method.temperature), 0.1
        )
        for q in range(2)
        for v in range(2 + len(local))
        if v != q
        for image in range(3)
    ]
    assert len(terms) == 3 * (2 + 2 * len(local))
    assert found["class"].item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_local_views_make_no_composites_and_smaller_views_are_sent_there():
    method = Decoupled(ibot(), masking=RCC, share=1.0).eval()
    batch = batch_of(4)
    local = replace(batch, local=(torch.rand(4, 3, 16, 16),))
    one, other = (method.losses(method.views(shown))["decoupling"].item() for shown in (batch, local))
    assert one == pytest.approx(other, rel=1e-6)
    with pytest.raises(ArgumentError, match=r"smaller crops, which the teacher does not see, are \[\[local_views\]\]"):
        ibot().views(batch_of(2, ((32, 32), (16, 16))))
    # Other methods may have smaller views; their composites take donors of that size.
    mixed = batch_of(4, ((32, 32), (32, 32), (16, 16)))
    made = composites(mixed, 2, torch.arange(4), torch.zeros(4, 2, 2, dtype=torch.bool))
    assert torch.equal(made, mixed.recoloured[2][[1, 0, 3, 2]])
    assert Decoupled(toy(), masking=RCC, share=1.0).views(mixed).composed == (0, 1, 2)


def test_the_recipe_of_coco_has_the_authors_schedule_and_clipping():
    recipe = read_recipe("ibot", "ibot-coco-800ep")
    assert (recipe.method.warm_epochs, recipe.optimizer.clip, recipe.optimizer.clip_each) == (80, 3.0, True)
    method = IBOT(replace(TINY, warm_epochs=recipe.method.warm_epochs), seed=0)
    for epoch, expected in ((0, 0.04), (40, 0.055), (80, 0.07), (700, 0.07)):
        method.before_step(Progress(step=epoch * 10, steps=8000, steps_per_epoch=10))
        assert method.temperature == pytest.approx(expected)


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("clip", [0.0, 0.5, 1e9])
def test_gradients_are_clipped_as_a_loop_does(clip, each):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[1].bias.requires_grad_(False)
    for p, scale in zip(model.parameters(), (1.0, 3.0, 0.01, 0.0), strict=True):
        p.grad = scale * torch.randn_like(p) if p.requires_grad else None
    grads = [p.grad.double().numpy().copy() for p in model.parameters() if p.grad is not None]
    norms = [math.sqrt((g**2).sum()) for g in grads]
    whole = math.sqrt(sum(n**2 for n in norms))
    expected = []
    for grad, norm in zip(grads, norms, strict=True):
        factor = min(1.0, clip / ((norm if each else whole) + 1e-6)) if clip else 1.0
        expected.append(grad * factor)
    before = clip_gradients(model, Optimizer(clip=clip, clip_each=each))
    assert before.item() == pytest.approx(whole, rel=1e-6)
    for p, right in zip([p for p in model.parameters() if p.grad is not None], expected, strict=True):
        assert np.allclose(p.grad.numpy(), right, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("method.warm_epochs=-3", "warm_epochs must be at least 0, but is -3"),
        ("method.frozen_epochs=-1", "frozen_epochs must be at least 0"),
        ("method.teacher_temperature=0.9", "teacher_temperature must be between 0.0001 and 0.1, but is 0.9"),
        ("decoupling.weight=nan", "weight must be"),
        ("decoupling.share=2", "share must be between 0 and 1"),
        ("optimizer.clip=-1", "clip must be at least 0"),
        ("optimizer.lr=nan", "lr must be"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(change, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        read_recipe("ibot-d", "ibot-tiny", [change])


# ---- convolutional methods -----------------------------------------------------------------------


def test_a_resnet_sees_as_far_as_it_reaches_from_the_first_step_on():
    network = convnet_to_train("resnet50", seed=0).eval()
    image = torch.rand(1, 3, 160, 160, requires_grad=True)
    last_map(network, image)[0, :, 2, 2].square().sum().backward()
    reached = (image.grad[0].abs().sum(dim=0) > 0).nonzero()
    # Blocks that begin with nothing of their own would look no further than 35 px.
    assert reached.min().item() == 0
    assert reached.max().item() > 120
    last = [m for name, m in network.named_modules() if name.endswith("bn3")]
    assert len(last) == 16
    assert all((norm.weight == 1).all() for norm in last)


def test_maps_are_the_same_however_they_lie_in_memory():
    network = convnet_to_train("resnet26", seed=0, settings={"layers": (1, 1, 1, 1), "channels": (4, 4, 4, 8)}).eval()
    images = torch.rand(2, 3, 64, 64)
    found = last_map(network, images)
    assert network.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    plain = network.to(memory_format=torch.contiguous_format).forward_features(images)
    assert torch.allclose(found, plain, atol=1e-5)


def test_the_head_of_soco_has_the_authors_norms_and_ends_in_a_relu():
    head = RegionHead([4, 8, 8, 16], 8, 32)
    pyramid = [m for m in head.pyramid.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(pyramid) == 8
    maps = [torch.randn(2, c, s, s) for c, s in zip((4, 8, 8, 16), (32, 16, 8, 4), strict=True)]
    found = head(maps, torch.tensor([[[0.0, 0, 100, 100], [10, 20, 60, 128]]] * 2), (128, 128))
    assert (found >= 0).all()
    assert (found > 0).any()


def test_colours_of_the_third_view_of_soco():
    views = read_recipe("soco", "soco-coco-800ep").views
    assert [(view.blur, view.solarize) for view in views] == [(1.0, 0.0), (0.1, 0.2), (0.1, 0.2)]


def test_norms_over_all_gpus_keep_the_names_of_the_weights_and_are_socos_only():
    method = Decoupled(soco(), masking=RCC, share=0.5)
    names = set(method.state_dict())
    alone = SimpleNamespace(num_processes=1, device=torch.device("cuda"))
    synchronise_norms(method, alone)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in method.modules())
    together = SimpleNamespace(num_processes=8, device=torch.device("cuda"))
    synchronise_norms(method, together)
    assert set(method.state_dict()) == names
    assert not any(isinstance(module, nn.BatchNorm2d) for module in method.modules())
    other = densecl()
    synchronise_norms(other, together)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in other.modules()), "a key is shuffled instead"


# ---- MaskAlign -----------------------------------------------------------------------------------


def test_positions_of_maskalign_are_fixed_sines_and_cosines():
    options = {"img_size": 48, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2}
    network = vit_to_train("vit_tiny_patch16_224", seed=0, settings=options)
    fix_positions(network)
    held = network.pos_embed[0].double().numpy()
    assert not network.pos_embed.requires_grad
    assert (held[0] == 0).all(), "the class token has none"
    frequencies = [10_000 ** (-k / 8) for k in range(8)]
    for row in range(6):
        for column in range(6):
            # Which channel holds which wave is a matter of taste: the same numbers, in any order.
            slow = [f(place * w) for place in (row, column) for f in (math.sin, math.cos) for w in frequencies]
            assert np.allclose(np.sort(held[1 + row * 6 + column]), np.sort(slow), atol=1e-6)
    recipe = read_recipe("maskalign", "maskalign-coco-800ep")
    assert (recipe.optimizer.final_lr, recipe.optimizer.clip) == (1e-5, 0)


# ---- cutouts drawn ahead -------------------------------------------------------------------------


@METHODS
@pytest.mark.parametrize("first", [0, 4])
def test_cutouts_that_are_drawn_ahead_are_those_that_are_drawn_when_asked_for(make, first):
    method = Decoupled(make(), masking=RCC, share=0.5).eval()
    batch = shown_to(method, 8)
    part = slice(first, first + 4)
    own = replace(
        batch,
        crops=tuple(crop[part] for crop in batch.crops),
        recoloured=tuple(crop[part] for crop in batch.recoloured),
        boxes=tuple(boxes[part] for boxes in batch.boxes),
        first=first,
        total=8,
    )
    samples = [
        {
            "crops": [crop[n] for crop in own.crops],
            "recoloured": [],
            "local": [],
            "boxes": [boxes[n] for boxes in own.boxes],
            "broken": [],
            "step": 0,
        }
        for n in range(4)
    ]
    cutouts = tuple(method.cutouts([crop[:0] for crop in batch.crops]))
    ahead = Collation(cutouts, batch.stream.seed, first, 8)(samples)["cuts"]
    assert batch.stream == Stream(batch.stream.seed).child("step", 0)
    assert {cut.names[0] for cut in cutouts} <= {"view", "composite"}
    one, other = method.views(own), method.views(replace(own, cuts=ahead))
    for left, right in zip(one.keep, other.keep, strict=True):
        assert torch.equal(left, right)
    if cutouts:
        assert torch.equal(method.losses(one)["decoupling"], method.losses(other)["decoupling"])
    assert in_place(torch.ones(2), 1, 4).tolist() == [0, 1, 1, 0]


def test_drawn_ahead_are_all_cutouts_that_a_step_asks_for(monkeypatch):
    """What is not known ahead costs a wait of the GPU; of ours only MaskAlign's attention is not."""
    asked = []
    drawn = Masking.drawn
    monkeypatch.setattr(Masking, "drawn", lambda self, *a, **k: asked.append(a[2]) or drawn(self, *a, **k))
    method = Decoupled(ibot(), masking=RCC, share=0.5)
    method.losses(method.views(batch_of(4)))
    assert sorted(asked) == sorted(cut.names for cut in method.cutouts(batch_of(0, total=1).crops))
