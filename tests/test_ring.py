"""The ring design: images that rows share are run once, rows are those of the same pictures one by one, and intervals
know that they share."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from command import run
from test_coverage import NAMES, known_means

import couplingkit as ck
from couplingkit.errors import ArgumentError, DataError
from couplingkit.metrics.coupling import SEEN
from couplingkit.metrics.summary import summarize
from couplingkit.probes.manifest import read_manifest
from couplingkit.probes.placement import AREA_FACTOR
from couplingkit.probes.spec import RING_ROWS
from couplingkit.streams import Stream
from couplingkit.study import probe_reader
from couplingkit.study.sweeping import sweep_variants

RING = ck.ProbeSpec(design="ring")
ANGLES = ["theta_a1_b", "theta_a2_b", "theta_a3_b", "theta_a1_a2", "toward_b", "toward_c"]


@pytest.fixture(scope="module")
def rings(scenes):
    """Two rings: 64 rows."""
    return ck.ProbeSet.from_coco(*scenes, count=2 * RING_ROWS, spec=RING)


def test_a_ring_is_what_it_is_said_to_be(rings):
    """Each object beside two others, each pair read both ways, the other neighbour as C; 32 rows of 32 images."""
    for ring in range(2):
        rows = rings.pairs[ring * RING_ROWS : (ring + 1) * RING_ROWS]
        read = {(pair.annotation_a, pair.annotation_b) for pair in rows}
        assert len(read) == RING_ROWS
        assert {(b, a) for a, b in read} == read
        members = {pair.annotation_a for pair in rows}
        assert len(members) == RING_ROWS // 2
        for a in members:
            own = [pair for pair in rows if pair.annotation_a == a]
            assert len(own) == 2
            assert (own[0].annotation_b, own[0].annotation_c) == (own[1].annotation_c, own[1].annotation_b)
            assert own[0].direction == own[1].direction
        for pair in rows:
            one, two, three = (rings.index.category_of(key) for key in pair.members())
            assert one != two
            assert two != three
        photos = {rings.index.image_of(key) for key in members}
        assert len(photos) == len(members), "one object a photo"
    axes = [{pair.direction for pair in rings.pairs[start : start + RING_ROWS]} for start in (0, RING_ROWS)]
    assert sorted(map(sorted, axes)) == [["above", "below"], ["left", "right"]]


def test_third_objects_are_alike_in_area_where_the_data_has_such(rings):
    matches = [abs(np.log(rings.area_match(number))) for number in range(len(rings))]
    assert np.mean(np.array(matches) <= np.log(AREA_FACTOR) + 0.1) > 0.8


def test_photos_give_one_object_before_any_gives_two(scenes):
    """40 scenes hold two rings and a half."""
    probes = ck.ProbeSet.from_coco(*scenes, count=2 * RING_ROWS, spec=replace(RING, pairing="any"))
    photos = {probes.index.image_of(pair.annotation_a) for pair in probes.pairs}
    assert len(photos) == RING_ROWS


def test_a_row_depends_on_the_seed_its_number_and_the_objects_alone(scenes, rings):
    few = ck.ProbeSet.from_coco(*scenes, count=10, spec=RING)
    assert few.pairs == rings.pairs[:10]
    assert ck.ProbeSet.from_coco(*scenes, count=10, spec=RING, seed=1).pairs != few.pairs


@pytest.mark.parametrize("canvas", ["mean", "noise", "image"])
@pytest.mark.parametrize("size", [(224, 224), (140, 196)])
def test_shared_images_are_those_of_each_row(scenes, canvas, size):
    """Bit for bit; across rings, and within one that is cut short."""
    probes = ck.ProbeSet.from_coco(*scenes, count=50, spec=replace(RING, canvas=canvas))
    look = {"size": size, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.3)}
    for numbers in (range(32), range(20, 50), range(7, 8)):
        rows = probes.render(numbers, **look)
        shared = probes.shared(numbers, device=torch.device("cpu"), **look)
        for role, images in zip(("alone", "together", "partner", "control"), rows.images, strict=True):
            assert torch.equal(shared.images[shared.shown.images[role]], images)
        assert torch.equal(shared.row_masks(), rows.masks)
        assert torch.equal(shared.distance_px, rows.distance_px)
    whole = probes.shared(range(32), device=torch.device("cpu"), **look)
    assert len(whole.images) == RING_ROWS


@pytest.mark.parametrize("batch_size", [5, 32, 100])
def test_rows_are_those_of_each_row_read_by_itself(rings, monkeypatch, batch_size):
    backbone = ck.load_backbone("random:vit_tiny_patch16_224,depth=2", device="cpu", precision="float32")
    settings = ck.MeasureSettings(batch_size=batch_size)
    shared = ck.measure(backbone, rings, settings)
    post = probe_reader.ProbeReader.__post_init__

    def one_by_one(self):
        post(self)
        self.in_rings = False

    monkeypatch.setattr(probe_reader.ProbeReader, "__post_init__", one_by_one)
    alone = ck.measure(backbone, rings, settings)
    assert np.abs(shared.rows[ANGLES] - alone.rows[ANGLES]).max().max() < 1e-6
    rest = [name for name in shared.rows if name not in (*ANGLES, "outliers_a")]
    assert shared.rows[rest].equals(alone.rows[rest])


def test_each_image_runs_once(rings):
    shown = []
    network = torch.nn.Conv2d(3, 8, 16, 16)
    backbone = ck.NetworkBackbone(network, lambda net, x: shown.append(len(x)) or net(x), name="counted")
    before = len(shown)
    ck.measure(backbone, rings, ck.MeasureSettings(batch_size=32))
    # Two rings, the first one again at the beginning and at the end, and the controls of company and of maps.
    assert [count for count in shown[before:] if count == 32][:2] == [32, 32]
    assert sum(shown[before:]) < 4 * RING_ROWS + 24 + 33 + 2 + 32


def test_what_does_not_couple_has_a_rate_of_1(rings):
    summary = ck.measure(ck.load_backbone("control:cell", device="cpu"), rings).summary
    assert summary.cr == pytest.approx(1, abs=1e-6)
    assert summary.estimates["specificity"].value == pytest.approx(0, abs=1e-6)


def test_a_planted_leak_shows_as_in_pairs(scenes, rings):
    backbone = ck.load_backbone("control:leak:0.3", device="cpu")
    pairs = ck.ProbeSet.from_coco(*scenes, count=64)
    one, other = (ck.measure(backbone, probes).summary.estimates["cr"] for probes in (rings, pairs))
    assert one.low > 1
    assert one.low < other.value < one.high


def test_sweeps_move_both_slots(rings):
    variants = sweep_variants(rings, rings.spec, "gap", [0, 16])
    backbone = ck.LayeredBackbone([ck.load_backbone("control:leak:0.3", device="cpu")])
    points, failures = ck.sweep(backbone, variants, "gap", [0, 16])
    assert not failures
    assert [set(point.measurement.rows["gap"]) for point in points] == [{0}, {16}]
    direct = ck.measure(backbone.layers[0], variants[0]).rows
    assert points[0].measurement.rows[ANGLES].equals(direct[ANGLES])


@pytest.mark.parametrize("look", [{"visible": 0.5}, {"pairing": "same"}, {"control": False}])
def test_what_cannot_be_read_both_ways_is_refused(look, rings):
    with pytest.raises(ArgumentError, match="use `design=pairs`"):
        ck.ProbeSpec(design="ring", **look)
    with pytest.raises(ArgumentError):
        rings.vary(**look)
    with pytest.raises(ArgumentError, match="draw others"):
        rings.vary(design="pairs")


def test_too_few_photos_are_said(tmp_path):
    files = ck.write_scenes(tmp_path / "few", count=9)
    with pytest.raises(DataError, match="no ring of 16 objects"):
        ck.ProbeSet.from_coco(*files, count=4, spec=RING)


def test_a_manifest_says_its_design_and_older_ones_are_pairs(scenes, rings, tmp_path):
    path = tmp_path / "ring.json"
    path.write_text(rings.manifest().text())
    again = ck.ProbeSet.from_manifest(path, *scenes)
    assert again.spec == RING
    assert again.pairs == rings.pairs
    assert again.fingerprint() == rings.fingerprint()
    pairs = ck.ProbeSet.from_coco(*scenes, count=4, spec=ck.ProbeSpec(design="pairs"))
    (tmp_path / "pairs.json").write_text(pairs.manifest().text())
    assert '"design"' not in (tmp_path / "pairs.json").read_text()
    assert read_manifest(tmp_path / "pairs.json").spec == ck.ProbeSpec(design="pairs")
    (tmp_path / "auto.json").write_text(rings.manifest().text().replace('"ring"', '"auto"'))
    with pytest.raises(DataError, match="neither pairs nor ring"):
        read_manifest(tmp_path / "auto.json")


def test_a_ring_is_the_usual_design_where_look_and_data_have_one(scenes, tmp_path, caplog):
    """And never by how many probes are asked for: the first 10 of 100 are those of 10."""
    assert ck.ProbeSet.from_coco(*scenes, count=10).spec == RING
    assert ck.ProbeSet.from_coco(*scenes, count=100).pairs[:10] == ck.ProbeSet.from_coco(*scenes, count=10).pairs
    for look in ({"visible": 0.5}, {"pairing": "same"}, {"control": False}):
        assert ck.ProbeSet.from_coco(*scenes, count=4, spec=ck.ProbeSpec(**look)).spec.design == "pairs"
    assert not caplog.records
    files = ck.write_scenes(tmp_path / "few", count=9)
    assert ck.ProbeSet.from_coco(*files, count=4).spec.design == "pairs"
    assert "no ring of 16 objects of as many photos" in caplog.text
    assert asdict(ck.ProbeSet.from_coco(*scenes, count=40).vary(gap=8).spec)["design"] == "ring"


def test_commands_take_rings(scenes, tmp_path):
    """make, measure, go on from a stop, compare, report; pairs and rings are never compared row by row."""
    data = ["--annotations", scenes[0], "--images", scenes[1]]
    made = run("probes", "make", *data, "--probes", 40, "--design", "ring", "--out", tmp_path / "ring.json")
    assert made.exit_code == 0, made.stderr
    words = ["measure", "control:leak:0.3", "control:leak:0.1"]
    ring = run(*words, "--probes", tmp_path / "ring.json", *data, "--out", tmp_path / "ring")
    assert ring.exit_code == 0, ring.stderr
    drawn = run(*words, "--probes", 40, "--design", "ring", *data, "--out", tmp_path / "drawn")
    assert drawn.exit_code == 0, drawn.stderr
    assert (tmp_path / "drawn" / "rows.csv").read_bytes() == (tmp_path / "ring" / "rows.csv").read_bytes()
    pairs = run(*words, "--probes", 40, "--design", "pairs", *data, "--out", tmp_path / "pairs")
    assert pairs.exit_code == 0, pairs.stderr
    assert run("compare", tmp_path / "ring", "--out", tmp_path / "compared").exit_code == 0
    page = run("report", tmp_path / "ring", tmp_path / "pairs", "--out", tmp_path / "page.html")
    assert page.exit_code == 0, page.stderr
    assert "design ring" in (tmp_path / "page.html").read_text()
    mixed = run("compare", tmp_path / "ring", tmp_path / "pairs", "--out", tmp_path / "mixed")
    assert mixed.exit_code == 2
    swept = run("sweep", "control:leak:0.3", "--visible", "1,0.5", "--probes", 40, "--design", "ring", *data)
    assert swept.exit_code == 2
    assert "--design=pairs" in swept.stderr or "design" in swept.stderr


# Simulation: intervals over photos, where rows share images.


def ring_photos(generator, photos, rows):
    """Photos of A, B and C of rings, each photo once before any twice; and which pair of photos a row's image shows."""
    order = np.concatenate([generator.permutation(photos) for _ in range(-(-rows // (2 * photos)) + 1)])
    found = []
    for ring in range(-(-rows // RING_ROWS)):
        members = order[ring * 16 : ring * 16 + 16]
        if len(np.unique(members)) < 16:
            members = generator.permutation(photos)[:16]
        for place, a in enumerate(members):
            before, after = members[place - 1], members[(place + 1) % 16]
            found += [(a, after, before), (a, before, after)]
    return np.array(found[:rows])


def ring_rows(generator, photos, rows, spread):
    """What was seen of simulated rows; an image's two readings share most of what they have of their own."""
    a, b, c = ring_photos(generator, photos, rows).T
    noise = {}

    def of_image(first, second, shared):
        """An effect of the pair of objects, the same in both readings, and one of each reading."""
        values = [
            noise.setdefault((shared, *sorted(pair)), generator.normal()) for pair in zip(first, second, strict=True)
        ]
        return np.array(values)

    def effects(first, second, name, both=0.8):
        one, other = (generator.normal(size=photos) for _ in range(2))
        own = both * of_image(first, second, name) + np.sqrt(1 - both**2) * generator.normal(size=rows)
        return (0.5 * one[first] + 0.5 * other[second] + 0.7 * own) / np.sqrt(0.99)

    true = 0.35 + spread * effects(a, b, "true", 1.0)
    biased = 1.1 * true + 0.02 + 0.03 * effects(a, b, "biased")
    control = 1.02 * true + 0.03 * effects(a, c, "biased")
    moved = 0.2 * np.exp(0.5 * effects(a, b, "moved"))
    toward_b, toward_c = 0.06 + 0.05 * effects(a, b, "toward"), 0.02 + 0.05 * effects(a, c, "toward")
    angles = [np.pi / 2 - similarity for similarity in (true, biased, control)]
    return dict(zip(SEEN, (*angles, moved, toward_b, toward_c), strict=True)), np.stack([a, b, c], axis=1)


def coverage(photos, rows, spread, experiments):
    generator, known = np.random.default_rng(photos + rows), known_means(spread)
    hits = dict.fromkeys(NAMES, 0)
    for number in range(experiments):
        seen, sources = ring_rows(generator, photos, rows, spread)
        summary = summarize(seen, sources, Stream(number), resamples=400)
        for name in NAMES:
            estimate = summary.estimates[name]
            hits[name] += estimate.low <= known[name] <= estimate.high
    return {name: count / experiments for name, count in hits.items()}


def test_intervals_of_rings_cover_the_truth():
    """Few experiments and a wide margin; the slow test has the narrow one."""
    covered = coverage(64, 128, 0.08, 200)
    assert all(0.89 <= covered[name] <= 0.995 for name in NAMES), covered


@pytest.mark.slow
@pytest.mark.parametrize(("photos", "rows"), [(32, 64), (64, 128), (100, 192), (200, 400), (100, 512)])
def test_rings_cover_93_to_98_in_100(photos, rows):
    covered = coverage(photos, rows, 0.08, 1000)
    assert all(0.92 <= covered[name] <= 0.985 for name in NAMES), covered
