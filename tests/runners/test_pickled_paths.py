import sys

import pytest

from penstock.runners.pickled_paths import imported_name, without_local_paths


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/opt/env/lib/site-packages/apache_beam/core.py", "apache_beam/core.py"),
        ("/opt/env/lib/python3.11/ast.py", "python3.11/ast.py"),
        ("/home/me/recipes/pets.py", "pets.py"),
        ("recipes/pets.py", "pets.py"),
        ("../pets.py", "pets.py"),
        ("<string>", "<string>"),
    ],
)
def test_code_is_named_as_it_is_imported(path: str, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", ["", "/opt/env/lib", "/opt/env/lib/site-packages"])
    assert imported_name(path) == name


def test_pickles_of_beams_have_no_path_of_this_machine():
    from apache_beam.internal import pickler

    namespace = {"__name__": "elsewhere", "__file__": "/home/me/recipes/pets.py"}
    exec(compile("def step(x): return [y for y in x]", "/home/me/recipes/pets.py", "exec"), namespace)
    step = namespace["step"]
    with without_local_paths():
        code = pickler.loads(pickler.dumps(step)).__code__
    assert code.co_filename == "pets.py"
    assert pickler.loads(pickler.dumps(step)).__code__.co_filename == "/home/me/recipes/pets.py"
