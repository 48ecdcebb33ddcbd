"""The house is what docs/house.md says: who may import whom, no circles; and what is shipped is what is there."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import click
import pytest
from couplingkit.cli.main import main

ROOT = Path(__file__).parent.parent
MOST_PARAMETERS = 8
LONGEST_COMMAND_FILE = 150


def table(heading):
    """Rows of the table of docs/house.md whose header is `heading`, as lists of cells."""
    lines = (ROOT / "docs" / "house.md").read_text(encoding="utf-8").splitlines()
    start = lines.index(heading) + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def words(cell):
    return {word.strip() for word in cell.split(",") if word.strip()}


ROOMS = {
    name: (words(others), words(packages) | {"torch", "numpy"})
    for name, others, packages in table("| room | may import | other packages |")
}
HOMES = {package: words(files) for package, files in table("| package | is imported only by |")}
SOURCES = {
    str(path.relative_to(ROOT)).removeprefix("couplingkit/"): path.read_text(encoding="utf-8")
    for pattern in ("couplingkit/**/*.py", "couplingkit/__init__.pyi", "cli/*.py")
    for path in sorted(ROOT.glob(pattern))
}


def module_of(file):
    """Dotted name below couplingkit of a file, as a tuple: `study/rows.py` -> (study, rows); () is the package."""
    parts = tuple(re.sub(r"\.pyi?$", "", file).split("/"))
    return parts[:-1] if parts[-1] == "__init__" else parts


def room_of(module):
    if not module:
        return "init"
    if module == ("__main__",):
        return "main"
    return module[0] if module[0] in ROOMS or len(module) > 1 else "core"


def imports_of(file, text, modules):
    """Every import of a file, wherever it stands: (module below couplingkit, None) or (None, package)."""
    own = module_of(file)
    package = own if file.endswith(("__init__.py", "__init__.pyi")) else own[:-1]
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(tuple(alias.name.split(".")), None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ("couplingkit", *package[: len(package) - node.level + 1]) if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            found += [(base, alias.name) for alias in node.names]
    for path, name in found:
        if path[0] != "couplingkit":
            yield None, path[0]
            continue
        module = path[1:]
        yield ((*module, name) if name and (*module, name) in modules else module), None


def forbidden_imports(sources):
    """Sentences on what the tables do not allow."""
    modules = {module_of(file) for file in sources}
    complaints = []
    for file, text in sources.items():
        own = room_of(module_of(file))
        rooms, packages = ROOMS[own]
        for module, package in imports_of(file, text, modules):
            if module is not None:
                other = room_of(module)
                if module not in modules:
                    complaints.append(f"{file} imports {'.'.join(module)}, which is not there")
                if other != own and other not in rooms:
                    complaints.append(f"{file} ({own}) imports {'.'.join(module) or 'couplingkit'} ({other})")
            elif package not in sys.stdlib_module_names:
                if package not in packages:
                    complaints.append(f"{file} ({own}) imports {package}")
                elif file not in HOMES.get(package, {file}):
                    complaints.append(f"{file} imports {package}, whose home is {HOMES[package]}")
    return sorted(set(complaints))


def circles(sources):
    """Modules that reach themselves through imports."""
    modules = {module_of(file) for file in sources}
    graph = {
        module_of(file): {module for module, _ in imports_of(file, text, modules) if module is not None}
        - {module_of(file)}
        for file, text in sources.items()
    }

    def reached(start):
        seen, todo = set(), list(graph[start])
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo += graph.get(module, ())
        return seen

    return sorted(module for module in graph if module in reached(module))


def option_names(group=main):
    """Every --option of every command."""
    names = {name for param in group.params if isinstance(param, click.Option) for name in param.opts}
    for command in getattr(group, "commands", {}).values():
        names |= option_names(command)
    return {name for name in names if name.startswith("--")}


def named_options(sources, options):
    """Where a library module's text names an option of a command, but for one in brackets behind the argument's name.

    (Which the commands leave out again, and who calls the library for somebody else's command line can pass on.)
    """
    found = []
    for file, text in sources.items():
        if file.startswith("cli/"):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found += [
                    f"{file}:{node.lineno} {name}"
                    for name in re.findall(r"--[a-z][\w-]*", re.sub(r"`\w+` \(--[\w-]+\)", "", node.value))
                    if name in options
                ]
    return found


def crowded_functions(sources):
    found = []
    for file, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                arguments = node.args
                count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
                named = [one.arg for one in [*arguments.posonlyargs, *arguments.args][:1]]
                if count - (named in (["self"], ["cls"])) > MOST_PARAMETERS:
                    found.append(f"{file}:{node.lineno} {node.name}")
    return found


def test_imports_follow_the_table():
    assert forbidden_imports(SOURCES) == []


def test_there_are_no_circles():
    assert circles(SOURCES) == []


def test_no_library_module_names_an_option():
    assert named_options(SOURCES, option_names()) == []


def test_no_function_has_more_than_eight_parameters():
    assert crowded_functions(SOURCES) == []


def test_commands_are_short():
    long = {
        file: text.count("\n")
        for file, text in SOURCES.items()
        if file.startswith("cli/") and file != "cli/options.py" and text.count("\n") >= LONGEST_COMMAND_FILE
    }
    assert long == {}


def test_every_room_is_on_the_page_and_every_row_is_a_room():
    named = {room_of(module_of(file)) for file in SOURCES}
    assert named == set(ROOMS)
    described = {name.strip("`") for name, _ in table("| room | what flows in → what flows out |")} - {"the core"}
    assert described == set(ROOMS) - {"core", "init", "main"}
    assert all(file in SOURCES for files in HOMES.values() for file in files)


def test_the_checks_would_notice():
    """Each check above finds what it is there for, so that it can fail."""
    bad = {
        "features/a.py": "def f():\n    from ..probes import spec\n",
        "metrics/b.py": "import pandas\nfrom .c import x\n",
        "metrics/c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import b\n",
        "probes/spec.py": "import scipy\nWHY = 'give --image-size'\n",
        "study/d.py": "from ..cli import main\nfrom .. import load\ndef f(self, a, b, c, d, e, g, h, i): ...\n",
        "study/e.py": "def f(a, b, c, d, *, e, g, h, i, j): ...\n",
        "data/f.py": "import pycocotools.mask\n",
        "cli/main.py": "from .lost import word\n",
        "probes/__init__.py": "",
        "metrics/__init__.py": "",
        "__init__.py": "",
    }
    assert forbidden_imports(bad) == [
        "cli/main.py imports cli.lost, which is not there",
        "data/f.py imports pycocotools, whose home is {'data/segmentation.py'}",
        "features/a.py (features) imports probes.spec (probes)",
        "metrics/b.py (metrics) imports pandas",
        "probes/spec.py (probes) imports scipy",
        "study/d.py (study) imports cli.main (cli)",
        "study/d.py (study) imports couplingkit (init)",
    ]
    assert circles(bad) == [("metrics", "b"), ("metrics", "c")]
    assert named_options(bad, option_names()) == ["probes/spec.py:2 --image-size"]
    assert crowded_functions(bad) == ["study/e.py:1 f"]


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

    assert len(couplingkit.__all__) > 50
    assert all(getattr(couplingkit, name) is not None for name in couplingkit.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = couplingkit.no_such_name
