"""Adapters keep the backbone's protocol, and weights are taken whole or refused."""

import subprocess
import sys

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

import couplingkit as ck
from couplingkit.errors import ArgumentError, BackboneError
from couplingkit.features.hardware import resolve_precision
from couplingkit.features.names import BackboneOptions, parse_model_name

TIMM = [
    "test_vit",
    "test_convnext",
    "test_resnet",
    "test_efficientnet",
    "swin_tiny_patch4_window7_224",
    "mobilenetv2_100",
]
TORCHVISION = [
    "resnet18",
    "vit_b_32",
    "swin_t",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b1",
    "mnasnet0_5",
]


def check_contract(backbone):
    """What is declared is what comes out, whatever is in the batch beside it; features are finite and repeatable."""
    side = backbone.size_px[0]
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    features = backbone(images)
    assert features.dtype == torch.float32
    assert features.shape[:2] == (2, backbone.channels)
    rows, columns = features.shape[-2:]
    assert rows == columns
    assert rows in (side // backbone.stride_px, -(-side // backbone.stride_px))
    assert torch.isfinite(features).all()
    assert torch.equal(features, backbone(images))
    assert torch.allclose(features[:1], backbone(images[:1]), atol=1e-4, rtol=1e-4)
    assert not features.requires_grad
    assert isinstance(backbone, ck.DenseBackbone)


@pytest.mark.parametrize("architecture", TIMM)
def test_timm_networks_keep_the_contract(architecture):
    check_contract(ck.load_backbone(f"random:{architecture}", device="cpu", precision="float32"))


@pytest.mark.parametrize("architecture", TORCHVISION)
def test_torchvision_networks_keep_the_contract(architecture, tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(torchvision.models.get_model(architecture, weights=None).state_dict(), file)
    backbone = ck.load_backbone(f"torchvision:{architecture}@{file}", device="cpu", precision="float32")
    check_contract(backbone)


@pytest.mark.parametrize("name", ["control:cell", "control:leak:0.3", "control:leak:0.3:32"])
def test_controls_keep_the_contract(name):
    check_contract(ck.load_backbone(name))


def test_an_odd_size_does_not_hide_the_stride(tmp_path):
    """240 px in 8 cells: a stride of 32 rounded up, and not one of 30."""
    file = tmp_path / "weights.pth"
    torch.save(torchvision.models.efficientnet_b1(weights=None).state_dict(), file)
    assert ck.load_backbone(f"torchvision:efficientnet_b1@{file}").stride_px == 32
    assert ck.load_backbone("random:test_resnet", image_size=230).stride_px == 32


def test_a_map_that_does_not_tile_the_image_is_refused():
    with pytest.raises(BackboneError, match="no whole px per cell"):
        ck.load_backbone("random:inception_v3")
    with pytest.raises(BackboneError, match=r"\(B, D, h, w\)"):
        ck.NetworkBackbone(torch.nn.Flatten(), lambda net, x: net(x), name="flat")


@pytest.mark.parametrize(
    ("architecture", "size", "way"),
    [
        ("vit_tiny_patch16_224", 320, "img_size"),
        ("swin_tiny_patch4_window7_224", 448, "img_size"),
        ("test_vit", 320, "plain call"),
        ("test_resnet", 320, "plain call"),
        ("test_resnet", None, "native"),
    ],
)
def test_timm_networks_take_other_sizes(architecture, size, way):
    backbone = ck.load_backbone(f"random:{architecture}", image_size=size, device="cpu", precision="float32")
    check_contract(backbone)
    assert backbone.size_px == (size or 160, size or 160)
    assert backbone.provenance()["input"] == way


def test_layers_and_norm(tmp_path):
    last = ck.load_backbone("random:test_vit", device="cpu", precision="float32")
    raw = ck.load_backbone("random:test_vit", norm="raw", device="cpu", precision="float32")
    early = ck.load_backbone("random:test_vit", layer="1", device="cpu", precision="float32")
    images = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    normed = last.network.norm(raw(images).flatten(2).transpose(1, 2)).transpose(1, 2).reshape(1, -1, 10, 10)
    assert torch.allclose(last(images), normed, atol=1e-5)
    assert not torch.allclose(last(images), early(images))
    assert last.provenance()["norm"] == "applied"
    assert raw.provenance()["norm"] == "raw"
    assert ck.load_backbone("random:test_resnet").provenance()["norm"] == "none"
    assert ck.load_backbone("random:hiera_tiny_224").provenance()["norm"] == "none"
    with pytest.raises(BackboneError, match="from 0 to 5"):
        ck.load_backbone("random:test_vit", layer="17")
    stage = ck.load_backbone("random:test_resnet", layer="1")
    assert (stage.stride_px, stage.channels) == (4, 32)
    file = tmp_path / "weights.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), file)
    assert ck.load_backbone(f"torchvision:resnet18@{file}", layer="layer2").stride_px == 8
    with pytest.raises(BackboneError, match="near: layer2"):
        ck.load_backbone(f"torchvision:resnet18@{file}", layer="layer2_")


def test_random_weights_come_from_their_seed_alone():
    torch.manual_seed(1)
    first = ck.load_backbone("random:test_vit", seed=3).provenance()["weights_sha256"]
    state = torch.get_rng_state()
    again = ck.load_backbone("random:test_vit", seed=3).provenance()["weights_sha256"]
    assert torch.equal(state, torch.get_rng_state())
    other = ck.load_backbone("random:test_vit", seed=4).provenance()["weights_sha256"]
    assert first == again != other


@pytest.mark.parametrize("kind", ["flat.pth", "flat.safetensors", "state_dict.pth", "model.pth", "other_head.pth"])
def test_weights_from_a_file_are_the_networks_own(tmp_path, kind):
    torch.manual_seed(0)
    source = timm.create_model("test_vit", num_classes=7 if kind == "other_head.pth" else 1000).eval()
    file = tmp_path / kind
    state = source.state_dict()
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        key = file.stem if file.stem in ("state_dict", "model") else None
        torch.save({key: state, "epoch": 3} if key else state, file)
    backbone = ck.load_backbone(f"test_vit@{file}", device="cpu", precision="float32")
    images = torch.rand(2, 3, 160, 160)
    (expected,) = source.forward_intermediates(
        (images - 0.5) / 0.5, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
    )
    assert torch.allclose(backbone(images), expected, atol=1e-6)
    assert len(backbone.provenance()["weights_sha256"]) == 64


def test_position_embeddings_are_resampled_as_timm_does(tmp_path):
    source = timm.create_model("vit_tiny_patch16_224")
    file = tmp_path / "weights.pth"
    torch.save(source.state_dict(), file)
    backbone = ck.load_backbone(f"vit_tiny_patch16_224@{file}", image_size=320, device="cpu", precision="float32")
    source.set_input_size((320, 320))
    assert torch.allclose(backbone.network.pos_embed, source.pos_embed, atol=1e-6)


def spoil(state, how):
    if how == "missing":
        del state["blocks.0.attn.qkv.weight"]
    elif how == "renamed":
        state["blocks.0.attn.qkv_.weight"] = state.pop("blocks.0.attn.qkv.weight")
    elif how == "misshaped":
        state["blocks.0.attn.qkv.weight"] = torch.zeros(3, 3)
    else:
        state = {f"backbone.{name}": value for name, value in state.items()}
    return state


@pytest.mark.parametrize("how", ["missing", "renamed", "misshaped"])
def test_weights_that_do_not_fit_are_listed(tmp_path, how):
    file = tmp_path / "weights.pth"
    torch.save(spoil(timm.create_model("test_vit").state_dict(), how), file)
    with pytest.raises(BackboneError, match=r"do not fit.*blocks\.0\.attn\.qkv"):
        ck.load_backbone(f"test_vit@{file}")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet5", "resnet50"),
        ("timm:vit_tiny_patch16_24", "vit_tiny_patch16_224"),
        ("torchvision:resnet5", "resnet50"),
        ("convnext_tiny,=3@x", "KEY=VALUE"),
        ("", "not of a known form"),
        ("tfhub:resnet50", "'tfhub' is no source.*hub:CLONE:ENTRY"),
        ("random:test_vit@x.pth", "not of a known form"),
        ("random:test_vit,depths=3", "cannot be built"),
    ],
)
def test_unknown_names_are_refused_with_near_ones(name, hint):
    with pytest.raises(BackboneError, match=hint):
        ck.load_backbone(name)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(BackboneError, match="does not exist"):
        ck.load_backbone(f"test_vit@{tmp_path}/no.pth")
    with pytest.raises(BackboneError, match="reads like a weights file"):
        parse_model_name(f"{tmp_path}/no.pth")
    with pytest.raises(BackboneError, match="is a folder"):
        ck.load_backbone(f"test_vit@{tmp_path}")
    with pytest.raises(BackboneError, match=r"without a config\.json"):
        ck.load_backbone(str(tmp_path))


@pytest.mark.parametrize("name", ["resnet18", "torchvision:resnet18"])
def test_without_network_it_says_what_would_be_downloaded(name, tmp_path):
    """In a process whose only way out is a proxy that nobody listens to."""
    code = f"import couplingkit as ck; ck.load_backbone({name!r})"
    dead = "http://127.0.0.1:9"
    environment = {"HTTPS_PROXY": dead, "HTTP_PROXY": dead, "https_proxy": dead, "http_proxy": dead}
    environment |= {"HF_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path), "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "BackboneError" in done.stderr
    assert "would have to be downloaded" in done.stderr
    assert "resnet18@FILE" in done.stderr


@pytest.mark.parametrize(
    "fields", [{"norm": "some"}, {"image_size": 3}, {"mean": (2.0, 0, 0)}, {"std": (0.0, 1, 1)}], ids=str
)
def test_options_out_of_range_are_refused(fields):
    with pytest.raises(ArgumentError):
        BackboneOptions(**fields)


def test_precision_and_device_words(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert resolve_precision("auto", cpu) == "bfloat16"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert resolve_precision("auto", cpu) == "float32"
    assert resolve_precision("bfloat16", cpu) == "bfloat16"
    with pytest.raises(ArgumentError, match="float16"):
        resolve_precision("float16", cpu)
    with pytest.raises(ArgumentError, match="try auto or cpu"):
        ck.load_backbone("control:cell", device="cuda:99")
    with pytest.raises(ArgumentError, match="try auto or cpu"):
        ck.load_backbone("control:cell", device="toaster")


def test_normalisation_is_the_weights_own_unless_chosen():
    assert ck.load_backbone("random:test_vit").mean == (0.5, 0.5, 0.5)
    assert ck.load_backbone("random:resnet18").mean == (0.485, 0.456, 0.406)
    chosen = ck.load_backbone("random:resnet18", mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0), image_size=64)
    assert chosen.mean == (0.1, 0.2, 0.3)
    blank = torch.tensor(chosen.mean).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    zero = chosen.read(chosen.network, torch.zeros(1, 3, 64, 64))
    assert torch.equal(chosen(blank), zero)
