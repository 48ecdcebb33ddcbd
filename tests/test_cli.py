"""The commands as their user runs them: what they print, what they write, how they end."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch
from click.testing import CliRunner
from command import run
from couplingkit.cli.command import Command
from couplingkit.cli.main import Commands
from PIL import Image
from rates import with_rates

import couplingkit
from couplingkit.features.hardware import resolve_precision
from couplingkit.study.rows import FILE_COLUMNS

# The precision that `auto` is not, on this CPU.
OTHER = "float32" if resolve_precision("auto", torch.device("cpu")) == "bfloat16" else "bfloat16"


def test_measure_writes_everything_it_says(data, tmp_path):
    out = tmp_path / "run"
    words = ("measure", "control:leak:0.2", "random:test_vit", *data, "--probes", 12)
    # A network and a control are a pair in one precision, which is not `auto`'s on every CPU.
    done = run(*words, "--image-size", 160, "--precision", "float32", "--out", out)
    assert done.exit_code == 0, done.output
    for word in ("cr", "cr_mean", "turn (rad)", "specificity", "leak", "displacement (rad)", "probes"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "control:cell" in done.stdout
    assert "cr(random:test_vit) - cr(control:leak:0.2)" in done.stdout
    assert "mean 0.5,0.5,0.5" in done.stderr
    assert "with B left out, CR is exactly 1 on 12 probes of the first batch" in done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        ".couplingkit",
        "coupling.pdf",
        "coupling.png",
        "extremes.npz",
        "probes.json",
        "rows.csv",
        "summary.json",
    ]
    rows = pd.read_csv(out / "rows.csv")
    assert list(rows.columns) == FILE_COLUMNS
    assert rows["cr"].tolist() == pytest.approx(with_rates(rows)["cr"].tolist(), nan_ok=True)
    assert rows["model"].value_counts().to_dict() == dict.fromkeys(
        ["control:leak:0.2", "random:test_vit", "control:cell"], 12
    )
    summary = json.loads((out / "summary.json").read_text())
    assert [model["name"] for model in summary["models"]] == [
        "control:leak:0.2",
        "random:test_vit",
        "control:cell",
    ]
    for model in summary["models"]:
        expected = rows[rows["model"] == model["name"]]["cr"].mean()
        assert model["statistics"]["cr_mean"]["value"] == pytest.approx(expected)
        assert model["probes"] == {"made": 12, "measured": 12, "not_measurable": 0}
    assert summary["models"][2]["statistics"]["cr_mean"]["value"] == pytest.approx(1, abs=1e-6)
    assert summary["differences"][0]["probes"] == 12
    assert summary["command"].startswith("couplingkit")
    assert len(json.loads((out / "probes.json").read_text())["pairs"]) == 12
    assert Image.open(out / "coupling.png").size[0] == round(3.35 * 300)


def test_the_same_command_gives_the_same_rows(data, tmp_path):
    for name in ("one", "two"):
        done = run("measure", "random:test_vit", *data, "--probes", 8, "--seed", 4, "--out", tmp_path / name)
        assert done.exit_code == 0
    assert (tmp_path / "one/rows.csv").read_bytes() == (tmp_path / "two/rows.csv").read_bytes()
    run("measure", "random:test_vit", *data, "--probes", 8, "--seed", 5, "--out", tmp_path / "other")
    assert (tmp_path / "one/rows.csv").read_bytes() != (tmp_path / "other/rows.csv").read_bytes()


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "json", "csv"])
def test_standard_output_is_the_table_alone_in_each_format(data, tmp_path, form):
    words = [
        "measure",
        "control:leak:0.2",
        *data,
        "--probes",
        32,
        "--format",
        form,
        "--out",
        tmp_path / "run",
    ]
    text = run(*words).stdout
    if form == "json":
        assert json.loads(text)["models"][0]["name"] == "control:leak:0.2"
    elif form == "csv":
        table = pd.read_csv(io.StringIO(text))
        assert table["model"].tolist() == ["control:leak:0.2", "control:cell"]
        assert (table["cr_mean_low"] <= table["cr_mean"]).all()
    elif form == "markdown":
        assert [line.count("|") for line in text.splitlines()] == [9] * 4
    elif form == "latex":
        assert text.startswith("\\begin{tabular}")
        assert "cr\\_mean" in text
        assert "\\toprule" in text
        assert text.startswith("\\begin{tabular}{lrrrrrrr}")
    else:
        blocks = [block.splitlines() for block in text.split("\n\n")]
        assert [line.split()[0] for line in blocks[0]] == ["model", "control:leak:0.2", "control:cell"]
        assert max(map(len, text.splitlines())) <= 80
        assert blocks[-1][-1] == "Brackets: 95% intervals over the probes' photos."


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["--gap", 40], ("probes", "spec", "gap"), 40),
        (["--object-size", 60], ("probes", "spec", "object_size"), 60),
        (["--canvas", "gray"], ("probes", "spec", "canvas"), "gray"),
        (["--pairing", "same"], ("probes", "spec", "pairing"), "same"),
        (["--visible", 0.6], ("probes", "spec", "visible"), 0.6),
        (["--no-control"], ("probes", "spec", "control"), False),
        (["--min-area", 9000], ("probes", "eligibility", "min_area"), 9000),
        (["--allow-border"], ("probes", "eligibility", "allow_border"), True),
        (["--layer", 2], ("model", "layer"), "2 of 0..5"),
        (["--norm", "raw"], ("model", "norm"), "raw"),
        (["--image-size", "192x224"], ("model", "image_size"), [192, 224]),
        (["--mean", "0.4,0.5,0.6"], ("model", "mean"), [0.4, 0.5, 0.6]),
        (["--std", "0.25"], ("model", "std"), [0.25, 0.25, 0.25]),
        (["--precision", OTHER], ("model", "precision"), OTHER),
        (["--device", "cpu"], ("model", "device"), "cpu"),
        (["--eps", 0.5], ("settings", "eps"), 0.5),
        (["--position"], ("settings", "position"), True),
        (["--min-cells", 7], ("settings", "min_cells"), 7.0),
        (["--center"], ("settings", "center"), True),
        (["--seed", 3], ("probes", "seed"), 3),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_every_option_reaches_the_measurement(data, tmp_path, words, key, value):
    """Recorded, and the numbers are others than without it."""
    base = ["measure", "random:test_vit", *data, "--probes", 10, "--design", "pairs"]
    for name, more in (("with", words), ("without", [])):
        done = run(*base, *more, "--out", tmp_path / name)
        assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "with" / "summary.json").read_text())["models"][0]["provenance"]
    for part in key:
        record = record[part]
    assert record == value
    same = (tmp_path / "with/rows.csv").read_bytes() == (tmp_path / "without/rows.csv").read_bytes()
    # On a machine without a GPU the default device is the CPU; no scene's object touches the border; and gray is the
    # mean colour of this network.
    assert same == (words[0] in ("--device", "--allow-border") or words == ["--canvas", "gray"])


def test_a_model_that_fails_does_not_stop_the_others(data, tmp_path):
    out = tmp_path / "run"
    words = [
        "measure",
        "random:test_vit",
        "no_such_model",
        "control:leak:0.2",
        *data,
        "--probes",
        5,
        "--out",
        out,
    ]
    done = run(*words)
    assert done.exit_code == 2
    assert "1 of 3 models failed: no_such_model" in done.stderr
    assert set(pd.read_csv(out / "rows.csv")["model"]) == {
        "random:test_vit",
        "control:leak:0.2",
        "control:cell",
    }


def test_results_survive_a_control_row_that_cannot_be_measured(data, tmp_path):
    """Objects of 12 px: too small for control:cell's stride of 16, large enough for a stride of 4."""
    out = tmp_path / "run"
    words = ["measure", "random:test_resnet", *data, "--probes", 6, "--design", "pairs", "--object-size", 12]
    words += ["--layer", 1, "--out", out]
    done = run(*words)
    assert done.exit_code == 2
    assert "control:cell: none of the 6 probes" in done.stderr
    assert set(pd.read_csv(out / "rows.csv")["model"]) == {"random:test_resnet"}


def test_preview_draws_and_counts(data, tmp_path):
    out = tmp_path / "sheet.png"
    done = run("probes", "preview", *data, "--probes", 3, "--out", out)
    assert done.exit_code == 0, done.output
    assert "eligible objects" in done.output
    assert "stride 16 px at 224 px: 3 of 3" in done.output
    assert Image.open(out).size[0] == round(6.9 * 300)
    assert run("probes", "preview", *data, "--probes", 3, "--no-control", "--out", tmp_path / "a.pdf").exit_code == 0
    assert run("probes", "preview", *data, "--out", out).exit_code == 2
    assert run("probes", "preview", *data, "--out", tmp_path / "a.bmp").exit_code == 2


def test_scenes_writes_a_set(tmp_path):
    done = run("scenes", "--images", 4, "--width", 64, "--height", 48, "--out", tmp_path / "set")
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "set/images").glob("*.png"))) == 4
    assert run("scenes", "--images", 4, "--out", tmp_path / "set").exit_code == 2
    assert run("scenes", "--images", 2, "--out", tmp_path / "set", "--overwrite").exit_code == 0
    assert len(list((tmp_path / "set/images").glob("*.png"))) == 2


def test_demo_explains_itself(tmp_path):
    done = run("demo", "--out", tmp_path / "demo")
    assert done.exit_code == 0, done.output
    assert max(map(len, done.stdout.splitlines())) <= 80
    meaning = " ".join(done.stdout.split("\n\nEach of ", 1)[1].split())
    for word in ("specificity", "leak", "displacement", "on the same probes"):
        assert word in meaning
    assert meaning.endswith(".")
    for name in ("coupling.png", "affinity.png", "affinity.pdf"):
        assert (tmp_path / "demo" / name).stat().st_size > 3000
    table = with_rates(pd.read_csv(tmp_path / "demo" / "rows.csv")).groupby("model")["cr"].mean()
    assert table["control:cell"] == pytest.approx(1, abs=1e-6)
    assert table["control:leak:0.2"] > 1
    assert table["bundled:ibot-d"] < table["bundled:ibot"]


def test_module_and_version():
    done = subprocess.run(
        [sys.executable, "-m", "couplingkit", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == couplingkit.__version__


@pytest.mark.parametrize("words", [[], ["measure"], ["demo"], ["scenes"], ["probes"], ["probes", "preview"]])
def test_help_is_for_newcomers_and_loads_nothing_heavy(words):
    code = (
        "import sys; from couplingkit.cli.main import main\n"
        f"try: main({[*words, '--help']!r})\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'timm', 'numpy', 'matplotlib', 'pandas', 'scipy'} & set(sys.modules)\n"
        "sys.exit(code or (f'loaded {heavy}' if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    if words and words != ["probes"]:
        assert "--seed" in done.stdout
        assert "--out" in done.stdout


def test_interruption_leaves_nothing_half_written(scenes, tmp_path):
    words = [
        "measure",
        "random:vit_tiny_patch16_224",
        "--annotations",
        scenes[0],
        "--images",
        scenes[1],
        "--out",
        "run",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "couplingkit", *map(str, words), "--probes", "5000"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # Where the tests run in the background of a shell, SIGINT would be ignored by them and all that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    seen = b""
    while b"probe/s" not in seen and process.poll() is None:
        seen += process.stderr.read1(4096)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=240)
    assert process.returncode != 0
    assert b"Aborted" in rest
    assert b"Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_nan_weights_give_no_number(data, tmp_path):
    state = timm.create_model("test_vit").state_dict()
    state["blocks.3.mlp.fc1.bias"] += torch.nan
    torch.save(state, tmp_path / "nan.pth")
    done = run("measure", f"test_vit@{tmp_path / 'nan.pth'}", *data, "--probes", 4, "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "NaN or infinite features" in done.stderr
    assert not (tmp_path / "run").exists()


def test_an_accident_of_our_own_is_one_line_and_a_report(monkeypatch):
    """Every command hangs below `Commands`; so does this one, which has a bug."""
    monkeypatch.delenv("COUPLINGKIT_DEBUG")
    group = Commands("couplingkit", commands={"buggy": Command("buggy", callback=lambda: 1 / 0)})
    done = CliRunner().invoke(group, ["buggy"])
    assert done.exit_code == 70
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    report = Path(done.stderr.strip().removesuffix(".").split()[-1])
    assert "ZeroDivisionError" in report.read_text()
    report.unlink()
