"""A pretended accelerator, for what would break on a real one: tensors that say `pretended:0` over the CPU's memory.

Within `pretended_device()` real numbers are computed, and
- an operation that mixes tensors of the device with the CPU's is an error (`MixedError`), as is the CPU's generator;
- float64 on the device is an error (`Float64Error`), as on Apple's;
- `Device.waits` counts, by the line of couplingkit that asked, what makes the CPU wait for the device: a value read
  (`.item()`, `if tensor:`), a copy to the CPU, a shape that depends on values (`nonzero`, boolean indexing).

What it does not show: speed, kernels, memory, streams, autocast and backward passes. Registering a device is for the
whole process, so tests use it in a process of their own (`device_cases.py`).
"""

from __future__ import annotations

import collections
import contextlib
import traceback
import types
import typing

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "pretended"
GENERATOR = torch.Generator
WAITS = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "unique_dim"}
COPIES = {"_to_copy", "to", "_copy_from"}
# Indices may lie on the CPU.
INDEXING = {"index": 1, "index_put": 3, "index_put_": 3, "_index_put_impl_": 3}


class MixedError(RuntimeError):
    """Tensors of the device and of the CPU in one operation."""


class Float64Error(TypeError):
    """The device has none."""


class Device:
    """What is counted: the lines that waited, and the copies to the device."""

    waits: typing.ClassVar = collections.Counter()
    copies: typing.ClassVar = collections.Counter()
    seeds: typing.ClassVar = set()


def register():
    """Make torch know the device, once."""
    if hasattr(torch, NAME):
        return
    module = types.ModuleType(NAME)
    answers = {
        "is_available": True, "device_count": 1, "current_device": 0, "is_initialized": True, "_is_in_bad_fork": False,
        "manual_seed_all": None, "manual_seed": None, "_lazy_init": None, "set_device": None, "set_rng_state": None,
    }  # fmt: skip
    for name, answer in answers.items():
        setattr(module, name, lambda *_, answer=answer: answer)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    module.get_rng_state = lambda _device=None: torch.zeros(1, dtype=torch.uint8)
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, module)
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=False)
    torch._C._acc.register_python_privateuseone_hook(backend_registration._DummyPrivateUse1Hook())
    torch._C._acc.register_python_privateuseone_device_guard(backend_registration._DummyDeviceGuard())


class OnDevice(torch.Tensor):
    """A tensor that says it is on the device; `held` is where its numbers are."""

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(NAME, 0),
        )

    def __init__(self, held):
        self.held = held

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


def is_ours(device):
    return device is not None and torch.device(device).type == NAME


def line_of_ours():
    for frame in reversed(traceback.extract_stack()):
        if "/couplingkit/" in frame.filename:
            return f"{frame.filename.rpartition('/couplingkit/')[2]}:{frame.lineno}"
    return "elsewhere"


def held(value):
    return value.held if isinstance(value, OnDevice) else value


def on_device(value, what):
    if not isinstance(value, torch.Tensor) or isinstance(value, OnDevice):
        return value
    if value.dtype == torch.float64:
        raise Float64Error(f"{what} at {line_of_ours()}")
    return OnDevice(value)


def copied(operation, args, kwargs):
    """A copy: to the device, on it, or to the CPU, which waits."""
    source, target = args[0], kwargs.get("device")
    there = is_ours(target) if target is not None else isinstance(source, OnDevice)
    if isinstance(source, OnDevice) and not there:
        Device.waits[line_of_ours()] += 1
    if there and not isinstance(source, OnDevice):
        Device.copies[line_of_ours()] += 1
    rest = {key: value for key, value in kwargs.items() if key not in ("device", "non_blocking", "pin_memory")}
    found = operation(held(source), **rest) if rest else held(source).clone(memory_format=torch.preserve_format)
    return on_device(found, "a copy") if there else found


def check_together(name, args, flat):
    strangers = [one for one in flat if isinstance(one, torch.Tensor) and not isinstance(one, OnDevice) and one.ndim]
    if name in INDEXING:
        fixed = {id(args[0]), id(args[2]) if len(args) > 2 else None}
        strangers = [one for one in strangers if id(one) in fixed]
    if strangers:
        raise MixedError(f"{name}: tensors of {NAME} and of the CPU at {line_of_ours()}")


def run(operation, args, kwargs):
    name = operation._schema.name.removeprefix("aten::")
    flat, _ = tree_flatten((args, kwargs))
    ours = [one for one in flat if isinstance(one, OnDevice)]
    if name in COPIES:
        return copied(operation, args, kwargs)
    if name == "copy_":
        into, source = args[0], args[1]
        if isinstance(into, OnDevice) != isinstance(source, OnDevice) and isinstance(source, torch.Tensor):
            (Device.copies if isinstance(into, OnDevice) else Device.waits)[line_of_ours()] += 1
        held(into).copy_(held(source))
        return into
    target = kwargs.get("device")
    there = bool(ours) if target is None else is_ours(target)
    if ours:
        check_together(name, args, flat)
    if there and any(isinstance(one, GENERATOR) and one.initial_seed() not in Device.seeds for one in flat):
        raise MixedError(f"{name}: a generator of the CPU for a tensor of {NAME} at {line_of_ours()}")
    boolean = name in INDEXING and any(one.dtype == torch.bool for one in ours[1:])
    if ours and (name in WAITS or boolean):
        Device.waits[f"{line_of_ours()} {name}"] += 1
    kwargs = {**kwargs, "device": torch.device("cpu")} if is_ours(target) else kwargs
    arguments, options = tree_map(held, (args, kwargs))
    found = operation(*arguments, **options)
    if operation._schema.is_mutable and ours:
        # What is changed in place stays the same object.
        known = {id(one.held): one for one in ours}
        return tree_map(lambda one: known.get(id(one), on_device(one, name)), found)
    return tree_map(lambda one: on_device(one, name), found) if there else found


class _Everywhere(TorchDispatchMode):
    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


class _NoGradInstead(contextlib.ContextDecorator):
    """Inference tensors cannot be wrapped."""

    def __init__(self, mode=True):
        self.mode = torch.no_grad() if mode else contextlib.nullcontext()

    def __enter__(self):
        self.mode.__enter__()

    def __exit__(self, *error):
        return self.mode.__exit__(*error)


def _maker(make):
    def made(data, *args, dtype=None, device=None, **options):
        if is_ours(device):
            Device.copies[line_of_ours()] += 1
            found = data if isinstance(data, torch.Tensor) else make(data, dtype=dtype)
            return on_device(held(found), "torch.tensor")
        return make(data, *args, dtype=dtype, device=device, **options)

    return made


class _Generator(GENERATOR):
    """One of the CPU that was made for the device; torch wraps it anew on its way, so it is known by its seed."""

    def __new__(cls, device="cpu"):
        found = super().__new__(cls, "cpu")
        found.ours = is_ours(device)
        return found

    def manual_seed(self, seed):
        if self.ours:
            Device.seeds.add(seed)
        return super().manual_seed(seed)


@contextlib.contextmanager
def pretended_device():
    """Let `pretended:0` be a device; give the counts, which begin at 0."""
    register()
    Device.waits.clear()
    Device.copies.clear()
    instead = {
        "tensor": _maker(torch.tensor),
        "as_tensor": _maker(torch.as_tensor),
        "Generator": _Generator,
        "inference_mode": _NoGradInstead,
    }
    before = {name: getattr(torch, name) for name in instead}
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    for name, value in instead.items():
        setattr(torch, name, value)
    try:
        with _Everywhere():
            yield Device
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        for name, value in before.items():
            setattr(torch, name, value)
