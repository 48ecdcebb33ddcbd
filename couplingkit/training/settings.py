"""The tables of a recipe that are the same for all methods: how it is decoupled, how it moves, how long it runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import ArgumentError, check_range
from .method import Masking
from .views import View

__all__ = ["Decoupling", "LocalView", "Optimizer", "Run", "Start"]

PRECISIONS = ("float32", "bfloat16")
OPTIMIZERS = ("adamw", "sgd", "lars")
SCHEDULES = ("cosine", "steps", "poly")


@dataclass(frozen=True)
class Decoupling:
    """What `-d` adds: see `Decoupled`; `inner` is how the views of the method itself are cut then."""

    weight: float = 0.3
    share: float = 0.25
    masking: Masking = field(default_factory=lambda: Masking("rcc", 0.2, 0.6, spared=0.0))
    inner: Masking = field(default_factory=lambda: Masking("rcc", 0.2, 0.6))

    def __post_init__(self) -> None:
        check_range("weight", self.weight, 0)
        check_range("share", self.share, 0, 1)


@dataclass(frozen=True)
class Optimizer:
    """How parameters move: learning rate and weight decay go along cosines, the former after a warm-up.

    With `schedule` steps the learning rate is a tenth from each of the `milestones` on, shares of the run; with poly it
    falls in a straight line. A warm-up of `warmup_steps`, where it is not 0, stands in place of `warmup_epochs`; it
    begins at `warmup_start` times the rate.

    `kind` is adamw (with `betas`), sgd or lars (with `momentum`). Gradients are clipped to the norm `clip`: all
    together, or with `clip_each` those of each parameter by itself; 0 leaves them as they are. The learning rate of a
    layer of a backbone is `layer_decay` times that of the next one; heads have the whole.
    """

    kind: str = "adamw"
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    lr: float = 1e-3
    final_lr: float = 1e-6
    weight_decay: float = 0.04
    final_weight_decay: float = 0.4
    warmup_epochs: float = 10
    clip: float = 3.0
    clip_each: bool = False
    layer_decay: float = 1.0
    schedule: str = "cosine"
    milestones: tuple[float, ...] = ()
    warmup_steps: int = 0
    warmup_start: float = 0.0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ArgumentError(f"optimizer.schedule must be one of {', '.join(SCHEDULES)}, not {self.schedule!r}.")
        check_range("warmup_steps", self.warmup_steps, 0)
        for name, value in (("warmup_start", self.warmup_start), *(("milestones", at) for at in self.milestones)):
            check_range(name, value, 0, 1)
        for name in ("lr", "final_lr", "weight_decay", "final_weight_decay", "warmup_epochs"):
            check_range(name, getattr(self, name), 0)
        for name, value in (("momentum", self.momentum), *(("betas", value) for value in self.betas)):
            check_range(name, value, 0, 0.9999)
        if len(self.betas) != 2:
            raise ArgumentError(f"optimizer.betas must be two numbers, not {self.betas!r}.")
        check_range("clip", self.clip, 0)
        check_range("layer_decay", self.layer_decay, 0.01, 1)
        if self.kind not in OPTIMIZERS:
            raise ArgumentError(f"optimizer.kind must be one of {', '.join(OPTIMIZERS)}, not {self.kind!r}.")


@dataclass(frozen=True)
class Run:
    """Length, batch (of all processes together), checkpoints and where it computes.

    Every `keep_every` steps a checkpoint is kept for good; of the others the last two are. 0 keeps none. With
    `accumulate` the gradient of a step is the mean over so many parts of the batch, one after another, which needs
    less memory. So does `gradient_checkpointing`: what the networks' blocks computed is computed again for the
    gradient. `compile` makes the blocks faster by torch.compile.
    """

    batch_size: int = 64
    steps: int = 1000
    checkpoint_every: int = 100
    keep_every: int = 0
    accumulate: int = 1
    compile: bool = False
    gradient_checkpointing: bool = False
    precision: str = "float32"
    workers: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps", "checkpoint_every", "accumulate"):
            check_range(name, getattr(self, name), 1)
        for name, most in (("keep_every", 2**53), ("workers", 1024), ("seed", 2**63 - 1)):
            check_range(name, getattr(self, name), 0, most)
        if self.compile and self.gradient_checkpointing:
            raise ArgumentError(
                "run.compile and run.gradient_checkpointing cannot both be true; leave one of them away."
            )
        if self.precision not in PRECISIONS:
            raise ArgumentError(f"run.precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}.")


@dataclass(frozen=True)
class Start:
    """What a run begins with: random weights, or those of a `model` as `load_backbone` names it.

    In the first `head_steps` steps only heads learn, where the model has none for the method.
    """

    model: str = ""
    head_steps: int = 0

    def __post_init__(self) -> None:
        check_range("head_steps", self.head_steps, 0)


@dataclass(frozen=True)
class LocalView(View):
    """Some crops of the same kind that only the student is shown (DINO's multi-crop).

    Attributes:
        count: how many of an image.
    """

    size: int = 96
    scale: tuple[float, float] = (0.05, 0.25)
    blur: float = 0.5
    count: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("count", self.count, 1, 64)
