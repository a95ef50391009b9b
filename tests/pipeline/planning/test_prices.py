import json
from pathlib import Path
from typing import Any

import pytest

from penstock import RequestError
from penstock.pipeline.planning.prices import Prices


@pytest.mark.parametrize("form", ["toml", "json"])
def test_a_price_table_is_read(tmp_path: Path, form: str):
    path = tmp_path / f"prices.{form}"
    tables = {
        "toml": 'currency = "EUR"\nvcpu_hour = 0.05\n[requests_per_1000]\nget = 1\n',
        "json": '{"currency": "EUR", "vcpu_hour": 0.05, "requests_per_1000": {"get": 1}}',
    }
    path.write_text(tables[form])
    assert Prices.load(str(path)) == Prices("EUR", 0.05, requests_per_1000={"get": 1})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"vcpu": 1}, "found 'vcpu'"),
        ({"vcpu_hour": "1"}, "expected vcpu_hour to be a number from 0"),
        ({"vcpu_hour": -1}, "found -1"),
        ({"vcpu_hour": True}, "found True"),
        ({"requests_per_1000": {"GET": 1}}, "prices of some of get, put, list, delete"),
        ({"requests_per_1000": 1}, "found 1"),
        ({"gb_hour": 1}, "gb_hour and worker_gb together"),
        ({"currency": 1}, "currency to be a name"),
        ([], "found list"),
    ],
)
def test_what_is_no_price_table_is_refused(tmp_path: Path, content: Any, words: str):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(content))
    with pytest.raises(RequestError, match=words):
        Prices.load(str(path))
    with pytest.raises(RequestError, match="--prices: expected a file of TOML or JSON"):
        Prices.load(str(tmp_path / "none.toml"))
