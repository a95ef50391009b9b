"""What a run costs in money, by the user's prices."""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import RequestError
from .costs import KINDS, Costs, Interval


@dataclass(frozen=True)
class Prices:
    """The user's prices; what has none costs nothing, and is named.

    Attributes:
      currency: What they are in.
      vcpu_hour: Of a core for an hour.
      gb_hour: Of a GB (10^9 bytes) of a worker's memory for an hour; needs `worker_gb`.
      worker_gb: The GB of memory that a worker has.
      requests_per_1000: Kind (get, put, list, delete) to the price of 1,000 requests.
      egress_gb: Of a GB that leaves the input's store: nothing where workers run in its region.
      storage_gb_month: Of a GB of shards, kept for a month.
    """

    currency: str = "USD"
    vcpu_hour: float | None = None
    gb_hour: float | None = None
    worker_gb: float | None = None
    requests_per_1000: Mapping[str, float] = field(default_factory=dict)
    egress_gb: float | None = None
    storage_gb_month: float | None = None

    @classmethod
    def load(cls, path: str) -> "Prices":
        """Reads a price table.

        Args:
          path: A file of TOML, or of JSON if its name ends in .json.

        Raises:
          RequestError: it cannot be read, or holds what is no price.
        """
        try:
            with open(path, "rb") as file:
                entry = json.load(file) if path.endswith(".json") else tomllib.load(file)
        except (OSError, ValueError) as error:
            raise RequestError(f"--prices: expected a file of TOML or JSON, found at {path}: {error}") from error
        if not isinstance(entry, dict):
            raise RequestError(f"--prices: expected names and prices in {path}, found {type(entry).__name__}")
        names = [each.name for each in fields(cls)]
        for name, value in entry.items():
            if name not in names:
                raise RequestError(f"--prices: expected some of {', '.join(names)} in {path}, found {name!r}")
            if name == "requests_per_1000":
                _check_requests(value, path)
            elif name == "currency":
                if not isinstance(value, str):
                    raise RequestError(f"--prices: expected currency to be a name in {path}, found {value!r}")
            elif not _is_price(value):
                raise RequestError(f"--prices: expected {name} to be a number from 0 in {path}, found {value!r}")
        prices = cls(**entry)
        if (prices.gb_hour is None) != (prices.worker_gb is None):
            raise RequestError(f"--prices: expected gb_hour and worker_gb together in {path}, found one of them")
        return prices


def _check_requests(value: Any, path: str) -> None:
    if not isinstance(value, dict) or not value.keys() <= {*KINDS} or not all(map(_is_price, value.values())):
        raise RequestError(
            f"--prices: expected requests_per_1000 to have prices of some of {', '.join(KINDS)} in {path}, found "
            f"{value!r}"
        )


def _is_price(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def price(costs: Costs, prices: Prices) -> tuple[dict[str, Interval], list[str]]:
    """What a run costs in money.

    Returns:
      What is paid for to its price, in the prices' currency; and what has no price.
    """
    gigabytes = costs.wall_seconds.scaled(costs.workers * (prices.worker_gb or 0) / 3600)
    items = {
        "vcpu_hour": (costs.vcpu_hours, prices.vcpu_hour),
        "gb_hour": (gigabytes, prices.gb_hour),
        **{
            f"requests_per_1000.{kind}": (_sure(number / 1000), prices.requests_per_1000.get(kind))
            for kind, number in costs.requests.items()
        },
        "egress_gb": (_sure(costs.bytes_read / 1e9 if costs.input_requests else 0), prices.egress_gb),
        "storage_gb_month": (costs.bytes_written.scaled(1e-9), prices.storage_gb_month),
    }
    priced = {name: amount.scaled(rate) for name, (amount, rate) in items.items() if rate is not None}
    return priced, [name for name, (_, rate) in items.items() if rate is None]


def total(priced: Mapping[str, Interval]) -> Interval:
    """All of it together."""
    return Interval(*(sum(getattr(each, name) for each in priced.values()) for name in ("low", "likely", "high")))


def _sure(amount: float) -> Interval:
    return Interval(amount, amount, amount)
