"""The Flex Template: its specification is what Google's schema says, and its launcher writes a job and ends."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import REPOSITORY

from penstock.pipeline.errors import RequestError
from penstock.pipeline.storage import files
from penstock.runners.flex_template import fetch_recipe, launch, parse, specification

METADATA = json.loads((REPOSITORY / "runners/dataflow/metadata.json").read_text())
PARAMETERS = {parameter["name"]: parameter for parameter in METADATA["parameters"]}


def test_the_specification_is_what_googles_schema_says():
    from google.cloud import dataflow_v1beta3 as dataflow
    from google.protobuf import json_format

    spec = specification("example.test/penstock:1")
    message = json_format.ParseDict(spec, dataflow.ContainerSpec.pb()())  # fields and enums that it does not know raise
    assert json_format.MessageToDict(message) == spec
    assert message.sdk_info.language == dataflow.SDKInfo.Language.PYTHON
    assert message.default_environment.sdk_container_image == "example.test/penstock:1"


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_say_what_they_are(name: str):
    parameter = PARAMETERS[name]
    assert re.fullmatch("[a-z_]+", name)
    assert parameter["label"]
    assert parameter["helpText"].endswith(".")
    assert parameter.get("isOptional", False) == (name not in ("recipe", "input", "output"))
    for regex in parameter["regexes"]:
        re.compile(regex)


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("recipe", "gs://bucket/recipes/pets.py", True),
        ("recipe", "gs://bucket/recipes/pets.py:small", True),
        ("recipe", "company.recipes:pets", True),
        ("recipe", "company.recipes", True),
        ("recipe", "gs://bucket/recipes/pets", False),
        ("recipe", "pets recipe", False),
        ("input", "gs://raw/pets", True),
        ("input", "gs://raw", True),
        ("input", "/data/pets", False),
        ("output", "gs://prepared/pets", True),
        ("output", "gs://prepared", False),
        ("max_quarantined", "25", True),
        ("max_quarantined", "0.01", True),
        ("max_quarantined", "1.5%", True),
        ("max_quarantined", "many", False),
        ("threads", "8", True),
        ("threads", "0", False),
        ("isolate_timeout", "2.5", True),
        ("isolate_timeout", "-1", False),
        ("sdk_container_image", "europe-west1-docker.pkg.dev/project/repository/penstock:0.1.0", True),
        ("sdk_container_image", "an image", False),
    ],
)
def test_the_regular_expressions_take_what_the_launcher_takes(name: str, value: str, fits: bool):
    assert all(bool(re.fullmatch(regex, value)) is fits for regex in PARAMETERS[name]["regexes"])


def test_the_launcher_knows_every_parameter():
    values = {"max_quarantined": "2%", "threads": "3", "isolate_timeout": "1.5", "sdk_container_image": "i"}
    arguments = [f"--{name}={values.get(name, name)}" for name in PARAMETERS]
    given, rest = parse([*arguments, "--runner=DataflowRunner", "--project=p", '--labels={"a": "b"}'])
    assert vars(given) == {
        "recipe": "recipe",
        "input": "input",
        "output": "output",
        "max_quarantined": "2%",
        "threads": 3,
        "isolate_timeout": 1.5,
        "runner": "DataflowRunner",
    }
    assert rest == ["--sdk_container_image=i", "--project=p", '--labels={"a": "b"}']


def test_empty_fields_are_not_given_and_unknown_options_are_left_out(capsys: pytest.CaptureFixture[str]):
    given, rest = parse(["--recipe=a", "--input=b", "--output=c", "--threads=", "--project=", "--new_option=1"])
    assert given.threads is None
    assert rest == []
    assert "--new_option=1: Beam knows no such option, it is left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "found no recipe"),
        (["--recipe=a", "--output=c"], "found no input"),
        (["--recipe=a", "--input=b", "--output=c", "--threads=few"], "argument --threads: invalid"),
    ],
)
def test_wrong_parameters_are_refused(arguments: list[str], words: str):
    with pytest.raises(RequestError, match=words):
        parse(arguments)


RECIPE = """
import sizes
from shapes.round import circle
from penstock import Csv, Recipe

recipe = Recipe(source=Csv("*.csv"), prepare=[circle])
small = Recipe(source=Csv("small/*.csv"))
"""


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """A store with a recipe, modules and packages beside it, and much that is none of these."""
    place = f"memory://recipes-{request.node.name}"
    for path, content in {
        "recipes/pets.py": RECIPE,
        "recipes/sizes.py": "SIZE = 3\n",
        "recipes/shapes/__init__.py": "",
        "recipes/shapes/round.py": "from . import angles\n\ndef circle(example):\n    return example\n",
        "recipes/shapes/angles.py": "",
        "recipes/data/raw.csv": "a\n1\n",
        "recipes/unrelated/other.py": "raise SystemExit",
        "recipes/README.md": "words",
    }.items():
        files.write_bytes(f"{place}/{path}", content.encode())
    return place


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the launcher works."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("sizes", "shapes", "shapes.round", "shapes.angles"):
        sys.modules.pop(name, None)


def test_a_recipe_comes_from_a_bucket_with_its_modules(bucket: str, folder: Path):
    loaded = fetch_recipe(f"{bucket}/recipes/pets.py", str(folder))
    assert loaded.name == "pets"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.py")) == [
        "pets.py",
        "shapes/__init__.py",
        "shapes/angles.py",
        "shapes/round.py",
        "sizes.py",
    ]
    assert set(loaded.own.sources) >= {"sizes", "shapes.round"}
    named: Any = fetch_recipe(f"{bucket}/recipes/pets.py:small", str(folder)).recipe.source
    assert named.pattern == "small/*.csv"


def test_a_recipe_that_is_not_there_is_missed(bucket: str, folder: Path):
    with pytest.raises(RequestError, match=r"expected a Python file, found nothing at memory://.*/recipes/cats.py"):
        fetch_recipe(f"{bucket}/recipes/cats.py", str(folder))


def test_the_launcher_refuses_what_the_command_line_does(bucket: str, folder: Path):
    with pytest.raises(RequestError, match="add --project=PROJECT --region=REGION"):
        launch([f"--recipe={bucket}/recipes/pets.py", "--input=gs://raw/pets", "--output=gs://prepared/pets"])


def test_the_image_has_the_launcher_run_the_template(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    dockerfile = (REPOSITORY / "runners/dataflow/Dockerfile").read_text()
    ((code, name),) = re.findall(r"^RUN printf '(.*)' > (\S+)$", dockerfile, re.MULTILINE)
    assert f"ENV FLEX_TEMPLATE_PYTHON_PY_FILE={name}\n" in dockerfile
    monkeypatch.setattr(sys, "argv", [name, "--input=gs://raw/pets"])
    with pytest.raises(SystemExit) as ended:
        exec(compile(code.replace("\\n", "\n"), name, "exec"), {"__name__": "__main__"})
    assert ended.value.code == RequestError.exit_code
    assert (
        capsys.readouterr().err
        == "error: the template's parameters: expected recipe, input and output, found no recipe\n"
    )
