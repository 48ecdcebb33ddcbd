"""What makes a frozen network faster changes no feature, or only by rounding."""

import shutil

import pytest
import torch

import couplingkit as ck
from couplingkit.errors import BackboneError
from couplingkit.features import loading
from couplingkit.features.speeding import repeated_blocks, round_weights

SMALL = {"image_size": 64, "device": "cpu"}
NETWORKS = (
    "vit_tiny_patch16_224,depth=2",
    "resnet18",
    pytest.param("resnetv2_50x1_bit", marks=pytest.mark.slow),
    pytest.param("torchvision:resnet18", marks=pytest.mark.slow),
)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_rounded_once_give_the_same_features_bit_for_bit(name, monkeypatch):
    images = torch.rand(3, 3, 64, 64)
    once = ck.load_backbone(f"random:{name}", precision="bfloat16", **SMALL)
    monkeypatch.setattr(loading, "round_weights", lambda network: None)
    again = ck.load_backbone(f"random:{name}", precision="bfloat16", **SMALL)
    held = {parameter.dtype for parameter in once.network.parameters()}
    assert (torch.bfloat16 in held) == (name != "resnetv2_50x1_bit")  # all of whose convolutions do more
    assert torch.float32 in held, "norms stay as they are"
    assert torch.equal(once(images), again(images))


def test_in_float32_no_weight_is_rounded():
    backbone = ck.load_backbone("random:resnet18", precision="float32", **SMALL)
    assert {parameter.dtype for parameter in backbone.network.parameters()} == {torch.float32}


def test_weights_that_are_more_than_multiplied_by_are_left_alone():
    # A ResNetV2 standardises the weights of its convolutions in each pass.
    backbone = ck.load_backbone("random:resnetv2_50x1_bit", precision="bfloat16", **SMALL)
    kinds = {
        type(module).__name__: module.weight.dtype for module in backbone.network.modules() if hasattr(module, "weight")
    }
    assert kinds["StdConv2d"] == torch.float32


def test_a_weight_that_is_worked_out_anew_is_left_alone():
    layer = torch.nn.utils.weight_norm(torch.nn.Linear(4, 4))
    round_weights(layer)
    assert {parameter.dtype for parameter in layer.parameters()} == {torch.float32}


def test_blocks_are_found_in_networks_of_every_kind():
    for name, count in (
        ("vit_tiny_patch16_224,depth=5", 5),
        ("resnet18", 8),
        ("torchvision:resnet18", 8),
        ("convnext_atto", 12),
    ):
        assert len(repeated_blocks(ck.load_backbone(f"random:{name}", **SMALL).network)) == count, name


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_gives_the_same_but_for_rounding():
    images = torch.rand(3, 3, 64, 64)
    name = "random:vit_tiny_patch16_224,depth=2"
    plain = ck.load_backbone(name, precision="float32", **SMALL)
    compiled = ck.load_backbone(name, precision="float32", compile=True, **SMALL)
    assert compiled.provenance()["compiled"] is True
    assert "compiled" not in plain.provenance()
    assert torch.allclose(plain(images), compiled(images), atol=1e-5)
    # The same images in another batch, which is compiled for, too.
    assert torch.allclose(plain(images[:2]), compiled(images[:2]), atol=1e-5)


def test_a_network_of_unlike_blocks_says_that_it_is_not_compiled():
    backbone = ck.load_backbone("random:resnet18", compile=True, **SMALL)
    assert backbone.provenance()["compiled"] is False
    assert any("not compiled" in note for note in backbone.provenance()["notes"])


def test_without_a_compiler_it_is_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: self.register_forward_pre_hook(_no_compiler))
    with pytest.raises(BackboneError, match=r"cannot be read compiled .*install a C"):
        ck.load_backbone("random:vit_tiny_patch16_224,depth=2", compile=True, **SMALL)


def _no_compiler(_module, _inputs):
    raise RuntimeError("InvalidCxxCompiler: no working C++ compiler found\nmore")
