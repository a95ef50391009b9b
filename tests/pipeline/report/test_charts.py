"""Charts."""

import numpy as np

from penstock.pipeline.report.charts import bin_values, histogram


def test_few_integers_get_a_bar_each():
    counts, edges = bin_values(np.array([0, 0, 2, 3]))
    assert counts.tolist() == [2, 0, 1, 1]
    assert edges.tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5]


def test_every_value_is_in_a_bar():
    values = np.random.default_rng(0).normal(size=1000)
    assert bin_values(values)[0].sum() == 1000
    assert bin_values(np.array([5.0, 5.0]))[0].sum() == 2


def test_a_chart_says_what_it_shows_and_loads_nothing():
    drawn = histogram(np.arange(100), "A <histogram>")
    assert drawn.startswith("<svg ")
    assert 'aria-label="A &lt;histogram&gt;"' in drawn
    assert "http" not in drawn
    assert 'fill="#123456"' in drawn  # what style.css colours
