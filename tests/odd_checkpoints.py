"""Odd checkpoints, many of them: the same network in other containers, under other names, beside other things, damaged.

Each says how it is named on the command line and what is right: the features of the network that it was made from, or
one sentence that has some words. Everything is drawn from one seed.
"""

import functools
import gzip
import io
import itertools
import json
import os
import pickle
import random
import re
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import torch
from checkpoint_files import IMAGENET, VIT, network, state, under
from safetensors.torch import save_file

SIZES = {"test_vit": 160, "test_convnext": 160, "test_resnet": 160, VIT: 224, "resnet18": 64}
LARGE = {"image_size": 64}


@dataclass
class Odd:
    """A file, how it is asked for, and what is right.

    Attributes:
        name: of the case.
        write: folder -> the file's path.
        architecture: of the network that the file was made from; '' where the file must be refused.
        made: settings of that network.
        ask: what stands in front of the file's path in a model's name.
        options: of `load_backbone`.
        words: that the refusal has, a regular expression.
    """

    name: str
    write: Callable
    architecture: str = ""
    made: dict = field(default_factory=dict)
    ask: str = ""
    options: dict = field(default_factory=dict)
    words: str = ""


def to_sequential(tensors):
    places = {"conv1": "0", "bn1": "1", **{f"layer{stage}": str(stage + 3) for stage in (1, 2, 3, 4)}}
    return {places[name.split(".")[0]] + name[len(name.split(".")[0]) :]: value for name, value in tensors.items()}


def to_mmpretrain(tensors):
    pairs = (
        *(("patch_embed.proj", "patch_embed.projection"), ("blocks.", "layers."), ("norm1", "ln1"), ("norm2", "ln2")),
        *(("mlp.fc1", "ffn.layers.0.0"), ("mlp.fc2", "ffn.layers.1")),
    )
    renamed = {}
    for name, value in tensors.items():
        for old, new in pairs:
            name = name.replace(old, new)
        renamed["ln1." + name[5:] if name.startswith("norm.") else name] = value
    return renamed


def to_convnext(tensors):
    """As ConvNeXt's own repository has it."""
    renamed = {}
    for name, value in tensors.items():
        name = name.replace("stem.", "downsample_layers.0.")
        name = re.sub(r"stages\.(\d)\.downsample\.(\d)", r"downsample_layers.\1.\2", name)
        name = re.sub(r"stages\.(\d)\.blocks\.(\d+)", r"stages.\1.\2", name)
        name = name.replace("conv_dw", "dwconv").replace("mlp.fc1", "pwconv1").replace("mlp.fc2", "pwconv2")
        renamed[name.replace("head.norm", "norm").replace("head.fc", "head")] = value
    return renamed


def to_clip(tensors):
    """As OpenAI's and open_clip's own code has it, the text tower beside it."""
    names = {"cls_token": "class_embedding", "patch_embed.proj.weight": "conv1.weight"}
    names |= {"norm_pre": "ln_pre", "norm": "ln_post"}
    inner = {"norm1": "ln_1", "norm2": "ln_2", "attn.proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc"}
    inner["mlp.fc2"] = "mlp.c_proj"
    found = {"logit_scale": torch.ones(()), "transformer.resblocks.0.ln_1.weight": torch.ones(8)}
    for name, value in tensors.items():
        if name == "pos_embed":
            found["visual.positional_embedding"] = value[0]
        elif name.startswith("blocks."):
            plain = name.replace("blocks.", "visual.transformer.resblocks.")
            plain = plain.replace("attn.qkv.", "attn.in_proj_")
            for old, new in inner.items():
                plain = plain.replace(f".{old}.", f".{new}.")
            found[plain] = value
        else:
            part = next(old for old in names if name == old or name.startswith(f"{old}."))
            plain = f"visual.{names[part]}{name[len(part) :]}"
            found[plain] = value[0, 0] if name == "cls_token" else value
    return {**found, "visual.proj": torch.zeros(64, 8)}


CONTAINERS = {
    "flat": lambda tensors: tensors,
    "state_dict": lambda tensors: {"state_dict": tensors, "epoch": 3},
    "model": lambda tensors: {"model": tensors, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
    "ordered": lambda tensors: OrderedDict(net=OrderedDict(tensors), args=None),
    "deep": lambda tensors: {"a": {"b": {"c": {"d": tensors}}}, "note": "x"},
    "teacher": lambda tensors: {"teacher": tensors, "iteration": 7},
    "ema": lambda tensors: {"ema_state_dict": tensors, "config": {"lr": [0.1, None]}},
    "numbers": lambda tensors: {"state_dict": tensors, 0: {"x": 1}, "rng": torch.zeros(3, dtype=torch.uint8)},
}
PREFIXES = ("", "module.", "backbone.", "module._orig_mod.", "model.", "encoder.trunk.", "_fsdp_wrapped_module.net.")
BESIDE = {
    "nothing": (),
    "heads": ("projector.0.weight", "predictor.2.bias"),
    "queue": ("queue", "queue_ptr", "prototypes.weight"),
    "decoder": ("mask_token", "decoder_embed.weight", "decoder_blocks.0.norm1.weight"),
}
DIALECTS = {
    "resnet18": {"plain": dict, "sequential": to_sequential},
    VIT: {"plain": dict, "mmpretrain": to_mmpretrain},
    "test_vit": {"plain": dict},
    "test_resnet": {"plain": dict},
    "test_convnext": {"plain": dict},
    "convnext_atto": {"plain": dict, "original": to_convnext},
}
BARE = ("resnet18", VIT)


def wrapped(tensors, generator):
    """Put what torch.compile and activation checkpointing write into the middle of some names."""
    part = generator.choice(("_orig_mod", "_checkpoint_wrapped_module"))
    return {re.sub(r"^((blocks|layer1|stages)\.0)\.", rf"\1.{part}.", name): value for name, value in tensors.items()}


def saved(content, suffix, old=False):
    def write(folder):
        path = folder / f"file{suffix}"
        if suffix == ".safetensors":
            save_file({name: value.clone() for name, value in content.items()}, path)
        else:
            torch.save(content, path, _use_new_zipfile_serialization=not old)
        return path

    return write


def readable(count, seed=0):
    """Yield files that hold one network and must be read."""
    generator = random.Random(seed)
    kinds = list(itertools.product(DIALECTS, CONTAINERS, PREFIXES, BESIDE))
    generator.shuffle(kinds)
    # Small networks more often: the point is in the names.
    kinds.sort(key=lambda kind: kind[0] in (VIT, "resnet18") and generator.random() < 0.7)
    for number, (architecture, container, prefix, beside) in enumerate(kinds[:count]):
        yield one(number, architecture, container, prefix, beside, generator)


def one(number, architecture, container, prefix, beside, generator):
    dialect = generator.choice(list(DIALECTS[architecture]))
    tensors = DIALECTS[architecture][dialect](state(network(architecture, 1)))
    if dialect == "plain" and generator.random() < 0.3:
        tensors = wrapped(tensors, generator)
    inside = generator.random() < 0.5 and dialect != "original"
    extra = {name: torch.rand(3) for name in BESIDE[beside]}
    # timm's conversion of original names takes them as they stand, behind no prefix.
    prefix = "" if dialect == "original" else prefix
    tensors = {**under(prefix, {**tensors, **(extra if inside else {})}), **({} if inside else extra)}
    content = CONTAINERS[container](tensors)
    suffix = ".safetensors" if container == "flat" and generator.random() < 0.5 else generator.choice((".pth", ".ckpt"))
    bare = architecture in BARE and generator.random() < 0.7
    options = {"mean": IMAGENET[0], "std": IMAGENET[1], **(LARGE if architecture == "resnet18" else {})}
    return Odd(
        f"{number}: {architecture} {dialect} {container} {prefix or '-'} {beside} {'inside' if inside else 'outside'}",
        saved(content, suffix, old=suffix != ".safetensors" and generator.random() < 0.3),
        architecture,
        ask="" if bare else f"{architecture}@",
        options=options,
    )


def towers():
    """Yield two-tower models, of which the image tower is read."""
    small = {"embed_dim": 64, "depth": 2, "num_heads": 2}
    name = "vit_base_patch16_clip_224"
    tensors = to_clip(state(network(name, 1, **small)))
    ask = f"{name},{','.join(f'{key}={value}' for key, value in small.items())}@"
    options = {"mean": IMAGENET[0], "std": IMAGENET[1]}
    for kind in ("flat", "state_dict", "ordered"):
        yield Odd(f"clip {kind}", saved(CONTAINERS[kind](tensors), ".pt"), name, small, ask, options)
    inside = under("visual.trunk.", state(network("test_vit", 1)))
    beside = {"text.transformer.blocks.0.x": torch.zeros(3), "logit_scale": torch.ones(())}
    yield Odd("open_clip of timm", saved({**inside, **beside}, ".bin"), "test_vit", ask="test_vit@", options=options)


def raw(content, suffix=".pth"):
    def write(folder):
        path = folder / f"file{suffix}"
        path.write_bytes(content)
        return path

    return write


def zipped(names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return stream.getvalue()


def tarred():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return stream.getvalue()


def other_files():
    """Yield files of other kinds, whole ones, and what a person has to be told."""
    kinds = {
        "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", ".pth", "git lfs pull"),
        "page": (b"<!DOCTYPE html><html>Google Drive can't scan this file</html>", ".pth", "a web page"),
        "page in capitals": (b"\n<HTML><head></head></HTML>", ".pth.tar", "a web page"),
        "gzip": (gzip.compress(b"x" * 100), ".pth", "gzip archive; unpack"),
        "tar": (tarred(), ".tar", "tar archive; unpack"),
        "xz": (b"\xfd7zXZ\x00" + bytes(50), ".pth", "xz archive"),
        "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(50), ".pth", "7-Zip"),
        "zstd": (b"\x28\xb5\x2f\xfd" + bytes(50), ".pth", "zstd"),
        "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(50), ".h5", "HDF5"),
        "npy": (b"\x93NUMPY\x01\x00" + bytes(50), ".npy", "one NumPy array"),
        "picture": (b"\x89PNG\r\n\x1a\n" + bytes(50), ".pth", "a picture"),
        "onnx": (b"\x08\x07\x12\x07pytorch" + bytes(50), ".onnx", "ONNX"),
        "flax": (b"\x81\xa6params\x80", ".msgpack", "Flax"),
        "tensorflow": (bytes(40), ".pb", "TensorFlow"),
        "json": (json.dumps({"a": 1}).encode(), ".pth", "JSON and holds no weights"),
        "index": (json.dumps({"weight_map": {}}).encode(), ".json", "give the folder"),
        "text": (b"import torch\n", ".pth", "begins like no PyTorch file"),
        "empty": (b"", ".pth", "is empty"),
        "zeros": (bytes(300), ".pth", "not a checkpoint"),
        "page named safetensors": (b"<html></html>", ".safetensors", "a web page"),
        "lfs named safetensors": (b"version https://git-lfs.github.com/spec/v1\n", ".safetensors", "git lfs pull"),
        "safetensors of zeros": (bytes(100), ".safetensors", "no whole safetensors"),
        "zip of pictures": (zipped(["a.png", "b.png"]), ".pth", "not a checkpoint"),
        "torchscript": (zipped(["m/constants.pkl", "m/data.pkl"]), ".pt", "TorchScript"),
        "npz": (zipped(["a.npy", "b/c.npy"]), ".npz", "npz archive"),
        "pickle of text": (pickle.dumps("x"), ".pkl", "no dictionary of tensors"),
        "pickle of numbers": (pickle.dumps({"a": 1}), ".pkl", "no dictionary of tensors"),
    }
    for name, (content, suffix, words) in kinds.items():
        yield Odd(name, raw(content, suffix), words=words)


def broken():
    """Yield checkpoints of whom something is missing, double or of another kind."""
    for number, (architecture, ask) in enumerate(itertools.product(("test_vit", VIT, "resnet18"), ("", "@"))):
        if architecture == "test_vit" and not ask:
            continue
        whole = state(network(architecture, 1))
        names = [name for name in whole if not name.endswith("num_batches_tracked")]
        name = names[(number * 7 + 3) % len(names)]
        at = {"ask": f"{architecture}@" if ask else "", "options": {"mean": IMAGENET[0], "std": IMAGENET[1]}}
        tail = re.escape(".".join(name.split(".")[-2:]))
        changes = {
            "lost": {key: value for key, value in whole.items() if key != name},
            "short": {**whole, name: whole[name].flatten()[:-1]},
            "whole numbers": {**whole, name: whole[name].to(torch.int64)},
            "complex": {**whole, name: whole[name].to(torch.complex64)},
            "sparse": {**whole, name: whole[name].to_sparse()},
        }
        for kind, content in changes.items():
            yield Odd(f"{architecture}{ask} {kind}: {name}", saved(content, ".pth"), words=tail, **at)
    twice = {"model": state(network("resnet18", 1)), "model_ema": state(network("resnet18", 2))}
    yield Odd("two copies", saved(twice, ".pth"), words=r"`key=model`")
    nets = {"x": under("p.", state(network("test_vit", 1))), "y": under("q.", state(network("test_vit", 2)))}
    yield Odd("two copies of a named one", saved(nets, ".pth"), ask="test_vit@", words=r"`key=x.p`")
    yield Odd(
        "an optimizer", saved({"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}, ".pth"), words="no dictionary"
    )
    yield Odd("one tensor", saved(torch.zeros(3), ".pth"), words="no dictionary of tensors")
    registers = {**state(network("test_vit", 1)), "reg_token": torch.zeros(1, 4, 64)}
    yield Odd("registers for none", saved(registers, ".pth"), ask="test_vit@", words="reg_token")
    scaled = {**state(network("test_vit", 1)), "blocks.0.ls1.gamma": torch.ones(64)}
    yield Odd("layer scale for none", saved(scaled, ".pth"), ask="test_vit@", words="ls1.gamma")


class Foreign:
    """Stands for a class of somebody's training code."""


def with_code():
    """Yield files that hold Python objects besides tensors: never opened unasked."""
    tensors = state(network("test_vit", 1))
    things = {
        "an object": Foreign(),
        "a call": functools.partial(print, "x"),
        "a path": PurePosixPath("a"),
        "a module's function": os.system,
    }
    for name, thing in things.items():
        content = {"model": tensors, "config": thing}
        yield Odd(f"beside {name}", saved(content, ".pth"), ask="test_vit@", words="Python objects")


def every(count, seed=0):
    """Return all cases, `count` readable ones among them."""
    return [*readable(count, seed), *towers(), *other_files(), *broken(), *with_code()]
