"""Everything that the documentation shows is run: docstrings, README's Python, the examples and their numbers."""

import ast
import doctest
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from couplingkit.cli.choices import check_choices, read_zoo
from couplingkit.cli.main import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RECIPES = (ROOT / "data_manifests" / "README.md").read_text()
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "couplingkit").rglob("*.py"))
    if ">>>" in path.read_text()
]
COMMANDS = (*main.commands, "preview", "make", "sets")
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


def test_readme_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "coupling.png").exists()


def test_readme_commands_are_commands():
    """Every `couplingkit` line of README parses: the command exists and takes these options."""
    pattern = rf"^.*couplingkit (?:{'|'.join(COMMANDS)}) .*$"
    blocks = re.findall(r"```sh\n(.*?)```", README + RECIPES, flags=re.DOTALL)
    lines = re.findall(pattern, "\n".join(blocks).replace("\\\n", " "), flags=re.MULTILINE)
    commands = [line.split("couplingkit ", 1)[1] for line in lines]
    assert len(commands) >= 20
    for command in commands:
        words = shlex.split(command, comments=True)
        options = [word for word in words if word.startswith("--")]
        path = [word for word in words[:2] if word in COMMANDS]
        told = CliRunner().invoke(main, [*path, "--help"])
        assert told.exit_code == 0
        for option in options:
            assert option in told.output, f"{command}: {option}"


def test_readme_models_file_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ibot.pth", "weights.pth"):
        Path(name).touch()
    (text,) = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "zoo.toml").write_text(text)
    choices = read_zoo(tmp_path / "zoo.toml", {"layer": "last"})
    assert [choice.title for choice in choices] == ["iBOT", "vit_tiny_patch16_224@weights.pth"]
    check_choices(choices)


def test_readme_test_command_is_the_one_of_ci():
    assert README.count("python -m pytest") == 1
    assert "grep -m 1 'python -m pytest' README.md" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_print_what_they_state(path, tmp_path):
    stated = ast.get_docstring(ast.parse(path.read_text()))
    done = subprocess.run(
        [sys.executable, str(path), str(tmp_path / "figure.png")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip()
    for line in done.stdout.splitlines():
        assert line in stated
    assert (tmp_path / "figure.png").exists()
