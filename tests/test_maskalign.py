"""MaskAlign: its loss against loops, which tokens a student sees and what they cost, what a frozen teacher is."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from couplingkit.errors import ArgumentError
from couplingkit.features.sources.timm_training import (
    class_attention,
    embed_cells,
    run_tokens,
    token_levels,
    vit_to_train,
)
from couplingkit.streams import Stream
from couplingkit.training.decoupling import Decoupled
from couplingkit.training.method import Batch, Masking, Progress
from couplingkit.training.methods.maskalign import MaskAlign, MaskAlignSettings, chosen_cells, whitened
from couplingkit.training.optimizers import build_optimizer
from couplingkit.training.recipe import Optimizer

SMALL_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
TEACHER = "random:vit_tiny_patch16_224,img_size=32,patch_size=8,embed_dim=16,depth=3,num_heads=4"
SMALL = MaskAlignSettings(architecture="vit_tiny_patch16_224", options=SMALL_VIT, teacher=TEACHER, levels=2)
RCC = Masking("rcc", 0.7, 0.7, spared=0.0)


def maskalign(**changes):
    return MaskAlign(replace(SMALL, **changes), seed=0).train()


def batch_of(count, px=32, *, first=0, total=None, views=1):
    generator = torch.Generator().manual_seed(0)
    crops = tuple(torch.rand(total or count, 3, px, px, generator=generator) for _ in range(views))
    own = tuple(crop[first : first + count] for crop in crops)
    return Batch(own, own, Stream(0).child("step", 0), first, total or count)


@pytest.mark.parametrize("kept", [0.2, 0.5, 1.0])
def test_the_loss_against_loops(kept):
    method = maskalign(kept=kept, drop_path=0.0)
    views = method.views(batch_of(2))
    found = method.losses(views)["tokens"].item()
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    own = (views.batch.crops[0] - mean) / std
    shown = (views.batch.crops[0] - 0.5) / 0.5  # as timm's vit_tiny is normalised
    mixing = method.alignment.mixing.view(3, 3)
    of_images = []
    with torch.no_grad():
        for image in range(2):
            chosen = views.keep[0][image].flatten().nonzero()[:, 0]
            # A student that never saw the others: its positions are those of the kept ones.
            tokens = method.student._pos_embed(embed_cells(method.student, own[image : image + 1]))
            tokens = tokens[:, [0, *(chosen + 1).tolist()]]
            levels = []
            for block in method.student.blocks:
                tokens = block(tokens)
                levels.append(tokens[0])
            targets = token_levels(method.teacher, shown[image : image + 1])[1:]
            parts = []
            for place, level in enumerate((1, 2)):
                mixed = sum(mixing[level, other].item() * levels[other] for other in range(3))
                aligned = method.alignment.heads[place](mixed)
                for row, cell in enumerate([0, *(chosen + 1).tolist()]):
                    target = targets[level][0, cell].numpy().astype(np.float64)
                    target = (target - target.mean()) / np.sqrt(target.var() + 1e-5)
                    for one, other in zip(aligned[row].tolist(), target, strict=True):
                        gap = abs(one - other)
                        parts.append(2 * (0.5 * gap * gap if gap < 1 else gap - 0.5))
            of_images.append(np.mean(parts))
    assert found == pytest.approx(np.mean(of_images), abs=1e-4)


def test_targets_are_white_and_a_third_of_the_real_grid_is_58_cells():
    tokens = whitened(torch.randn(2, 7, 3, 40) * 5 + 2)
    assert torch.allclose(tokens.mean(dim=-1), torch.zeros(2, 7, 3), atol=1e-5)
    assert torch.allclose(tokens.var(dim=-1, unbiased=False), torch.ones(2, 7, 3), atol=1e-3)
    options = {"embed_dim": 24, "depth": 2, "num_heads": 2}
    teacher = "random:vit_tiny_patch16_224,embed_dim=16,depth=2,num_heads=4"
    method = MaskAlign(replace(SMALL, options=options, teacher=teacher), seed=0)
    keep = method.views(batch_of(2, px=224)).keep[0]
    assert keep.shape == (2, 14, 14)
    assert keep.sum(dim=(1, 2)).tolist() == [58, 58]


def test_cells_are_drawn_by_the_teachers_attention_and_without_replacement():
    """Against the shares of a softmax in loops; and over many draws, what is looked at more is kept more often."""
    method = maskalign(kept=0.25)
    with torch.no_grad():  # random weights look everywhere alike
        method.teacher.blocks[-1].attn.qkv.weight.mul_(30)
    shown = (batch_of(1).crops[0] - 0.5) / 0.5
    before = token_levels(method.teacher, shown)[-2]
    attention = class_attention(method.teacher, before)[0]
    block = method.teacher.blocks[-1]
    projected = block.attn.qkv(block.norm1(before))[0].reshape(17, 3, 4, 4).detach().double().numpy()
    shares = np.zeros(16)
    for head in range(4):
        scores = [float(projected[0, 0, head] @ projected[key, 1, head]) / math.sqrt(4) for key in range(17)]
        weights = np.exp(scores)
        shares += weights[1:] / weights.sum() / 4
    assert attention.tolist() == pytest.approx(shares.tolist(), abs=1e-5)
    assert attention.max() > 2 * attention.min()
    counts = torch.zeros(16)
    crops = batch_of(1).crops
    for step in range(400):
        batch = Batch(crops, crops, Stream(step), 0, 1)
        keep = method.views(batch).keep[0][0].flatten()
        assert keep.sum() == 4
        counts += keep
    # The first one drawn follows the shares; of four without replacement, the order stays.
    assert np.corrcoef(counts.numpy(), attention.detach().numpy())[0, 1] > 0.5


def test_rcc_chooses_first_and_chance_fills_up():
    generator = torch.Generator().manual_seed(0)
    first = torch.zeros(3, 4, 4, dtype=torch.bool)
    first[0, :2] = True  # 8 cells
    first[1, 0, :2] = True  # 2 cells
    chosen = chosen_cells(first, 5, generator)
    assert chosen.shape == (3, 5)
    assert (chosen[0] < 8).all()
    assert {0, 1} <= set(chosen[1].tolist())
    assert all(len(set(row.tolist())) == 5 and row.tolist() == sorted(row.tolist()) for row in chosen)


@pytest.mark.parametrize("cutting", [None, RCC])
def test_choices_do_not_depend_on_the_number_of_processes(cutting):
    method = maskalign(masking=cutting)
    whole = method.views(batch_of(6)).keep[0]
    parts = [method.views(batch_of(3, first=first, total=6)).keep[0] for first in (0, 3)]
    assert torch.equal(whole, torch.cat(parts))


def test_a_student_that_sees_a_third_costs_less_than_half():
    """Operations, not seconds: those of a ViT-S/16 at 224 px."""
    network = vit_to_train("vit_small_patch16_224", seed=0)
    cells = torch.zeros(1, 14, 14, 384)
    chosen = torch.arange(0, 58)[None]
    flops = []
    for part in (None, chosen):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run_tokens(network, cells, part)
        flops.append(counter.get_total_flops())
    assert flops[1] / flops[0] < 0.45


def test_no_gradient_reaches_the_teacher_or_the_final_norm_and_the_mixing_has_no_decay():
    method = Decoupled(maskalign(masking=RCC), masking=Masking("rcc", 0.2, 0.6, spared=0.0), share=0.5)
    found = method.losses(method.views(batch_of(4)))
    assert set(found) == {"tokens", "decoupling"}
    sum(found.values()).backward()
    inner = method.inner
    assert all(p.grad is None for p in (*inner.teacher.parameters(), *inner.student.norm.parameters()))
    assert inner.alignment.mixing.grad.abs().sum() > 0
    start = inner.alignment.mixing.detach().view(3, 3)
    assert torch.allclose(start, torch.eye(3) + 0.01)
    optimizer = build_optimizer(method, Optimizer())
    free = {id(p) for group in optimizer.param_groups if not group["decayed"] for p in group["params"]}
    assert id(inner.alignment.mixing) in free
    before = [p.clone() for p in inner.teacher.parameters()]
    optimizer.step()
    method.after_step(Progress(0, 10, 5))
    assert all(torch.equal(one, other) for one, other in zip(before, inner.teacher.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"teacher": TEACHER.replace("depth=3", "depth=2")}, "ViT of 3 blocks"),
        ({"teacher": "random:test_resnet"}, "ViT of 3 blocks"),
        ({"levels": 4}, "at most the 3 blocks"),
        ({"kept": 0.0}, "kept"),
    ],
)
def test_bad_settings(changes, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        maskalign(**changes)


def test_views_and_cells_of_another_size_are_refused():
    with pytest.raises(ArgumentError, match="is shown 32 x 32 px, but the view has 48 x 48"):
        maskalign().views(batch_of(2, px=48))
    other = maskalign(teacher=TEACHER.replace("patch_size=8", "patch_size=16"))
    with pytest.raises(ArgumentError, match="cells must be of one size"):
        other.views(batch_of(2))
