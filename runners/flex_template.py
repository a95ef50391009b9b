"""The launcher of a Dataflow Flex Template: what runs where somebody starts a job by a button or a scheduler.

Dataflow starts the template's image, runs this with the template's parameters and options of Beam's, and starts the job
that it has written to --template_location once it has ended. So nobody waits for the job here: a worker commits.

    python -m penstock.runners.flex_template IMAGE

prints the template's specification, for a bucket.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.resources import files as resources
from typing import TYPE_CHECKING, Any

from ..pipeline.errors import PenstockError, RequestError
from ..pipeline.planning.recipe import LoadedRecipe, load_recipe
from ..pipeline.storage import files
from . import process
from .engine import EngineOptions
from .options import unknown_options

if TYPE_CHECKING:
    import apache_beam as beam

_MOST_MODULES = 1000


def specification(image: str) -> dict[str, Any]:
    """What a bucket must hold of a template: its image, and what is asked of who starts it.

    Args:
      image: The image's name in a registry; launcher and workers run it.
    """
    metadata = json.loads(resources("penstock.runners").joinpath("dataflow/metadata.json").read_bytes())
    return {
        "image": image,
        "sdkInfo": {"language": "PYTHON"},
        "metadata": metadata,
        "defaultEnvironment": {"sdkContainerImage": image},
    }


def launch(arguments: Sequence[str]) -> str:
    """Plans a run and writes its job, or submits it where it is not to be written (without --template_location).

    Args:
      arguments: The template's parameters and Beam's options, as Dataflow gives them.

    Returns:
      What came of it, in words.

    Raises:
      RequestError: a parameter is wrong; nothing was done.
      PenstockError: it failed.
    """
    from ..pipeline.planned_run import RunRequest
    from . import terminal
    from .dataflow import make
    from .follow import Detached
    from .run import run

    given, beam_arguments = parse(arguments)
    engine = make(EngineOptions(beam_arguments=beam_arguments))
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
        request = RunRequest(
            fetch_recipe(given.recipe, folder),
            given.input.rstrip("/"),
            given.output.rstrip("/"),
            given.max_quarantined or "1%",
            given.threads,
            isolate=given.isolate_timeout,
        )
        try:
            with terminal.reporter(quiet=False) as reporter:
                result = run(request, reporter, engine, detach=True)
        except Detached as detached:
            return f"submitted {detached.record.name}; it commits {request.output}"
    if any(argument.startswith("--template_location=") for argument in beam_arguments):
        engine.write_job(_do_nothing, "penstock-up-to-date")  # Dataflow starts what is written, and fails without it
    return f"{result.status}: {request.output}"


def _do_nothing(pipeline: "beam.Pipeline") -> None:
    """Adds the least that a job can consist of."""
    import apache_beam as beam

    _ = pipeline | "Nothing to do" >> beam.Create(["up to date"])


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The template's parameters, and the options that are left for Beam.

    Raises:
      RequestError: a parameter is missing or wrong.
    """
    parser = argparse.ArgumentParser(prog="flex_template", exit_on_error=False, allow_abbrev=False, add_help=False)
    parser.add_argument("--recipe")
    parser.add_argument("--input")
    parser.add_argument("--output")
    parser.add_argument("--max_quarantined")
    parser.add_argument("--threads", type=_optional(int))
    parser.add_argument("--isolate_timeout", type=_optional(float))
    parser.add_argument("--runner")  # Dataflow's, as the engine's own
    try:
        given, rest = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise RequestError(f"the template's parameters: {error}") from error
    if missing := [name for name in ("recipe", "input", "output") if not getattr(given, name)]:
        raise RequestError(f"the template's parameters: expected recipe, input and output, found no {missing[0]}")
    rest = [argument for argument in rest if not argument.endswith("=")]  # a field that was left empty
    unknown = set(unknown_options(rest))
    if unknown:
        sys.stderr.write(f"warning: {' '.join(sorted(unknown))}: Beam knows no such option, it is left out\n")
    return given, [argument for argument in rest if argument not in unknown]


def _optional(kind: type) -> Any:
    """Reads a number; an empty field is none."""

    def read(text: str) -> Any:
        return kind(text) if text else None

    return read


def fetch_recipe(spec: str, folder: str) -> LoadedRecipe:
    """The recipe of a module of the image, or of a file in a store with the modules and packages beside it.

    Args:
      spec: `gs://bucket/recipes/pets.py`, `package.module`, and `:name` behind either.
      folder: Where the files go; it becomes the working folder, and must stay as long as the recipe is used.

    Raises:
      RequestError: there is no such recipe.
    """
    head, _, name = spec.rpartition(":")
    uri = head if head and not name.startswith("//") else spec
    if "://" not in uri:
        return load_recipe(spec)
    place, _, file = uri.rpartition("/")
    try:
        _fetch_modules(place, folder)
    except OSError as error:
        raise RequestError(f"recipe: expected a Python file that can be read, found {uri}: {error}") from error
    if not os.path.isfile(os.path.join(folder, file)):
        raise RequestError(f"recipe: expected a Python file, found nothing at {uri}; check the URI")
    os.chdir(folder)  # where own modules are looked for
    process.search_working_folder()
    return load_recipe(file if uri == spec else f"{file}:{name}")


def _fetch_modules(place: str, folder: str) -> None:
    """Copies the Python files of a folder in a store, and of folders in it that have the name of an imported package.

    Raises:
      RequestError: there are too many.
    """
    left, count = [""], 0
    source = b""
    while left:
        inner = left.pop()
        names = files.list_names(files.join(place, inner) if inner else place)
        modules = [name for name in names if name.endswith(".py")]
        count += len(modules)
        if count > _MOST_MODULES:
            raise RequestError(f"recipe: expected its own modules in {place}, found more than {_MOST_MODULES} files")
        os.makedirs(os.path.join(folder, inner), exist_ok=True)
        for name in modules:
            path = files.join(inner, name) if inner else name
            content = files.read_bytes(files.join(place, path))
            source += content + b"\n"
            with open(os.path.join(folder, path), "wb") as file:
                file.write(content)
        packages = [name for name in names if name.isidentifier() and name.encode() in source]
        left += [files.join(inner, name) if inner else name for name in packages]


def main() -> None:
    """Launches by the process's arguments; alone, a name of an image has its template's specification printed."""
    arguments = sys.argv[1:]
    if len(arguments) == 1 and not arguments[0].startswith("-"):
        print(json.dumps(specification(arguments[0]), indent=2))
        return
    process.quiet_libraries(preparing=True)
    try:
        print(launch(arguments))
    except PenstockError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
