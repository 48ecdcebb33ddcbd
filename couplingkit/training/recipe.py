"""A TOML file and `KEY=VALUE` words in, a checked recipe out: every setting of a run, and the method it builds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from importlib.resources import files
from typing import Any

from ..errors import ArgumentError, DataError, check_range, first_line, near
from ..typed_files import as_record, decode_toml, read_toml
from ..words import as_path
from .decoupling import Decoupled
from .method import DenseMethod, Masking, Method
from .methods.densecl import DenseCL, DenseCLSettings
from .methods.ibot import IBOT, IBOTSettings
from .methods.maskalign import MaskAlign, MaskAlignSettings
from .methods.moco import MoCo, MoCoSettings
from .methods.soco import SoCo, SoCoSettings
from .views import Augmentation, View

__all__ = [
    "METHODS",
    "SUFFIX",
    "Recipe",
    "build_method",
    "different_keys",
    "has_decoupled",
    "method_names",
    "read_recipe",
    "recipe_names",
    "recipe_toml",
]

# name -> (settings, the network of it); with "-d" behind it, the same within `Decoupled`.
METHODS: dict[str, tuple[type, type[Method]]] = {
    "ibot": (IBOTSettings, IBOT),
    "moco": (MoCoSettings, MoCo),
    "densecl": (DenseCLSettings, DenseCL),
    "soco": (SoCoSettings, SoCo),
    "maskalign": (MaskAlignSettings, MaskAlign),
}
SUFFIX = "-d"
TABLES = ("method", "views", "local_views", "decoupling", "optimizer", "run")
PRECISIONS = ("float32", "bfloat16")
OPTIMIZERS = ("adamw", "sgd", "lars")


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

    `kind` is adamw (with `betas`), sgd or lars (with `momentum`). Gradients are clipped to the norm `clip`: all of them
    together, or with `clip_each` those of each parameter by themselves; 0 leaves them as they are.
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

    def __post_init__(self) -> None:
        for name in ("lr", "final_lr", "weight_decay", "final_weight_decay", "warmup_epochs"):
            check_range(name, getattr(self, name), 0)
        for name, value in (("momentum", self.momentum), *(("betas", value) for value in self.betas)):
            check_range(name, value, 0, 0.9999)
        if len(self.betas) != 2:
            raise ArgumentError(f"optimizer.betas must be two numbers, not {self.betas!r}.")
        check_range("clip", self.clip, 0)
        if self.kind not in OPTIMIZERS:
            raise ArgumentError(f"optimizer.kind must be one of {', '.join(OPTIMIZERS)}, not {self.kind!r}.")


@dataclass(frozen=True)
class Run:
    """Length, batch (of all processes together), checkpoints and where it computes.

    Every `keep_every` steps a checkpoint is kept for good; of the others the last two are. 0 keeps none. With
    `accumulate` the gradient of a step is the mean over so many parts of the batch, one after another, which needs
    less memory. `compile` makes the networks' blocks faster by torch.compile.
    """

    batch_size: int = 64
    steps: int = 1000
    checkpoint_every: int = 100
    keep_every: int = 0
    accumulate: int = 1
    compile: bool = False
    precision: str = "float32"
    workers: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps", "checkpoint_every", "accumulate"):
            check_range(name, getattr(self, name), 1)
        for name, most in (("keep_every", 2**53), ("workers", 1024), ("seed", 2**63 - 1)):
            check_range(name, getattr(self, name), 0, most)
        if self.precision not in PRECISIONS:
            raise ArgumentError(f"run.precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}.")


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


@dataclass(frozen=True)
class Recipe:
    """All settings of a run; `name` is the method's, like `ibot-d`.

    `local_views` are crops that only the student is shown, one table for each kind of them.
    """

    name: str
    method: Any
    views: tuple[View, ...]
    decoupling: Decoupling
    optimizer: Optimizer
    run: Run
    local_views: tuple[LocalView, ...] = ()

    @property
    def decoupled(self) -> bool:
        """Whether the method is an X-D."""
        return self.name.endswith(SUFFIX)

    @property
    def augmentation(self) -> Augmentation:
        """What is made of each image; only an X-D asks for a second draw of the colours."""
        local = tuple(view for view in self.local_views for _ in range(view.count))
        boxes = getattr(self.method, "proposals", 0)
        return Augmentation(self.views, local, recolour=self.decoupled, boxes=boxes)


def method_names() -> list[str]:
    """Return what can be trained: each method, with its X-D behind it where it has one."""
    return [name + ending for name in METHODS for ending in (("", SUFFIX) if has_decoupled(name) else ("",))]


def has_decoupled(method: str) -> bool:
    """Return whether there is such a method, and an X-D of it."""
    # What has no dense output has no X-D.
    return method in METHODS and issubclass(METHODS[method][1], DenseMethod)


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with couplingkit."""
    return sorted(one.name.removesuffix(".toml") for one in (files(__package__) / "recipes").iterdir())


def read_recipe(method: str, recipe: str, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe for a method.

    Args:
        method: like `ibot` or `ibot-d`.
        recipe: the name of one that comes with couplingkit, or the path of a TOML file.
        changes: `table.key=value` words, like `optimizer.lr=3e-4`; values as in TOML, or plain words.

    Raises:
        ArgumentError: no such method, recipe or key, or a value out of range.
    """
    base = method.removesuffix(SUFFIX)
    known = method_names()
    if method not in known:
        raise ArgumentError(f"method must be one of {', '.join(known)}, not {method!r}{near(method, known)}.")
    content = _parsed(recipe)
    for change in changes:
        _apply(content, change)
    tables = set(TABLES)
    _check_keys("recipe", content, tables)
    views = content.get("views", [])
    if not isinstance(views, list) or not views:
        raise ArgumentError(f"recipe {recipe} must have one [[views]] per crop, but has none.")
    local = content.get("local_views", [])
    if not isinstance(local, list):
        raise ArgumentError(f"recipe {recipe} must have one [[local_views]] for each kind of them, not {local!r}.")
    if local and not getattr(METHODS[base][1], "takes_local_views", False):
        raise ArgumentError(f"local_views are for methods with a class token, like ibot; {method} has no use for them.")
    return Recipe(
        name=method,
        method=_record(METHODS[base][0], content.get("method", {}), "method"),
        views=tuple(_record(View, view, "views") for view in views),
        local_views=tuple(_record(LocalView, view, "local_views") for view in local),
        decoupling=_record(Decoupling, content.get("decoupling", {}), "decoupling"),
        optimizer=_record(Optimizer, content.get("optimizer", {}), "optimizer"),
        run=_record(Run, content.get("run", {}), "run"),
    )


def build_method(recipe: Recipe) -> Method:
    """Return the networks of a recipe's method, with random weights from its seed.

    Raises:
        ArgumentError: no such network can be built, or there is no memory for it.
    """
    try:
        return _built(recipe)
    except (RuntimeError, ValueError, TypeError, OverflowError, MemoryError, KeyError, AttributeError) as error:
        raise ArgumentError(f"recipe's [method] gives no network: {first_line(error)}.") from error


def _built(recipe: Recipe) -> Method:
    build: Callable[..., Method] = METHODS[recipe.name.removesuffix(SUFFIX)][1]
    if not recipe.decoupled:
        return build(recipe.method, seed=recipe.run.seed)
    extra = recipe.decoupling
    inner = build(replace(recipe.method, masking=extra.inner), seed=recipe.run.seed)
    assert isinstance(inner, DenseMethod)
    return Decoupled(inner, masking=extra.masking, weight=extra.weight, share=extra.share)


def recipe_toml(recipe: Recipe) -> str:
    """Return the whole recipe as TOML, which `read_recipe` reads again."""
    parts = []
    for name in TABLES:
        value = getattr(recipe, name)
        for record in value if isinstance(value, tuple) else [value]:
            head = f"[[{name}]]" if isinstance(value, tuple) else f"[{name}]"
            parts.append("\n".join([head, *_lines(record)]))
    return "\n\n".join(parts) + "\n"


def different_keys(one: Recipe, other: Recipe) -> list[str]:
    """Return what two recipes differ in, as `table.key`, or the table where it is of another kind."""
    found = [] if one.name == other.name else ["the method's name"]
    for table in TABLES:
        left, right = getattr(one, table), getattr(other, table)
        if left == right:
            continue
        if isinstance(left, tuple) or type(left) is not type(right):
            found.append(table)
        else:
            names = [part.name for part in fields(left)]
            found += [f"{table}.{name}" for name in names if getattr(left, name) != getattr(right, name)]
    return found


def _lines(record: Any) -> list[str]:
    # TOML has no word for nothing; what is not there is None again.
    return [f"{key} = {_toml(item)}" for key, item in asdict(record).items() if item is not None]


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # JSON's strings, numbers and booleans are TOML's.
    return json.dumps(value)


def _parsed(recipe: str) -> dict[str, Any]:
    path = as_path(recipe)
    if path.suffix != ".toml":
        if recipe not in recipe_names():
            raise ArgumentError(
                f"recipe must be a .toml file or one of {', '.join(recipe_names())}, not {recipe!r}"
                f"{near(recipe, recipe_names())}."
            )
        text = (files(__package__) / "recipes" / f"{recipe}.toml").read_text(encoding="utf-8")
        return decode_toml(text, f"recipe {recipe}", error=ArgumentError)
    return read_toml(path, "recipe", error=ArgumentError)


def _apply(content: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    *tables, last = key.strip().split(".")
    if not equals or not tables:
        raise ArgumentError(f"change {change!r} must be TABLE.KEY=VALUE, like optimizer.lr=3e-4.")
    try:
        value = decode_toml(f"value = {text}", "change")["value"]
    except DataError:
        value = text.strip()
    place = content
    for table in tables:
        place = _within(place, table, change)
    place[last] = value


def _within(place: dict[str, Any], word: str, change: str) -> dict[str, Any]:
    """Return the table that a word like `method` or `views[0]` names, a new one where there is none."""
    table, bracket, number = word.partition("[")
    found = place.setdefault(table, [] if bracket else {})
    if bracket and isinstance(found, list):
        places = {f"{index}]": entry for index, entry in enumerate(found)}
        if number not in places:
            raise ArgumentError(f"change {change!r}: the recipe has {len(found)} {table}, numbered from 0.")
        found = places[number]
    if not isinstance(found, dict):
        several = isinstance(found, list)
        how = f"say which of them, like {table}[0]" if several else "write a recipe for it"
        raise ArgumentError(f"change {change!r}: {table!r} is no table of single values; {how}.")
    return found


def _check_keys(table: str, given: Mapping[str, Any], known: set[str]) -> None:
    for key in given:
        if key not in known:
            raise ArgumentError(f"{table} has no key {key!r}{near(key, known)}; it has {', '.join(sorted(known))}.")


def _record(kind: type, given: Any, table: str) -> Any:
    """Return a settings record from a table of TOML; every value must be of the type that the record says."""
    if not isinstance(given, dict):
        raise ArgumentError(f"recipe's {table} must be a table, but is {given!r}.")
    known = {part.name: part for part in fields(kind)}
    _check_keys(f"recipe's [{table}]", given, set(known))
    values = dict(given)
    for key, value in given.items():
        default = known[key].default_factory
        if str(known[key].type).startswith("Masking") and isinstance(value, dict):
            # What a table leaves out is as the method has it.
            base = {} if default is MISSING else asdict(default())
            _check_keys(f"recipe's {table}.{key}", value, {part.name for part in fields(Masking)})
            values[key] = {**base, **value}
    return as_record(values, kind, f"recipe's [{table}]", error=ArgumentError)
