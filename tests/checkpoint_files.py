"""Checkpoints of every layout, made from random weights as each project's own scripts would save them."""

import argparse
import functools
import pickle
import re
from dataclasses import dataclass, field

import timm
import torch
from safetensors.torch import save_file

import couplingkit as ck

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
VIT = "vit_tiny_patch16_224"


@dataclass
class Made:
    """A file, and what is to be read from it.

    `networks` holds, per branch, the network that the file was made from; the first is the one to be read unasked.
    """

    content: object
    networks: dict
    suffix: str = ".pth"
    left_out: tuple = ()
    norm: str = "applied"
    options: dict = field(default_factory=dict)

    def write(self, folder):
        path = folder / f"checkpoint{self.suffix}"
        if self.suffix == ".pkl":
            path.write_bytes(pickle.dumps(self.content, protocol=self.options.get("protocol", 2)))
        elif self.suffix == ".safetensors":
            save_file(self.content, path)
        else:
            torch.save(self.content, path, _use_new_zipfile_serialization=not self.options.get("old"))
        return path


@functools.cache
def network(architecture, seed, **options):
    """A network whose every parameter and statistic is random, so that none can be mistaken for another."""
    torch.manual_seed(seed)
    made = timm.create_model(architecture, num_classes=0, **options).eval()
    for name, value in made.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bias", "cls_token", "reg_token", "pos_embed")):
            value.normal_(0, 0.1)
        elif value.ndim == 1 and value.is_floating_point():
            value.uniform_(0.5, 1.5)
    return made


def state(made):
    return {name: value.clone() for name, value in made.state_dict().items()}


def under(prefix, tensors):
    return {prefix + name: value for name, value in tensors.items()}


def some(*names):
    return {name: torch.randn(4, 3) for name in names}


def training(key, tensors, **more):
    """What surrounds weights in a training file."""
    optimizer = {"state": {0: {"exp_avg": torch.zeros(5)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    arguments = argparse.Namespace(arch="vit_tiny", lr=0.1, nested=argparse.Namespace(seed=1))
    return {key: tensors, "optimizer": optimizer, "epoch": 200, "args": arguments, **more}


def moco(prefix="", extra=()):
    query, momentum = network("resnet18", 1), network("resnet18", 2)
    tensors = {
        **under(f"module.encoder_q.{prefix}", state(query)),
        **under(f"module.encoder_q.{prefix}", some("fc.0.weight", "fc.2.weight", "fc.2.bias")),
        **some(*extra),
        **under(f"module.encoder_k.{prefix}", state(momentum)),
        "module.queue": torch.randn(128, 64),
        "module.queue_ptr": torch.zeros(1, dtype=torch.long),
    }
    left_out = ("module.encoder_k", "module.queue", "fc", "optimizer", "args")
    return Made(training("state_dict", tensors), {"query": query, "key": momentum}, left_out=left_out)


def moco_old():
    made = moco()
    made.suffix = ".pth.tar"
    made.options = {"old": True}
    return made


def resim():
    names = ["fpn_lateral4.weight", "fpn_output4.weight", "fpn_output4.norm.weight"]
    return moco(extra=[f"module.encoder_q.{name}" for name in names])


def resim_c4():
    return moco(extra=["module.encoder_q.roi_head.0.weight", "module.encoder_q.roi_head.0.bias"])


def plrc():
    made = moco(prefix="enc.", extra=["module.plrc_loss.weight"])
    made.content["state_dict"].update(some("module.encoder_q.enc.fcs.0.weight", "module.encoder_q.enc.fcs_2.0.weight"))
    return made


def to_detectron2(tensors):
    renamed = {}
    for name, value in tensors.items():
        if name.endswith("num_batches_tracked"):
            continue
        name = re.sub(r"bn(\d)\.", r"conv\1.norm.", name)
        name = name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
        name = re.sub(r"layer(\d)\.", lambda match: f"res{int(match[1]) + 1}.", name)
        renamed[name if name.startswith("res") else f"stem.{name}"] = value.numpy()
    return renamed


def detectron2(protocol=2):
    query = network("resnet18", 1)
    content = {"model": to_detectron2(state(query)), "__author__": "MOCO", "matching_heuristics": True}
    return Made(content, {"query": query}, suffix=".pkl", options={"protocol": protocol})


def detectron2_by_torch():
    query = network("resnet18", 1)
    return Made({"model": to_detectron2(state(query)), "__author__": "ReSim"}, {"query": query})


def densecl_release():
    query = network("resnet18", 1)
    return Made({"state_dict": state(query), "author": "DenseCL"}, {"query": query})


def densecl_training():
    query, momentum = network("resnet18", 1), network("resnet18", 2)
    tensors = {
        **under("backbone.", state(query)),
        **under("encoder_q.0.", state(query)),
        **some("encoder_q.1.mlp.0.weight"),
        **under("encoder_k.0.", state(momentum)),
        **some("encoder_k.1.mlp.0.weight", "queue", "queue2"),
    }
    content = {"meta": {"epoch": 200, "mmcv_version": "1.0"}, "state_dict": tensors, "optimizer": {"state": {}}}
    return Made(content, {"query": query, "key": momentum}, left_out=("encoder_q", "encoder_k", "queue", "meta"))


def soco():
    online, momentum = network("resnet18", 1), network("resnet18", 2)
    tensors = {
        **under("module.encoder.", state(online)),
        **under("module.encoder_k.", state(momentum)),
        **some("module.projector.0.weight", "module.predictor.0.weight", "module.neck.weight", "module.head.weight"),
        **some("module.projector_k.0.weight", "module.queue"),
    }
    content = {"opt": argparse.Namespace(dataset="coco"), "model": tensors, "optimizer": {"state": {}}, "epoch": 100}
    return Made(content, {"online": online, "momentum": momentum}, left_out=("module.encoder_k", "opt"))


def teacher_and_student(teacher, student, *, teacher_prefix="backbone.", rename=lambda tensors: tensors, extra=()):
    content = training(
        "teacher",
        {**under(teacher_prefix, rename(state(teacher))), **some("head.mlp.0.weight", "head.last_layer.weight_g")},
        student={
            **under("module.backbone.", rename(state(student))),
            **some("module.head.mlp.0.weight", *extra),
        },
        dino_loss=some("center"),
    )
    left_out = ("teacher.head", "student.module", "dino_loss", "optimizer")
    return Made(content, {"teacher": teacher, "student": student}, left_out=left_out)


def ibot():
    return teacher_and_student(network(VIT, 1), network(VIT, 2), extra=["module.backbone.masked_embed"])


def as_original_swin(tensors):
    renamed = {
        re.sub(r"layers\.(\d)\.downsample", lambda match: f"layers.{int(match[1]) - 1}.downsample", name): value
        for name, value in tensors.items()
    }
    renamed["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    renamed["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
    return renamed


def ibot_swin():
    swin = "swin_tiny_patch4_window7_224"
    extra = ["module.backbone.masked_embed"]
    return teacher_and_student(network(swin, 1), network(swin, 2), rename=as_original_swin, extra=extra)


def ibot_extracted():
    teacher = network(VIT, 1)
    return Made({"state_dict": state(teacher)}, {"teacher": teacher})


def dino():
    return teacher_and_student(network(VIT, 1), network(VIT, 2))


def dino_resnet():
    return teacher_and_student(network("resnet18", 1), network("resnet18", 2), teacher_prefix="module.backbone.")


def dino_backbone():
    teacher = network(VIT, 1)
    return Made(state(teacher), {"teacher": teacher})


def dino_backbone_patch8():
    teacher = network(VIT, 1, patch_size=8)
    return Made(state(teacher), {"teacher": teacher})


def dino_backbone_resnet():
    teacher = network("resnet18", 1)
    return Made(state(teacher), {"": teacher})


def maskalign():
    student, teacher = network(VIT, 1), network(VIT, 2)
    tensors = {
        **state(student),
        **some("distill_heads.0.weight", "distill_weights"),
        **under("dino_model.", state(teacher)),
        **some("clip_model.visual.conv1.weight"),
    }
    left_out = ("distill_heads", "dino_model", "clip_model")
    networks = {"student": student, "teacher": teacher}
    return Made(training("model", tensors), networks, left_out=left_out, norm="raw")


def mae():
    return Made({"model": state(made := network(VIT, 1))}, {"": made})


def mae_full():
    made = network(VIT, 1)
    decoder = some("decoder_embed.weight", "decoder_blocks.0.attn.qkv.weight", "decoder_pred.weight", "mask_token")
    return Made(training("model", {**state(made), **decoder}), {"": made}, left_out=("decoder_embed", "mask_token"))


def dinov2():
    teacher = network("vit_small_patch14_dinov2", 1)
    return Made({**state(teacher), "mask_token": torch.zeros(1, 384)}, {"teacher": teacher}, left_out=("mask_token",))


def dinov2_registers():
    teacher = network("vit_small_patch14_reg4_dinov2", 1, img_size=224)
    tensors = state(teacher)
    own = torch.randn(1, 1, 384)
    tensors["register_tokens"] = tensors.pop("reg_token")
    tensors["cls_token"] = tensors["cls_token"] - own
    tensors["pos_embed"] = torch.cat([own, tensors["pos_embed"]], dim=1)
    return Made({**tensors, "mask_token": torch.zeros(1, 384)}, {"teacher": teacher}, left_out=("mask_token",))


def dinov2_training():
    teacher = network(VIT, 1, init_values=1e-5)
    chunked = {
        re.sub(r"^blocks\.(\d+)\.", lambda match: f"blocks.{int(match[1]) // 4}.{match[1]}.", name): value
        for name, value in state(teacher).items()
    }
    heads = some("dino_head.mlp.0.weight", "ibot_head.mlp.0.weight")
    content = {"teacher": {**under("backbone.", chunked), **heads}}
    return Made(content, {"teacher": teacher}, left_out=("dino_head", "ibot_head"))


def swav():
    """Heads and prototypes beside a flat trunk, all of it as distributed training names it."""
    trunk = network("resnet18", 1)
    beside = some("projection_head.0.weight", "projection_head.3.bias", "prototypes.weight")
    weights = list(state(trunk).items())
    content = under("module.", {**dict(weights[:10]), **beside, **dict(weights[10:])})
    return Made(content, {"": trunk}, left_out=("projection_head", "prototypes"))


def vissl():
    trunk = network("resnet18", 1)
    model = {"trunk": under("_feature_blocks.", state(trunk)), "heads": some("0.clf.0.weight")}
    content = {"phase_idx": 1, "loss": 1.0, "classy_state_dict": {"base_model": {"model": model, "meters": {}}}}
    return Made(content, {"": trunk}, suffix=".torch", left_out=("heads",))


def dino_compiled():
    """What torch.compile, FSDP and activation checkpointing write into names, at their start and in their middle."""
    made = dino()
    made.content["student"] = {
        name.replace("module.", "module._orig_mod."): v for name, v in made.content["student"].items()
    }
    made.content["teacher"] = {
        f"_orig_mod.{name}".replace("blocks.1.", "blocks.1._checkpoint_wrapped_module."): value
        for name, value in made.content["teacher"].items()
    }
    return made


def dino_backbone_compiled():
    teacher = network(VIT, 1)
    return Made(under("_orig_mod.", state(teacher)), {"teacher": teacher}, suffix=".safetensors")


def to_dinov3(tensors):
    """As Meta's own code has it: one bias of three, of which the keys' is masked; registers are storage tokens."""
    renamed = {"mask_token": torch.zeros(1, 192), "rope_embed.periods": torch.ones(16)}
    for name, value in tensors.items():
        if name.endswith("attn.q_bias"):
            other = tensors[name.replace("q_bias", "v_bias")]
            stem = name.removesuffix("q_bias")
            renamed[f"{stem}qkv.bias"] = torch.cat([value, torch.zeros_like(value), other])
            renamed[f"{stem}qkv.bias_mask"] = torch.full((3 * len(value),), torch.nan)
        elif not name.endswith(("v_bias", "k_bias")) and not name.startswith("rope"):
            plain = name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
            renamed[plain.replace("reg_token", "storage_tokens")] = value
    return renamed


def dinov3():
    teacher = network("vit_tiny_patch16_dinov3_qkvb", 1)
    return Made(to_dinov3(state(teacher)), {"teacher": teacher})


def dinov3_training():
    teacher = network("vit_tiny_patch16_dinov3_qkvb", 1)
    tensors = {**under("backbone.", to_dinov3(state(teacher))), **some("dino_head.mlp.0.weight")}
    return Made({"teacher": tensors, "iteration": 5}, {"teacher": teacher}, left_out=("dino_head", "iteration"))


def ijepa():
    """No class token; both networks as distributed training names them."""
    settings = {"class_token": False, "global_pool": "avg", "fc_norm": False}
    target, context = network(VIT, 1, **settings), network(VIT, 2, **settings)
    content = {
        "encoder": under("module.", state(context)),
        "predictor": some("module.predictor_embed.weight", "module.mask_token"),
        "target_encoder": under("module.", state(target)),
        **{"opt": {"state": {}}, "scaler": None, "epoch": 300, "lr": 1e-3},
    }
    return Made(content, {"target": target, "context": context}, suffix=".pth.tar", left_out=("encoder", "predictor"))


def simsiam():
    trunk = network("resnet18", 1)
    heads = some("module.encoder.fc.0.weight", "module.encoder.fc.6.bias", "module.predictor.0.weight")
    content = training("state_dict", {**under("module.encoder.", state(trunk)), **heads})
    return Made(content, {"": trunk}, suffix=".pth.tar", left_out=("fc", "predictor"))


def barlow_training():
    """Barlow Twins, VICReg and VICRegL: their backbone files are flat ResNets."""
    trunk = network("resnet18", 1)
    tensors = {**under("module.backbone.", state(trunk)), **some("module.projector.0.weight", "module.bn.running_mean")}
    return Made({"epoch": 3, "model": tensors, "optimizer": {"state": {}}}, {"": trunk}, left_out=("projector",))


def pixpro():
    made = soco()
    beside = some("module.projector.linear1.weight", "module.value_transform.weight")
    made.content["model"] = {**beside, **made.content["model"]}
    return made


LAYOUTS = {
    made.__name__: made
    for made in (
        *(moco, moco_old, resim, resim_c4, plrc, detectron2, detectron2_by_torch, densecl_release, densecl_training),
        *(soco, ibot, ibot_swin, ibot_extracted, dino, dino_resnet, dino_backbone, dino_backbone_patch8),
        *(dino_backbone_resnet, maskalign, mae, mae_full, dinov2, dinov2_registers, dinov2_training),
        *(swav, vissl, dino_compiled, dino_backbone_compiled, dinov3, dinov3_training, ijepa, simsiam),
        *(barlow_training, pixpro),
    )
}


def own(path, made, *, overwrite=False, **more):
    header = ck.BackboneHeader(architecture=VIT, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), branch="teacher", **more)
    ck.save_backbone(path, state(made), header, overwrite=overwrite)
