"""MoCo v2 and DenseCL: losses against loops, exact queues, keys that a query cannot find by their statistics."""

import math

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

import couplingkit as ck
from couplingkit.errors import ArgumentError, BackboneError
from couplingkit.features.sources.timm_convnets import last_map
from couplingkit.pixels import normalize
from couplingkit.streams import Stream
from couplingkit.training.decoupling import Decoupled
from couplingkit.training.method import Batch, Masking, Progress
from couplingkit.training.methods.densecl import DenseCL, DenseCLSettings, correspondence
from couplingkit.training.methods.moco import MoCo, MoCoSettings, Queue, info_nce, without_cells

SMALL_RESNET = {"layers": (1, 1, 1, 1), "channels": (4, 4, 4, 8), "output_stride": 8}
SMALL = {"architecture": "resnet26", "options": SMALL_RESNET, "hidden": 16, "dimensions": 12, "queue": 10}
RCC = Masking("rcc", 0.2, 0.6, spared=0.0)
PROGRESS = Progress(0, 10, 5)


def batch_of(count, px=32, *, seed=0, first=0, total=None):
    generator = torch.Generator().manual_seed(seed)
    crops = tuple(torch.rand(count, 3, px, px, generator=generator) for _ in range(2))
    return Batch(crops, crops, Stream(seed).child("step", 0), first, total or count)


def moco(**changes):
    return MoCo(MoCoSettings(**{**SMALL, "norm_group": 2, **changes}), seed=0).train()


def densecl(**changes):
    return DenseCL(DenseCLSettings(**{**SMALL, "norm_group": 2, **changes}), seed=0).train()


# ---- queues ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3), (4, 1, 7), (10,), (25, 2), (11, 11)])
def test_a_queue_holds_the_last_keys_whatever_the_batch(sizes):
    queue = Queue(10, 4, seed=0)
    order = list(queue.keys.tolist())  # oldest first, as they lie at the start
    counter = 0.0
    for size in sizes:
        new = torch.arange(counter, counter + size)[:, None].expand(-1, 4).clone()
        counter += size
        queue.push(new)
        order = (order + new.tolist())[-10:]
        place = int(queue.place)
        held = queue.keys.tolist()
        assert held[place:] + held[:place] == order


def test_queues_are_part_of_the_state_and_start_with_unit_vectors():
    method = densecl()
    state = method.state_dict()
    assert {"queue.keys", "queue.place", "dense_queue.keys", "dense_queue.place"} <= set(state)
    assert torch.allclose(state["queue.keys"].norm(dim=1), torch.ones(10))
    assert not torch.equal(state["queue.keys"], state["dense_queue.keys"])


# ---- losses against loops -------------------------------------------------------------------------


def unit(vector):
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length for v in vector]


def dot(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def slow_info_nce(query, key, queue, temperature):
    own = math.exp(dot(query, key) / temperature)
    return -math.log(own / (own + sum(math.exp(dot(query, other) / temperature) for other in queue)))


@pytest.mark.parametrize("shape", [(2,), (3, 2), (1, 2, 4)])
@pytest.mark.parametrize("length", [1, 7])
def test_info_nce_against_loops(shape, length):
    generator = torch.Generator().manual_seed(length)
    draw = lambda *size: nn.functional.normalize(torch.randn(*size, 6, generator=generator), dim=-1)  # noqa: E731
    query, key, queue = draw(*shape), draw(*shape), draw(length)
    found = info_nce(query, key, queue, 0.2)
    assert found.shape == shape
    for place in np.ndindex(*shape):
        slow = slow_info_nce(query[place].tolist(), key[place].tolist(), queue.tolist(), 0.2)
        assert found[place].item() == pytest.approx(slow, abs=1e-5)


def test_info_nce_of_the_real_queue_starts_near_its_known_value_and_stays_under_the_uniform_one():
    generator = torch.Generator().manual_seed(0)
    queue = nn.functional.normalize(torch.randn(65536, 128, generator=generator), dim=1)
    same = nn.functional.normalize(torch.randn(64, 128, generator=generator), dim=1)
    # At the start queries and keys of the same network are alike, and the queue is noise.
    alike = nn.functional.normalize(same + 0.7 * torch.randn(64, 128, generator=generator) / math.sqrt(128), dim=1)
    assert info_nce(same, alike, queue, 0.2).mean().item() == pytest.approx(11.1 - 0.82 / 0.2 + 0.1, abs=0.5)
    assert info_nce(same, same * 0, queue * 0, 0.2).max().item() == pytest.approx(math.log(65537), abs=1e-3)


def slow_densecl(method, views):
    """The two losses of a batch from the networks' maps, in loops."""
    settings, batch = method.settings, views.batch
    query_map = method.queries(views).detach()
    image_keys, key_map = method.keys(views)
    image, dense = [], []
    for b in range(len(batch)):
        query = unit(method.student.head(query_map[b].mean(dim=(0, 1))).tolist())
        image.append(
            slow_info_nce(query, unit(image_keys[b].tolist()), method.queue.keys.tolist(), settings.temperature)
        )
        of_cells = []
        keys = key_map[b].flatten(0, 1)
        for row, column in np.ndindex(*query_map.shape[1:3]):
            if not views.keep[0][b, row, column]:
                continue
            cell = query_map[b, row, column]
            cosines = [dot(unit(cell.tolist()), unit(other.tolist())) for other in keys]
            best = keys[int(np.argmax(cosines))]
            one, other = (
                unit(branch.dense_head(feature).tolist())
                for branch, feature in ((method.student, cell), (method.teacher, best))
            )
            of_cells.append(slow_info_nce(one, other, method.dense_queue.keys.tolist(), settings.temperature))
        dense.append(np.mean(of_cells) if of_cells else 0.0)
    return np.mean(image), np.mean(dense)


@pytest.mark.parametrize(("spared", "share"), [(1.0, 0.5), (0.0, 0.3)])
def test_densecl_against_loops(spared, share):
    method = densecl(masking=Masking("rcc", 0.3, 0.6, spared=spared), dense_share=share)
    with torch.no_grad():  # or both branches would be one network
        for p in method.teacher.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    views = method.views(batch_of(4))
    assert views.keep[0].all() == (spared == 1)
    found = method.losses(views)
    image, dense = slow_densecl(method, views)
    assert found["image"].item() == pytest.approx((1 - share) * image, abs=1e-4)
    assert found["dense"].item() == pytest.approx(share * dense, abs=1e-4)


def test_moco_is_the_image_half():
    one, other = moco(), densecl(dense_share=0.0)
    other.load_state_dict({**other.state_dict(), **one.state_dict()})
    batch = batch_of(4)
    assert one.losses(one.views(batch))["image"].item() == pytest.approx(
        other.losses(other.views(batch))["image"].item(), abs=1e-6
    )


def test_correspondence_is_by_features_of_the_backbone():
    key = torch.randn(2, 3, 3, 5)
    shuffle = torch.randperm(9)
    query = key.flatten(1, 2)[:, shuffle].reshape(2, 3, 3, 5) * 2.5
    assert torch.equal(correspondence(query, key), shuffle.expand(2, -1))


# ---- keys, gradients, queues over steps ------------------------------------------------------------


def test_the_key_encoder_is_the_average_of_the_query_encoder():
    """A widely copied example never uses its moving average."""
    method, batch = densecl(momentum=0.9), batch_of(4)
    views = method.views(batch)
    before = [part.clone() for part in method.keys(views)]
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(0.1 * torch.randn_like(p))
    assert all(torch.equal(one, other) for one, other in zip(before, method.keys(method.views(batch)), strict=True))
    start = {name: p.clone() for name, p in method.teacher.named_parameters()}
    method.after_step(PROGRESS)
    student = dict(method.student.named_parameters())
    for name, p in method.teacher.named_parameters():
        assert torch.allclose(p, 0.9 * start[name] + 0.1 * student[name], atol=1e-6)
    assert not torch.equal(before[0], method.keys(method.views(batch))[0])


def test_keys_enter_the_queues_behind_the_step_and_composites_do_not():
    method = Decoupled(densecl(queue=12, masking=Masking("rcc", 0.2, 0.6, spared=0.5)), masking=RCC, share=0.5)
    views = method.views(batch_of(4))
    first = method.inner.queue.keys.clone(), method.inner.dense_queue.keys.clone()
    sum(method.losses(views).values()).backward()
    assert torch.equal(method.inner.queue.keys, first[0])
    image_keys, key_map = method.inner.keys(views)
    dense = nn.functional.normalize(method.inner.teacher.cell_vectors(key_map).mean(dim=(1, 2)), dim=-1)
    method.after_step(PROGRESS)
    assert int(method.inner.queue.place) == int(method.inner.dense_queue.place) == 4
    assert torch.allclose(method.inner.queue.keys[:4], image_keys)
    assert torch.allclose(method.inner.dense_queue.keys[:4], dense, atol=1e-6)
    assert torch.equal(method.inner.queue.keys[4:], first[0][4:])


def test_no_gradient_reaches_keys_and_composites_use_the_clean_view_of_the_key():
    method = Decoupled(densecl(), masking=RCC, share=0.5)
    batch = batch_of(4)
    views = method.views(batch)
    assert views.composed == (1,)
    found = method.losses(views)
    assert set(found) == {"image", "dense", "decoupling"}
    sum(found.values()).backward()
    assert all(p.grad is None for p in method.inner.teacher.parameters())
    assert all(p.grad is not None for p in method.inner.student.parameters())
    rows = torch.tensor([1, 3])
    whole = nn.functional.normalize(method.inner.teacher.cell_vectors(method.inner.keys(views)[1]), dim=-1)
    where = torch.rand(2, *whole.shape[1:3]) < 0.5
    assert torch.equal(method.inner.targets(views, 1, rows, where), whole[rows][where])


def test_a_query_cannot_find_its_key_by_the_statistics_of_its_group():
    """Queries are normalised in the order of the batch, keys in a shuffled one; each comes back to its image."""
    method, batch = moco(norm_group=4), batch_of(8)
    _, cells = method.keys(method.views(batch))
    order = torch.randperm(8, generator=batch.generator("shuffle"))

    def of_group(part):
        images = normalize(batch.crops[1][part], (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        return last_map(method.teacher.backbone, images).permute(0, 2, 3, 1)

    together = torch.cat([of_group(part) for part in order.split(4)])
    assert torch.allclose(cells[order], together, atol=1e-5)
    assert not torch.allclose(cells, method.teacher.cells(batch.crops[1]), atol=1e-3)
    groups = [set(part.tolist()) for part in order.split(4)]
    assert {0, 1, 2, 3} not in groups, "this draw shuffles"


@pytest.mark.parametrize("count", [1, 2, 5, 6, 9])
def test_groups_leave_no_single_image(count):
    method, images = moco(norm_group=2), torch.rand(count, 3, 32, 32)
    cells = method.student.cells(images)
    assert cells.shape == (count, 4, 4, 32)
    ends = [*range(0, max(count // 2 - 1, 0) * 2, 2)]
    first = method.student.cells(images[:2]) if ends else cells[:2]
    assert torch.allclose(cells[:2], first, atol=1e-5)


def test_cut_cells_show_the_mean_colour():
    images = torch.rand(2, 3, 32, 32)
    keep = torch.rand(2, 4, 4) > 0.5
    cut = without_cells(images, keep, (0.485, 0.456, 0.406))
    pixels = keep.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None].expand_as(images)
    assert torch.equal(cut[pixels], images[pixels])
    mean = torch.tensor((0.485, 0.456, 0.406))[:, None, None].expand_as(images)
    assert torch.equal(cut[~pixels], mean[~pixels])


# ---- what comes out --------------------------------------------------------------------------------


def test_the_weights_are_those_of_timm_torchvision_and_the_released_layout(tmp_path):
    method = MoCo(MoCoSettings(architecture="resnet18", hidden=8, dimensions=4, queue=4), seed=0)
    weights = method.student.backbone.state_dict()
    timm.create_model("resnet18", num_classes=0).load_state_dict(weights, strict=True)
    plain = torchvision.models.resnet18()
    plain.fc = nn.Identity()
    plain.load_state_dict(weights, strict=True)
    image = torch.rand(1, 3, 64, 64)
    header = ck.BackboneHeader(
        architecture="resnet18", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), branch="student", method="moco"
    )
    ck.save_backbone(tmp_path / "own.safetensors", weights, header)
    # As DenseCL releases its networks: the bare backbone under `state_dict`.
    torch.save({"state_dict": weights, "author": "couplingkit"}, tmp_path / "released.pth")
    own, released = (
        ck.load_backbone(str(tmp_path / name), image_size=64, precision="float32")
        for name in ("own.safetensors", "released.pth")
    )
    assert torch.equal(own(image), released(image))
    method.eval()
    assert torch.allclose(own(image), method.student.cells(image).permute(0, 3, 1, 2), atol=1e-5)


def test_bad_settings_and_views():
    with pytest.raises(BackboneError, match="choose a ResNet"):
        moco(architecture="vit_tiny_patch16_224", options={})
    with pytest.raises(BackboneError, match="no architecture 'resnet'"):
        moco(architecture="resnet", options={})
    with pytest.raises(ArgumentError, match="dense_share"):
        densecl(dense_share=1.5)
    with pytest.raises(ArgumentError, match="views must be two"):
        crops = batch_of(2).crops
        moco().views(Batch((*crops, crops[0]), (*crops, crops[0]), Stream(0), 0, 2))
    with pytest.raises(ArgumentError, match="multiple of 8 px"):
        moco().views(batch_of(2, px=36))


def test_products_stay_in_float32_under_autocast():
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 7, 7, 64, generator=generator) + 3 for _ in range(2)]
    vectors = [nn.functional.normalize(torch.randn(9, 16, generator=generator), dim=-1) for _ in range(3)]
    plain = correspondence(*maps), info_nce(*vectors, 0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = correspondence(*maps), info_nce(*vectors, 0.2)
    assert torch.equal(plain[0], mixed[0])
    assert torch.equal(plain[1], mixed[1])
