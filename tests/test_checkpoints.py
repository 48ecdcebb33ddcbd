"""Every layout is read without being told, to the right branch, and whatever is wrong with a file is said."""

import argparse
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from checkpoint_files import IMAGENET, LAYOUTS, VIT, Made, dino, ibot, maskalign, moco, network, own, some, state, under

import couplingkit as ck
from couplingkit.errors import BackboneError, NormalisationError, OutputError
from couplingkit.features.architectures import recognise
from couplingkit.features.checkpoints import open_checkpoint, unwrapped
from couplingkit.features.state_dict_matching import match_weights

# Layouts that do not tell who saved them, or whose norm was never trained, come with a note.
CAUTIOUS = {
    *(
        "detectron2",
        "detectron2_by_torch",
        "dino_backbone",
        "dino_backbone_patch8",
        "ibot_extracted",
        "mae",
        "mae_full",
        "dino_backbone_compiled",
        "dinov3",
        "dinov3_training",
    ),
    "maskalign",
}
PLAIN = {"device": "cpu", "precision": "float32"}


def features_of(made, images, *, norm=True, normalisation=IMAGENET):
    """The independent reading: timm's own call on the network that the file was made from."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in normalisation)
    with torch.inference_mode():
        return made.forward_intermediates(
            (images - mean) / std, indices=1, norm=norm, output_fmt="NCHW", intermediates_only=True
        )[-1]


def images_for(backbone):
    return torch.rand(1, 3, *backbone.size_px, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_is_read_without_being_told(tmp_path, layout):
    made = LAYOUTS[layout]()
    file = made.write(tmp_path)
    branch, source = next(iter(made.networks.items()))
    backbone = ck.load_backbone(str(file), **PLAIN)
    record = backbone.provenance()
    images = images_for(backbone)
    expected = features_of(source, images, norm=made.norm == "applied")
    assert (backbone(images) - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert (backbone.mean, backbone.std) == IMAGENET
    assert (record["branch"] or "") == branch
    assert record["norm"] == (
        made.norm if "vit" in record["architecture"] or "swin" in record["architecture"] else "none"
    )
    assert record["interpolation"] == "none"
    assert len(record["weights_sha256"]) == 64
    told = " ".join(record["left_out"])
    assert all(name in told for name in made.left_out), told
    assert bool(record["notes"]) == (layout in CAUTIOUS)


@pytest.mark.parametrize("layout", [name for name, make in LAYOUTS.items() if len(make().networks) > 1])
def test_another_branch_is_another_network(tmp_path, layout):
    made = LAYOUTS[layout]()
    file = made.write(tmp_path)
    (first, _), (second, other) = made.networks.items()
    one, two = (ck.load_backbone(str(file), branch=branch, **PLAIN) for branch in (first, second))
    images = images_for(one)
    assert torch.allclose(two(images), features_of(other, images), atol=1e-4, rtol=1e-4)
    assert (one(images) - two(images)).abs().max() > 0.1
    assert two.provenance()["branch"] == second
    with pytest.raises(BackboneError, match=f"no branch 'left'.*`branch={first}`"):
        ck.load_backbone(str(file), branch="left")


def groups_of(content):
    """Dictionaries of weights in a file's content."""
    if all(not isinstance(value, dict) for value in content.values()):
        return [content]
    return [content[key] for key in ("state_dict", "model", "teacher", "target_encoder") if key in content]


def spoilt(content, how, place):
    """Spoil one weight of the network that is read; return its plain name's last parts."""
    tensors = groups_of(content)[0]
    skip = (
        "encoder_k",
        "head",
        "dino_model",
        "clip_model",
        "decoder",
        "queue",
        "mask",
        "fc",
        "encoder_q.0.",
        "encoder_q.1.",
        "distill",
    )
    names = [name for name in tensors if name.endswith(".weight") and not any(word in name for word in skip)]
    names = [name for name in names if "plrc" not in name and "roi_head" not in name and "fpn" not in name]
    names = [
        name
        for name in names
        if not any(part in name for part in ("projector", "predictor", "neck", "prototypes", "value_transform"))
    ]
    name = names[place]
    value = tensors.pop(name)
    if how == "renamed":
        tensors[name.replace(".weight", ".weights")] = value
    elif how == "misshaped":
        tensors[name] = value[:1, ..., None] if isinstance(value, torch.Tensor) else value[:1, None]
    return name


@pytest.mark.parametrize(
    "layout", [name for name in LAYOUTS if name not in ("dinov2", "moco_old", "ibot_swin", "vissl")]
)
def test_one_spoilt_weight_is_named(tmp_path, layout):
    """The first, one in the middle and the last weight, each spoilt in another way from layout to layout."""
    ways = ("removed", "renamed", "misshaped")
    for number, place in enumerate((0, 7, -1)):
        made = LAYOUTS[layout]()
        name = spoilt(made.content, ways[(number + list(LAYOUTS).index(layout)) % 3], place)
        if made.norm == "raw" and name.startswith("norm."):
            continue  # never trained, never read
        file = made.write(tmp_path)
        with pytest.raises(BackboneError) as caught:
            ck.load_backbone(str(file), **PLAIN)
        tail = ".".join(name.split(".")[-2:])
        if layout.startswith("detectron2"):
            tail = {"norm.weight": "bn", "shortcut.weight": "downsample"}.get(tail, tail)
        assert tail in str(caught.value), (name, str(caught.value))
        assert "\n" not in str(caught.value)


def test_layouts_that_look_alike_are_told_apart(tmp_path):
    formats = {}
    for layout in LAYOUTS:
        file = LAYOUTS[layout]().write(tmp_path)
        formats[layout] = match_weights(open_checkpoint(file)).system
    assert formats["moco"] == formats["moco_old"] == formats["resim_c4"] == "MoCo"
    assert formats["resim"] == "ReSim"
    assert formats["ibot"] == formats["ibot_swin"] == "iBOT"
    assert formats["dino"] == "DINO"
    assert formats["dinov2_training"] == "DINOv2, training file"
    assert formats["maskalign"] == "MaskAlign"
    assert formats["mae"] == formats["mae_full"] == "flat ViT under model, as MAE's files"
    assert formats["densecl_release"] == "DenseCL, release"
    assert formats["detectron2"] == "detectron2"
    assert formats["dinov3"] == "DINOv3"
    assert formats["ijepa"] == "I-JEPA"
    assert formats["simsiam"] == "SimSiam"
    assert formats["barlow_training"] == "Barlow Twins and VICReg"
    assert formats["pixpro"] == formats["soco"] == "SoCo and PixPro"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_detectron2_pickles_of_any_protocol(tmp_path, protocol):
    file = LAYOUTS["detectron2"](protocol).write(tmp_path)
    assert match_weights(open_checkpoint(file)).system == "detectron2"


def test_the_format_decides_the_normalisation_and_says_so(tmp_path):
    """The trap: bare vit_tiny_patch16_224 of timm stands for mean = std = 0.5."""
    file = dino().write(tmp_path)
    assert timm.create_model(VIT).default_cfg["mean"] == (0.5, 0.5, 0.5)
    named = ck.load_backbone(f"{VIT}@{file}", **PLAIN)
    assert (named.mean, named.std) == IMAGENET
    (note,) = named.provenance()["notes"]
    assert "mean (0.485, 0.456, 0.406)" in note
    assert "`mean`" in note
    assert named.provenance()["heads"] == 3
    chosen = ck.load_backbone(f"{VIT}@{file}", mean=(0.5,) * 3, std=(0.5,) * 3, **PLAIN)
    assert chosen.mean == (0.5, 0.5, 0.5)
    assert chosen.provenance()["normalisation"] == "as chosen"
    assert not chosen.provenance()["notes"]


def test_a_classifier_of_unknown_normalisation_is_refused(tmp_path):
    file = tmp_path / "supervised.pth"
    torch.save(timm.create_model(VIT, num_classes=10).state_dict(), file)
    with pytest.raises(NormalisationError, match="`mean` and `std`"):
        ck.load_backbone(str(file))
    assert ck.load_backbone(str(file), mean=(0.5,) * 3, std=(0.5,) * 3).mean == (0.5, 0.5, 0.5)
    assert ck.load_backbone(f"{VIT}@{file}").mean == (0.5, 0.5, 0.5)


def test_the_norm_that_maskalign_never_trains_is_left_out_unless_asked_for(tmp_path):
    made = maskalign()
    file = made.write(tmp_path)
    images = torch.rand(1, 3, 224, 224)
    applied = ck.load_backbone(str(file), norm="applied", **PLAIN)
    assert applied.provenance()["norm"] == "applied"
    assert torch.allclose(applied(images), features_of(made.networks["student"], images), atol=1e-5)
    for name in ("norm.weight", "norm.bias"):
        del made.content["model"][name]
    with pytest.raises(BackboneError, match=r"missing: norm\.bias"):
        ck.load_backbone(str(made.write(tmp_path)), norm="applied", **PLAIN)
    without = ck.load_backbone(str(made.write(tmp_path)), **PLAIN)
    assert torch.allclose(without(images), features_of(made.networks["student"], images, norm=False), atol=1e-5)


def test_only_leading_prefixes_are_taken_off(tmp_path):
    """A name may hold `backbone.` or `module.` in its middle."""
    made = dino()
    made.content["teacher"]["backbone.blocks.0.backbone.extra.weight"] = torch.zeros(2)
    with pytest.raises(BackboneError, match=r"blocks\.0\.backbone\.extra\.weight"):
        ck.load_backbone(str(made.write(tmp_path)))


def test_a_wrapped_name_that_would_take_anothers_place_stays_as_it_is():
    tensors = {"a.weight": torch.zeros(1), "a._orig_mod.weight": torch.ones(1)}
    assert unwrapped(tensors) == tensors
    assert list(unwrapped({"a._orig_mod.weight": torch.ones(1)})) == ["a.weight"]


def test_archives_of_other_kinds_are_named_and_what_is_said_works(tmp_path):
    source = network("resnet18", 1)
    script, arrays = tmp_path / "exported.pt", tmp_path / "google.npz"
    torch.jit.trace(source, torch.zeros(1, 3, 64, 64)).save(script)
    np.savez(arrays, cls=np.zeros((1, 1, 8)))
    with pytest.raises(BackboneError, match=r"is a TorchScript archive.*`trust_checkpoint`"):
        ck.load_backbone(str(script), **PLAIN)
    found = ck.load_backbone(str(script), trust_checkpoint=True, **PLAIN)
    images = images_for(found)
    assert torch.allclose(found(images), features_of_resnet(source, images), atol=1e-5)
    with pytest.raises(BackboneError, match=r"is an \.npz archive .* load_pretrained"):
        ck.load_backbone(f"{VIT}@{arrays}", **PLAIN)


def features_of_resnet(made, images):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
    with torch.inference_mode():
        return made.forward_features((images - mean) / std)


def test_containers_that_hold_themselves_or_go_on_and_on_end(tmp_path):
    source = network("resnet18", 1)
    deep = {"state_dict": state(source)}
    deep["again"] = deep
    torch.save(deep, tmp_path / "itself.pth")
    assert ck.load_backbone(str(tmp_path / "itself.pth"), **PLAIN).channels == 512
    many = {}
    for _ in range(15):
        many = {"a": many, "b": many}
    torch.save(many, tmp_path / "many.pth")
    with pytest.raises(BackboneError, match=r"dictionaries in each other|no dictionary of tensors"):
        ck.load_backbone(str(tmp_path / "many.pth"), **PLAIN)


def test_a_stem_of_three_convolutions_is_no_head_beside_a_trunk(tmp_path):
    torch.save({**state(network("resnet18", 1)), **some("conv2.weight", "bn3.weight")}, tmp_path / "deep.pth")
    with pytest.raises(BackboneError, match=r"conv2\.weight"):
        ck.load_backbone(str(tmp_path / "deep.pth"), **PLAIN)


def test_an_unknown_layout_is_read_where_key_says(tmp_path):
    source = network(VIT, 3)
    file = tmp_path / "odd.pth"
    torch.save({"nets": {"best": under("net.trunk.", state(source))}, "step": 3}, file)
    for where in ({}, {"key": "nets.best.net.trunk"}):
        with pytest.raises(NormalisationError, match="`mean`"):
            ck.load_backbone(str(file), **where)
    twice = tmp_path / "twice.pth"
    torch.save({"nets": {kind: under("net.trunk.", state(source)) for kind in ("best", "last")}}, twice)
    with pytest.raises(BackboneError, match=r"`key=nets\.best\.net\.trunk`"):
        ck.load_backbone(str(twice))
    backbone = ck.load_backbone(str(file), key="nets.best.net.trunk", mean=IMAGENET[0], std=IMAGENET[1], **PLAIN)
    images = torch.rand(1, 3, 224, 224)
    assert torch.allclose(backbone(images), features_of(source, images), atol=1e-5)
    with pytest.raises(BackboneError, match=r"no weights at key 'nets\.worst'"):
        ck.load_backbone(str(file), key="nets.worst")


def test_a_teacher_that_is_missing_is_not_replaced_by_the_student(tmp_path):
    made = ibot()
    del made.content["teacher"]
    file = made.write(tmp_path)
    with pytest.raises(BackboneError, match="`branch=student`"):
        ck.load_backbone(str(file))
    assert ck.load_backbone(str(file), branch="student").provenance()["branch"] == "student"


def test_branch_and_key_need_a_file():
    with pytest.raises(BackboneError, match="no weights file"):
        ck.load_backbone("random:test_vit", branch="teacher")
    with pytest.raises(BackboneError, match="not for control:cell"):
        ck.load_backbone("control:cell", branch="teacher")


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("resnet18", {}),
        ("resnet34", {}),
        ("resnet50", {}),
        ("resnet101", {}),
        ("vit_tiny_patch16_224", {}),
        ("vit_small_patch16_224", {}),
        ("vit_base_patch16_224", {}),
        ("vit_large_patch16_224", {}),
        ("vit_huge_patch14_224", {}),
        ("vit_small_patch16_224", {"patch_size": 8}),
        ("vit_base_patch16_224", {"init_values": 1e-5, "reg_tokens": 2}),
        ("vit_small_patch14_dinov2", {}),
        ("vit_base_patch14_reg4_dinov2", {}),
        ("vit_large_patch14_reg4_dinov2", {}),
        ("vit_giant_patch14_dinov2", {}),
        ("swin_tiny_patch4_window7_224", {}),
        ("swin_base_patch4_window7_224", {"window_size": 14}),
    ],
)
def test_architectures_are_recognised_from_shapes(architecture, options):
    with torch.device("meta"):
        source = timm.create_model(architecture, num_classes=0, **options)
    family = "resnet" if "resnet" in architecture else "swin" if "swin" in architecture else "vit"
    found = recognise(source.state_dict(), family, source="the test")
    with torch.device("meta"):
        again = timm.create_model(found.name, num_classes=0, **found.options)
    shapes = [{name: tuple(value.shape) for name, value in one.state_dict().items()} for one in (source, again)]
    assert found.name == architecture
    assert shapes[0] == shapes[1]
    heads = [[part.num_heads for part in one.modules() if hasattr(part, "num_heads")] for one in (source, again)]
    assert heads[0] == heads[1]


def test_networks_that_only_resemble_a_family_are_not_taken_for_it(tmp_path):
    file = tmp_path / "wide.pth"
    torch.save(timm.create_model("wide_resnet50_2", num_classes=0).state_dict(), file)
    with pytest.raises(BackboneError, match=r"layer1\.0.*Is it the right architecture"):
        ck.load_backbone(str(file))
    torch.save(timm.create_model("test_convnext").state_dict(), file)
    with pytest.raises(BackboneError, match="ARCH@"):
        ck.load_backbone(str(file))
    torch.save(timm.create_model("vit_base_patch16_clip_224", num_classes=0).state_dict(), file)
    with pytest.raises(BackboneError, match="norm_pre"):
        ck.load_backbone(str(file))


def test_weights_of_another_size_are_resampled_once_and_recorded(tmp_path):
    source = network(VIT, 1, img_size=160)
    file = tmp_path / "small.pth"
    torch.save(state(source), file)
    for name in (str(file), f"{VIT}@{file}"):
        native = ck.load_backbone(name, **PLAIN)
        assert native.size_px == (160, 160)
        images = images_for(native)
        assert torch.allclose(native(images), features_of(source, images), atol=1e-5)
        larger = ck.load_backbone(name, image_size=(224, 192), **PLAIN)
        assert larger.provenance()["interpolation"].startswith("pos_embed")
        source_there = network.__wrapped__(VIT, 1, img_size=160)
        source_there.set_input_size((224, 192))
        images = torch.rand(1, 3, 224, 192)
        assert torch.allclose(larger(images), features_of(source_there, images), atol=1e-5)


def test_our_own_files_say_everything(tmp_path):
    source = network(VIT, 1)
    file = tmp_path / "mine.safetensors"
    own(file, source, norm_trained=False, method="ibot-d")
    backbone = ck.load_backbone(str(file), **PLAIN)
    record = backbone.provenance()
    images = torch.rand(1, 3, 224, 224)
    expected = features_of(source, images, norm=False, normalisation=((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    assert torch.allclose(backbone(images), expected, atol=1e-5)
    assert (record["format"], record["branch"], record["norm"]) == ("couplingkit, ibot-d", "teacher", "raw")
    with pytest.raises(BackboneError, match="leave `branch`"):
        ck.load_backbone(str(file), branch="student")
    with pytest.raises(OutputError):
        own(file, source)
    # Settings that no weight shows are the file's, whether the architecture is named or not.
    twelve = network(VIT, 2, num_heads=12)
    own(file, twelve, settings={"num_heads": 12}, overwrite=True)
    for name in (str(file), f"{VIT}@{file}"):
        again = ck.load_backbone(name, **PLAIN)
        assert again.provenance()["heads"] == 12
        expected = features_of(twelve, images, normalisation=((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
        assert torch.allclose(again(images), expected, atol=1e-5)


class Bomb:
    """Unpickled, it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_arrays_are_never_given_to_numpy_as_the_file_says(tmp_path):
    """A type with object fields would make NumPy follow pointers from the file; a class may not be changed either."""
    file = tmp_path / "crash.pkl"
    file.write_bytes(b"\x80\x02cargparse\nNamespace\n(N}(X\x03\0\0\0fooX\x03\0\0\0barutb0}.")
    with pytest.raises(BackboneError):
        ck.load_backbone(str(file))
    assert not hasattr(argparse.Namespace, "foo")
    structured = np.zeros(2, dtype=[("a", "O"), ("b", "f4")])
    for content in (structured, np.array([{}], dtype=object), np.array(["text"])):
        file.write_bytes(pickle.dumps({"model": {"layer1.0.conv1.weight": content}}, protocol=2))
        with pytest.raises(BackboneError, match="no dictionary of tensors"):
            ck.load_backbone(str(file))


def test_numbers_that_are_no_plain_floats_are_refused(tmp_path):
    tensors = state(network("resnet18", 1))
    name = "layer1.0.conv1.weight"
    file = tmp_path / "odd.pth"
    for odd in (tensors[name].to(torch.int8), tensors[name].to_sparse()):
        torch.save({**tensors, name: odd}, file)
        with pytest.raises(BackboneError, match=r"layer1\.0\.conv1\.weight"):
            ck.load_backbone(str(file))
    torch.save({key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}, file)
    assert ck.load_backbone(str(file)).provenance()["format"] == "flat ResNet"


def test_a_file_with_two_copies_asks_which(tmp_path):
    one, other = state(network("resnet18", 1)), state(network("resnet18", 2))
    file = tmp_path / "ema.pth"
    torch.save({"state_dict": one, "state_dict_ema": other}, file)
    with pytest.raises(BackboneError, match="`key=state_dict_ema`"):
        ck.load_backbone(str(file))
    average = ck.load_backbone(str(file), key="state_dict_ema", mean=IMAGENET[0], std=IMAGENET[1], **PLAIN)
    images = torch.rand(1, 3, 224, 224)
    assert torch.allclose(average(images), features_of(network("resnet18", 2), images), atol=1e-4)


def test_heads_that_no_weight_shows_come_from_the_layout(tmp_path):
    """MoCo v3's ViT-S has 12 heads where timm's has 6, with the same weights."""
    source = network("vit_small_patch16_224", 1, num_heads=12)
    file = tmp_path / "moco_v3.pth"
    torch.save({"state_dict": under("module.base_encoder.", state(source))}, file)
    images = torch.rand(1, 3, 224, 224)
    for name in (str(file), f"vit_small_patch16_224@{file}"):
        backbone = ck.load_backbone(name, **PLAIN)
        assert backbone.provenance()["heads"] == 12
        assert torch.allclose(backbone(images), features_of(source, images), atol=1e-4)


class Other:
    """A class that no checkpoint reader knows."""


@pytest.mark.parametrize("form", ["zip", "old", "pickle", "pickle protocol 4"])
def test_a_pickle_is_never_executed(tmp_path, form):
    marker, file = tmp_path / "was here", tmp_path / "weights.pth"
    content = {"state_dict": state(network("resnet18", 1)), "extra": Bomb(marker)}
    if form.startswith("pickle"):
        file.write_bytes(pickle.dumps(content, protocol=4 if form.endswith("4") else 2))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(BackboneError, match=r"could run any code.*`trust_checkpoint`"):
        ck.load_backbone(str(file))
    assert not marker.exists()


def lost_class(folder):
    """A file whose class is not there any more, as those of other people's training code."""
    Gone = type("Gone", (), {"__module__": __name__})
    globals()["Gone"] = Gone
    torch.save({"state_dict": state(network("resnet18", 1)), "extra": Gone()}, folder / "lost.pth")
    del globals()["Gone"]
    return folder / "lost.pth"


def test_what_is_trusted_is_opened(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": state(network("resnet18", 1)), "extra": Other()}, file)
    with pytest.raises(BackboneError, match="`trust_checkpoint`"):
        ck.load_backbone(str(file))
    assert ck.load_backbone(str(file), trust_checkpoint=True).provenance()["architecture"] == "resnet18"
    torch.save(network("resnet18", 1), file)
    assert ck.load_backbone(str(file), trust_checkpoint=True).provenance()["architecture"] == "resnet18"
    with pytest.raises(BackboneError, match="cannot be opened"):
        ck.load_backbone(str(lost_class(tmp_path)), trust_checkpoint=True)
    made = LAYOUTS["detectron2"]()
    made.content["extra"] = Other()
    assert ck.load_backbone(str(made.write(tmp_path)), trust_checkpoint=True).provenance()["format"] == "detectron2"
    file.write_bytes(b"\x80junk")
    with pytest.raises(BackboneError, match="cannot be opened"):
        ck.load_backbone(str(file), trust_checkpoint=True)


@pytest.mark.parametrize("form", ["zip", "old", "safetensors", "pickle"])
@pytest.mark.parametrize("damage", ["cut", "empty", "text", "no tensors"])
def test_damaged_files_end_in_one_sentence(tmp_path, form, damage):
    file = tmp_path / f"weights{'.safetensors' if form == 'safetensors' else '.pth'}"
    whole = LAYOUTS["detectron2"]() if form == "pickle" else LAYOUTS["dino_backbone_resnet"]()
    content = {"epoch": 3} if damage == "no tensors" and form != "safetensors" else whole.content
    if damage == "no tensors" and form == "safetensors":
        content = {}
    suffix = {"pickle": ".pkl", "safetensors": ".safetensors"}.get(form, ".pth")
    Made(content, {}, suffix=suffix, options={"old": form == "old"}).write(tmp_path).rename(file)
    if damage in ("cut", "empty", "text"):
        file.write_bytes({"cut": file.read_bytes()[: file.stat().st_size // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(BackboneError, match=str(file)) as caught:
        ck.load_backbone(str(file))
    assert "\n" not in str(caught.value)


def test_a_file_with_heads_only(tmp_path):
    made = moco()
    kept = {name: value for name, value in made.content["state_dict"].items() if "fc." in name or "queue" in name}
    file = tmp_path / "heads.pth"
    torch.save({"state_dict": kept}, file)
    with pytest.raises(BackboneError, match="fc"):
        ck.load_backbone(str(file))


LEAN = """
import sys, threading, time
import couplingkit as ck
ck.load_backbone("random:test_vit", device="cpu")

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024

before, peak, done = anonymous(), [0.0], threading.Event()
def watch():
    while not done.is_set():
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.002)
thread = threading.Thread(target=watch)
thread.start()
backbone = ck.load_backbone(sys.argv[1], device="cpu", precision="float32")
done.set()
thread.join()
size = sum(value.numel() * value.element_size() for value in backbone.network.state_dict().values()) / 2**20
print((peak[0] - before) / size, (anonymous() - before) / size)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_loading_keeps_one_copy_of_the_backbone(tmp_path, suffix):
    """A training file of 1.2 GB with a ViT-L's teacher, student, heads and the optimizer's two moments."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc to read the memory from")
    teacher = network("vit_base_patch16_224", 1)
    tensors = state(teacher)
    file = tmp_path / f"checkpoint{suffix}"
    zeros = [torch.zeros(85_000_000) for _ in range(3)]
    if suffix == ".safetensors":
        header = ck.BackboneHeader(architecture="vit_base_patch16_224", mean=IMAGENET[0], std=IMAGENET[1])
        ck.save_backbone(file, tensors, header)
    else:
        moments = {"state": {0: {"exp_avg": zeros[0], "exp_avg_sq": zeros[1]}}, "param_groups": []}
        teacher = {**under("backbone.", tensors), "head.last_layer.weight": zeros[2]}
        torch.save({"teacher": teacher, "student": under("module.backbone.", tensors), "optimizer": moments}, file)
        assert file.stat().st_size > 1.2e9
    done = subprocess.run([sys.executable, "-c", LEAN, str(file)], capture_output=True, text=True, check=True)
    peak, after = (float(value) for value in done.stdout.split()[-2:])
    # The first pass through the network needs its activations too, which are a tenth of these weights.
    assert after <= 1.3
    assert peak <= 1.3
