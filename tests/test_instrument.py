"""What would go unnoticed: networks with a planted fault, each of which a control finds or the panel shows."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import couplingkit as ck
from couplingkit.errors import BackboneError, MeasurementError
from couplingkit.figures.tables import controls_line
from couplingkit.study.alignment import check_maps

HALF = (0.5, 0.5, 0.5)


def backbone(read, network=None, **options):
    """The network that reads each cell by itself, read in another way."""
    cell = ck.load_backbone("control:cell", device="cpu").network if network is None else network
    return ck.NetworkBackbone(cell, read, name="planted", mean=HALF, std=HALF, **options)


class Calls:
    """Counts how often it was called."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return self.count


@pytest.mark.parametrize(
    ("read", "word"),
    [
        (lambda net, x: net(x).transpose(-1, -2), "transposed"),
        (lambda net, x: net(x).flip(-1), "flipped left to right"),
        (lambda net, x: net(x).flip(-2), "flipped upside down"),
        (lambda net, x: net(x).flip(-1, -2), "turned by 180 degrees"),
        (lambda net, x: net(x).rot90(1, (-2, -1)), "turned by (9|27)0 degrees"),
        (lambda net, x: net(x).roll(1, dims=-1), "shifted by 0 cells down and 1 to the right"),
        (lambda net, x: net(x).roll(-1, dims=-2), "shifted by -1 cells down and 0 to the right"),
        (lambda net, x: net(x).roll((1, 1), dims=(-2, -1)), "shifted by 1 cells down and 1 to the right"),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 32])
def test_a_map_that_is_not_where_the_picture_is(probes, read, word, batch_size):
    with pytest.raises(MeasurementError, match=f"alignment control of planted failed.*{word}"):
        ck.measure(backbone(read), probes, ck.MeasureSettings(batch_size=batch_size))


def wrong_maps():
    """Ways to read a map (B, D, h, w) that is not where the picture is."""
    yield "transposed", lambda maps: maps.transpose(-1, -2)
    yield "flipped", lambda maps: maps.flip(-1)
    yield "turned", lambda maps: maps.flip(-1, -2)


def turned_backbone(inner, turn):
    read, options = inner.read, {"mean": inner.mean, "std": inner.std}
    return ck.NetworkBackbone(inner.network, lambda net, x: turn(read(net, x)), name="wrong", **options)


def check_alignment(backbone, probes):
    objects = probes.render(range(4), size=backbone.size_px, mean=backbone.mean)
    return check_maps(ck.LayeredBackbone([backbone]), objects, batch_size=16)


LOCAL_NETWORKS = (
    "vit_tiny_patch16_224",
    "resnet18",
    "convnext_atto",
    "swin_tiny_patch4_window7_224",
    "efficientnet_b0",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCAL_NETWORKS)
def test_in_real_architectures_wrong_maps_are_found_and_right_ones_pass(probes, name):
    inner = ck.load_backbone(f"random:{name}", device="cpu", precision="float32")
    check_alignment(inner, probes)
    for word, turn in wrong_maps():
        wrong = turned_backbone(inner, turn)
        with pytest.raises(MeasurementError, match=f"alignment control of wrong failed.*{word}"):
            check_alignment(wrong, probes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("pvt_v2_b0", "twins_pcpvt_small", "maxvit_pico_rw_256", "mixer_s32_224", "tiny_vit_5m_224", "mobilevit_xxs"),
        *("densenet121", "regnety_002", "mobilenetv3_small_050", "deit_tiny_patch16_224", "coat_lite_tiny", "resnet50"),
    ],
)
def test_networks_whose_answer_is_hardly_local_are_not_refused_for_it(probes, name):
    """With random weights some mix the whole picture: nothing can be told of their maps, and that is what is said."""
    inner = ck.load_backbone(f"random:{name}", device="cpu", precision="float32")
    aligned, _ = check_alignment(inner, probes)
    told = controls_line(ck.measure(inner, probes)) if name == "mixer_s32_224" else ""
    assert ("cannot be told" in told) == (name == "mixer_s32_224")
    assert -0.2 < aligned <= 1


@pytest.mark.slow
def test_real_weights_pass_on_photos_and_their_shifted_maps_do_not(real_coco, real_weights):
    vit = f"vit_tiny_patch16_224@{real_weights / 'vit_tiny_patch16_224_tinyimagenet_ft.pth'}"
    cnn = f"mobilenetv2_100@{real_weights / 'mobilenetv2_100_in1k_dequant.pth'}"
    for seed in range(4):
        photos = ck.ProbeSet.from_coco(*real_coco, count=12, seed=seed)
        for name in (vit, cnn):
            inner = ck.load_backbone(name, mean=HALF, std=HALF, device="cpu", precision="float32")
            check_alignment(inner, photos)
            wrongs = dict(wrong_maps())
            if name == vit:
                wrongs["shifted"] = lambda maps: maps.roll(1, dims=-1)
            for word, turn in wrongs.items():
                wrong = turned_backbone(inner, turn)
                with pytest.raises(MeasurementError, match=word):
                    check_alignment(wrong, photos)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_few_probes_do_not_fail_for_being_few(scenes, count):
    few = ck.ProbeSet.from_coco(*scenes, count=count)
    assert ck.measure(ck.load_backbone("control:leak:0.4", device="cpu"), few).summary.measured == count


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_batch_norm_by_the_batch_s_own_statistics(probes, batch_size):
    network = nn.Sequential(nn.Conv2d(3, 16, 16, 16), nn.BatchNorm2d(16, track_running_stats=False))
    with pytest.raises(MeasurementError, match="in other company in its batch the angle of A and B"):
        ck.measure(backbone(lambda net, x: net(x), network), probes, ck.MeasureSettings(batch_size=batch_size))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_features_minus_the_batch_s_mean(probes, batch_size):
    def read(net, x):
        maps = net(x)
        return maps - 0.5 * maps.mean(dim=(0, 2, 3), keepdim=True)

    with pytest.raises(MeasurementError, match="an image's features depend on the other images of its batch"):
        ck.measure(backbone(read), probes, ck.MeasureSettings(batch_size=batch_size))


def test_dropout_that_starts_later(probes):
    """The first look finds nothing; the one at the end does."""
    calls = Calls()

    def read(net, x):
        return F.dropout(net(x), 0.1, training=calls() > 30)

    late = backbone(read)
    with pytest.raises(MeasurementError, match="zero control of planted failed: at the end of the run"):
        ck.measure(late, probes, ck.MeasureSettings(batch_size=4))
    assert calls.count > 30


def test_a_network_in_training_is_read_as_it_is_evaluated_and_put_back(probes):
    network = nn.Sequential(nn.Conv2d(3, 16, 16, 16), nn.BatchNorm2d(16), nn.Dropout(0.5))
    network[1].train(mode=False)
    modes = [part.training for part in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network[0].weight.grad = torch.ones_like(network[0].weight)
    ck.measure(backbone(lambda net, x: net(x), network), probes)
    assert [part.training for part in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert (network[0].weight.grad == 1).all()
    assert network[0].weight.requires_grad


@pytest.mark.parametrize(
    ("read", "sentence"),
    [
        (lambda net, x: 0 * net(x), "a map of zeros whatever it is shown"),
        (lambda net, x: torch.ones_like(net(x)), "the same map whatever it is shown"),
        (lambda net, x: net(x).mean(dim=(2, 3), keepdim=True).expand_as(net(x)), "the same vector in every cell"),
        (lambda net, x: F.adaptive_avg_pool2d(net(x), 14), "its map does not follow its input"),
        (lambda net, x: net(F.interpolate(x, size=(224, 224))), "its map does not follow its input"),
    ],
)
def test_what_is_no_dense_map_is_refused_in_its_own_words(probes, read, sentence):
    with pytest.raises((MeasurementError, BackboneError), match=sentence):
        ck.measure(backbone(read, declared=ck.Declaration(16)), probes)


def test_a_global_mean_in_channels_of_its_own_shows_in_the_panel(probes):
    """Ten times the mean over the canvas: whatever the rate says of it, the rest of the panel shows it."""

    def read(net, x):
        maps = net(x)
        mean = 10 * maps.mean(dim=(2, 3), keepdim=True).expand_as(maps)
        return torch.cat([maps, mean], dim=1)

    summary = ck.measure(backbone(read), probes).summary
    assert summary.estimates["leak"].low > 0
    assert summary.estimates["displacement"].low > 0.05


def test_a_constant_vector_hides_a_leak_from_the_rate_and_not_from_leak():
    """Of features in double precision, so that nothing but the law is seen."""
    generator = torch.Generator().manual_seed(0)
    alone, partner, third = torch.rand(3, 50, 16, generator=generator, dtype=torch.float64)
    together, control = alone + 0.1 * (partner - alone), alone + 0.03 * (third - alone)
    constant = 30 * torch.rand(16, generator=generator, dtype=torch.float64)
    plain = ck.coupling_rate(alone, together, partner, control)
    shifted = ck.coupling_rate(*(part + constant for part in (alone, together, partner, control)))
    assert np.abs((plain.toward_b - plain.toward_c) - (shifted.toward_b - shifted.toward_c)).max() < 1e-9
    assert plain.toward_b == pytest.approx(0.1)
    assert shifted.cr.mean() - 1 < 0.05 * (plain.cr.mean() - 1)


def test_registers_are_no_cells(probes):
    with_registers = ck.load_backbone("random:test_vit,reg_tokens=4", device="cpu", precision="float32")
    measured = ck.measure(with_registers, probes)
    assert measured.provenance["model"]["tokens"]
    assert measured.provenance["controls"]["aligned"] > 0.5


def test_float32_is_float32_and_what_the_caller_chose_comes_back(probes):
    seen = []

    def read(net, x):
        seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
        return net(x)

    torch.set_float32_matmul_precision("high")
    try:
        record = ck.measure(backbone(read), probes).provenance
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {("highest", False)}
    assert torch.backends.cudnn.allow_tf32
    assert record["model"]["tf32"] is False


@pytest.mark.parametrize("size", [None, (224, 336), (448, 224)])
def test_position_of_a_network_that_reads_each_cell_by_itself_is_zero(probes, size):
    cell = ck.load_backbone("control:cell", image_size=size, device="cpu")
    measured = ck.measure(cell, probes, ck.MeasureSettings(position=True))
    assert measured.rows["position"].abs().max() < 1e-9
    assert measured.summary.position_other > 0.01
    assert "position" not in ck.measure(cell, probes).summary.estimates


def test_position_of_a_network_with_its_place_in_its_features(probes):
    """Closed form: a ramp of channels of its own turns the feature by a known angle."""

    def read(net, x):
        maps = net(x)
        rows, columns = maps.shape[-2:]
        angle = torch.linspace(0, 1.5, columns).expand(len(x), 1, rows, columns)
        return torch.cat([angle.cos(), angle.sin()], dim=1) + 1e-6 * maps[:, :2]

    rows = ck.measure(backbone(read), probes, ck.MeasureSettings(position=True)).rows
    assert (rows["position"] > 0.05).all()
    # Two of four places share a column: 4 of 6 pairs are apart, by less than the whole ramp.
    assert (rows["position"] < 4 / 6 * (1 - np.cos(1.5))).all()


def test_position_is_of_features_as_they_are():
    with pytest.raises(ck.CouplingKitError, match="give `center` or `position`"):
        ck.MeasureSettings(center=True, position=True)


def test_directions_are_balanced_and_c_is_matched(scenes):
    probes = ck.ProbeSet.from_coco(*scenes, count=200, spec=ck.ProbeSpec(design="pairs"))
    directions = [pair.direction for pair in probes.pairs]
    for block in range(0, 200, 4):
        assert len(set(directions[block : block + 4])) == 4
    assert len({tuple(directions[block : block + 4]) for block in range(0, 200, 4)}) > 5
    rows = ck.measure(ck.load_backbone("control:cell", device="cpu"), probes).rows
    matched = rows["area_match"].between(1 / 1.5, 1.5)
    assert matched.mean() > 0.95
    # As the picture has it: C's area over B's.
    for number in range(20):
        probe = probes[number]
        drawn = float(probe.mask_c.sum() / probe.mask_b.sum())
        assert rows["area_match"][number] == pytest.approx(drawn, rel=0.06)


def test_where_nobody_has_b_s_area_the_nearest_takes_its_place(tmp_path):
    """Three objects of three categories and areas: C is who there is, and the row says how near it came."""
    annotations, images = ck.write_scenes(tmp_path / "scenes", count=40)
    document = json.loads(annotations.read_text())
    kept, seen = [], set()
    for entry in sorted(document["annotations"], key=lambda entry: -entry["area"]):
        if entry["category_id"] not in seen and entry["image_id"] not in {other["image_id"] for other in kept}:
            kept.append(entry)
            seen.add(entry["category_id"])
    document["annotations"] = kept[:3]
    annotations.write_text(json.dumps(document))
    probes = ck.ProbeSet.from_coco(annotations, images, count=8, eligibility=ck.Eligibility(1, True))
    rows = ck.measure(ck.load_backbone("control:cell", device="cpu"), probes).rows
    assert rows["area_match"].notna().all()
    assert (rows["annotation_c"] != rows["annotation_b"]).all()


def test_distances_are_of_masks_and_not_of_boxes(probes):
    probe = probes.render(range(8))
    assert (probe.distance_px >= 16).all()
    assert (probe.distance_px > 16).any()
    assert probes.render(range(2), size=448).distance_px == pytest.approx(2 * probe.distance_px[:2], abs=3)
