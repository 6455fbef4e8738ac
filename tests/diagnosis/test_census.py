"""Counts, and what is read from them, against arrays written by hand and NumPy over all the values."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakyrelu.diagnosis.census import Census
from leakyrelu.diagnosis.counts import Counts, merge_moments
from leakyrelu.diagnosis.findings import find
from leakyrelu.diagnosis.input_check import InputCheck
from leakyrelu.diagnosis.layer import Layer
from leakyrelu.diagnosis.render import dataframe, notebook, serialize, text
from leakyrelu.diagnosis.report import Report


def census(x: np.ndarray, alpha: float = 0.0, name: str = "act") -> Layer:
    """Count (samples, units) the plain way, for tests that start from values."""
    y = np.where(x > 0, x, alpha * x)
    known = np.isfinite(y)
    mean = np.array([c[k].mean() if k.any() else 0.0 for c, k in zip(y.T, known.T, strict=True)])
    m2 = np.array([((c[k] - m) ** 2).sum() for c, k, m in zip(y.T, known.T, mean, strict=True)])
    counts = Counts(
        samples=len(x),
        calls=1,
        positive=(x > 0).sum(axis=0),
        nan=np.isnan(x).sum(axis=0),
        saturated=np.zeros(x.shape[1]),
        outputs=known.sum(axis=0),
        mean=mean,
        m2=m2,
        relu_sum=np.where(np.isfinite(x) & (x > 0), x, 0.0).sum(axis=0),
        entries=len(x),
    )
    return Layer(name, "ReLU" if alpha == 0 else "LeakyReLU", alpha, counts)


def planted() -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(300, 6))
    x[:, 1] = -np.abs(x[:, 1])
    x[:, 4] = np.abs(x[:, 4]) + 0.1
    return x


@pytest.mark.parametrize("alpha", [0.0, 0.001, 0.2, 0.5])
def test_silence_means_the_same_at_every_slope(alpha):
    layer = census(planted(), alpha)
    assert layer.silent_units.tolist() == [1]
    assert layer.always_on_units.tolist() == [4]
    np.testing.assert_allclose(layer.silent_bound, [0.01])
    np.testing.assert_array_equal(layer.dormancy, census(planted()).dormancy)
    assert layer.dormancy[1] == 0
    np.testing.assert_allclose(layer.dormancy.mean(), 1.0)


def test_numbers_by_hand():
    x = np.array([[1.0, -2.0], [3.0, -4.0], [-2.0, -6.0], [0.0, -8.0]])
    layer = census(x, 0.5)
    assert layer.positive_share.tolist() == [0.5, 0.0]  # zero is not positive
    assert layer.effective_slope.tolist() == [0.75, 0.5]
    assert layer.output_mean.tolist() == [0.75, -2.5]  # of 1, 3, -1, 0 and of -1, -2, -3, -4
    np.testing.assert_allclose(layer.output_std, np.sqrt([2.1875, 1.25]))
    np.testing.assert_allclose(layer.mean_over_std, np.sqrt((0.5625 + 6.25) / 3.4375))
    assert layer.dormancy.tolist() == [2.0, 0.0]
    assert layer.silent_bound.tolist() == [0.75]
    assert (layer.units, layer.samples, layer.calls) == (2, 4, 1)


def test_relu_on_standard_normal_inputs_is_as_far_off_zero_as_the_docs_say():
    x = np.random.default_rng(1).normal(size=(200_000, 2))
    assert abs(census(x).mean_over_std - 0.6828) < 0.01  # (1 / sqrt(2 pi)) / sqrt(1/2 - 1/(2 pi))


def test_the_bound_is_no_more_than_one():
    assert census(-np.ones((2, 1))).silent_bound.tolist() == [1.0]


def test_the_rule_of_three_is_nearly_the_exact_bound():
    # Exact: the p for which (1 - p)^n = 0.05.
    for n in (30, 1000, 100_000):
        exact = 1 - 0.05 ** (1 / n)
        assert exact < census(-np.ones((n, 1))).silent_bound[0] < 1.06 * exact


def test_a_layer_all_silent_is_all_dormant():
    layer = census(-np.ones((5, 3)))
    assert layer.dormancy.tolist() == [0, 0, 0]
    assert layer.mean_over_std != layer.mean_over_std  # zero over zero


def test_constant_outputs_are_infinitely_far_off_zero():
    assert census(np.ones((5, 3))).mean_over_std == np.inf


def test_a_unit_that_saw_only_nan_is_unknown_not_silent():
    x = np.array([[np.nan, 1.0, np.nan], [np.nan, np.nan, -1.0]])
    layer = census(x)
    assert layer.silent_units.tolist() == [2]
    assert layer.always_on_units.tolist() == [1]
    assert layer.nan_units.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(layer.positive_share, [np.nan, 1.0, 0.0])
    np.testing.assert_array_equal(layer.dormancy, [np.nan, 2.0, 0.0])
    assert layer.silent_bound.tolist() == [1.0]
    longer = census(np.concatenate([x, -np.ones((10, 3))]))
    assert longer.silent_bound.tolist() == [3 / 10, 3 / 11]  # of the inputs that were numbers


def test_the_bound_counts_samples_not_positions():
    zeros = np.zeros(3)
    values = {"saturated": zeros, "mean": zeros, "m2": zeros, "relu_sum": zeros}
    # 40 images of 100 positions; of the second unit one whole image was NaN, of the third a single number.
    counts = Counts(4000, 1, zeros, nan=[0, 100, 1], outputs=[4000, 3900, 3999], **values, entries=40)
    assert Layer("act", "ReLU", 0.0, counts).silent_bound.tolist() == [3 / 40, 3 / 39, 3 / 39]
    one = Counts(4000, 1, zeros, nan=[0, 0, 3999], outputs=[4000, 4000, 1], **values, entries=1)
    assert Layer("act", "ReLU", 0.0, one).silent_bound.tolist() == [1.0] * 3
    assert (counts + one).entries == 41


def test_without_a_count_of_samples_the_bound_is_unknown():
    known = census(planted())
    unknown = Layer("act", "ReLU", 0.0, replace(known.counts, entries=None))
    assert (unknown.entries, len(unknown.silent_bound), bool(np.isnan(unknown.silent_bound).all())) == (None, 1, True)
    for total in (known + unknown, unknown + known):
        assert total.entries is None  # half of it is not known
        assert np.isnan(total.silent_bound).all()


def test_a_slope_for_each_unit():
    counts = census(planted()).counts
    slopes = np.linspace(0, 1, 6)
    layer = Layer("act", "PReLU", slopes, counts)
    np.testing.assert_allclose(layer.effective_slope, slopes + (1 - slopes) * (planted() > 0).mean(axis=0))
    with pytest.raises(
        ValueError, match=r"layer 'act' has 6 units but slopes of shape \(2,\): give one slope, or one for"
    ):
        Layer("act", "PReLU", np.zeros(2), counts)


def dormant_by_hand(layers: list[np.ndarray], tau: float) -> float:
    """Sokar et al., definition 3.1, on the outputs of ReLU: the share of units over all layers, in plain loops."""
    dormant, units = 0, 0
    for outputs in layers:
        activity = [sum(abs(value) for value in unit) / len(unit) for unit in outputs.T.tolist()]
        mean = sum(activity) / len(activity)
        dormant += sum(one <= tau * mean for one in activity)
        units += len(activity)
    return dormant / units


# No whole number but 0: the one active unit of k has the score k, up to rounding.
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.025, 0.1, 0.45, 0.9, 2.9]), st.sampled_from([0.0, 0.3]))
def test_the_dormant_ratio_is_that_of_the_paper(seed, tau, alpha):
    rng = np.random.default_rng(seed)
    inputs = [
        rng.normal(rng.choice([-6.0, -2.0, 0.0], size=units), rng.choice([0.001, 1.0, 20.0], size=units), (50, units))
        for units in rng.integers(1, 9, size=3)
    ]
    report = Report([census(x, alpha, name=f"layer{i}") for i, x in enumerate(inputs)])
    outputs = [np.maximum(x, 0) for x in inputs]
    assert report.dormant_ratio(tau) == dormant_by_hand(outputs, tau)
    for layer, output in zip(report, outputs, strict=True):
        assert layer.dormant_ratio(tau) == dormant_by_hand([output], tau)
    assert report.dormant_ratio(0) == report.silent / report.units
    pooled = sum(layer.dormant_ratio(tau) * layer.units for layer in report) / report.units
    np.testing.assert_allclose(report.dormant_ratio(tau), pooled)


def test_the_dormant_ratio_leaves_out_what_is_not_known():
    x = planted()
    x[:, 0] = np.nan
    layer = census(x)
    assert layer.dormant_ratio(0) == 1 / 5
    assert np.isnan(census(np.full((3, 2), np.nan)).dormant_ratio(0.1))
    assert Report([layer, census(np.full((3, 2), np.nan), name="b")]).dormant_ratio(0) == 1 / 5
    assert np.isnan(Report([]).dormant_ratio(0))
    assert census(-np.ones((3, 2))).dormant_ratio(0) == 1.0
    for tau in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match="tau must be"):
            layer.dormant_ratio(tau)
    with pytest.raises(TypeError, match=r"tau must be a number, not str: '0\.1'"):
        layer.dormant_ratio("0.1")


def test_the_first_layer_with_nan_is_named():
    nan = planted()
    nan[7, 3] = np.nan
    layers = [census(planted(), name="a"), census(nan, name="b"), census(nan, name="c")]
    assert Report(layers).first_nan_layer is layers[1]
    assert Report(layers[:1]).first_nan_layer is None


def test_checks_of_the_data_add_up():
    first, second = InputCheck("x", 10), InputCheck("x", 5, 2, 1, 1, 4, (1, 2))
    a, b = (Report([census(planted())], data=[check]) for check in (first, second))
    assert (a + b).data == (InputCheck("x", 15, 2, 1, 1, 14, (1, 2)),)
    assert (b + a).data == (InputCheck("x", 15, 2, 1, 1, 4, (1, 2)),)
    assert (a + Report([], data=[InputCheck("y", 3)])).data == (first, InputCheck("y", 3))


@given(
    st.lists(st.floats(-1e3, 1e3), max_size=30),
    st.lists(st.floats(-1e3, 1e3), max_size=30),
    st.sampled_from([0.0, 1.0, 1e8]),
)
def test_merged_moments_are_those_of_the_whole(first, second, shift):
    def moments(values):
        values = np.asarray(values, dtype=np.float64)
        mean = values.mean() if values.size else np.float64(0)
        return np.float64(values.size), mean, ((values - mean) ** 2).sum()

    first, second = [[v + shift for v in part] for part in (first, second)]
    n, mean, m2 = merge_moments(moments(first), moments(second))
    whole = moments(first + second)
    assert n == whole[0]
    scale = max(map(abs, first + second), default=1.0)
    np.testing.assert_allclose(mean, whole[1], rtol=1e-13, atol=1e-13 * scale)
    # Deviations can be no better than the means they are taken from: each is off by half a unit in its last place,
    # which enters the square of a deviation once with that deviation and once squared.
    unit = 2.3e-16 * scale
    spread = max(first + second, default=0.0) - min(first + second, default=0.0)
    np.testing.assert_allclose(m2, whole[2], rtol=1e-9, atol=len(first + second) * unit * (spread + unit) + 1e-12)


def test_a_mean_far_larger_than_the_deviation_costs_nothing():
    x = 1e9 + np.random.default_rng(2).normal(size=(1000, 4))
    report = census(x[:1])
    for row in x[1:]:
        report = report + census(row[None])
    np.testing.assert_allclose(report.output_std, x.std(axis=0), rtol=1e-7)
    naive = np.sqrt(np.maximum((x**2).mean(axis=0) - x.mean(axis=0) ** 2, 0))
    assert not np.allclose(naive, x.std(axis=0), rtol=0.1)  # what sums of squares would have given


@given(st.permutations(range(6)), st.integers(1, 5))
def test_parts_add_up_to_the_whole_in_any_order(order, cut):
    x = planted()
    x[7, 2] = np.nan
    parts = np.array_split(x, 6)
    first = Report([census(np.concatenate([parts[i] for i in order[:cut]]), 0.1)])
    second = Report([census(np.concatenate([parts[i] for i in order[cut:]]), 0.1)])
    (total,), whole = (first + second).layers, census(x, 0.1)
    for name in ("positive", "nan", "outputs"):
        np.testing.assert_array_equal(getattr(total.counts, name), getattr(whole.counts, name))
    for name in ("output_mean", "output_std", "dormancy", "effective_slope"):
        np.testing.assert_allclose(getattr(total, name), getattr(whole, name), rtol=1e-12)
    assert (total.samples, total.entries, total.calls) == (300, 300, 2)


def test_layers_that_ran_in_one_half_only_are_kept():
    a, b = census(planted(), name="a"), census(planted(), name="b")
    total = Report([a], unused=["b", "c"]) + Report([b], unused=["c"])
    assert [layer.name for layer in total.layers] == ["a", "b"]
    assert total.unused == ("c",)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (
            census(planted(), name="b"),
            r"layers that differ cannot be added: 'act' \(ReLU, 6 units\) and 'b' \(ReLU, 6 units\)",
        ),
        (census(planted()[:, :4]), r"'act' \(ReLU, 4 units\); add reports of the same model"),
        (Layer("act", "ReLU", 0.1, census(planted()).counts), r"layer 'act' has another slope .* trained in between"),
    ],
)
def test_what_is_not_the_same_layer_does_not_add(other, text):
    with pytest.raises(ValueError, match=text):
        census(planted()) + other


def test_other_types_do_not_add():
    layer = census(planted())
    for one, other in [(layer, 1), (layer.counts, layer), (Report([layer]), layer)]:
        with pytest.raises(TypeError, match="unsupported operand"):
            one + other
    with pytest.raises(ValueError, match="counts of 6 and of 2 units cannot be added: not the same layer"):
        layer.counts + census(planted()[:, :2]).counts


def test_impossible_counts_are_refused():
    good = {
        "samples": 3,
        "calls": 1,
        **{name: [1] for name in ("positive", "nan", "saturated", "outputs", "mean", "m2", "relu_sum")},
    }
    Counts(**good)
    for wrong in ({"positive": [4]}, {"nan": [3]}, {"positive": [-1]}):
        with pytest.raises(
            ValueError, match="impossible counts: each unit saw 3 inputs, but some count is negative or"
        ):
            Counts(**good | wrong)
    for entries in (-1, 0, 4):
        with pytest.raises(ValueError, match=rf"3 inputs a unit cannot come from {entries} entries of the batch axis"):
            Counts(**good, entries=entries)
    with pytest.raises(ValueError, match=r"one number a unit, shape \(units,\), but the shapes are .*'mean': \(2,\)"):
        Counts(**good | {"mean": [1, 2]})


def test_a_report_cannot_be_changed_by_accident():
    positive = np.array([1, 2])
    counts = Counts(3, 1, positive, [0, 0], [0, 0], [3, 3], [0, 0], [0, 0], [0, 0])
    positive[0] = 3
    assert counts.positive.tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        counts.positive[0] = 0


def test_report_looks_up_and_adds_up():
    report = Report([census(planted(), name="a"), census(planted(), 0.2, name="b")])
    assert report["b"] is report.layers[1]
    assert (report.units, report.silent, report.always_on) == (12, 2, 2)
    with pytest.raises(KeyError, match="no layer 'c'; there are 'a', 'b'"):
        report["c"]
    with pytest.raises(ValueError, match="two layers have the name 'a': names must differ within a report"):
        Report([report.layers[0]] * 2)
    assert repr(report.layers[0]) == "<Layer 'a' (ReLU, 6 units): 1 silent, 1 always on, 300 inputs a unit>"


def test_sums_keep_their_class():
    layers = [census(planted(), name="a")]
    assert type(Report(layers) + Report(layers)) is Report
    assert type(Report(layers) + Census(layers)) is Report
    assert type(Census(layers) + Census(layers)) is Census
    assert type(Report.from_json(Report(layers).to_json())) is Report
    with pytest.raises(TypeError, match="unsupported operand"):
        Report(layers) + layers


def test_what_was_run_is_kept():
    layers = [census(planted(), name="a")]
    report = Report(layers, source="onnx", command=["leakyrelu", "diagnose", "a.onnx"])
    for again in (report + report, Report.from_json(report.to_json())):
        assert (again.source, again.command) == ("onnx", ("leakyrelu", "diagnose", "a.onnx"))
    assert (report + Report(layers, source="onnx")).command == ()  # no one command counted both
    assert (Report(layers).source, Report(layers).command) == ("model", ())
    match = "source is 'jax', which is none of 'model', 'onnx', 'torchscript', 'exported'"
    with pytest.raises(ValueError, match=match):
        Report(layers, source="jax")


def test_findings_and_renderers_take_plain_data():
    layers = [census(planted(), name="a"), census(planted(), 0.2, name="b")]
    plain, report = Census(layers, ["spare"]), Report(layers, ["spare"])
    assert find(plain) == report.findings
    assert text.format_table(plain) == repr(report)
    assert notebook.to_notebook(plain) == report._repr_html_()
    assert serialize.to_json(plain) == report.to_json()
    assert dataframe.to_frame(plain).equals(report.to_frame())


def loaded(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return {name.partition(".")[0] for name in out.split()}


HEAVY = {"torch", "altair", "jinja2", "vl_convert", "rich", "pandas"}


def test_the_census_and_its_table_load_no_framework():
    made = "Report([]).__repr__(), Report([]).to_json()"
    assert not HEAVY & loaded(f"from leakyrelu.diagnosis import Report; {made}")
    assert not HEAVY & loaded("import leakyrelu._page, leakyrelu.diagnosis.render.html")


def test_the_test_above_can_fail():
    assert "jinja2" in HEAVY & loaded("import jinja2")


def test_a_report_iterates_over_layers_and_finds_names():
    report = Report([census(planted(), name=name) for name in ("a", "b")])
    assert [layer.name for layer in report] == ["a", "b"]
    assert "a" in report
    assert "c" not in report
