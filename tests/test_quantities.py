"""A quantity stands once: one that is registered here is found everywhere, and leaves everything else as it was."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command import run
from rates import with_rates

import couplingkit as ck
from couplingkit.metrics import doubts
from couplingkit.metrics.bootstrap import FEWEST_FOR_P, FEWEST_IMAGES
from couplingkit.metrics.coupling import SEEN, derived_columns
from couplingkit.metrics.quantities import QUANTITIES, Quantity, register, shown_in
from couplingkit.study.rows import ROW_COLUMNS

MADE_UP = Quantity(
    "squared_rate",
    "mean square of the coupling rates, made up by a test",
    lambda columns: columns["cr"] ** 2,
    places=frozenset({"table", "sweep", "pairs", "report", "compared", "curve"}),
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
    expected = (with_rates(pd.read_csv(first / "rows.csv")).query("model == 'control:leak:0.1'")["cr"] ** 2).mean()
    document = json.loads((first / "summary.json").read_text())
    stated = document["models"][0]["statistics"]["squared_rate"]
    assert stated["value"] == pytest.approx(expected)
    assert stated["low"] < stated["value"] < stated["high"]
    shown = f"{stated['value']:.3f} [{stated['low']:.3f}, {stated['high']:.3f}]"
    assert "squared_rate" in said
    assert shown in said
    compared = run("compare", first, second, "--out", tmp_path / "compared")
    assert compared.exit_code == 0, compared.output
    assert "squared_rate" in compared.stdout
    table = pd.read_csv(tmp_path / "compared" / "comparison.csv").set_index("effect")
    other = (with_rates(pd.read_csv(second / "rows.csv")).query("model == 'control:leak:0.4'")["cr"] ** 2).mean()
    assert table.loc["squared_rate", "difference"] == pytest.approx(other - expected)
    assert run("report", first, second, "--out", tmp_path / "page.html").exit_code == 0
    # An interval is not broken between its ends.
    page = (tmp_path / "page.html").read_text(encoding="utf-8").replace("\u00a0", " ")
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
    seen = {name: np.linspace(0.5, 1.2, 9) for name in (*SEEN, "position")}
    columns = derived_columns(seen, 0.01)
    for quantity in QUANTITIES.values():
        assert quantity.known_from(columns)
        assert np.isfinite(quantity.statistic(columns, np.ones(9, dtype=bool)).value())
    assert set(seen) <= set(ROW_COLUMNS)


@pytest.mark.parametrize("name", [name for name in QUANTITIES if not name.startswith(("similarity", "position_other"))])
def test_its_neutral_value_is_that_of_a_network_that_cannot_couple(probes, name):
    summary = ck.measure(
        ck.load_backbone("control:cell", device="cpu"), probes, ck.MeasureSettings(position=True)
    ).summary
    assert summary.estimates[name].value == pytest.approx(QUANTITIES[name].neutral, abs=1e-9)


def test_each_average_is_what_its_name_says():
    columns = {"a": np.array([1.0, 2.0, 4.0]), "b": np.array([2.0, 2.0, 3.0])}
    kept = np.ones(3, dtype=bool)
    plain = Quantity("x", "x", lambda held: held["a"])
    assert plain.statistic(columns, kept).value() == pytest.approx(7 / 3)
    assert replace(plain, average="median").statistic(columns, kept).value() == 2
    assert np.exp(replace(plain, average="geometric").statistic(columns, kept).value()) == pytest.approx(2)
    assert replace(plain, over=lambda held: held["b"]).statistic(columns, kept).value() == pytest.approx(1)


def test_the_page_on_coupling_has_every_quantity():
    """The panel in its table, the rest by name; and what it says of the limits is what is used."""
    page = (Path(__file__).parents[1] / "docs" / "coupling.md").read_text(encoding="utf-8")
    for quantity in QUANTITIES.values():
        if quantity in shown_in("table") and not quantity.optional:
            assert f"| `{quantity.name}` |" in page
        elif quantity.unit != "share" and not quantity.name.startswith("similarity"):
            assert f"`{quantity.name}`" in page
    assert f"{doubts.CLIPPED_LIMIT:.0%}".replace("%", " %") in page
    assert f"from {doubts.FEWEST_FOR_SHARE} probes on" in page
    assert f"below {FEWEST_IMAGES} photos there is none, below {FEWEST_FOR_P} no p-value" in page


def test_nothing_below_zero_is_printed_as_nothing():
    assert QUANTITIES["leak"].text(-0.0001) == "0.000"
    assert QUANTITIES["leak"].text(-0.0006) == "-0.001"
    assert QUANTITIES["clipped_denominator"].text(-1e-9) == "0.0%"
