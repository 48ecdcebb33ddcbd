"""Networks from every source are read as maps: hub folders, clones, transformers, torchvision, any module."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from checkpoint_files import IMAGENET, VIT, dinov2_registers, network, state
from safetensors.torch import save_file

import couplingkit as ck
from couplingkit.errors import ArgumentError, BackboneError
from couplingkit.features.sources.hooks import as_map

transformers = pytest.importorskip("transformers")
PLAIN = {"device": "cpu", "precision": "float32"}
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def normalised(images, mean, std):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    return (images - mean) / std


def timm_folder(folder, source, **spoil):
    """As timm.models.push_to_hf_hub writes it."""
    folder.mkdir(parents=True)
    config = {"input_size": [3, 160, 160], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "num_classes": 10}
    config |= {"classifier": "head", "first_conv": "patch_embed.proj", "fixed_input_size": True}
    (folder / "config.json").write_text(
        json.dumps({"architecture": "test_vit", "num_classes": 10, "pretrained_cfg": config})
    )
    tensors = {name: value for name, value in source.state_dict().items() if name not in spoil.get("without", ())}
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_a_folder_of_timm(tmp_path):
    source = timm.create_model("test_vit", num_classes=10).eval()
    folder = timm_folder(tmp_path / "model", source)
    images = torch.rand(1, 3, 160, 160)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    expected = source.forward_intermediates(
        normalised(images, mean, std), indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
    )[-1]
    for name in (str(folder), f"local-dir:{folder}"):
        backbone = ck.load_backbone(name, **PLAIN)
        assert (backbone.mean, backbone.std) == (mean, std)
        assert torch.allclose(backbone(images), expected, atol=1e-5)


def test_a_folder_of_timm_that_lacks_weights_is_refused(tmp_path):
    """timm by itself, told to leave the classifier away, goes on with random weights."""
    source = timm.create_model("test_vit", num_classes=10)
    folder = timm_folder(tmp_path / "model", source, without=["blocks.2.attn.qkv.weight"])
    with pytest.raises(BackboneError, match="has no pretrained weights that load here"):
        ck.load_backbone(str(folder))


def test_a_repository_of_the_hub_that_lies_in_the_cache(tmp_path):
    """`hf-hub:` downloads; here its cache is made by hand, and there is no network."""
    snapshot = tmp_path / "hub" / "models--someone--test_vit" / "snapshots" / "abc"
    timm_folder(snapshot, timm.create_model("test_vit", num_classes=10))
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    code = "import couplingkit as ck; print(ck.load_backbone('hf-hub:someone/test_vit', device='cpu').provenance())"
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "'mean': [0.1, 0.2, 0.3]" in done.stdout


HUBCONF = """
dependencies = ["torch"]
import torch

class Tiny(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.patch_embed = torch.nn.Conv2d(3, width, 16, 16)
        self.tokens = torch.nn.Parameter(torch.randn(1, 5, width))
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(width, width) for _ in range(3)])
        self.norm = torch.nn.LayerNorm(width)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.tokens.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = x + block(x)
        return self.norm(x)[:, 0]

def tiny(pretrained=True, width=8):
    if pretrained:
        raise OSError("no network")
    return Tiny(width)

def strict(width=8):
    return Tiny(width)

def number():
    return 3
"""


@pytest.fixture
def clone(tmp_path):
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "hubconf.py").write_text(HUBCONF)
    return folder


def test_an_entry_of_a_local_clone(clone, tmp_path):
    with pytest.raises(BackboneError, match=r"normalisation.*`mean` and `std`"):
        ck.load_backbone(f"random:hub:{clone}:tiny")
    backbone = ck.load_backbone(f"random:hub:{clone}:tiny,width=12", **HALF, **PLAIN)
    assert (backbone.channels, backbone.stride_px) == (12, 16)
    assert backbone.provenance()["norm"] == "applied"
    net = backbone.network
    images = torch.rand(2, 3, 224, 160)
    cells = net.patch_embed(normalised(images, *HALF.values())).flatten(2).transpose(1, 2)
    for block in net.blocks:
        cells = cells + block(cells)
    expected = net.norm(cells).transpose(1, 2).reshape(2, 12, 14, 10)
    assert torch.allclose(backbone(images), expected, atol=1e-5)
    file = tmp_path / "weights.pth"
    torch.save(net.state_dict(), file)
    for entry in ("tiny", "strict"):
        again = ck.load_backbone(f"hub:{clone}:{entry},width=12@{file}", **HALF, **PLAIN)
        assert torch.equal(again(images), backbone(images))
    layers = ck.load_layers(f"hub:{clone}:strict,width=12@{file}", layer="patch_embed,last", **HALF, **PLAIN)
    assert [layer.provenance()["layer"] for layer in layers.layers] == ["patch_embed", "norm"]
    assert layers(images)[0].shape == (2, 12, 14, 10)


@pytest.mark.parametrize(
    ("entry", "hint"),
    [
        ("tiny", "downloaded"),
        ("nothing", "nothing"),
        ("number", "gives a int"),
        ("tiny,depth=3", "cannot be built|no pretrained"),
    ],
)
def test_entries_that_give_no_network(clone, entry, hint):
    with pytest.raises(BackboneError, match=hint):
        ck.load_backbone(f"hub:{clone}:{entry}", **HALF)
    with pytest.raises(BackboneError, match=r"no hubconf\.py"):
        ck.load_backbone("hub:/nowhere:tiny")


def test_official_names_stay_for_the_projects_own_code(tmp_path):
    """A DINOv2 file keeps the names of its file for a clone, and gets timm's for timm."""
    from couplingkit.features.checkpoints import open_checkpoint
    from couplingkit.features.state_dict_matching import match_weights

    found = match_weights(open_checkpoint(dinov2_registers().write(tmp_path)))
    assert "register_tokens" in found.raw
    assert "reg_token" not in found.raw
    assert "reg_token" in found.tensors
    assert found.raw["pos_embed"].shape[1] == found.tensors["pos_embed"].shape[1] + 1


SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
TRANSFORMERS = {
    "vit": (lambda: transformers.ViTConfig(**SMALL, image_size=64, patch_size=16), 16, "applied"),
    "dinov2": (lambda: transformers.Dinov2Config(**SMALL, image_size=70, patch_size=14), 14, "applied"),
    "registers": (
        lambda: transformers.Dinov2WithRegistersConfig(**SMALL, image_size=70, patch_size=14),
        14,
        "applied",
    ),
    "clip": (lambda: transformers.CLIPVisionConfig(**SMALL, image_size=64, patch_size=16), 16, "none"),
    "swin": (
        lambda: transformers.SwinConfig(
            embed_dim=16, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8], window_size=2, image_size=64
        ),
        32,
        "applied",
    ),
    "convnext": (lambda: transformers.ConvNextConfig(**STAGES), 32, "none"),
    "resnet": (lambda: transformers.ResNetConfig(embedding_size=8, **STAGES, layer_type="basic"), 32, "none"),
}


def saved(folder, config, **processor):
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config).eval()
    model.save_pretrained(folder)
    if processor:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_models_of_transformers(tmp_path, kind):
    make, stride, norm = TRANSFORMERS[kind]
    source = saved(tmp_path / "model", make(), image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6])
    backbone = ck.load_backbone(str(tmp_path / "model"), **PLAIN)
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert backbone.stride_px == stride
    assert backbone.provenance()["norm"] == norm
    images = torch.rand(2, 3, *backbone.size_px)
    with torch.inference_mode():
        last = source(pixel_values=normalised(images, backbone.mean, backbone.std)).last_hidden_state
    rows = backbone.size_px[0] // stride
    if last.ndim == 3:
        last = last[:, last.shape[1] - rows * rows :].transpose(1, 2).reshape(2, -1, rows, rows)
    assert torch.allclose(backbone(images), last, atol=1e-4)


def test_layers_and_sizes_of_transformers(tmp_path):
    source = saved(tmp_path / "model", TRANSFORMERS["vit"][0](), image_mean=[0.5] * 3, image_std=[0.5] * 3)
    layers = ck.load_layers(f"transformers:{tmp_path}/model", layer="0,last", norm="raw", image_size=(96, 64), **PLAIN)
    images = torch.rand(1, 3, 96, 64)
    first, last = layers(images)
    assert first.shape == last.shape == (1, 32, 6, 4)
    with torch.inference_mode():
        states = source(
            pixel_values=(images - 0.5) / 0.5, output_hidden_states=True, interpolate_pos_encoding=True
        ).hidden_states
    assert torch.allclose(first, states[1][:, 1:].transpose(1, 2).reshape(1, 32, 6, 4), atol=1e-5)
    assert torch.allclose(last, states[3][:, 1:].transpose(1, 2).reshape(1, 32, 6, 4), atol=1e-5)


def test_a_folder_with_torch_files_is_read_and_never_unpickled_without_limits(tmp_path):
    """Older repositories of the hub have pytorch_model.bin alone."""
    processor = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    model = saved(tmp_path / "model", TRANSFORMERS["vit"][0](), **processor)
    right = ck.load_backbone(str(tmp_path / "model"), **PLAIN)
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "model" / "pytorch_model.bin")
    found = ck.load_backbone(str(tmp_path / "model"), **PLAIN)
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(found(images), right(images))
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Evil()}))
    with pytest.raises(BackboneError, match="could run any code"):
        ck.load_backbone(str(tmp_path / "model"), **PLAIN)
    assert not Path(__file__).with_name("ran").exists()


class Evil:
    """What a pickle may do."""

    def __reduce__(self):
        return Path.touch, (Path(__file__).with_name("ran"),)


def test_a_file_out_of_a_folder_of_transformers_leads_to_the_folder(tmp_path):
    saved(tmp_path / "model", TRANSFORMERS["vit"][0]())
    with pytest.raises(BackboneError, match=r"names of transformers: give its folder, .*model\."):
        ck.load_backbone(str(tmp_path / "model" / "model.safetensors"), **PLAIN)
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text("{}", encoding="utf-8")
    with pytest.raises(BackboneError, match=r"is JSON .* give the folder"):
        ck.load_backbone(str(index), **PLAIN)


@pytest.mark.parametrize("std", [[0.0] * 3, [float("nan")] * 3, [-0.5] * 3, [1e9] * 3])
def test_a_normalisation_that_is_none_is_refused_wherever_it_comes_from(tmp_path, std):
    saved(tmp_path / "model", TRANSFORMERS["vit"][0](), image_mean=[0.5] * 3, image_std=std)
    with pytest.raises(BackboneError, match=r"comes with cannot be one .*std must be"):
        ck.load_backbone(str(tmp_path / "model"), **PLAIN)


def test_what_transformers_cannot_give(tmp_path):
    config = transformers.ViTMAEConfig(**SMALL, image_size=64, patch_size=16)
    saved(tmp_path / "mae", config, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    with pytest.raises(BackboneError, match="leaves tokens out or shuffles them"):
        ck.load_backbone(str(tmp_path / "mae"))
    saved(tmp_path / "bare", TRANSFORMERS["vit"][0]())
    with pytest.raises(BackboneError, match="`mean` and `std`"):
        ck.load_backbone(str(tmp_path / "bare"))
    from safetensors.torch import load_file

    file = tmp_path / "bare" / "model.safetensors"
    tensors = load_file(file)
    del tensors[next(name for name in tensors if "query" in name or "q_proj" in name)]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(BackboneError, match="not whole"):
        ck.load_backbone(str(tmp_path / "bare"), **HALF)
    with pytest.raises(BackboneError, match="transformers reads its own folders only"):
        ck.load_backbone(f"transformers:{tmp_path}/bare,depth=3")


@pytest.mark.parametrize("architecture", ["resnet18", "swin_t", "convnext_tiny", "maxvit_t", "regnet_y_400mf"])
def test_torchvision_at_other_sizes(architecture):
    size = (448, 224) if architecture == "maxvit_t" else (320, 224)
    if architecture == "maxvit_t":
        with pytest.raises(BackboneError, match="448 x 224 px"):
            ck.load_backbone(f"random:torchvision:{architecture}", image_size=size, **PLAIN)
        return
    backbone = ck.load_backbone(f"random:torchvision:{architecture}", image_size=size, **PLAIN)
    assert backbone(torch.rand(1, 3, *size)).shape[-2:] == (10, 7)


def test_torchvision_takes_the_weights_it_is_told_and_official_files(tmp_path):
    with pytest.raises(BackboneError, match="IMAGENET1K_V1, IMAGENET1K_V2"):
        ck.load_backbone("torchvision:resnet50,weights=MINE")
    source = network("resnet18", 1)
    file = tmp_path / "moco.pth"
    torch.save({"state_dict": {f"module.encoder_q.{name}": value for name, value in state(source).items()}}, file)
    ours, theirs = (ck.load_backbone(f"{name}@{file}", **PLAIN) for name in ("resnet18", "torchvision:resnet18"))
    images = torch.rand(1, 3, 224, 224)
    assert torch.allclose(ours(images), theirs(images), atol=1e-5)
    assert theirs.mean == IMAGENET[0]
    plain = torchvision.models.resnet18(weights=None)
    torch.save(plain.state_dict(), file)
    assert ck.load_backbone(str(file)).provenance()["format"] == "classifier"


def test_several_layers_are_one_forward_pass_and_the_same_maps():
    layers = ck.load_layers(f"random:{VIT}", layer="3,11,7", **PLAIN)
    calls = []
    layers.layers[0].network.patch_embed.register_forward_hook(lambda *_: calls.append(1))
    images = torch.rand(2, 3, 224, 224)
    together = layers(images)
    assert len(calls) == 1
    assert [layer.provenance()["layer"] for layer in layers.layers] == ["3 of 0..11", "11 of 0..11", "7 of 0..11"]
    for layer, features in zip(layers.layers, together, strict=True):
        assert torch.equal(layer(images), features)
    stages = ck.load_layers("random:test_resnet", layer="1,last", **PLAIN)
    assert [(layer.stride_px, layer.channels) for layer in stages.layers] == [(4, 32), (32, 96)]
    with pytest.raises(ArgumentError, match="load_layers"):
        ck.load_backbone(f"random:{VIT}", layer="3,7")
    with pytest.raises(ArgumentError, match="several different ones"):
        ck.load_layers(f"random:{VIT}", layer="3,3")


def test_a_sweep_over_layers_measures_what_each_layer_measures(probes):
    layers = ck.load_layers("random:test_vit", layer="1,last", norm="raw", **PLAIN)
    together = ck.measure_layers(layers, probes, ck.MeasureSettings(batch_size=8))
    for layer, measurement in zip(("1", "last"), together, strict=True):
        alone = ck.measure(
            ck.load_backbone("random:test_vit", layer=layer, norm="raw", **PLAIN),
            probes,
            ck.MeasureSettings(batch_size=8),
        )
        assert measurement.name == f"random:test_vit (layer {layer})"
        assert (abs(measurement.cr - alone.cr) < 1e-6).all()
        assert measurement.summary.cr_mean == pytest.approx(alone.summary.cr_mean, abs=1e-6)
    centered = ck.measure_layers(layers, probes, ck.MeasureSettings(batch_size=8, center=True))
    assert centered[0].summary.cr_mean != together[0].summary.cr_mean


def test_an_output_stride_is_stated(tmp_path):
    plain = ck.load_backbone("random:resnet18", **PLAIN)
    finer = ck.load_backbone("random:resnet18", output_stride=16, **PLAIN)
    named = ck.load_backbone("random:resnet18,output_stride=16", **PLAIN)
    assert (plain.stride_px, finer.stride_px, named.stride_px) == (32, 16, 16)
    assert finer.provenance()["options"] == {"output_stride": "16"}
    images = torch.rand(1, 3, 224, 224)
    assert torch.equal(finer(images), named(images))
    file = tmp_path / "dino.pth"
    torch.save(state(network("resnet18", 1)), file)
    assert ck.load_backbone(str(file), output_stride=8, **PLAIN).stride_px == 8
    with pytest.raises(BackboneError, match="output_stride"):
        ck.load_backbone("random:test_vit", output_stride=8)
    with pytest.raises(BackboneError, match="leave one away"):
        ck.load_backbone("random:resnet18,output_stride=16", output_stride=8)
    with pytest.raises(BackboneError, match="take no output_stride"):
        ck.load_backbone("random:torchvision:resnet18", output_stride=16)


def test_a_larger_input_is_a_finer_grid(probes):
    """ViTs at a larger input: the same picture in more cells."""
    small, large = (ck.load_backbone("random:test_vit", image_size=size, **PLAIN) for size in (160, 320))
    cells = [ck.measure(backbone, probes).rows["cells_a"].mean() for backbone in (small, large)]
    assert cells[1] > 3 * cells[0]


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((2, 8, 7, 7), (224, 224), (2, 8, 7, 7)),
        ((2, 7, 7, 8), (224, 224), (2, 8, 7, 7)),
        ((2, 10, 7, 512), (320, 224), (2, 512, 10, 7)),
        ((2, 197, 8), (224, 224), (2, 8, 14, 14)),
        ((2, 201, 8), (224, 224), (2, 8, 14, 14)),
        ((2, 1374, 8), (518, 518), (2, 8, 37, 37)),
        ((2, 141, 8), (224, 160), (2, 8, 14, 10)),
        ((2, 768), (224, 224), None),
        ((2, 150, 8), (224, 224), None),
        ((2, 17, 8), (48, 48), None),
        ((2, 96, 96, 96), (384, 384), None),
        ((2, 8, 7, 5), (224, 224), None),
    ],
)
def test_the_layout_of_a_map_is_told_from_its_shape(shape, size, expected):
    output = torch.arange(float(torch.tensor(shape).prod())).reshape(shape)
    if expected is None:
        with pytest.raises(BackboneError, match=r"no map of features|cannot be told"):
            as_map(output, size, "it")
    else:
        found = as_map(output, size, "it")
        assert found.shape == expected
        # Its last cell is the last token, or the last row and column.
        last = output[0, -1] if len(shape) == 3 else output[0, -1, -1] if shape[1] != 8 else output[0, :, -1, -1]
        assert torch.equal(found[0, :, -1, -1], last)
