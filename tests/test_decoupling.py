"""The laws of the de-coupling branch, on a toy method and on iBOT; iBOT's losses against loops in float64."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from couplingkit.errors import ArgumentError
from couplingkit.streams import Stream
from couplingkit.training.decoupling import Decoupled, chosen_rows, composites
from couplingkit.training.method import Batch, Masking, Progress, Views, mean_of_places
from couplingkit.training.methods.densecl import DenseCL, DenseCLSettings
from couplingkit.training.methods.ibot import IBOT, IBOTSettings, cross_entropy
from couplingkit.training.methods.maskalign import MaskAlign, MaskAlignSettings
from couplingkit.training.methods.soco import SoCo, SoCoSettings
from couplingkit.training.teacher import cosine, ema_update, warmed_up

RCC = Masking("rcc", 0.2, 0.6, spared=0.0)
TINY = IBOTSettings(
    architecture="vit_tiny_patch16_224",
    options={"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2},
    hidden=32,
    bottleneck=16,
    prototypes=24,
    drop_path=0.1,
    frozen_epochs=0,
    warm_epochs=2,
    masking=Masking("blockwise", 0.1, 0.5),
)
PROGRESS = Progress(step=3, steps=10, steps_per_epoch=5)


def batch_of(count, sizes=((32, 32), (32, 32)), *, seed=0, first=0, total=None):
    generator = torch.Generator().manual_seed(seed)
    total = count if total is None else total
    every = [torch.rand(total, 3, *size, generator=generator) for size in sizes]
    recoloured = [1 - crop for crop in every]
    part = slice(first, first + count)
    crops, others = (tuple(crop[part] for crop in views) for views in (every, recoloured))
    return Batch(crops, others, Stream(seed).child("step", 0), first, total)


class Toy(nn.Module):
    """The smallest X: one convolution per branch, mean squared disagreement."""

    def __init__(self, masking=RCC):
        super().__init__()
        torch.manual_seed(0)
        self.student = nn.Conv2d(3, 5, 8, 8)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.masking = masking
        self.shown = []

    def views(self, batch):
        grids = [(crop.shape[-2] // 8, crop.shape[-1] // 8) for crop in batch.crops]
        keep = tuple(self.masking.draw(batch, grid, "view", v) for v, grid in enumerate(grids))
        return Views(batch, keep, composed=tuple(range(len(keep))))

    def cutouts(self, crops):
        return []

    def composed_grids(self, crops):
        return {}

    def losses(self, views):
        parts = []
        for v, crop in enumerate(views.batch.crops):
            rows = torch.arange(len(crop))
            dense = self.student(crop).permute(0, 2, 3, 1)
            where = views.keep[v]
            parts.append(mean_of_places(self.disagreement(dense[where], self.targets(views, v, rows, where)), where))
        return {"dense": torch.cat(parts).mean()}

    def predict(self, images, keep, where, views, view, rows):
        self.shown.append((images, keep))
        return self.student(images).permute(0, 2, 3, 1)[where]

    def counted(self, keep, views, view, rows):
        return keep

    @torch.no_grad()
    def targets(self, views, view, rows, where):
        return self.teacher(views.batch.crops[view][rows]).permute(0, 2, 3, 1)[where]

    def disagreement(self, prediction, target):
        return ((prediction - target) ** 2).mean(dim=-1)

    def before_step(self, progress):
        pass

    def after_step(self, progress):
        ema_update(self.teacher, self.student, 0.9)


def toy():
    return Toy()


def ibot():
    return IBOT(TINY, seed=0).train()


# A ResNet of stride 8, so that 32 px have 4 x 4 cells.
SMALL_RESNET = {"layers": (1, 1, 1, 1), "channels": (4, 4, 4, 8), "output_stride": 8}
DENSECL = DenseCLSettings(
    architecture="resnet26", options=SMALL_RESNET, hidden=16, dimensions=12, queue=10, norm_group=2, momentum=0.9
)


def densecl():
    # Half of the queries cut, as within X-D.
    return DenseCL(replace(DENSECL, masking=Masking("rcc", 0.2, 0.6, spared=0.5)), seed=0).train()


SMALL_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
OTHER_VIT = "random:vit_tiny_patch16_224,img_size=32,patch_size=8,embed_dim=16,depth=2,num_heads=4"
MASKALIGN = MaskAlignSettings(
    architecture="vit_tiny_patch16_224", options=SMALL_VIT, teacher=OTHER_VIT, levels=2, masking=RCC
)


def maskalign():
    return MaskAlign(MASKALIGN, seed=0).train()


SOCO = SoCoSettings(
    architecture="resnet26",
    options={"layers": (1, 1, 1, 1), "channels": (4, 4, 4, 8)},
    proposals=3,
    pyramid=8,
    region=16,
    hidden=16,
    dimensions=12,
)


def soco():
    return SoCo(replace(SOCO, masking=Masking("rcc", 0.2, 0.6, spared=0.5)), seed=0).train()


def shown_to(method, count, *, seed=0):
    """A batch of the kind that a method asks for."""
    if not isinstance(getattr(method, "inner", method), SoCo):
        return batch_of(count, seed=seed)
    batch = batch_of(count, ((96, 96), (96, 96), (64, 64)), seed=seed)
    draws = torch.rand(count, 3, 4, generator=torch.Generator().manual_seed(seed))
    whole = torch.cat([draws[..., :2] * 0.4, 0.6 + draws[..., 2:] * 0.4], dim=-1)
    return replace(batch, boxes=(whole * 96, whole * 96, whole * 64))


METHODS = pytest.mark.parametrize("make", [toy, ibot, densecl, soco, maskalign])


def train(method, steps=4, count=6):
    """Weights and losses of some steps."""
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for step in range(steps):
        progress = Progress(step, steps, 2)
        torch.manual_seed(step)
        method.before_step(progress)
        found = method.losses(method.views(shown_to(method, count, seed=step)))
        optimizer.zero_grad()
        sum(found.values()).backward()
        optimizer.step()
        method.after_step(progress)
        losses.append({name: value.item() for name, value in found.items()})
    return losses, [p.detach().clone() for p in method.parameters()]


@METHODS
def test_weight_0_is_x_bit_for_bit(make):
    plain, wrapped = train(make()), train(Decoupled(make(), masking=RCC, weight=0))
    assert plain[0] == wrapped[0]
    assert all(torch.equal(one, other) for one, other in zip(plain[1], wrapped[1], strict=True))
    changed = train(Decoupled(make(), masking=RCC))
    assert changed[0][0].items() >= plain[0][0].items(), "X's own losses of the first step are X's"
    assert any(not torch.equal(one, other) for one, other in zip(plain[1], changed[1], strict=True))


@METHODS
def test_the_wrapper_has_no_parameters_of_its_own(make):
    inner = make()
    assert {id(p) for p in Decoupled(inner, masking=RCC).parameters()} == {id(p) for p in inner.parameters()}


@METHODS
@pytest.mark.parametrize("share", [0.0, 0.01])
def test_no_composites_is_no_crash(make, share):
    method = Decoupled(make(), masking=RCC, share=share)
    found = method.losses(method.views(shown_to(method, 6)))
    assert found["decoupling"] == 0
    sum(found.values()).backward()


@METHODS
def test_a_batch_of_one_has_no_donor(make):
    method = Decoupled(make(), masking=RCC, share=1.0)
    assert method.losses(method.views(shown_to(method, 1)))["decoupling"] == 0


def test_rows_are_spread_and_do_not_depend_on_the_processes():
    for share in (0.1, 0.25, 0.5, 1 / 3, 1.0):
        whole = chosen_rows(0, 60, share).tolist()
        assert len(whole) == int(60 * share + 1e-6)
        parts = [row + first for first in range(0, 60, 12) for row in chosen_rows(first, 12, share).tolist()]
        assert parts == whole


@pytest.mark.parametrize("count", [2, 3, 7, 8])
def test_composites_keep_pixels_and_take_others_from_another_image(count):
    batch = batch_of(count, ((32, 48), (32, 48)))
    rows = torch.arange(count)
    keep = RCC.draw(batch, (4, 6), "x")
    made = composites(batch, 0, rows, keep)
    pixels = keep.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None].expand(-1, 3, -1, -1)
    assert torch.equal(made[pixels], batch.recoloured[0][pixels])
    for row in range(count):
        others = [
            other
            for other in range(count)
            if torch.equal(made[row][~pixels[row]], batch.recoloured[1][other][~pixels[row]])
        ]
        assert len(others) == 1
        assert others[0] != row, "the donor never is the image itself"


def test_every_other_composite_shows_the_complement_and_only_the_student_sees_composites():
    inner = toy()
    method = Decoupled(inner, masking=RCC, share=0.5)
    batch = batch_of(8)
    views = method.views(batch)
    method.losses(views)
    rows = chosen_rows(0, 8, 0.5)
    for view, (images, keep) in enumerate(inner.shown):
        drawn = RCC.draw(batch, (4, 4), "composite", view)[rows]
        assert torch.equal(keep[0::2], drawn[0::2])
        assert torch.equal(keep[1::2], ~drawn[1::2])
        # Coloured apart from what the teacher sees.
        pixels = keep.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None].expand(-1, 3, -1, -1)
        assert torch.equal(images[pixels], batch.recoloured[view][rows][pixels])


def test_a_cutout_that_keeps_everything_is_the_ordinary_loss_of_the_same_view():
    inner = toy()
    batch = batch_of(4)
    same = Batch(batch.crops, batch.crops, batch.stream, 0, 4)
    method = Decoupled(inner, masking=Masking("rcc", 0, 0, spared=1.0), weight=1.0, share=0.5)
    whole = torch.ones(2, 4, 4, dtype=torch.bool)
    views = method.views(same)
    found = method.losses(views)
    rows = chosen_rows(0, 4, 0.5)
    expected = []
    for view in range(2):
        # The second composite shows the complement of everything: nothing is kept, and nothing is asked.
        dense = inner.student(batch.crops[view][rows]).permute(0, 2, 3, 1)
        loss = mean_of_places(inner.disagreement(dense[whole], inner.targets(views, view, rows, whole)), whole)
        expected += [loss[0], torch.zeros(())]
    assert found["decoupling"].item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-6)


@METHODS
def test_the_teacher_gets_no_gradient_and_shares_no_storage(make):
    inner = make()
    method = Decoupled(inner, masking=RCC, share=0.5)
    sum(method.losses(method.views(shown_to(method, 6))).values()).backward()
    assert all(p.grad is None for p in inner.teacher.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in inner.student.parameters())
    storages = {p.untyped_storage().data_ptr() for p in inner.student.parameters()}
    assert not storages & {p.untyped_storage().data_ptr() for p in inner.teacher.parameters()}


def cells_kept(method, batch, view):
    return torch.ones_like(method.views(batch).keep[view])


@METHODS
def test_perturbing_the_teacher_changes_the_targets_and_the_student_does_not(make):
    inner = make()
    inner.eval()
    batch, rows = shown_to(inner, 4), torch.arange(4)
    view = inner.views(batch).composed[0]
    asked = (view, rows, torch.ones_like(inner.counted(cells_kept(inner, batch, view), inner.views(batch), view, rows)))
    before = inner.targets(inner.views(batch), *asked)
    with torch.no_grad():
        for p in inner.student.parameters():
            p.add_(0.1)
    assert torch.equal(before, inner.targets(inner.views(batch), *asked))
    with torch.no_grad():
        for p in inner.teacher.parameters():
            p.add_(0.1 * torch.randn_like(p))
    assert not torch.equal(before, inner.targets(inner.views(batch), *asked))
    again = inner.views(batch)
    assert torch.equal(inner.targets(again, *asked), inner.targets(again, *asked)), "no side effect"


def test_donor_cells_get_no_gradient_in_a_vit():
    method = ibot().eval()
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    keep = RCC.draw(batch_of(2), (4, 4), "x")
    batch = batch_of(2)
    method.predict(images, keep, keep, method.views(batch), 0, torch.arange(2)).square().sum().backward()
    pixels = keep.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None].expand(-1, 3, -1, -1)
    assert (images.grad[~pixels] == 0).all()
    assert (images.grad[pixels] != 0).any()


def test_views_do_not_depend_on_the_number_of_processes():
    whole = ibot().views(batch_of(8)).keep
    parts = [ibot().views(batch_of(4, first=first, total=8)).keep for first in (0, 4)]
    for view in range(2):
        assert torch.equal(whole[view], torch.cat([part[view] for part in parts]))


def test_two_processes_lose_what_one_loses_with_twice_the_batch():
    method = Decoupled(ibot(), masking=RCC).eval()
    whole = method.losses(method.views(batch_of(8)))
    parts = [method.losses(method.views(batch_of(4, first=first, total=8))) for first in (0, 4)]
    for name, value in whole.items():
        assert np.mean([part[name].item() for part in parts]) == pytest.approx(value.item(), abs=1e-5)


def soft(values, temperature):
    exponents = [math.exp(value / temperature) for value in values]
    return [value / sum(exponents) for value in exponents]


def slow_cross_entropy(logits, target, temperature):
    return -sum(t * math.log(p) for t, p in zip(target, soft(logits, temperature), strict=True))


def test_ibot_against_loops_in_float64():
    method = ibot().eval()
    method.before_step(PROGRESS)
    with torch.no_grad():
        method.class_centre.normal_(std=0.1)
        method.cell_centre.normal_(std=0.1)
        for p in method.teacher.parameters():
            p.add_(0.02 * torch.randn_like(p))
    views = method.views(batch_of(5))
    found = method.losses(views)
    numbers = {}
    for name, branch in (("student", method.student), ("teacher", method.teacher)):
        for v, crop in enumerate(views.batch.crops):
            feature, cells = branch(crop, keep=views.keep[v] if name == "student" else None)
            numbers[name, v] = [branch.head(part).detach().double().numpy() for part in (feature, cells)]
    centres = [centre.double().numpy() for centre in (method.class_centre, method.cell_centre)]
    temperature = 0.04 + min((3 / 5) / 2, 1) * (0.07 - 0.04)
    assert method.temperature == pytest.approx(temperature)
    between = [
        slow_cross_entropy(
            numbers["student", v][0][image], soft(numbers["teacher", q][0][image] - centres[0], temperature), 0.1
        )
        for q in range(2)
        for v in range(2)
        if v != q
        for image in range(5)
    ]
    assert found["class"].item() == pytest.approx(np.mean(between), rel=1e-5)
    within = []
    for v in range(2):
        for image in range(5):
            cut = np.argwhere(~views.keep[v][image].numpy())
            each = [
                slow_cross_entropy(
                    numbers["student", v][1][image, row, column],
                    soft(numbers["teacher", v][1][image, row, column] - centres[1], temperature),
                    0.1,
                )
                for row, column in cut
            ]
            within.append(np.mean(each) if each else 0.0)
    assert any(within)
    assert found["cells"].item() == pytest.approx(np.mean(within), rel=1e-5)


def test_cut_cells_are_not_seen_and_kept_ones_are():
    method = ibot().eval()
    images = torch.rand(2, 3, 32, 32)
    keep = torch.ones(2, 4, 4, dtype=torch.bool)
    keep[:, 1, 2] = False
    changed = images.clone()
    changed[:, :, 8:16, 16:24] = 0.3
    one, other = (method.student(picture, keep=keep)[1] for picture in (images, changed))
    assert torch.equal(one, other)
    changed[:, :, :8, :8] = 0.3
    assert not torch.equal(one, method.student(changed, keep=keep)[1])


def test_the_teacher_and_the_centres_follow_their_schedules_exactly():
    method = ibot()
    before = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(1.0)
    views = method.views(batch_of(4))
    method.before_step(PROGRESS)
    method.losses(views)
    means = [method.teacher.head(method.teacher(crop)[1]).mean(dim=(0, 1, 2)) for crop in views.batch.crops]
    method.after_step(PROGRESS)
    momentum = 1 - (1 - 0.996) * (1 + math.cos(math.pi * 0.3)) / 2
    for old, new, student in zip(before, method.teacher.parameters(), method.student.parameters(), strict=True):
        assert torch.allclose(new, momentum * old + (1 - momentum) * student, atol=1e-6)
    assert torch.allclose(method.cell_centre, 0.1 * torch.stack(means).mean(dim=0), atol=1e-6)


def test_the_last_layer_is_held_at_first():
    settings = {**vars(TINY), "frozen_epochs": 1}
    method = IBOT(IBOTSettings(**settings), seed=0).train()
    for step, held in ((0, True), (4, True), (5, False)):
        method.zero_grad(set_to_none=True)
        method.before_step(Progress(step, 10, 5))
        sum(method.losses(method.views(batch_of(4))).values()).backward()
        assert (method.student.head.prototypes.grad is None) == held


def test_schedules_and_bad_settings():
    assert cosine(0.04, 0.4, 0.5) == pytest.approx(0.22)
    assert warmed_up(0.0, 1.0, 0.1, step=100, warmup=10, steps=100) == pytest.approx(0.1)
    with pytest.raises(ArgumentError, match="multiple of 8"):
        ibot().views(batch_of(2, ((30, 32), (30, 32))))
    with pytest.raises(ArgumentError, match="low must be"):
        Masking("rcc", 0.5, 0.2)
    with pytest.raises(ArgumentError, match="share must be"):
        Decoupled(toy(), masking=RCC, share=1.5)
    assert cross_entropy(torch.zeros(3), torch.full((3,), 1 / 3), 1.0).item() == pytest.approx(math.log(3))


def test_same_seed_same_network_and_colours_do_not_matter_to_x():
    one, other = ibot(), ibot()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), IBOT(TINY, seed=1).parameters(), strict=True))
    batch = batch_of(4)
    plain = Batch(batch.crops, batch.crops, batch.stream, 0, 4)
    assert {n: v.item() for n, v in one.eval().losses(one.views(batch)).items()} == {
        n: v.item() for n, v in one.losses(one.views(plain)).items()
    }
