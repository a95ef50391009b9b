"""What the command line prints in the end, as data and for people: plans, results and datasets."""

import io
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from ..pipeline.commit.duplicates import in_words
from ..pipeline.commit.examples import read_lines
from ..pipeline.formats.class_order import ordered
from ..pipeline.formats.generations import load_generation
from ..pipeline.formats.manifest import LIMIT, DeltaEntry, read_stored
from ..pipeline.formats.printable import printable, size_in_words
from ..pipeline.job import Preview
from ..pipeline.planned_run import PlannedRun, RunRequest
from ..pipeline.planning.costs import Costs
from ..pipeline.planning.plan import Plan
from ..pipeline.planning.prices import Prices, price, total
from ..pipeline.planning.recipe import LoadedRecipe
from ..pipeline.planning.step_configs import step_name
from .existing import Existing, find_existing
from .follow import Result
from .job_record import JobRecord
from .reuse import anew_in_words, delta_in_words, planned_in_words
from .terminal import warn

if TYPE_CHECKING:
    from ..pipeline.serving.export import Export

_SHOWN_REASONS = 6  # of which an example is shown
_SHOWN = 240  # characters of an example
_WIDTH = 120  # characters of a line, where no terminal says


def check_entry(recipe: LoadedRecipe, plan: Plan | None) -> dict[str, Any]:
    """What `penstock check` found, as data; without a plan, where there was no input, only what the recipe says."""
    content = recipe.recipe
    entry = {
        "recipe": recipe.name,
        "source": type(content.source).__name__,
        "prepare": [step_name(step) for step in content.prepare],
        "function": getattr(content.features, "__name__", repr(content.features)) if content.features else None,
    }
    return entry if plan is None else {**entry, **_found(plan), "warnings": list(plan.inventory.warnings)}


def show_check(entry: Mapping[str, Any]) -> None:
    """Prints what `penstock check` found for people."""
    console = Console(markup=False, highlight=False)
    if "read" in entry:
        _show_found(console, entry)
        warn(console, entry["warnings"])
    steps = f"{len(entry['prepare'])} steps in `prepare`" if entry["prepare"] else "no `prepare`"
    features = "`features`, which `penstock run --dry-run` tries" if entry["function"] else "no `features`"
    console.print(
        f"recipe {entry['recipe']} is as it should be: {entry['source']}, {steps}, {features}", soft_wrap=True
    )


def plan_entry(request: RunRequest, seen: Preview, warnings: Sequence[str], prices: Prices | None) -> dict[str, Any]:
    """What `--dry-run` says, as data.

    Args:
      request: What was asked for.
      seen: What is known of the run, once `features` is traced too.
      warnings: What the user should know besides.
      prices: The user's; None: nothing is said of money.
    """
    planned, plan = seen.planned, seen.planned.plan
    return {
        "recipe": request.recipe.name,
        "generation": planned.generation_id,
        "state": _state(find_existing(request.output, planned)),
        **_found(plan),
        "units": len(plan.units),
        "reuse": _reuse_entry(planned),
        "warnings": [*warnings, *seen.warnings],
        "estimate": None if seen.costs is None else _costs_entry(seen.costs, prices),
    }


def _reuse_entry(planned: PlannedRun) -> dict[str, Any] | None:
    """What a run takes over, or why it takes over nothing, as data; None where there is nothing to take over from."""
    words = planned_in_words(planned)
    if planned.reuse is None:
        return {"in_words": words} if words else None
    takeover = planned.reuse.takeover
    return {
        "base": takeover.base,
        "units": takeover.whole_units,
        "examples": takeover.examples,
        "to_prepare": takeover.new_pieces,
        "in_words": words,
    }


def _costs_entry(costs: Costs, prices: Prices | None) -> dict[str, Any]:
    """What a run takes, and what that costs by some prices, as data."""
    if prices is None:
        return costs.to_json()
    priced, unpriced = price(costs, prices)
    money = {
        "currency": prices.currency,
        "total": total(priced).to_json(4),
        "items": {name: each.to_json(4) for name, each in priced.items()},
        "without_price": unpriced,
    }
    return costs.to_json() | {"money": money}


def _state(existing: Existing) -> str:
    if existing.damage:
        return f"to be made again: {existing.damage_in_words()}"
    return "up to date" if existing.manifest else "to be made"


def _found(plan: Plan) -> dict[str, Any]:
    """What planning found in the input, as data."""
    return {
        "read": plan.inventory.read if plan.inventory.read >= 0 else None,
        "splits": {
            name: asdict(split) | {"examples": split.examples if split.examples >= 0 else None}
            for name, split in plan.splits.items()
        },
        "split_rule": dict(plan.split_rule),
        "filtered": dict(plan.inventory.filtered),
        "quarantined": dict(plan.inventory.quarantined.counts),
        "examples": {
            "filtered": {example.reason: example.key for example in reversed(plan.inventory.filtered_examples)},
            "quarantined": {
                code: f"{first.key}: {first.message}" for code, (first, *_) in plan.inventory.quarantined.first.items()
            },
        },
        "columns": {
            column.name: {"type": str(column.type), "reason": plan.raw.reasons.get(column.name, "")}
            for column in plan.raw.columns
        },
        "features": {name: feature.to_json() for name, feature in plan.features.items()},
    }


def show_plan(entry: Mapping[str, Any]) -> None:
    """Prints a plan for people."""
    console = Console(markup=False, highlight=False)
    console.print(f"plan of recipe {entry['recipe']}, generation {entry['generation']} ({entry['state']})")
    _show_found(console, entry)
    if entry["reuse"]:
        console.print(entry["reuse"]["in_words"], soft_wrap=True)
    warn(console, entry["warnings"])
    if entry["estimate"] is None:
        console.print(f"{entry['units']} units; what they take could not be estimated. Nothing was written.")
        return
    _show_costs(console, entry["units"], entry["estimate"])
    console.print("Nothing was written.")


def _show_costs(console: Console, units: int, estimate: Mapping[str, Any]) -> None:
    """Prints what a run takes."""
    written, table = estimate["bytes_written"], Table("estimate", "likely", "between", "", title_justify="left")
    table.add_row("work of one core", *_interval(estimate["cpu_seconds"], _time_in_words), _number(units, "unit"))
    workers = f"{_number(estimate['workers'], 'worker')} of {_number(estimate['cores'], 'core')}"
    table.add_row("time", *_interval(estimate["wall_seconds"], _time_in_words), workers)
    table.add_row(
        "vCPU hours", *_interval(estimate["vcpu_hours"], lambda hours: f"{hours:.3g}"), "of all cores, idle or not"
    )
    table.add_row("read", size_in_words(estimate["bytes_read"]), "", "")
    table.add_row("shards", *_interval(written, size_in_words), "before compression, if any")
    for place, requests in estimate["requests"].items():
        if requests:
            table.add_row(f"requests, {place}", counts_in_words({k.upper(): n for k, n in requests.items()}), "", "")
    if money := estimate.get("money"):
        for name, each in {**money["items"], "total": money["total"]}.items():
            table.add_row(f"{money['currency']}: {name}", *_interval(each, lambda amount: f"{amount:,.4g}"), "")
    console.print(table)
    if money and money["without_price"]:
        console.print(f"without a price: {', '.join(money['without_price'])}", soft_wrap=True)
    console.print(f"An estimate from {_number(estimate['sampled'], 'piece')} of the input, prepared on this machine.")


def _interval(interval: Mapping[str, float], in_words: Callable[[float], str]) -> tuple[str, str]:
    """What is likely, and between what it is."""
    return in_words(interval["likely"]), f"{in_words(interval['low'])} and {in_words(interval['high'])}"


def _number(count: int, noun: str) -> str:
    """`1 unit`, `2 units`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _time_in_words(seconds: float) -> str:
    """`12.3 s`, `4.5 min` or `6.7 h`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _show_found(console: Console, entry: Mapping[str, Any]) -> None:
    """Prints what planning found in the input."""
    table = Table("split", "examples", "shards", "input", "labels")
    for name, split in entry["splits"].items():
        count = "after reading" if split["examples"] is None else f"{split['examples']:,}"
        row = (count, str(split["shards"]), size_in_words(split["input_bytes"]))
        table.add_row(name, *row, counts_in_words(ordered(split["labels"])))
    console.print(table)
    if until := entry["split_rule"].get("until"):
        ends = ", ".join(f"{name} before {end}" if end is not None else f"{name} after" for name, end in until.items())
        console.print(f"splits by {entry['split_rule']['column']}: {ends}", soft_wrap=True)
    _print_features(console, entry["features"])
    if entry["columns"]:
        columns = Table("raw column", "type", "why")
        for name, column in entry["columns"].items():
            columns.add_row(name, column["type"], column["reason"])
        console.print(columns)
    for what in ("filtered", "quarantined"):
        if entry[what]:
            console.print(f"{what} by the plan: {counts_in_words(entry[what])}")
            _print_examples(console, entry["examples"][what])


def result_entry(dataset: str, result: Result, hook_failure: str | None = None) -> dict[str, Any]:
    """What a run came to, as data.

    Args:
      dataset: The dataset's URI.
      result: The run's result.
      hook_failure: What went wrong where the commit was to be told; None: nothing.
    """
    names = ("generation", "read", "written", "filtered", "quarantined", "reasons", "splits", "duplicates", "warnings")
    content = result.manifest.to_json()
    entry = {"status": result.status, "dataset": dataset} | {name: content[name] for name in names}
    entry |= {name: content.get(name) for name in ("units", "delta")}
    entry |= {name: words for name, words in (("anew", result.anew), ("note", result.note)) if words}
    return entry | ({"on_commit": hook_failure} if hook_failure else {})


def show_result(entry: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints a run's result for people."""
    console = console or Console(markup=False, highlight=False)
    status = "is up to date" if entry["status"] == "up_to_date" else "is committed"
    console.print(f"{entry['dataset']} {status}: generation {entry['generation']}", soft_wrap=True)
    console.print(
        f"{entry['read']} read = {entry['written']} written + {entry['quarantined']} quarantined "
        f"+ {entry['filtered']} filtered"
    )
    if entry["delta"] and entry["status"] == "committed":
        delta = DeltaEntry(entry["delta"]["base"], **entry["delta"]["reused"])
        console.print(delta_in_words(delta, entry["units"]["lines"]), soft_wrap=True)
    if "anew" in entry:
        console.print(anew_in_words(entry["anew"]), soft_wrap=True)
    if "note" in entry:
        console.print(entry["note"], soft_wrap=True)
    _print_reasons(console, entry)
    splits = ", ".join(
        f"{name} {split['examples']} in {len(split['shards'])} shards" for name, split in entry["splits"].items()
    )
    console.print(splits)


def submitted_entry(record: JobRecord) -> dict[str, Any]:
    """A job that goes on without this process, as data."""
    return {
        "status": "submitted",
        "dataset": record.dataset,
        "generation": record.generation,
        "engine": record.engine,
        "job": record.job_id,
        "url": record.url,
        "attach": f"penstock attach {shlex.quote(record.dataset)}",
    }


def show_submitted(entry: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints for people how a job is followed."""
    console = console or Console(markup=False, highlight=False)
    console.print(f"{entry['engine']} job {entry['job']} makes {entry['dataset']}", soft_wrap=True)
    if entry["url"]:
        console.print(entry["url"], soft_wrap=True)
    console.print(f"follow it with: {entry['attach']}", soft_wrap=True)


def rendered(entry: Mapping[str, Any], show: Callable[[Mapping[str, Any], Console], None]) -> str:
    """What a function that prints an entry for people would print, without colours."""
    text = io.StringIO()
    show(
        printable(entry),
        Console(file=text, width=_WIDTH, markup=False, highlight=False, force_terminal=False, force_jupyter=False),
    )
    return text.getvalue().rstrip("\n")


def _print_examples(console: Console, examples: Mapping[str, str]) -> None:
    for reason, example in list(examples.items())[:_SHOWN_REASONS]:
        console.print(f"  {reason}, for example {shorten(example)}", soft_wrap=True)


def _print_reasons(console: Console, entry: Mapping[str, Any]) -> None:
    for what in ("filtered", "quarantined"):
        reasons, examples = entry["reasons"][what], entry["reasons"]["examples"][what]
        if reasons:
            console.print(f"{what}: {counts_in_words(reasons)}")
        _print_examples(console, examples)
    duplicates = entry["duplicates"]
    if duplicates["groups"] and not duplicates["across_splits"]:  # else there is a warning
        is_one = duplicates["groups"] == 1
        count = "1 example occurs" if is_one else f"{duplicates['groups']} examples occur"
        console.print(f"{count} more than once: {in_words(duplicates['examples'][0])}{'' if is_one else ', …'}")


def dataset_entry(dataset: str, generation: str | None = None) -> dict[str, Any]:
    """The manifest and the statistics of a dataset's current generation, or of another one, as data."""
    manifest, _ = load_generation(dataset, generation)
    statistics = json.loads(read_stored(dataset, manifest.statistics.file))
    return {"dataset": dataset, "manifest": manifest.to_json(), "statistics": statistics}


def show_dataset(entry: Mapping[str, Any]) -> None:
    """Prints a dataset for people."""
    console = Console(markup=False, highlight=False)
    content = entry["manifest"]
    recipe = content["recipe"]
    console.print(f"{entry['dataset']}: generation {content['generation']}, {content['created']}", soft_wrap=True)
    source = content["options"]["input"]
    console.print(f"recipe {recipe['name']} ({recipe['hash'][:12]}), input {source}", soft_wrap=True)
    if LIMIT in content["options"]:
        console.print(f"limited to {content['options'][LIMIT]:,} examples: a sample, and not the whole input")
    table = Table("split", "examples", "shards", "bytes", "labels")
    for name, split in content["splits"].items():
        size = size_in_words(sum(shard["bytes"] for shard in split["shards"]))
        labels = counts_in_words(ordered(entry["statistics"]["labels"].get(name, {})))
        table.add_row(name, f"{split['examples']:,}", str(len(split["shards"])), size, labels)
    console.print(table)
    _print_features(console, content["features"])
    _print_statistics(console, entry["statistics"])
    console.print(
        f"{content['read']} read = {content['written']} written + {content['quarantined']} quarantined "
        f"+ {content['filtered']} filtered"
    )
    _print_reasons(console, content)
    for file in content["quarantine"]:
        console.print(f"  {file['path']}: {file['lines']}")
    warn(console, content["warnings"])
    outputs = ", ".join(f"{name} {output['dtype']}" for name, output in content["transform_graph"]["outputs"].items())
    console.print(f"transform graph: {content['transform_graph']['path']} -> {outputs}", soft_wrap=True)
    console.print("made with " + ", ".join(f"{name} {number}" for name, number in content["versions"].items()))


def _print_features(console: Console, features: Mapping[str, Any]) -> None:
    table = Table("feature", "kind", "dtype", "shape", "stored as")
    for name, feature in features.items():
        table.add_row(name, feature["kind"], feature["dtype"], str(feature["shape"]), feature["encoding"] or "")
    console.print(table)


def _print_statistics(console: Console, statistics: Mapping[str, Any]) -> None:
    """Prints what statistics.json says of each feature, as a table; nothing where it says nothing."""
    table = Table("statistics of " + statistics["split"], "", title_justify="left")
    for name, entry in statistics["features"].items():
        if entry["kind"] == "image":
            for value in ("mean", "std", "min", "max"):
                table.add_row(f"{name} {value}", "  ".join(f"{number:.4f}" for number in entry[value]))
        elif entry["kind"] == "mask":
            pixels = sum(entry["classes"].values())
            shares = {value: f"{100 * number / pixels:.2f} %" for value, number in ordered(entry["classes"]).items()}
            table.add_row(f"{name} classes", ", ".join(f"{value}: {share}" for value, share in shares.items()))
        elif entry["kind"] == "number":
            values = ", ".join(f"{value} {entry[value]:g}" for value in ("mean", "std", "min", "max") if value in entry)
            table.add_row(name, values + _missing_in_words(entry))
        elif entry["kind"] == "text":
            table.add_row(name, f"{entry['distinct']} distinct" + _missing_in_words(entry))
    if table.row_count:
        console.print(table)


def _missing_in_words(entry: Mapping[str, Any]) -> str:
    return f", {entry['missing']:,} missing" if entry["missing"] else ""


def export_entry(exported: "Export") -> dict[str, Any]:
    """A serving export, as data."""
    return asdict(exported)


def show_export(entry: Mapping[str, Any]) -> None:
    """Prints a serving export for people."""
    console = Console(markup=False, highlight=False)
    console.print(f"{entry['path']}: serving_default takes", soft_wrap=True)
    for name, words in entry["inputs"].items():
        console.print(f"  {name}: {words}", soft_wrap=True)
    console.print(f"and gives {', '.join(entry['outputs'])}", soft_wrap=True)
    console.print(f"and {entry['valid']}: false for an input that a run would quarantine; its outputs are zeros")
    for name, why in entry["left_out"].items():
        console.print(f"left out: {name}, which {why}", soft_wrap=True)
    if entry["not_included"]:
        console.print(
            f"warning: not included is {'; '.join(entry['not_included'])}: the inputs must be prepared already",
            style="yellow",
            soft_wrap=True,
        )


def shorten(words: str) -> str:
    """Words on one line, cut where they are long."""
    words = " ".join(words.split())
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…"


def filtered_entry(dataset: str, generation: str | None = None) -> dict[str, Any]:
    """The filtered examples that a dataset's current generation, or another one, lists, as data."""
    manifest, _ = load_generation(dataset, generation)
    return {"filtered": manifest.filtered, "examples": list(read_lines(dataset, manifest.filtered_lists))}


def show_filtered(entry: Mapping[str, Any]) -> None:
    """Prints the filtered examples, one a line: reason, tab, key."""
    for example in entry["examples"]:
        click.echo(f"{example['reason']}\t{example['key']}")
    listed = len(entry["examples"])
    if listed < entry["filtered"]:
        words = (
            f"{listed:,} of {entry['filtered']:,} filtered examples are listed: of each reason the first of each unit"
        )
        click.echo(words, err=True)


def counts_in_words(counts: Mapping[str, int], shown: int = 6) -> str:
    """`cat 3, dog 2`, the rest summed up."""
    words = [f"{name} {count:,}" for name, count in list(counts.items())[:shown]]
    return ", ".join(words) + (f", and {len(counts) - shown} more" if len(counts) > shown else "")
