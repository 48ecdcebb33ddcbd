"""Heads are what they say (torchvision's and transformers' weights give their numbers), and training is the loop's."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from couplingkit.data.detection import LabelledDetections, SceneDetections
from couplingkit.data.semantic import ScenePhotos
from couplingkit.errors import ArgumentError, BackboneError, DataError
from couplingkit.features.sources.timm_training import level_maps, take_any_size
from couplingkit.training.batch import Progress
from couplingkit.training.checkpoint import checkpoints_of
from couplingkit.training.job import Place
from couplingkit.training.loop import TrainSettings, run_job
from couplingkit.training.optimizers import build_optimizer, schedule
from couplingkit.training.sampling import GroupedSampler
from couplingkit.training.settings import Optimizer
from couplingkit.transfer.cascade import CascadeHeads
from couplingkit.transfer.jobs import DetectJob, Pretrained, SegmentJob
from couplingkit.transfer.photo_views import ShownPhotos, collated, groups_of
from couplingkit.transfer.predicting import detect, segment, windows
from couplingkit.transfer.rcnn import build_detector
from couplingkit.transfer.recipe import read_fine_tune_recipe, recipe_names, recipe_status
from couplingkit.transfer.settings import BackboneUse, DetectHead, DetectPhotos, SegmentHead, SegmentPhotos
from couplingkit.transfer.upernet import ConvolutionalHead, UperNetHead, build_segmenter

CPU = TrainSettings(device="cpu")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SMALL = ["run.steps=4", "run.batch_size=2", "run.checkpoint_every=2"]


def vit(depth=4, **settings):
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, img_size=64, patch_size=8, embed_dim=32, depth=depth, num_heads=2,
        **settings,
    ).eval()  # fmt: skip


def pretrained(network=None):
    facts = {
        "architecture": "vit_tiny_patch16_224",
        "options": {"img_size": "64", "patch_size": "8"},
        "norm": "applied",
    }
    return Pretrained(network or vit(), *HALF, facts)


@pytest.fixture(scope="module")
def photos():
    return SceneDetections(ScenePhotos(12, seed=7))


def photo(height=120, width=160, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


# --- recipes


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_read_and_write(name, tmp_path):
    task, status = recipe_status(name)
    recipe = read_fine_tune_recipe(task, name)
    path = tmp_path / "again.toml"
    path.write_text(recipe.toml())
    assert read_fine_tune_recipe(task, str(path)) == recipe
    assert status == "not run" or "tiny" in name
    with pytest.raises(ArgumentError, match="is for the task"):
        read_fine_tune_recipe("segment" if task == "detect" else "detect", name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("head.neck=fnp", "head.neck must be one of"),
        ("backbone.levels=[3, 1]", "must ascend"),
        ("photos.flip=2", "flip"),
        ("head.scale=[1]", "no key 'scale'"),
        ("optimizer.schedule=linear", "optimizer.schedule must be one of"),
        ("head.scales=[3.0]", "head.scales"),
        ("optimizer.milestones=[2.0]", "milestones"),
        ("photos.sides=[]", "photos.sides"),
    ],
)
def test_recipes_out_of_range_are_refused(change, said):
    with pytest.raises(ArgumentError, match=said.replace("[", r"\[")):
        read_fine_tune_recipe("detect", "detect-tiny", [change])


def test_c4_has_no_masks_here():
    with pytest.raises(ArgumentError, match="one stage"):
        read_fine_tune_recipe("detect", "voc-c4", ["head.masks=true"])


# --- schedules and layers


def test_schedules_are_those_of_the_field():
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    optimizer = torch.optim.SGD([{"params": [parameter], "decayed": True, "scale": 1.0, "backbone": False}], lr=1)

    def rates(settings, steps):
        return [schedule(optimizer, Progress(step, steps, 10), settings)[0] for step in range(steps)]

    steps = Optimizer("sgd", lr=0.02, schedule="steps", milestones=(0.75, 11 / 12), warmup_steps=2, warmup_start=0.5)
    found = rates(steps, 24)
    assert found[:3] == pytest.approx([0.01, 0.015, 0.02])
    assert [found[17], found[18], found[21], found[22]] == pytest.approx([0.02, 0.002, 0.002, 0.0002])
    poly = Optimizer(lr=1.0, final_lr=0.0, schedule="poly", warmup_epochs=0)
    assert rates(poly, 4) == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_layers_learn_at_rates_that_fall_towards_the_first(photos):
    job = DetectJob(read_fine_tune_recipe("detect", "detect-tiny", SMALL), pretrained(), photos)
    objective = job.build()
    optimizer = build_optimizer(objective, job.optimizer)
    named = {id(parameter): name for name, parameter in objective.named_parameters()}
    scale = {named[id(p)]: group["scale"] for group in optimizer.param_groups for p in group["params"]}
    of = [scale[f"detector.backbone.reader.network.blocks.{number}.attn.qkv.weight"] for number in range(4)]
    assert of == pytest.approx([0.8 ** (4 - number) for number in range(4)])
    assert scale["detector.backbone.reader.network.patch_embed.proj.weight"] == pytest.approx(0.8**5)
    assert scale["detector.roi_heads.box_head.fc6.weight"] == 1.0


def test_a_vit_takes_any_size_as_one_that_was_built_for_it():
    built, made = vit(dynamic_img_size=True), vit()
    take_any_size(made)
    for size in ((64, 64), (48, 96)):
        images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
        for one, other in zip(level_maps(built, images, [1, 3]), level_maps(made, images, [1, 3]), strict=True):
            assert torch.equal(one, other)


# --- against other implementations


def test_a_mask_rcnn_gives_torchvisions_numbers_on_torchvisions_weights():
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    torch.manual_seed(3)
    options = {"min_size": 96, "max_size": 160, "box_score_thresh": 0.02}
    theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=6, **options).eval()
    ours = build_detector(
        timm.create_model("resnet50", num_classes=0),
        normalisation=IMAGENET,
        classes=5,
        use=BackboneUse(),
        head=DetectHead(neck_norm=False),
        photos=DetectPhotos(test_side=96, test_longest=160),
        seed=0,
    ).eval()
    ours.roi_heads.score_thresh = 0.02
    weights = {
        name.replace("backbone.body.", "backbone.reader.network.").replace("backbone.fpn.", "backbone.neck."): value
        for name, value in theirs.state_dict().items()
    }
    ours.load_state_dict(weights)
    for size in ((120, 160), (150, 90)):
        pixels = photo(*size)
        (want,) = theirs([torch.from_numpy(pixels).permute(2, 0, 1) / 255])
        found = detect(ours, pixels)
        corners = want["boxes"].detach().double().numpy()
        assert len(found.scores) == len(corners) > 5
        np.testing.assert_allclose(found.scores, want["scores"].detach().numpy(), atol=1e-5)
        np.testing.assert_allclose(found.boxes[:, :2], corners[:, :2], atol=1e-5 * max(size))
        np.testing.assert_allclose(found.boxes[:, 2:], corners[:, 2:] - corners[:, :2], atol=2e-5 * max(size))
        assert (found.labels + 1 == want["labels"].numpy()).all()
        assert [rle["size"] for rle in found.rles] == [list(size)] * len(corners)


def test_torchvisions_detector_through_our_reader_is_torchvisions():
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    torch.manual_seed(1)
    model = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, box_score_thresh=0.01).eval()
    pixels = photo(90, 130)
    (want,) = model([torch.from_numpy(pixels).permute(2, 0, 1) / 255])
    found = detect(model, pixels)
    assert len(found.scores) == len(want["scores"]) > 0
    np.testing.assert_allclose(found.scores, want["scores"].detach().numpy(), atol=1e-6)


def ported(theirs, ours):
    """Load transformers' UperNet head into ours, by the order in which both are put together."""

    def pairs():
        yield theirs.classifier, ours.classes
        for number, block in enumerate(theirs.psp_modules.blocks):
            yield block.layers[1], ours.pooled[number][1]
        yield theirs.bottleneck, ours.joined
        yield theirs.fpn_bottleneck, ours.fused
        for number in range(3):
            yield theirs.lateral_convs[number], ours.lateral[number]
            yield theirs.fpn_convs[number], ours.smoothed[number]

    for source, target in pairs():
        for one, other in zip(source.state_dict().values(), target.state_dict().values(), strict=True):
            other.copy_(one)


def test_upernet_gives_transformers_numbers_on_transformers_weights():
    from transformers import UperNetConfig
    from transformers.models.upernet.modeling_upernet import UperNetFCNHead
    from transformers.models.upernet.modeling_upernet import UperNetHead as TheirHead

    torch.manual_seed(0)
    widths = [8, 12, 16, 24]
    config = UperNetConfig(
        backbone_config={"model_type": "resnet", "out_features": ["stage1"]},
        hidden_size=10, num_labels=5, auxiliary_channels=6, auxiliary_num_convs=1, auxiliary_in_channels=16,
    )  # fmt: skip
    theirs, beside = TheirHead(config, widths), UperNetFCNHead(config, widths)
    for module in (*theirs.modules(), *beside.modules()):
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    ours, ours_beside = UperNetHead(widths, 10, 5).eval(), ConvolutionalHead(16, 6, 5).eval()
    with torch.no_grad():
        ported(theirs, ours)
        for source, target in ((beside.convs[0], ours_beside.layers[0]), (beside.classifier, ours_beside.layers[2])):
            for one, other in zip(source.state_dict().values(), target.state_dict().values(), strict=True):
                other.copy_(one)
        maps = [torch.randn(2, width, 24 // 2**k, 36 // 2**k) for k, width in enumerate(widths)]
        want, want_beside = theirs.eval()(maps), beside.eval()(maps)
        assert torch.allclose(ours(maps), want, atol=1e-5)
        assert torch.allclose(ours_beside(maps[2]), want_beside, atol=1e-5)


# --- heads


def test_every_neck_takes_photos_of_any_shape_and_learns():
    few = {"hidden": 16, "mask_channels": 8, "samples": 16, "proposals": 40, "masks": True}
    wanted = {
        "simple": (vit(), DetectHead("simple", (2.0, 1.0, 0.5), 16, **few)),
        "blocks": (vit(), DetectHead("blocks", channels=16, cascade=True, **few)),
        "c4": (timm.create_model("resnet18", num_classes=0), DetectHead("c4", **{**few, "masks": False})),
        "fpn": (timm.create_model("resnet18", num_classes=0), DetectHead("fpn", channels=16, cascade=True, **few)),
    }  # fmt: skip
    boxes = torch.tensor([[10.0, 12.0, 50.0, 60.0], [60.0, 20.0, 90.0, 80.0]])
    masks = torch.zeros(2, 100, 100, dtype=torch.uint8)
    masks[0, 12:60, 10:50] = masks[1, 20:80, 60:90] = 1
    for name, (network, head) in wanted.items():
        detector = build_detector(
            network, normalisation=HALF, classes=3, use=BackboneUse(), head=head,
            photos=DetectPhotos((96,), 128, 96, 128), seed=0,
        )  # fmt: skip
        target = {"boxes": boxes.clone(), "labels": torch.tensor([1, 2]), "masks": masks}
        torch.manual_seed(0)
        losses = detector.train()(
            [torch.rand(3, 100, 100), torch.rand(3, 70, 100)], [target, {k: v[:0] for k, v in target.items()}]
        )
        assert all(torch.isfinite(loss) for loss in losses.values()), name
        sum(losses.values()).backward()
        lost = [key for key, value in detector.named_parameters() if value.grad is None and "network" not in key]
        assert lost == [], name
        assert ("loss_classifier_2" in losses) == head.cascade
        found = detect(detector.eval(), photo(90, 150))
        assert (found.boxes >= 0).all() and (found.boxes[:, :2] + found.boxes[:, 2:] <= [150.001, 90.001]).all()
        assert (found.rles is not None) == head.masks


def test_a_cascade_that_corrects_nothing_gives_its_proposals_with_the_mean_of_its_scores():
    torch.manual_seed(0)
    detector = build_detector(
        vit(), normalisation=HALF, classes=2, use=BackboneUse(),
        head=DetectHead("simple", (1.0, 0.5), 8, hidden=8, cascade=True, masks=False),
        photos=DetectPhotos((64,), 64, 64, 64), seed=0,
    ).eval()  # fmt: skip
    heads = detector.roi_heads
    assert isinstance(heads, CascadeHeads)
    for stage in heads.stages:
        torch.nn.init.zeros_(stage.correction.weight)
        torch.nn.init.zeros_(stage.correction.bias)
    shares = [torch.tensor([0.1, 0.7, 0.2]), torch.tensor([0.3, 0.1, 0.6]), torch.tensor([0.2, 0.1, 0.7])]
    for stage, share in zip(heads.stages, shares, strict=True):
        torch.nn.init.zeros_(stage.scores.weight)
        stage.scores.bias.data = share.log()
    proposals = [torch.tensor([[4.0, 6.0, 30.0, 40.0]])]
    maps = {str(k): torch.rand(1, 8, 8 // 2**k, 8 // 2**k) for k in range(3)}
    (found,), losses = heads(maps, proposals, [(64, 64)])
    mean = torch.stack(shares).mean(dim=0)[1:]
    assert losses == {}
    assert torch.allclose(found["boxes"], proposals[0].expand(2, 4), atol=1e-4)
    assert torch.allclose(found["scores"].sort().values, mean.sort().values, atol=1e-6)


def test_what_does_not_fit_is_said():
    options = {"normalisation": HALF, "classes": 2, "use": BackboneUse(), "photos": DetectPhotos(), "seed": 0}
    with pytest.raises(BackboneError, match="'fpn' is not for VisionTransformer; take simple or blocks"):
        build_detector(vit(), head=DetectHead("fpn"), **options)
    with pytest.raises(BackboneError, match="take fpn or c4"):
        build_detector(timm.create_model("resnet18", num_classes=0), head=DetectHead("simple"), **options)
    with pytest.raises(BackboneError, match="'c4' is for ResNets"):
        network = timm.create_model("mobilenetv2_050", num_classes=0)
        build_detector(network, head=DetectHead("c4", masks=False), **options)
    fourteen = timm.create_model(
        "vit_small_patch14_dinov2", num_classes=0, img_size=56, depth=2, embed_dim=32, num_heads=2
    )
    with pytest.raises(ArgumentError, match="whole strides"):
        build_detector(fourteen, head=DetectHead("simple"), **options)
    build_detector(fourteen, head=DetectHead("simple", (2.0, 1.0, 0.5)), **options)
    with pytest.raises(ArgumentError, match="must be below 4"):
        build_detector(vit(), head=DetectHead("simple"), **{**options, "use": BackboneUse(levels=(9,))})


def test_windows_cover_a_side_once_at_least_and_end_at_its_end():
    for length in range(1, 200):
        found = windows(length, 60, 40)
        covered = np.zeros(length)
        for begin, end in found:
            assert end - begin == min(60, length)
            covered[begin:end] += 1
        assert (covered > 0).all() and found[-1][1] == length


def test_a_segmenter_that_knows_its_colours_is_right_at_the_photos_own_pixels():
    """Where scores are the picture itself, windows and sizes change nothing but the border between the classes."""
    segmenter = build_segmenter(
        vit(), normalisation=HALF, classes=2, use=BackboneUse(), head=SegmentHead(channels=8, auxiliary=0), seed=0
    ).eval()
    segmenter.forward = lambda images: torch.cat([images[:, :1], 1 - images[:, :1]], dim=1)[:, :, ::2, ::2]
    pixels = np.zeros((70, 110, 3), dtype=np.uint8)
    pixels[:, 55:] = 255
    for side in (0, 64):
        found = segment(segmenter, pixels, SegmentPhotos(side=side, window=48, step=32, crop=48))
        assert found.shape == (70, 110)
        assert (found[:, :53] == 1).all() and (found[:, 58:] == 0).all()


def test_boxes_are_float32_whatever_the_backbone_computes_in(photos):
    """bfloat16 knows every fourth pixel behind 512; torchvision's anchors and boxes take the type of the maps."""
    found = {}
    for precision in ("float32", "bfloat16"):
        objective = jobs(photos, [f"run.precision={precision}"])["detect"].build()
        seen = []
        objective.detector.roi_heads.box_head.register_forward_hook(lambda *all_of: seen.append(all_of[2].dtype))  # noqa: B023
        objective.detector.rpn.head.register_forward_hook(lambda *all_of: seen.append(all_of[2][1][0].dtype))  # noqa: B023
        sample = collated([jobs(photos)["detect"].dataset()[(0, number, 0)] for number in (1, 2)])
        part = jobs(photos)["detect"].parts(sample, Place(0, 2, torch.device("cpu"), 0), 0)[0]
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            losses = objective(part)
        assert set(seen) == {torch.float32}
        found[precision] = {name: value.item() for name, value in losses.items()}
        assert detect(objective.detector.eval(), photos.pixels("0")).boxes.dtype == np.float64
    # Which proposals are drawn differs; what they cost at the start hardly does.
    assert found["bfloat16"]["loss_objectness"] == pytest.approx(found["float32"]["loss_objectness"], rel=0.02)
    assert found["bfloat16"] != found["float32"]


def test_a_stage_that_is_a_head_too_is_held_with_the_network(photos):
    changes = ["backbone.frozen=true", "run.batch_size=2", "photos.sides=[64]", "photos.longest=96"]
    network = timm.create_model("resnet18", num_classes=0)
    facts = {"architecture": "resnet18", "options": {}, "norm": "none"}
    job = DetectJob(read_fine_tune_recipe("detect", "voc-c4", changes), Pretrained(network, *HALF, facts), photos)
    objective = job.build().train()
    before = {name: value.clone() for name, value in objective.branches()["backbone"].state_dict().items()}
    sample = collated([job.dataset()[(0, number, 0)] for number in (1, 2)])
    objective(job.parts(sample, Place(0, 2, torch.device("cpu"), 0), 0)[0])
    assert (
        not objective.detector.roi_heads.box_head.stage.training and objective.detector.roi_heads.box_head.norm.training
    )
    after = objective.branches()["backbone"].state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert objective.detector.rpn._pre_nms_top_n == {"training": 12000, "testing": 6000}


# --- photos


def test_a_photo_is_shown_by_seed_epoch_and_number_alone(photos):
    shown = ShownPhotos(photos, photos.ids, DetectPhotos((64, 96, 128), 160, 64, 160), True, 3)
    one, again, other = shown[(0, 5, 9)], shown[(0, 5, 40)], shown[(1, 5, 9)]
    assert torch.equal(one["image"], again["image"]) and one["side"] == again["side"]
    drawn = {(shown[(epoch, 5, 0)]["side"], bool((shown[(epoch, 5, 0)]["image"] != one["image"]).any()))
             for epoch in range(12)}  # fmt: skip
    assert len(drawn) > 3 and other["image"].shape == one["image"].shape


def test_mirrored_boxes_and_masks_belong_together(photos):
    for flip in (0.0, 1.0):
        sample = ShownPhotos(photos, photos.ids, DetectPhotos((64,), flip=flip), True, 0)[(0, 2, 0)]
        for box, mask in zip(sample["target"]["boxes"], sample["target"]["masks"], strict=True):
            rows, columns = torch.where(mask > 0)
            tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == [int(value) for value in tight]


def test_batches_are_of_one_group_and_the_same_for_any_number_of_processes():
    groups = np.array([0, 1] * 11 + [1] * 7)
    options = {"batch": 4, "seed": 1, "steps": 20}

    def batches(first, count, start=0):
        return [[key[1] for key in keys] for keys in GroupedSampler(groups, first=first, count=count, start=start,
                                                                    **options)]  # fmt: skip

    whole = batches(0, 4)
    assert all(len({int(groups[one]) for one in batch}) == 1 for batch in whole)
    assert [left + right for left, right in zip(batches(0, 2), batches(2, 2), strict=True)] == whole
    assert batches(0, 4, start=7) == whole[7:]
    epoch = [one for batch in whole[: 11 // 4 + 18 // 4] for one in batch]
    assert len(set(epoch)) == len(epoch) == 24
    with pytest.raises(ArgumentError, match="batch_size must be at most the 3 images"):
        GroupedSampler(groups[:3], first=0, count=4, start=0, **options)


def test_groups_that_would_fill_no_batch_are_none(photos):
    assert set(groups_of(photos, photos.ids, batch=4, grouped=True)) == {1}
    assert set(groups_of(photos, photos.ids, batch=4, grouped=False)) == {0}


def test_photos_without_objects_are_not_learned_from():
    class Empty(LabelledDetections):
        def has_object(self, identity):
            return False

    with pytest.raises(DataError, match="no photo of 3 scenes has an object"):
        DetectJob(read_fine_tune_recipe("detect", "detect-tiny", SMALL), pretrained(), Empty(ScenePhotos(3)))


# --- training


def losses_of(run):
    return [json.loads(line)["total"] for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]


def jobs(photos, changes=()):
    detect_recipe = read_fine_tune_recipe("detect", "detect-tiny", [*SMALL, *changes])
    segment_recipe = read_fine_tune_recipe("segment", "segment-tiny", [*SMALL, *changes])
    return {
        "detect": DetectJob(detect_recipe, pretrained(), photos),
        "segment": SegmentJob(segment_recipe, pretrained(), photos.photos),
    }


def weights_of(run):
    return torch.load(checkpoints_of(run)[-1] / "trained.pt", weights_only=True)


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(photos, tmp_path, task):
    run_job(jobs(photos)[task], tmp_path / "whole", CPU)
    # As a run lies there that was killed behind its first checkpoint.
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    shutil.rmtree(checkpoints_of(tmp_path / "killed")[-1])
    run_job(jobs(photos)[task], tmp_path / "killed", TrainSettings(device="cpu", resume=True))
    assert len(losses_of(tmp_path / "whole")) == 4
    assert losses_of(tmp_path / "killed") == losses_of(tmp_path / "whole")
    one, other = weights_of(tmp_path / "whole"), weights_of(tmp_path / "killed")
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_a_frozen_network_stays_and_another_learns(photos, tmp_path, task):
    before = pretrained().network.state_dict()
    for frozen in (True, False):
        out = tmp_path / str(frozen)
        run_job(jobs(photos, [f"backbone.frozen={str(frozen).lower()}"])[task], out, CPU)
        after = {
            name.partition("reader.network.")[2]: value
            for name, value in weights_of(out).items()
            if "reader.network." in name
        }
        same = [torch.equal(after[name], value) for name, value in before.items()]
        assert all(same) if frozen else not any(same[2:6])
    made = jobs(photos)[task].build()
    assert made.branches()["backbone"].state_dict().keys() == before.keys()


def test_the_backbone_that_a_run_leaves_can_be_measured(photos, tmp_path):
    import couplingkit as ck

    run_job(jobs(photos)["detect"], tmp_path / "run", CPU)
    path = checkpoints_of(tmp_path / "run")[-1] / "backbone.safetensors"
    facts = {"embed_dim": "32", "depth": "4", "num_heads": "2"}
    model = Pretrained(vit(), *HALF, {**pretrained().facts, "options": {**pretrained().facts["options"], **facts}})
    DetectJob(read_fine_tune_recipe("detect", "detect-tiny", SMALL), model, photos).write_networks(
        tmp_path, jobs(photos)["detect"].build()
    )
    assert path.is_file()
    backbone = ck.load_backbone(str(tmp_path / "backbone.safetensors"), device="cpu")
    assert backbone(torch.rand(1, 3, 64, 64)).shape == (1, 32, 8, 8)


def test_other_photos_are_no_way_to_go_on(photos, tmp_path):
    run_job(jobs(photos)["detect"], tmp_path / "run", CPU)
    other = SceneDetections(ScenePhotos(12, seed=8))
    with pytest.raises(ArgumentError, match="was begun on"):
        run_job(
            DetectJob(read_fine_tune_recipe("detect", "detect-tiny", SMALL), pretrained(), other),
            tmp_path / "run",
            TrainSettings(device="cpu", resume=True),
        )


def test_parts_of_a_step_are_the_batch(photos):
    job = jobs(photos, ["run.accumulate=2"])["detect"]
    sample = collated([job.dataset()[(0, number, 0)] for number in (3, 5)])
    parts = job.parts(sample, Place(0, 2, torch.device("cpu"), 0), 0)
    assert [len(part[0]) for part in parts] == [1, 1]
    with pytest.raises(ArgumentError, match="two photos or more"):
        jobs(photos, ["run.accumulate=2"])["segment"].share(0, 1)
