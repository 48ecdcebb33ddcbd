"""Everything that the documentation shows is run: docstrings, README's Python, the examples and their numbers."""

import ast
import doctest
import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import run
from conftest import BROWSERS
from couplingkit.cli.main import main
from PIL import Image

from couplingkit import __version__, write_scenes
from couplingkit.data.coco import AnnotatedPhotos
from couplingkit.data.segmentation import rle_mask
from couplingkit.evaluation.photo_sums import segment_sums
from couplingkit.features.names import BackboneOptions
from couplingkit.runs.models import check_models, read_zoo
from couplingkit.runs.schemas import rows_schema, summary_schema
from couplingkit.study.rows import FILE_COLUMNS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = (ROOT / "data_manifests" / "README.md").read_text(encoding="utf-8")
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "couplingkit").rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8")
]
DOCS = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
COMMANDS = (*main.commands, "preview", "make", "sets")
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


# What the build of the site writes, and pages of one line that take in another file.
MADE = ("reference.md", "changelog.md", "commands.md")
PAGES = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "README.md",
    *(path for path in sorted((ROOT / "docs").glob("*.md")) if path.name not in MADE and "examples_" not in path.name),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages(page, tmp_path, monkeypatch):
    """Their Python runs, and the files that they name are there."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, page.name, "exec"), {})
    named = re.findall(r"`((?:couplingkit|cli|tests|docs|data_manifests)/[\w./-]*\w)`", text)
    named += re.findall(r"\]\(([^)#:]+)\)", text)
    assert named or page.name in ("policy.md", "made_right.md", "cite.md", "index.md")
    for name in named:
        if "://" in name:
            continue
        place = (
            name
            if name.startswith(("couplingkit", "cli", "tests", "docs", "data_manifests"))
            else f"{page.parent.relative_to(ROOT)}/{name}"
        )
        if "NAME" not in name:
            assert (ROOT / place).exists(), f"{page.name} names {name}"


def test_commands_of_pages_are_commands():
    """Every `couplingkit` line of README and of the pages parses: the command exists and takes these options."""
    pattern = rf"^.*couplingkit (?:{'|'.join(COMMANDS)}) .*$"
    blocks = re.findall(r"```sh\n(.*?)```", "\n".join([README, RECIPES, *DOCS.values()]), flags=re.DOTALL)
    lines = re.findall(pattern, "\n".join(blocks).replace("\\\n", " "), flags=re.MULTILINE)
    commands = [line.split("couplingkit ", 1)[1] for line in lines]
    assert len(commands) >= 40
    for command in commands:
        words = shlex.split(command, comments=True)
        options = [word for word in words if word.startswith("--")]
        path = [word for word in words[:2] if word in COMMANDS]
        told = run(*path, "--help")
        assert told.exit_code == 0
        for option in options:
            assert option in told.output, f"{command}: {option}"


def test_models_file_of_the_pages_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ibot.pth", "weights.pth"):
        Path(name).touch()
    (text,) = re.findall(r"```toml\n(.*?)```", DOCS["many_models.md"], flags=re.DOTALL)
    (tmp_path / "zoo.toml").write_text(text)
    choices = read_zoo(tmp_path / "zoo.toml", BackboneOptions())
    assert [choice.title for choice in choices] == ["iBOT", "vit_tiny_patch16_224@weights.pth"]
    check_models(choices, lenient=False)


def test_readme_is_short():
    assert len(re.sub(r"```.*?```", "", README, flags=re.DOTALL).split()) <= 800


def test_three_commands_to_a_first_table(tmp_path, monkeypatch):
    """The first page's own words, on photos and masks of the folders that it names; the first line installs."""
    annotations, images = write_scenes(tmp_path / "scenes", count=30)
    monkeypatch.chdir(tmp_path)
    images.rename("photos")
    Path("masks").mkdir()
    for identity, photo in AnnotatedPhotos(annotations).items():
        shown = np.zeros((photo.image.height, photo.image.width), dtype=np.uint8)
        for number, one in enumerate(photo.objects, 1):
            shown[rle_mask(one.rle)] = number
        Image.fromarray(shown).save(Path("masks") / f"{Path(photo.image.file_name).stem}.png")
        assert identity >= 0
    block = re.findall(r"```sh\n(.*?)```", DOCS["index.md"], flags=re.DOTALL)[0].strip().splitlines()
    assert len(block) == 3
    assert block[0] == "python -m pip install couplingkit"
    for line in block[1:]:
        done = run(*shlex.split(line)[1:])
        assert done.exit_code == 0, done.output
    assert "bundled:ibot" in done.output
    assert Path("preview.png").exists()
    assert Path("runs/first/rows.csv").exists()


@pytest.mark.slow
def test_the_site_is_built_and_fits_every_window(tmp_path):
    """Warnings are errors; no page is wider than its window."""
    pytest.importorskip("sphinx")
    pytest.importorskip("furo")
    build = [sys.executable, "-m", "sphinx", "-W", "-q", str(ROOT / "docs"), str(tmp_path / "site")]
    subprocess.run(build, check=True, capture_output=True)
    pages = sorted((tmp_path / "site").glob("*.html"))
    assert len(pages) >= 20
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no browser is at hand")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for width in (390, 900, 1400):
            page = opened.new_page(viewport={"width": width, "height": 900})
            for path in pages:
                page.goto(path.as_uri())
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (path.name, width)
        opened.close()


def test_schemas_are_those_of_the_files():
    """What is shipped is what is written."""
    for name, made in (("summary", summary_schema()), ("rows", rows_schema())):
        path = ROOT / "data_manifests" / "schemas" / f"{name}.schema.json"
        assert json.loads(path.read_text(encoding="utf-8")) == made, "write data_manifests/schemas anew"
    assert [field["name"] for field in rows_schema()["fields"]] == FILE_COLUMNS


def test_citation_and_card(tmp_path, data):
    told = run("cite")
    assert told.exit_code == 0
    assert f"version = {{{__version__}}}" in told.output
    assert f"version: {__version__}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    done = run("measure", "control:leak:0.2", *data, "--probes", "8", "--quiet", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    # Nothing but the table is said, and what failed.
    assert done.stderr == ""
    assert "control:cell" in done.stdout
    missing = run("measure", "no_such_network", *data, "-q")
    assert missing.exit_code == 2
    assert "no_such_network" in missing.stderr
    card = run("share", tmp_path / "run").output
    assert "| control:leak:0.2 |" in card
    assert "does not show decoupling" in card
    assert run("share", tmp_path).exit_code == 2
    # There is no network here, or no such repository: one sentence, and no traceback.
    refused = run("share", tmp_path / "run", "--repo", "couplingkit-of-nobody/run")
    assert refused.exit_code == 2
    assert "could not be uploaded" in refused.output.replace("\n", " ")


INTERVAL = r"[+-]?\d\.\d{3} \[[+-]?\d\.\d{3}, [+-]?\d\.\d{3}\]"


def test_what_is_said_of_the_pair_is_what_its_files_hold():
    """Intervals over seeds and clipped shares of README, of the example's page and of the recipe's header."""
    folder = ROOT / "examples" / "ibot-pair"
    gaps, runs = pd.read_csv(folder / "differences.csv"), pd.read_csv(folder / "runs.csv")
    every = gaps[gaps["seed"] == "all"]
    known = {f"{row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in every.itertuples()}
    recipe = (ROOT / "couplingkit" / "training" / "recipes" / "ibot-tiny.toml").read_text(encoding="utf-8")
    page = (folder / "README.md").read_text(encoding="utf-8")
    training = DOCS["training.md"]
    of_page = training[training.index("*Three seeds of iBOT") : training.index("The other methods, three seeds each")]
    of_readme = README[README.index("## What was found so far") :]
    for text, fewest in (
        (of_page, 6),
        (of_readme, 4),
        (page.split("| method |")[0], 9),
        (recipe.split("[method]")[0], 5),
    ):
        said = re.findall(INTERVAL, " ".join(text.replace("#", " ").split()))
        assert len(said) >= fewest
        assert set(said) <= known
    clipped = {name: part["clipped_denominator"] for name, part in runs.groupby("method")}
    assert f"at most {max(max(part) for part in clipped.values()):.1%}".replace("%", " %") in of_page
    for method in ("ibot", "ibot-d"):
        *first, last = [f"{100 * share:.1f}" for share in clipped[method]]
        assert f"{', '.join(first)} and {last} %" in page
    # The table is the command's own.
    for row in runs.itertuples():
        assert f"| {row.method} | {row.seed} | {row.cr:.3f} [{row.cr_low:.3f}, {row.cr_high:.3f}] |" in page


def gaps_over_seeds(*folders):
    every = pd.concat([pd.read_csv(ROOT / "examples" / folder / "differences.csv") for folder in folders])
    every = every[every["seed"].astype(str) == "all"]
    return {f"{row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in every.itertuples()}


def recipe_header(name):
    text = (ROOT / "couplingkit" / "training" / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    return " ".join(text.split("[method]")[0].replace("#", " ").split())


def test_what_is_said_of_the_family_is_what_its_files_hold():
    family = [f"family/{name}" for name in ("densecl", "soco", "maskalign", "maskalign-dteacher", "maskalign-full")]
    said = re.findall(INTERVAL, (ROOT / "examples" / "family" / "README.md").read_text(encoding="utf-8"))
    assert len(said) >= 6 * 7
    assert set(said) <= gaps_over_seeds(*family)
    for name in ("densecl", "soco", "maskalign"):
        # Without noughts before the point, to fit.
        known = gaps_over_seeds(f"family/{name}")
        known = {re.sub(r"(?<![.\d])0\.", ".", gap).replace("[+", "[").replace(", +", ", ") for gap in known}
        said = re.findall(r"[+-]\.\d{3} \[-?\.\d{3}, -?\.\d{3}\]", recipe_header(f"{name}-tiny"))
        assert len(said) >= 3
        assert set(said) <= known


def test_what_is_said_of_decoupling_a_model_is_what_its_files_hold():
    known = gaps_over_seeds("decouple")
    page = (ROOT / "examples" / "decouple" / "README.md").read_text(encoding="utf-8")
    text = DOCS["decoupling.md"]
    of_page = text[text.index("Decoupling the bundled iBOT that way") : text.index("The recipes for published")]
    for text, fewest in ((page, 15), (recipe_header("ibot-decouple-tiny"), 5), (of_page, 6)):
        said = re.findall(INTERVAL, " ".join(text.split()))
        assert len(said) >= fewest
        assert set(said) <= known


def test_what_is_said_of_scores_is_what_the_files_hold():
    """Scores with their intervals on the page of examples/evaluation; and mIoU again from its rows."""
    folder = ROOT / "examples" / "evaluation"
    page = (folder / "README.md").read_text(encoding="utf-8")
    every = pd.concat([pd.read_csv(folder / name) for name in ("scores.csv", "dose.csv")])
    known = {
        f"{100 * row.score:.1f} [{100 * row.score_low:.1f}, {100 * row.score_high:.1f}]" for row in every.itertuples()
    }
    tables = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    said = re.findall(r"\d+\.\d \[\d+\.\d, \d+\.\d\]", tables)
    assert len(said) >= 26 and set(said) <= known
    rows = pd.read_csv(folder / "rows.csv", dtype={"photo": str})
    scores = pd.read_csv(folder / "scores.csv").set_index(["model", "task"])["score"]
    for (model, task), own in rows[rows["task"].str.endswith("-seg")].groupby(["model", "task"]):
        assert segment_sums(own).value() == pytest.approx(scores[model, task])


def test_readme_test_command_is_the_one_of_ci():
    assert README.count("python -m pytest") == 1
    assert "grep -m 1 'python -m pytest' README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_print_what_they_state(path, tmp_path):
    stated = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    done = subprocess.run(
        [sys.executable, str(path), str(tmp_path / "figure.png")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip()
    for line in done.stdout.splitlines():
        assert line in stated
    assert (tmp_path / "figure.png").exists()
