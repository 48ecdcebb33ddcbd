"""A quantity stands once: one that is registered here is found everywhere, and leaves everything else as it was."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from command import run

import couplingkit as ck
from couplingkit.metrics.quantities import QUANTITIES, Quantity, columns_needed, register, shown_in
from couplingkit.study.rows import ROW_COLUMNS

MADE_UP = Quantity(
    "squared_rate",
    "mean square of the coupling rates, made up by a test",
    lambda columns: columns["cr"] ** 2,
    places=frozenset({"table", "sweep", "pairs", "report", "compared", "curve"}),
    bounds=True,
    neutral=1.0,
)


@pytest.fixture
def registered():
    register(MADE_UP)
    yield
    del QUANTITIES[MADE_UP.name]


@pytest.fixture
def runs(data, tmp_path):
    """Folders of two runs, and what the first said."""
    said = []
    for leak in ("0.1", "0.4"):
        done = run("measure", f"control:leak:{leak}", *data, "--probes", 30, "--out", tmp_path / leak)
        assert done.exit_code == 0, done.output
        said.append(done.stdout)
    return tmp_path / "0.1", tmp_path / "0.4", said[0]


def test_a_new_quantity_is_found_everywhere(registered, runs, data, tmp_path):
    first, second, said = runs
    expected = (pd.read_csv(first / "rows.csv").query("model == 'control:leak:0.1'")["cr"] ** 2).mean()
    document = json.loads((first / "summary.json").read_text())
    stated = document["models"][0]["statistics"]["squared_rate"]
    assert stated["value"] == pytest.approx(expected)
    assert stated["low"] < stated["value"] < stated["high"]
    shown = f"{stated['value']:.3f} [{stated['low']:.3f}, {stated['high']:.3f}]"
    assert "squared_rate [95%]" in said
    assert shown in said
    compared = run("compare", first, second, "--out", tmp_path / "compared")
    assert compared.exit_code == 0, compared.output
    assert "squared_rate" in compared.stdout
    table = pd.read_csv(tmp_path / "compared" / "comparison.csv").set_index("effect")
    other = (pd.read_csv(second / "rows.csv").query("model == 'control:leak:0.4'")["cr"] ** 2).mean()
    assert table.loc["squared_rate", "difference"] == pytest.approx(other - expected)
    assert run("report", first, second, "--out", tmp_path / "page.html").exit_code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert shown in page
    assert MADE_UP.meaning in page
    swept = run("sweep", "control:leak:0.4", *data, "--probes", 20, "--gap", "0,32", "--out", tmp_path / "swept")
    assert swept.exit_code == 0, swept.output
    assert "squared_rate" in swept.stdout
    assert {"squared_rate", "squared_rate_low"} <= set(pd.read_csv(tmp_path / "swept" / "sweep.csv").columns)


def test_a_run_of_before_is_read_after(runs, registered):
    """What a run could not know it does not state; what derives from its rows is there all the same."""
    before = ck.read_run(runs[0])
    assert before.measurements[0].summary.estimates["squared_rate"].value > 0


def test_the_table_is_whole():
    for name, quantity in QUANTITIES.items():
        assert quantity.name == name
        assert quantity.meaning
    assert len({quantity.difference for quantity in shown_in("compared")}) == len(shown_in("compared"))
    assert set(columns_needed()) <= set(ROW_COLUMNS)


@pytest.mark.parametrize("name", list(QUANTITIES))
def test_its_neutral_value_is_that_of_a_network_that_cannot_couple(probes, name):
    summary = ck.measure(ck.load_backbone("control:cell", device="cpu"), probes).summary
    if name.startswith("similarity"):
        pytest.skip("a similarity is what it is, coupled or not")
    assert summary.estimates[name].value == pytest.approx(QUANTITIES[name].neutral, abs=1e-9)


def test_each_average_is_what_its_name_says():
    columns = {"a": np.array([1.0, 2.0, 4.0]), "b": np.array([2.0, 2.0, 3.0])}
    kept = np.ones(3, dtype=bool)
    plain = Quantity("x", "x", lambda held: held["a"])
    assert plain.statistic(columns, kept).value() == pytest.approx(7 / 3)
    assert replace(plain, average="median").statistic(columns, kept).value() == 2
    assert np.exp(replace(plain, average="geometric").statistic(columns, kept).value()) == pytest.approx(2)
    assert replace(plain, over=lambda held: held["b"]).statistic(columns, kept).value() == pytest.approx(1)
