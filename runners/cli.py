"""The command line. Imports nothing heavy before a command needs it: `penstock --help` answers at once."""

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..pipeline.errors import INTERRUPTED, PenstockError, RequestError
from ..pipeline.formats.printable import printable, size_in_words
from . import process
from .run_options import RunOptions, folder_uri

if TYPE_CHECKING:
    from .follow import Result
    from .reporter import Reporter

_EXIT_CODES = """\b
Exit codes: 0 committed, or already up to date (with --detach: submitted); 1 the run failed; 2 the request is wrong,
found before any work; 3 more examples were quarantined than --max-quarantined allows; 130 interrupted. Unless it is 0,
nothing was committed.
"""


_BEAM_OPTIONS = "penstock.beam_options"
_generation = click.option(
    "--generation", metavar="ID", help="Another generation than the current one; `penstock log` lists them."
)
_NOTHING_TO_PRUNE = "nothing to remove: there is only what is to be kept"


class _Commands(click.Group):
    """The command line. Called, as the installed script and `python -m` do, it takes the process for its own."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        process.open_standard_streams()
        process.search_working_folder()
        process.share_freed_memory()
        with process.ending_at_once():
            return self.main(*arguments, obj=process.quiet_libraries, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of their use, not of the alphabet


@click.group(cls=_Commands, epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="penstock")
def main() -> None:
    """Prepares datasets for deep learning: raw data in, a committed dataset and a transform graph out.

    A recipe is a Python file with `recipe = Recipe(...)` in it. A first one to try, without any data:

    \b
      penstock demo
    """


class _RunCommand(click.Command):
    """A command that keeps what follows `--` for Beam: nothing else may be taken for an option of Beam's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[_BEAM_OPTIONS] = tuple(args[at + 1 :])
        ctx.allow_extra_args = True  # to be refused in words of our own
        stray = super().parse_args(ctx, args[:at])
        if stray and not ctx.resilient_parsing:
            (argument,) = (each.human_readable_name for each in self.params if isinstance(each, click.Argument))
            sentence = (
                f"error: expected one {argument} and options, found {' '.join(stray)} too; leave it out, quote a path "
                "with blanks, and give options for Beam after `--`"
            )
            _fail(sentence, RequestError.exit_code)
        return stray

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- BEAM_OPTIONS...]"]


@main.command(cls=_RunCommand, epilog=_EXIT_CODES)
@click.argument("recipe")
@click.option(
    "--input", required=True, metavar="FOLDER", help="Where the raw data is: a path, s3://…, gs://… or az://…."
)
@click.option("--output", required=True, metavar="DATASET", help="The dataset's folder, likewise; it need not exist.")
@click.option(
    "--runner",
    default=RunOptions.runner,
    show_default=True,
    metavar="ENGINE",
    help="The engine: direct, in this process, or one of Beam's runners: flink, dataflow, prism, spark, NAME.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Worker processes. One is enough for a machine's cores: it prepares in threads.  [default: up to the engine]",
)
@click.option("--threads", type=click.IntRange(1), help="Examples that a worker prepares at a time.  [default: cores]")
@click.option(
    "--max-quarantined",
    default=RunOptions.max_quarantined,
    show_default=True,
    metavar="N|FRACTION",
    help="How many examples may fail before the run does: 25, 0.01 or 1%.",
)
@click.option(
    "--fail-on-drift",
    is_flag=True,
    help="Commit only what is like the current generation: columns, types, features; values within the limits.",
)
@click.option("--max-new-values", metavar="FRACTION", help="Of a column's values.  [default: 1%]")
@click.option("--max-mean-shift", type=click.FloatRange(0), help="In standard deviations.  [default: 0.5]")
@click.option("--max-missing-growth", metavar="FRACTION", help="Of a column's values.  [default: 1%]")
@click.option("--max-share-shift", metavar="FRACTION", help="Of labels, classes and strings.  [default: 10%]")
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="A first try: N examples from all over the input, not all."
)
@click.option(
    "--full", is_flag=True, help="Lay all out as if there were no earlier generation; what is stored is taken over."
)
@click.option(
    "--retry", is_flag=True, help="Try again what the current generation has quarantined, though nothing has changed."
)
@click.option(
    "--keep-prepared",
    is_flag=True,
    help="Take over examples that an earlier `prepare` has made: your word that they are good. New ones get this one.",
)
@click.option(
    "--forget",
    metavar="FILE",
    help="Leave these examples out, a key a line, in this run and in all that follow, and name them nowhere.",
)
@click.option("--isolate", is_flag=True, help="Decode in processes of their own: survives decoders that hang or die.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=RunOptions.timeout,
    show_default=True,
    help="With --isolate: seconds that one example may take.",
)
@click.option(
    "--single-writer",
    is_flag=True,
    help="Write to a store that ignores conditions: your word that nothing else writes the dataset meanwhile.",
)
@click.option("--metrics", metavar="FILE", help="Keep the run's figures in a file, in Prometheus' text format.")
@click.option(
    "--on-commit",
    metavar="COMMAND|URL",
    help="Tell of the commit: a command gets the manifest on its standard input, an https URL by a POST.",
)
@click.option(
    "--openlineage",
    metavar="URL|FILE",
    help="Send OpenLineage events of the run.  [default: where OPENLINEAGE_URL or OPENLINEAGE_CONFIG say, if set]",
)
@click.option("--flink-master", metavar="HOST:PORT", help="With --runner flink: a cluster.  [default: one of its own]")
@click.option(
    "--flink-job-server-jar", metavar="FILE", help="With --runner flink: Beam's job server, not to be fetched."
)
@click.option("--detach", is_flag=True, help="End once the engine has the job; `penstock attach` follows it.")
@click.option("--dry-run", is_flag=True, help="Print the plan and what it costs, and touch nothing.")
@click.option("--prices", metavar="FILE", help="With --dry-run: your prices, in TOML or JSON (docs/following.md).")
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.option("--json", "as_json", is_flag=True, help="Print the result (or the plan) as JSON, and nothing else.")
def run(recipe: str, dry_run: bool, prices: str | None, quiet: bool, as_json: bool, **given: Any) -> None:
    """Runs RECIPE (file.py, file.py:name or package.module:name) on a folder of raw data.

    The same command run again resumes what was interrupted, and returns at once when there is nothing to do. Changed
    input or recipe makes a new generation beside the old one, from which it takes over what did not change. What
    follows `--` goes to Beam.

    \b
      penstock run pets.py --input raw/pets --output prepared/pets --dry-run
      penstock run pets.py --input raw/pets --output prepared/pets
    """
    with _errors():
        process.expect_preparing()
        _quiet_libraries()
        from ..pipeline.job import check_budget, plan, preview
        from ..pipeline.planning.prices import Prices
        from ..pipeline.planning.recipe import load_recipe
        from . import report
        from .launch import launch
        from .run import check_engine, check_planned

        options = RunOptions(engine_options=click.get_current_context().meta[_BEAM_OPTIONS], **given)
        engine = options.engine()
        if prices is not None and not dry_run:
            raise RequestError("--prices: expected --dry-run beside it, which says what a run costs, found it alone")
        price_table = None if prices is None else Prices.load(prices)
        request = options.request(load_recipe(recipe))
        if dry_run:
            warnings = check_engine(engine, request)
            planned = plan(request)
            previewed = preview(request, planned)
            if not engine.is_here:
                warnings += check_planned(engine, request, previewed.planned)
            entry = report.plan_entry(request, previewed, warnings, price_table)
            _print(entry, as_json, report.show_plan)
            check_budget(request, planned)
            return
        with _detaching(quiet, as_json):
            result = launch(options, request, engine, shows=not (quiet or as_json), warn=_warn)
            _finish(request.output, result, options.on_commit, quiet, as_json)


@main.command(cls=_RunCommand, epilog=_EXIT_CODES)
@click.argument("dataset")
@click.option("--cancel", is_flag=True, help="Cancel the job instead; finished work is kept.")
@click.option("--flink-master", metavar="HOST:PORT", help="The Flink cluster, if it has another address by now.")
@click.option("--metrics", metavar="FILE", help="Keep the run's figures in a file, in Prometheus' text format.")
@click.option(
    "--on-commit",
    metavar="COMMAND|URL",
    help="Tell of the commit: a command gets the manifest on its standard input, an https URL by a POST.",
)
@click.option(
    "--openlineage",
    metavar="URL|FILE",
    help="Send OpenLineage events of the job.  [default: where OPENLINEAGE_URL or OPENLINEAGE_CONFIG say, if set]",
)
@click.option("--quiet", is_flag=True, help="Print errors only.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else.")
def attach(
    dataset: str,
    cancel: bool,
    flink_master: str | None,
    metrics: str | None,
    on_commit: str | None,
    openlineage: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Follows the job that makes a DATASET: one that was submitted by `penstock run --detach`, or whose command ended.

    Ends as that command would have, with the same summary and exit code. What follows `--` are options for Beam that
    lead to the job's engine; most of what is needed stands in the dataset.

    \b
      penstock attach s3://prepared/pets
      penstock attach --cancel s3://prepared/pets
    """
    with _errors():
        process.expect_preparing()
        _quiet_libraries()
        from . import terminal
        from .engine import EngineOptions
        from .follow import attach as follow
        from .metrics import kept_metrics
        from .on_commit import check_hook
        from .openlineage import LineageOptions, trace_job
        from .reporter import Both

        if on_commit is not None:
            check_hook(on_commit)
        dataset = folder_uri(dataset)
        options = EngineOptions(
            beam_arguments=click.get_current_context().meta[_BEAM_OPTIONS], flink_master=flink_master
        )

        def work(lineage: "Reporter") -> "Result | None":
            with terminal.reporter(quiet or as_json) as shown, kept_metrics(metrics, dataset, shown) as reporter:
                return follow(dataset, Both(reporter, lineage), options, cancel)

        with _detaching(quiet, as_json):
            result = trace_job(LineageOptions(openlineage, _warn), dataset, work)
            if result is not None:
                _finish(dataset, result, on_commit, quiet, as_json)
            elif not quiet:
                click.echo(json.dumps({"status": "cancelled", "dataset": dataset}) if as_json else "cancelled")


@contextlib.contextmanager
def _detaching(quiet: bool, as_json: bool) -> Iterator[None]:
    """Says how a job is followed that goes on without this command; interrupted, it ends with exit code 130."""
    from . import report
    from .follow import Detached

    try:
        yield
    except Detached as detached:
        if not quiet or as_json:
            with process.spoken_if_possible():
                _print(report.submitted_entry(detached.record), as_json, report.show_submitted)
        if detached.exit_code:
            sys.exit(detached.exit_code)


def _finish(dataset: str, result: "Result", hook: str | None, quiet: bool, as_json: bool) -> None:
    """Tells what came of a job."""
    from . import report
    from .on_commit import tell_of_commit

    failure = tell_of_commit(hook, dataset, result, _warn)
    if not quiet or as_json:
        with process.spoken_if_possible():
            _print(report.result_entry(dataset, result, failure), as_json, report.show_result)


def _warn(words: str) -> None:
    with process.spoken_if_possible():
        click.echo(printable(f"warning: {words}"), err=True)


@main.command(epilog=_EXIT_CODES)
@click.argument("recipe")
@click.option("--input", "source", metavar="FOLDER", help="Where the raw data is, to try the recipe on a few examples.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def check(recipe: str, source: str | None, as_json: bool) -> None:
    """Checks a RECIPE in a moment, without TensorFlow and Beam, and writes nothing.

    Its fields, and whether its functions can be sent to a worker; and with --input whether its patterns find anything,
    and `prepare` works on a few examples. What `features` does is found by `penstock run --dry-run`.

    \b
      penstock check pets.py --input raw/pets
    """
    with _errors():
        from ..pipeline.job import check as check_recipe
        from ..pipeline.planning.recipe import load_recipe
        from . import report

        _quiet_libraries()
        loaded = load_recipe(recipe)
        checked = check_recipe(loaded, None if source is None else folder_uri(source))
        _print(report.check_entry(loaded, checked), as_json, report.show_check)


@main.command()
@click.argument("dataset")
@_generation
@click.option("--filtered", is_flag=True, help="List the filtered examples instead: reason, tab, key.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest and the statistics as JSON.")
def inspect(dataset: str, generation: str | None, filtered: bool, as_json: bool) -> None:
    """Shows what a DATASET holds: splits, counts, features, statistics, quarantine, versions."""
    with _errors():
        from . import report

        if filtered:
            _print(report.filtered_entry(folder_uri(dataset), generation), as_json, report.show_filtered)
            return
        _print(report.dataset_entry(folder_uri(dataset), generation), as_json, report.show_dataset)


@main.command()
@click.argument("dataset")
@click.option("--output", metavar="FILE", help="Where the page goes.  [default: NAME.html, by the dataset's name]")
@click.option("--open", "opens", is_flag=True, help="Open it in the browser.")
@_generation
@click.option("--no-source", is_flag=True, help="Look at no raw data: quarantined files and rows are only named.")
def report(dataset: str, output: str | None, opens: bool, generation: str | None, no_source: bool) -> None:
    """Writes a page to look at a DATASET with: one HTML file, which needs nothing else.

    Examples with masks, before and after `features`; how values are distributed; the quarantine; duplicates; what
    changed since the generation before; the pipeline. Examples are sampled, so it takes seconds.

    \b
      penstock report prepared/pets --output pets.html --open
    """
    with _errors():
        from ..pipeline.report.page import write_report

        dataset = folder_uri(dataset)
        path = output if output is not None else f"{dataset.rpartition('/')[2] or 'dataset'}.html"
        size = write_report(dataset, path, generation=generation, source=not no_source)
        with process.spoken_if_possible():
            click.echo(printable(f"{path}: {size_in_words(size)}"))
        if opens:
            click.launch(path)


@main.command()
@click.argument("dataset")
@click.option("--json", "as_json", is_flag=True, help="Print the generations as JSON.")
def log(dataset: str, as_json: bool) -> None:
    """Lists a DATASET's generations, the newest first: what is in each, and what changed since the one before.

    Those that were committed once and not removed by `penstock prune`. Each can be read: `--generation ID`, or
    open_dataset(uri, generation=ID).
    """
    with _errors():
        from ..pipeline.commit.history import history
        from . import version_report

        _print(history(folder_uri(dataset)), as_json, version_report.show_log)


@main.command()
@click.argument("dataset")
@click.argument("before", required=False)
@click.argument("after", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
def diff(dataset: str, before: str | None, after: str | None, as_json: bool) -> None:
    """Shows what differs between two generations of a DATASET: examples, labels, schema, statistics, recipe, versions.

    BEFORE and AFTER are ids of generations, or the beginnings of these; or the URI of another dataset (of a local
    folder whose name could be an id: ./NAME).

    \b
      penstock diff DATASET                 the generation made before the current one, and the current one
      penstock diff DATASET BEFORE          that one, and the current one
      penstock diff DATASET BEFORE AFTER    two of them
      penstock diff DATASET OTHER           the current ones of two datasets
    """
    with _errors():
        process.expect_preparing("duckdb")
        from ..pipeline.commit.compare import choose, compare
        from . import version_report

        _print(compare(*choose(folder_uri(dataset), before, after)), as_json, version_report.show_diff)


@main.command()
@click.argument("dataset")
@click.argument("generation", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def rollback(dataset: str, generation: str | None, as_json: bool) -> None:
    """Makes an earlier GENERATION of a DATASET current again: the one made before the current one by default.

    It is looked at first: where a file is missing, all stays as it is. Nothing is removed, so a rollback can be rolled
    back. `penstock run` with the input and the recipe of a generation that is there goes to that one again.
    """
    with _errors():
        from ..pipeline.commit.rollback import roll_back
        from . import version_report

        dataset = folder_uri(dataset)
        manifest, before = roll_back(dataset, generation)
        entry = {
            "dataset": dataset,
            "generation": manifest.generation,
            "created": manifest.created,
            "rolled_back": before,
        }
        with process.spoken_if_possible():
            _print(entry, as_json, version_report.show_rollback)


@main.command()
@click.argument("dataset")
@_generation
@click.option("--trust", is_flag=True, help="Run a transform graph that may read and write files, as its author's.")
@click.option("--no-graph", is_flag=True, help="Leave out the transform graph's check, which needs TensorFlow.")
@click.option("--quiet", is_flag=True, help="Print faults only.")
def verify(dataset: str, generation: str | None, trust: bool, no_graph: bool, quiet: bool) -> None:
    """Checks a DATASET: every file's size and checksum, every record and count, the graph on its golden examples.

    Exit code 0 when all is as the manifest says, 1 when it is not; every fault is named.
    """
    with _errors():
        from ..pipeline.commit.verify import verify as find_faults
        from ..pipeline.formats.damage import all_files
        from ..pipeline.formats.generations import load_generation

        if not no_graph:
            process.expect_preparing("tensorflow")
            _quiet_libraries()
        dataset = folder_uri(dataset)
        faults = 0
        for fault in find_faults(dataset, not no_graph, trust, generation):
            faults += 1
            click.echo(printable(f"fault: {fault}"), err=True)
        if faults:
            raise PenstockError(
                f"{dataset} is damaged: {faults} faults; remove the files that are named and run the recipe again, "
                "which makes what is missing, or get the dataset again"
            )
        if not quiet:
            manifest, _ = load_generation(dataset, generation)
            count = sum(1 for _ in all_files(dataset, manifest))
            click.echo(f"{dataset}: {count} files and {manifest.written} examples are as the manifest says")


@main.command()
@click.argument("dataset")
@_generation
@click.option("--split", default="train", show_default=True, help="What to load.")
@click.option("--adapter", "adapters", multiple=True, help="numpy, torch, jax or tf; give it again for more.  [all]")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="Decoding threads.  [default: as many as pay]")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=3.0, show_default=True, help="For each.")
@click.option("--cache-dir", metavar="FOLDER", help="Where parts of a dataset in a store are kept.  [default: nowhere]")
@click.option("--cache-bytes", type=click.IntRange(1), help="What they take at most.  [default: 10 GiB]")
@click.option("--trust", is_flag=True, help="Run a transform graph that may read and write files, as its author's.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def load(
    dataset: str,
    generation: str | None,
    split: str,
    adapters: tuple[str, ...],
    batch_size: int,
    threads: int | None,
    seconds: float,
    cache_dir: str | None,
    cache_bytes: int | None,
    trust: bool,
    as_json: bool,
) -> None:
    """Measures how fast a DATASET is loaded by each framework's adapter, and says what holds it up."""
    with _errors():
        from ..pipeline.load import open_dataset
        from ..pipeline.load.measure import ADAPTERS, bottleneck, rates

        _quiet_libraries(preparing=False)
        opened = open_dataset(dataset, generation=generation, trust=trust, cache_dir=cache_dir, cache_bytes=cache_bytes)
        measured = []
        decoding = opened.numpy(split, batch_size, threads=threads, features=False).threads()
        for rate in rates(opened, split, adapters or ADAPTERS, batch_size, threads, seconds):
            measured.append(rate)
            if not as_json:
                click.echo(f"{rate.name:24} {_in_words(rate)}")
        reason = bottleneck(measured, decoding, opened.remote)
        if as_json:
            click.echo(json.dumps({"rates": [rate.to_json() for rate in measured], "bottleneck": reason}, indent=2))
        else:
            click.echo(f"bottleneck: {reason}")


def _in_words(rate: Any) -> str:
    if rate.problem:
        return f"not measured: {rate.problem}"
    megabytes = f"{rate.bytes / 1e6:9.1f} MB/s" if rate.bytes else ""
    return f"{rate.examples:9.0f} examples/s {rate.cores:5.2f} cores {megabytes}"


@main.command()
@click.argument("dataset")
@click.argument("folder")
@_generation
@click.option("--output", "outputs", multiple=True, help="One of the graph's outputs; repeat for more.  [default: all]")
@click.option("--trust", is_flag=True, help="Run a transform graph that may read and write files, as its author's.")
@click.option("--without", multiple=True, help="An output to leave out; repeat for more.")
@click.option("--json", "as_json", is_flag=True, help="Print what was exported as JSON.")
def export(
    dataset: str,
    folder: str,
    generation: str | None,
    outputs: tuple[str, ...],
    trust: bool,
    without: tuple[str, ...],
    as_json: bool,
) -> None:
    """Writes a SavedModel to FOLDER that serves raw inputs: `prepare` and the transform graph of a DATASET in one.

    Its signature serving_default takes the content of JPEG and PNG files, or a table's raw columns.
    """
    with _errors():
        process.expect_preparing("tensorflow")
        _quiet_libraries()
        from ..pipeline.load import open_dataset
        from . import report

        exported = open_dataset(dataset, generation=generation, trust=trust).export(folder, outputs or None, without)
        with process.spoken_if_possible():
            _print(report.export_entry(exported), as_json, report.show_export)


@main.command()
@click.argument("folder", required=False)
@click.option("--examples", type=click.IntRange(30), default=200, show_default=True, help="Images to draw.")
def demo(folder: str | None, examples: int) -> None:
    """Runs the whole job on a small synthetic dataset that it draws itself: coloured shapes with masks and labels.

    Everything goes to FOLDER (a new temporary one by default) and stays there to look at.
    """
    with _errors():
        from .demo import run_demo

        process.expect_preparing()
        _quiet_libraries()
        run_demo(folder, examples)


@main.command()
@click.argument("dataset")
@click.option(
    "--keep", type=click.IntRange(0), default=0, show_default=True, help="Keep so many others, to roll back to."
)
@click.option("--yes", is_flag=True, help="Remove them; without this they are only listed.")
def prune(dataset: str, keep: int, yes: bool) -> None:
    """Removes a DATASET's generations other than the current one, unfinished runs among them.

    Kept is what a run is at work on or takes examples over from, and everything where the current generation is
    damaged; with --keep also the newest of those that were committed.
    """
    with _errors():
        from ..pipeline.commit.prune import find_unused, remove_unused

        dataset = folder_uri(dataset)
        if not yes:
            unused = find_unused(dataset, keep)
            for uri in unused:
                click.echo(f"would remove {uri}")
            click.echo("run again with --yes to remove them" if unused else _NOTHING_TO_PRUNE)
            return
        count = 0
        for uri, removed in remove_unused(dataset, keep):
            count += 1
            click.echo(f"removed {uri}" if removed else f"kept {uri}: a run is at work on it")
        if not count:
            click.echo(_NOTHING_TO_PRUNE)


def _print(entry: dict[str, Any], as_json: bool, show: Any) -> None:
    if as_json:
        click.echo(json.dumps(entry, indent=2))
    else:
        show(printable(entry))


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Turns what went wrong into one sentence on standard error and an exit code."""
    try:
        yield
    except PenstockError as error:
        _fail(f"error: {error}", error.exit_code)
    except ModuleNotFoundError as error:
        if not process.is_of_preparing(error):
            raise
        sentence = f"error: expected {error.name}, found it not installed; pip install 'penstock[prepare]'"
        _fail(sentence, RequestError.exit_code)
    except OSError as error:  # a disk that is full, a folder that may not be read
        _fail(f"error: {error}", PenstockError.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted: run the same command again to resume", INTERRUPTED)


def _fail(sentence: str, exit_code: int) -> NoReturn:
    with process.spoken_if_possible():
        click.echo(printable(sentence), err=True)
    sys.exit(exit_code)


def _quiet_libraries(preparing: bool = True) -> None:
    """Quiets the libraries in a process that runs the command line; in others, that is up to whoever owns them."""
    if quiet := click.get_current_context().obj:
        quiet(preparing)


if __name__ == "__main__":
    main()
