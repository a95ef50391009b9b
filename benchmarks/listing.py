"""Measures how fast the objects of a store far away are listed, and how that grows with the requests under way.

    .venv/bin/python benchmarks/listing.py [--quick] [--latency SECONDS] [--json FILE] [--record]

A process on the same machine answers every request 100 ms late with a page of 1,000 keys, which it makes up: numbered
files in one folder, names that are hashes, and folders by class. They are listed by 1, 2, ... 32 requests at a time, as
many keys each way, in random order. A way of many is worth its share of the rate: the rate divided by the ways and by
the rate of one.
"""

import argparse
import asyncio
import bisect
import os
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable
from statistics import median
from unittest import mock

import _options
from _latency_store import _Connection, _response
from _measure import orders
from _report import Bar, Row, finish

from penstock.pipeline.storage import listing

WAYS = (1, 2, 4, 8, 16, 32)
PAGE = 1000  # keys
BAR = Bar(0.80, at_least=True)
SHAPES: dict[str, Callable[[int], str]] = {
    "numbered": lambda number: f"pets/img_{number:08}.jpg",
    "hashed": lambda number: f"pets/{(number << 40) | (number * 2654435761 & 0xFFFFFFFFFF):016x}.jpg",
    "folders": lambda number: f"pets/n{number // 1300 * 7919:08}/n{number // 1300 * 7919:08}_{number % 1300:05}.JPEG",
}


class Keys:
    """A store that has keys of a shape, and nothing behind them. The bucket is named `<shape>-<count>`."""

    def answer(self, method: str, target: str, headers: dict[str, str]) -> bytes:
        """A page of keys."""
        path, _, query = target.partition("?")
        asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        shape, _, count = path.strip("/").partition("-")
        key, numbers = SHAPES[shape], range(int(count))
        after = asked.get("continuation-token") or asked.get("start-after", "")
        begin = bisect.bisect_right(numbers, after, key=key)
        page = [
            f"<Contents><Key>{key(number)}</Key><LastModified>2026-11-26T02:00:00.000Z</LastModified>"
            f"<ETag>&quot;{number:032x}&quot;</ETag><Size>50000</Size></Contents>"
            for number in numbers[begin : begin + PAGE]
        ]
        if begin + PAGE < len(numbers):
            page.append(f"<NextContinuationToken>{key(numbers[begin + PAGE - 1])}</NextContinuationToken>")
        return _response(200, f"<ListBucketResult>{''.join(page)}</ListBucketResult>".encode(), {})


async def serve(latency: float) -> None:
    """Answers until it is ended; prints its URL first."""
    keys = Keys()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(keys, latency), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def rate(shape: str, count: int, ways: int) -> float:
    """Keys a second.

    Raises:
      AssertionError: a key was lost, or told twice.
    """
    start = time.perf_counter()
    keys = [batch.column("key") for batch in listing.list_batches(f"s3://{shape}-{count}/pets", ways=ways)]
    seconds = time.perf_counter() - start
    told = {key for column in keys for key in column.to_pylist()}
    assert len(told) == sum(map(len, keys)) == count, f"expected {count} keys, found {len(told)}"
    return count / seconds


def main() -> None:
    options = _arguments()
    command = [sys.executable, __file__, "--serve", "--latency", str(options.latency)]
    measured: dict[str, dict[int, list[float]]] = {shape: {ways: [] for ways in WAYS} for shape in SHAPES}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            keys = {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark"}
            with mock.patch.dict(os.environ, {"AWS_ENDPOINT_URL": process.stdout.readline().strip(), **keys}):
                for steps in orders([(shape, ways) for shape in SHAPES for ways in WAYS], options):
                    for shape, ways in steps:
                        measured[shape][ways].append(rate(shape, options.pages * PAGE * ways, ways))
        finally:
            process.terminate()
    notes = [
        f"a store on this machine that answers after {1000 * options.latency:.0f} ms; {options.pages} pages of {PAGE} "
        f"keys for each way, {os.cpu_count()} cores; medians of {options.rounds} rounds"
    ]
    rows = [row for shape, rates in measured.items() for row in _rows(shape, rates)]
    finish("listing", {"listing": rows}, notes, options, measured)


def _rows(shape: str, rates: dict[int, list[float]]) -> list[Row]:
    one = median(rates[1])
    rows = []
    for ways in WAYS[1:]:
        shares = [each / ways / one for each in rates[ways]]
        ours, reference = f"{median(rates[ways]):,.0f} keys/s", f"1 way: {one:,.0f}"
        rows.append(Row.of_rounds(f"{shape}, {ways} ways", ours, reference, shares, BAR))
    return rows


def _arguments() -> argparse.Namespace:
    parser = _options.parser(__doc__, ["listing"], "20 pages, one round: it shows that everything runs")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds to the first byte (default: %(default)s)")
    parser.add_argument("--pages", type=int, help="for each way (default: 100)")
    options = _options.parse(parser, ["listing"])
    options.pages = options.pages or (20 if options.quick else 100)
    return options


if __name__ == "__main__":
    if "--serve" in sys.argv:
        asyncio.run(serve(_arguments().latency))
    else:
        main()
