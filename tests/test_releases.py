"""The list of published models is one that a command takes; of two towers of transformers the image tower is read."""

import json

import pytest
import torch
from checkpoint_files import dino_backbone, dinov3

import couplingkit as ck
from couplingkit.errors import BackboneError
from couplingkit.features.names import BackboneOptions
from couplingkit.runs.models import read_zoo
from couplingkit.runs.probe_sets import shipped_sets

PLAIN = {"device": "cpu", "precision": "float32"}


def models_file():
    return next(iter(shipped_sets().values())).parent / "models.toml"


def test_the_list_is_one_that_measure_takes(tmp_path, monkeypatch):
    choices = read_zoo(models_file(), BackboneOptions())
    assert len(choices) >= 25
    assert len({choice.label for choice in choices}) == len(choices)
    file = dino_backbone().write(tmp_path)
    file.rename(tmp_path / choices[0].name)
    monkeypatch.chdir(tmp_path)
    assert ck.load_backbone(choices[0].name, **PLAIN).provenance()["branch"] == "teacher"


@pytest.mark.parametrize("family", ["CLIP", "Siglip"])
def test_the_image_tower_of_two_towers_is_read(tmp_path, family):
    transformers = pytest.importorskip("transformers")
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    image = getattr(transformers, f"{family}VisionConfig")(**size, image_size=64, patch_size=16)
    text = getattr(transformers, f"{family}TextConfig")(**size, vocab_size=100)
    config = getattr(transformers, f"{family}Config")(vision_config=image.to_dict(), text_config=text.to_dict())
    torch.manual_seed(0)
    network = getattr(transformers, f"{family}Model")(config).eval()
    network.save_pretrained(tmp_path / "towers")
    processor = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "image_processor_type": "ViTImageProcessor"}
    (tmp_path / "towers" / "preprocessor_config.json").write_text(json.dumps(processor))
    backbone = ck.load_backbone(str(tmp_path / "towers"), **PLAIN)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        states = network.vision_model(pixel_values=(images - 0.5) / 0.5).last_hidden_state
    cells = states[:, -16:].transpose(1, 2).reshape(2, 32, 4, 4)
    assert torch.allclose(backbone(images), cells, atol=1e-5)


def test_biases_that_timm_would_drop_are_not_dropped(tmp_path):
    """Its conversion leaves the biases of DINOv3 away where the architecture has none, whatever they are."""
    file = dinov3().write(tmp_path)
    with pytest.raises(BackboneError, match=r"biases that vit_small_patch16_dinov3 has not: .*qkv\.bias"):
        ck.load_backbone(f"vit_small_patch16_dinov3,embed_dim=192,num_heads=3@{file}", **PLAIN)
