"""Who may import whom: this table is the definition of the architecture. And: what is shipped is what is there."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = {"errors", "streams", "pixels", "files"}
# layer -> (layers it may import, third-party packages it may import besides torch and numpy)
LAYERS = {
    "core": (set(), set()),
    "data": ({"core"}, {"pycocotools", "PIL", "tqdm", "cv2", "msgspec", "platformdirs"}),
    "probes": ({"core", "data"}, {"tqdm"}),
    "features": ({"core"}, {"timm", "torchvision", "safetensors", "huggingface_hub", "transformers"}),
    "metrics": ({"core"}, {"scipy"}),
    # filelock: two runs in one place.
    "study": ({"core", "data", "probes", "features", "metrics"}, {"pandas", "tqdm", "filelock"}),
    # jinja2 (and its markupsafe) writes the explorer's page.
    "figures": ({"core", "metrics", "study"}, {"matplotlib", "pandas", "jinja2", "markupsafe"}),
    # study: photos and probes are shown to a network in one place, which is there.
    "evaluation": ({"core", "data", "probes", "features", "metrics", "study"}, {"pandas", "tqdm"}),
    # timm: its optimizers.
    "training": ({"core", "data", "features"}, {"tqdm", "torchvision", "accelerate", "timm"}),
    "init": ({"core", "data", "probes", "features", "metrics", "study", "figures", "evaluation", "training"}, set()),
    "cli": (
        {"core", "data", "probes", "features", "metrics", "study", "figures", "evaluation", "training", "init"},
        {"click", "pandas"},
    ),
    "main": ({"cli"}, set()),
}
# Third-party packages with one home inside their layer.
HOMES = {
    # One module per library that networks come from.
    "timm": {
        "couplingkit/features/sources/timm_networks.py",
        "couplingkit/features/sources/timm_shapes.py",
        "couplingkit/features/sources/timm_training.py",
        "couplingkit/features/sources/timm_convnets.py",
        "couplingkit/training/optimizers.py",
    },
    "huggingface_hub": {"couplingkit/features/sources/downloads.py"},
    "torchvision": {
        "couplingkit/features/sources/torchvision_networks.py",
        "couplingkit/training/views.py",
        "couplingkit/training/region_features.py",
    },
    # Selective search, and nothing else; an optional extra.
    "cv2": {"couplingkit/data/proposals.py"},
    "accelerate": {"couplingkit/training/engine.py", "couplingkit/training/step.py"},
    "transformers": {"couplingkit/features/sources/transformers_networks.py"},
    "safetensors": {"couplingkit/features/checkpoints.py", "couplingkit/features/own_format.py"},
    # segmentation.py is the part of coco.py that knows RLE; scenes.py encodes through it.
    "pycocotools": {"couplingkit/data/segmentation.py"},
    # A JSON of 600 MB in a quarter of the time, without its polygons becoming numbers.
    "msgspec": {"couplingkit/data/instances.py"},
    "platformdirs": {"couplingkit/data/instances_cache.py"},
}
# (file, layer or package): Measurement.plot() is part of the Python interface; imported inside the method, and the type
# it returns for checkers only.
EXCEPTIONS = {("couplingkit/study/record.py", "figures"), ("couplingkit/study/record.py", "matplotlib")}
FILES = sorted([*(ROOT / "couplingkit").rglob("*.py"), *(ROOT / "cli").glob("*.py")])


def layer_of(parts):
    """Layer of a dotted path below couplingkit, as a tuple of names."""
    if not parts:
        return "init"
    if parts[0] in CORE:
        return "core"
    if parts[0] in ("__main__",):
        return "main"
    return parts[0] if parts[0] in LAYERS else "init"


def module_parts(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "couplingkit" else parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports_of(path):
    """Yield (is internal, dotted parts) of every import in a file, wherever it stands."""
    package = module_parts(path) if path.name == "__init__.py" else module_parts(path)[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0] == "couplingkit", tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - (node.level - 1)]
            yield (
                True,
                ("couplingkit", *base, *(node.module or "").split(".")) if node.module else ("couplingkit", *base),
            )
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0] == "couplingkit", tuple(node.module.split("."))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_table(path):
    own = layer_of(module_parts(path))
    layers, packages = LAYERS[own]
    name = str(path.relative_to(ROOT))
    for internal, parts in imports_of(path):
        if internal:
            other = layer_of(parts[1:])
            allowed = other == own or other in layers or (name, other) in EXCEPTIONS
            assert allowed, f"{name} ({own}) imports {'.'.join(parts)} ({other})"
        elif parts[0] not in sys.stdlib_module_names:
            allowed = parts[0] in packages | {"torch", "numpy"} or (name, parts[0]) in EXCEPTIONS
            assert allowed, f"{name} ({own}) imports {parts[0]}"
            assert name in HOMES.get(parts[0], {name}), f"{parts[0]} belongs in {HOMES[parts[0]]}, not {name}"


def test_the_table_would_notice(tmp_path):
    """A features module that imports probes is found, so that the test above can fail."""
    found = [parts for internal, parts in imports_of(ROOT / "couplingkit" / "study" / "measuring.py") if internal]
    assert ("couplingkit", "probes", "probeset") in found
    assert layer_of(("probes", "probeset")) not in LAYERS["features"][0]


def test_packages_of_pyproject_are_those_of_the_tree():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    tree = {
        ".".join(folder.relative_to(ROOT).parts)
        for folder in [ROOT / "couplingkit", *(ROOT / "couplingkit").rglob("*")]
        if (folder / "__init__.py").exists()
    }
    mapped = {f"couplingkit.{name}" for name in ("cli", "data_manifests")}
    assert set(settings["packages"]) == tree | mapped
    assert {name: settings["package-dir"][name] for name in mapped} == {name: name.split(".")[1] for name in mapped}


def test_version_is_said_once_more_only_in_pyproject():
    import couplingkit

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert couplingkit.__version__ == project["version"]


def test_public_names_exist():
    import couplingkit

    assert all(getattr(couplingkit, name) is not None for name in couplingkit.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = couplingkit.no_such_name
