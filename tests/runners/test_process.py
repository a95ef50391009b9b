"""What the command line does where its output cannot be written to, and where only what loads is installed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.runners.process import search_working_folder

SPEAK = """
import os, sys
from penstock.runners.process import spoken_if_possible
for text in ("one", "two"):
    with spoken_if_possible():
        print(text, file=sys.{0}, flush={1})
os.write({2}, b"other")
"""


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize(("stream", "other"), [("stdout", "stderr"), ("stderr", "stdout")])
@pytest.mark.parametrize("broken", ["full", "closed pipe"])
def test_a_stream_that_cannot_be_written_to_is_given_up(stream: str, other: str, broken: str, flush: bool) -> None:
    read, write = os.pipe()
    os.close(read)
    with open("/dev/full", "wb") as full:
        streams = {stream: full if broken == "full" else write, other: subprocess.PIPE}
        program = SPEAK.format(stream, flush, 2 if other == "stderr" else 1)
        done = subprocess.run([sys.executable, "-c", program], check=False, **streams)
    os.close(write)
    assert done.returncode == 0
    assert getattr(done, other) == b"other"  # this one still leads where it led


def test_a_working_folder_that_is_removed_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "removed").mkdir()
    monkeypatch.chdir(tmp_path / "removed")
    (tmp_path / "removed").rmdir()
    monkeypatch.setattr(sys, "path", ["first"])
    search_working_folder()
    assert sys.path == ["first"]


@pytest.mark.slow
@pytest.mark.parametrize("redirections", [">/dev/full", "2>/dev/full", ">&- 2>&-", "| true", "--json | true"])
def test_a_run_that_committed_has_succeeded_whoever_hears_of_it(
    shapes: Path, tmp_path: Path, redirections: str
) -> None:
    (tmp_path / "recipe.py").write_text(
        "from penstock.pipeline import Images, Recipe\nrecipe = Recipe(source=Images('images/*.png'), shards=1)\n"
    )
    command = f"{sys.executable} -m penstock.runners run recipe.py --input {shapes} --output dataset"
    script = f"{command} {redirections}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert (tmp_path / "dataset/_DATASET.json").exists()


def closed(*numbers: int) -> Callable[[], None]:
    return lambda: [os.close(number) for number in numbers] and None


@pytest.mark.parametrize("numbers", [(1,), (2,), (0, 1, 2)])
def test_a_closed_stream_does_not_give_its_number_to_a_file(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    data, said = str(tmp_path / "data"), str(tmp_path / "said")
    program = (
        "import os; from penstock.runners.process import open_standard_streams; open_standard_streams();"
        f"print(os.open({data!r}, os.O_CREAT | os.O_WRONLY), file=open({said!r}, 'w'))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, preexec_fn=closed(*numbers))
    assert int((tmp_path / "said").read_text()) > 2


PLAIN = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("apache_beam", "tensorflow", "tensorflow_transform"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from penstock.runners.cli import main
main()
"""


@pytest.mark.parametrize(
    "arguments",
    [("run", "recipe.py", "--input", "a", "--output", "b"), ("demo",), ("export", "a", "b"), ("verify", "a")],
)
def test_what_is_not_installed_is_named(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", PLAIN, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected ")
    assert done.stderr.endswith("pip install 'penstock[prepare]'\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "is_told"),
    [
        ("ValueError('Cannot monitor channel state: Channel closed!')", False),
        ("grpc.RpcError('gone')", False),
        ("ValueError('x')", True),
    ],
)
def test_of_threads_that_end_only_grpcs_are_not_told(error: str, is_told: bool) -> None:
    program = f"""
import grpc, threading
from penstock.runners.process import quiet_libraries
quiet_libraries(preparing=True)
def fail():
    raise {error}
thread = threading.Thread(target=fail)
thread.start()
thread.join()
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ("Traceback" in done.stderr) == is_told


LARGE = """
import gc, os, sys
from penstock.runners.process import quiet_libraries
gc.{0}()
quiet_libraries(preparing=True)
sys.path.insert(0, sys.argv[1])
import {1}
print({1}.was_enabled, gc.isenabled(), gc.get_freeze_count() > 1000)
os.write(2, b"after")
"""


@pytest.mark.parametrize(("name", "said"), [("tensorflow", "after"), ("apache_beam", "greeting after")])
@pytest.mark.parametrize(("collector", "expected"), [("enable", "False True True"), ("disable", "False False False")])
def test_large_libraries_are_imported_without_collections(
    tmp_path: Path, name: str, said: str, collector: str, expected: str
) -> None:
    (tmp_path / f"{name}.py").write_text(
        "import gc, os\nwas_enabled = gc.isenabled()\nmodules = [[] for _ in range(1000)]\nos.write(2, b'greeting ')\n"
    )
    program = LARGE.format(collector, name)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True, text=True)
    assert done.stdout.split() == expected.split()
    assert done.stderr == said


def test_what_is_there_at_the_end_is_not_collected() -> None:
    program = (
        "import atexit, gc, sys; from penstock.runners.cli import main; sys.argv[1:] = ['--help'];"
        "atexit.register(lambda: print('frozen', gc.get_freeze_count() > 10_000)); main()"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "frozen True"


def test_what_threads_free_is_shared() -> None:
    program = (
        "import atexit, sys; from penstock.runners.cli import main; sys.argv[1:] = ['--help']\n"
        "def tell():\n    import pyarrow\n    print(pyarrow.default_memory_pool().backend_name)\n"
        "atexit.register(tell); main()"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "system"
