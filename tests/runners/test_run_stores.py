"""Runs whose input and output are on a store: the same bytes as on a disk, and no request for what is known."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Committed, contents, draw, request, standard_recipe, write

from penstock.pipeline import Csv, DatasetError, Images, NotCommittedError, PenstockError, Recipe, RequestError
from penstock.pipeline.commit import commit as commit_step
from penstock.pipeline.commit.prune import remove_unused
from penstock.pipeline.commit.stage import Commit
from penstock.pipeline.formats.damage import find_damage
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.formats.pointer import Pointer
from penstock.pipeline.storage import files, leases, objects, stores
from penstock.runners import run as run_step
from penstock.runners.run import run

_NUMBERS = itertools.count()
HASH = "b" * 64


def store() -> str:
    return f"memory://run-{next(_NUMBERS)}"


def upload(folder: Path, uri: str) -> str:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files.write_bytes(files.join(uri, str(path.relative_to(folder))), path.read_bytes())
    return uri


def download(uri: str, folder: Path) -> Path:
    for info in files.list_folder(uri):
        path = folder / info.uri[len(uri) + 1 :]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files.read_bytes(info.uri))
    return folder


def stable(found: dict[str, str]) -> dict[str, str]:
    """All but what tells the time, or is TensorFlow's; the generation's id follows from times of change on a disk."""
    named = ("manifest.json", "manifest.sha256", "_DATASET.json", "saved_model.pb", "golden.json", "inputs.arrow")
    named = (*named, "croissant.json")  # with the generation's id
    return {path.partition("/")[2]: digest for path, digest in found.items() if not path.endswith(named)}


def run_on(source: object, output: object, recipe: Any = None, hash: str = HASH, **options: Any) -> Any:
    recipe = recipe or standard_recipe(features=None)
    return run(request(recipe, source, output, hash, **options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("raw"), 24, masks=True)


@pytest.fixture(scope="module")
def local(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("local") / "dataset"
    run_on(raw, path, standard_recipe())
    return path


def test_from_a_store_to_a_store_come_the_bytes_of_a_local_run(raw: Path, local: Path, tmp_path: Path):
    bucket = store()
    output = f"{bucket}/dataset"
    result = run_on(upload(raw, f"{bucket}/raw"), output, standard_recipe())
    assert result.status == "committed"
    here = download(output, tmp_path / "here")
    assert stable(contents(here)) == stable(contents(local))
    assert len(Committed(here, raw, result.manifest).examples("train")) == result.manifest.splits["train"].examples
    assert not [info.uri for info in files.list_folder(output) if "_work" in info.uri or "PROBE" in info.uri]
    assert run_on(f"{bucket}/raw", output, standard_recipe()).status == "up_to_date"


def count(action: Callable[[], object]) -> dict[str, int]:
    before = stores.COUNTS.snapshot()
    action()
    after = stores.COUNTS.snapshot()
    return {kind: after[kind] - before.get(kind, 0) for kind in after if after[kind] > before.get(kind, 0)}


def test_a_unit_costs_its_files_a_mark_and_three_looks(tmp_path: Path):
    """Each of the files that it writes, the plan's part of it, and twice whose the generation is by now."""
    source = write(tmp_path, {"a.csv": "x\n" + "".join(f"{number}\n" for number in range(600))})
    costs = {}
    for units in (1, 5):
        recipe = Recipe(source=Csv("*.csv"), shards=units)
        costs[units] = count(lambda recipe=recipe: run_on(source, f"{store()}/dataset", recipe))
    assert "retry" not in costs[5]
    more = {kind: (costs[5].get(kind, 0) - costs[1].get(kind, 0)) / 4 for kind in costs[5]}
    assert more["put"] == 7  # its mark; shard, index, summaries, hashes, ranges, journal
    assert more["head"] < 1  # the lease of a run that takes longer is looked at once more
    assert more["list"] < 1
    assert more["get"] <= 8  # claim; claim, journal; journal, hashes and summaries at the commit; the plan


def test_a_unit_that_is_taken_over_costs_copies_of_its_files_and_as_many_looks(tmp_path: Path):
    """What copies the store makes is a request each; nothing of a shard is read, or sent."""
    source = write(tmp_path, {"a.csv": "x\n" + "".join(f"{number}\n" for number in range(600))})
    costs = {}
    for units in (1, 5):
        recipe, output = Recipe(source=Csv("*.csv"), shards=units), f"{store()}/dataset"
        run_on(source, output, recipe)
        costs[units] = count(lambda recipe=recipe, output=output: run_on(source, output, recipe, graph="c" * 64))
    more = {kind: (costs[5].get(kind, 0) - costs[1].get(kind, 0)) / 4 for kind in costs[5]}
    assert more["put"] == 6  # shard, index, summaries, hashes, ranges; journal
    assert max(more["head"], more["list"]) < 1
    assert more["get"] <= 8  # the plan; claim twice, journal; journal, hashes and summaries at the commit


@pytest.mark.parametrize(("fields", "gets"), [({"shuffle": "global"}, 7 + 26), ({"deduplicate": True}, 7 + 4)])
def test_what_else_is_done_to_a_unit_looks_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], gets: int
):
    """Beside claim, journals, hashes and summaries a unit more reads what it and all others wrote for each other."""
    monkeypatch.setattr("penstock.pipeline.sources.text_ranges.READ_WHOLE", 0)
    source = write(tmp_path, {"a.csv": "x\n" + "".join(f"{number}\n" for number in range(600))})
    costs = {}
    for units in (4, 8):
        recipe = Recipe(source=Csv("*.csv"), shards=units, **fields)
        costs[units] = count(lambda recipe=recipe: run_on(source, f"{store()}/dataset", recipe))
    more = {kind: (costs[8].get(kind, 0) - costs[4].get(kind, 0)) / 4 for kind in costs[8]}
    assert max(more["head"], more["list"]) < 1, more  # of a run that takes longer, its lease is looked at once more
    assert more["get"] <= gets, more


@pytest.mark.slow
def test_a_run_that_died_is_resumed_and_what_it_made_is_not_made_again(raw: Path, tmp_path: Path):
    output = f"{store()}/dataset"

    def fail(*_: Any) -> None:
        raise RuntimeError("no more power")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit_step, "seal", fail)
        with pytest.raises(PenstockError, match="6 of 6 units are finished; run again to resume"):
            run_on(raw, output)
    with pytest.raises(NotCommittedError, match="a run has not ended yet, or has failed"):
        Manifest.load(output)
    made = [info for info in files.list_folder(output) if "/data/" in info.uri]
    assert len(made) == 6
    result = run_on(raw, output)
    assert result.status == "committed"
    assert [info for info in files.list_folder(output) if "/data/" in info.uri] == made


def test_another_run_at_the_same_generation_is_refused(raw: Path, monkeypatch: pytest.MonkeyPatch):
    from penstock.pipeline import job

    monkeypatch.setattr(leases, "STALE", 1.0)
    output = f"{store()}/dataset"
    planned = job.plan(request(standard_recipe(features=None), raw, output, HASH))
    root = files.join(output, planned.generation_id)
    with (
        leases.leased_folder(root, "_work/lease.json", "other", stale=1.0),
        pytest.raises(PenstockError, match=r"another run is making .*; wait for its end, then run again"),
    ):
        run_on(raw, output)
    assert Pointer.read(output) is None


def test_a_run_whose_generation_became_anothers_stops_before_it_commits(raw: Path, monkeypatch: pytest.MonkeyPatch):
    from penstock.pipeline.build.claim import claim

    def claim_then_commit(options: Any) -> Any:
        claim(options.root, "another run")
        return commit(options)

    commit, output = commit_step.commit, f"{store()}/dataset"
    monkeypatch.setattr(commit_step, "commit", claim_then_commit)
    with pytest.raises(PenstockError, match="found run another run; this one ends here"):
        run_on(raw, output)
    assert Pointer.read(output) is None
    monkeypatch.undo()
    assert run_on(raw, output).status == "committed"


def test_what_a_late_worker_of_an_earlier_run_says_is_not_this_runs_outcome(raw: Path, monkeypatch: pytest.MonkeyPatch):
    process, output = Commit.process, f"{store()}/dataset"

    def late(self: Any, *arguments: Any) -> Any:
        for outcome in process(self, *arguments):
            yield outcome
            refusal = b'{"refused": "OverBudgetError", "message": "too many"}'
            files.write_bytes(files.join(output, outcome["committed"], "_work/outcomes/earlier.json"), refusal)

    monkeypatch.setattr(Commit, "process", late)
    assert run_on(raw, output).status == "committed"


@pytest.mark.slow
def test_a_generation_that_prune_was_killed_at_is_made_anew(raw: Path):
    from penstock.pipeline.formats.pointer import mark_removing

    output = f"{store()}/dataset"
    old = run_on(raw, output).manifest
    new = run_on(raw, output, Recipe(source=Images("images/*.png")), "d" * 64).manifest
    mark_removing(output, [old.generation])
    files.remove(files.join(output, old.splits["train"].shards[0].path))
    result = run_on(raw, output)
    assert (result.status, result.manifest.splits) == ("committed", old.splits)
    assert find_damage(output, result.manifest) == {}
    current = Pointer.read(output)
    assert current
    assert current.removing == ()
    assert find_damage(output, new) == {}


@pytest.mark.parametrize("local", [True, False])
def test_a_generation_that_prune_removes_before_it_is_taken_is_made_anew(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: bool
):
    output = str(tmp_path / "dataset") if local else f"{store()}/dataset"
    old, other = (Recipe(source=Images("images/*.png"), seed=seed) for seed in (1, 2))
    manifest = run_on(raw, output, old).manifest
    run_on(raw, output, other, "d" * 64)
    find_existing = run_step.find_existing

    def find_then_prune(*arguments: Any) -> Any:
        existing = find_existing(*arguments)
        assert all(removed for _, removed in remove_unused(output))
        return existing

    monkeypatch.setattr(run_step, "find_existing", find_then_prune)
    result = run_on(raw, output, old)
    assert (result.status, result.manifest.splits) == ("committed", manifest.splits)
    assert find_damage(output, Manifest.load(output)) == {}


def test_an_attempt_that_fails_beside_one_that_commits_is_no_failure_of_the_run(
    raw: Path, monkeypatch: pytest.MonkeyPatch
):
    process = Commit.process

    def fail_late(self: Any, *arguments: Any) -> Any:
        yield from process(self, *arguments)
        refusal = b'{"refused": "PenstockError", "message": "the store did not answer", "is_whole": true}'
        files.write_bytes(files.join(self.options.root, f"_work/outcomes/{self.options.run}.json"), refusal)

    monkeypatch.setattr(Commit, "process", fail_late)
    assert run_on(raw, f"{store()}/dataset", Recipe(source=Images("images/*.png"))).status == "committed"


def test_a_run_tells_of_what_it_made_though_another_commits_right_after_it(raw: Path, monkeypatch: pytest.MonkeyPatch):
    process, output = Commit.process, f"{store()}/dataset"
    recipe = Recipe(source=Images("images/*.png"))

    def commit_then_let_another(self: Any, *arguments: Any) -> Any:
        yield from process(self, *arguments)
        monkeypatch.setattr(Commit, "process", process)
        run_on(raw, output, recipe, "d" * 64)

    monkeypatch.setattr(Commit, "process", commit_then_let_another)
    assert run_on(raw, output, recipe).manifest.origin.recipe.hash == HASH
    assert Manifest.load(output).origin.recipe.hash == "d" * 64


def test_who_was_overtaken_while_planning_is_told_before_anything_is_made(raw: Path, monkeypatch: pytest.MonkeyPatch):
    prepare, output = run_step.prepare, f"{store()}/dataset"
    recipe = Recipe(source=Images("images/*.png"))

    def overtake(*arguments: Any) -> Any:
        monkeypatch.setattr(run_step, "prepare", prepare)
        run_on(raw, output, recipe, "d" * 64)
        return prepare(*arguments)

    monkeypatch.setattr(run_step, "prepare", overtake)
    with pytest.raises(DatasetError, match="another run committed generation"):
        run_on(raw, output, recipe)
    generations = {info.uri[len(output) + 1 :].partition("/")[0] for info in files.list_folder(output)}
    assert generations == {"_DATASET.json", Manifest.load(output).generation}


def test_a_store_that_fails_for_good_is_told_as_the_first_failure(raw: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any) -> None:
        def refuse(*_: Any) -> None:
            raise files.UnreachableError("memory://b: no answer in time")

        monkeypatch.setattr("penstock.runners.follow.FinishedUnits", refuse)
        raise RuntimeError("a worker lost the store")

    monkeypatch.setattr("penstock.runners.direct.run", fail)
    with pytest.raises(PenstockError, match=r"RuntimeError: a worker lost the store\nits finished units cannot"):
        run_on(raw, f"{store()}/dataset", Recipe(source=Images("images/*.png")))


def test_a_store_that_ignores_conditions_is_refused_unless_there_is_one_writer(
    raw: Path, monkeypatch: pytest.MonkeyPatch
):
    def ignore(uri: str, content: bytes, version: object) -> Any:
        objects.put(uri, content)
        return objects.get(uri)[1]

    monkeypatch.setattr(objects, "put_if", ignore)
    output = f"{store()}/dataset"
    with pytest.raises(RequestError, match=r"ignores conditions: of two runs .* give --single-writer if nothing else"):
        run_on(raw, output)
    assert files.list_folder(output) == []
    assert run_on(raw, output, single_writer=True).status == "committed"


def test_an_output_that_cannot_be_written_is_told_before_anything_is_listed(monkeypatch: pytest.MonkeyPatch, raw: Path):
    def refuse(*_: Any) -> None:
        raise PermissionError("memory://b/d/x: refused")

    monkeypatch.setattr(objects, "put_if", refuse)
    monkeypatch.setattr(objects, "put", refuse)
    with pytest.raises(RequestError, match="--output: expected a folder that can be written, found: memory://b/d/x"):
        run_on(raw, f"{store()}/dataset")


@pytest.mark.parametrize(
    ("source", "output", "words"),
    [
        ("{0}/raw", "{0}/raw", "outside of --input"),
        ("{0}/raw", "{0}/raw/x", "outside of --input"),
        ("{0}/raw/", "{0}/raw/x", "outside of --input"),
        ("{0}/raw", "{0}", "outside of --input"),
        ("{0}/nothing", "{0}/d", "--input: expected a folder, found nothing at"),
        ("{0}/raw", "{0}/other", "expected an empty folder, a dataset or an unfinished run, found 'a.txt'"),
        ("{0}/raw", "https://example.org/d", "expected a path, or a URI such as s3://"),
        ("{0}/raw", "file:///tmp/d", "expected a path, or a URI such as s3://"),
    ],
)
def test_places_are_checked_first(raw: Path, source: str, output: str, words: str):
    bucket = store()
    upload(raw / "images", f"{bucket}/raw/images")
    files.write_bytes(f"{bucket}/other/a.txt", b"a")
    with pytest.raises(RequestError, match=words):
        run_on(source.format(bucket), output.format(bucket))


@pytest.mark.slow
def test_folders_beside_each_other_are_no_parts_of_each_other(raw: Path):
    bucket = store()
    upload(raw, f"{bucket}/raw")
    assert run_on(f"{bucket}/raw", f"{bucket}/raw2").status == "committed"


@pytest.mark.slow
def test_a_dataset_whose_files_are_gone_is_made_again(raw: Path):
    output = f"{store()}/dataset"
    manifest = run_on(raw, output).manifest
    shard = manifest.splits["train"].shards[0].path
    files.remove(files.join(output, shard))
    result = run_on(raw, output)
    assert result.status == "committed"
    assert files.size(files.join(output, shard)) == manifest.splits["train"].shards[0].file.bytes
    files.remove(files.join(output, manifest.generation, "statistics/golden.json"))
    assert run_on(raw, output).status == "committed"
    assert run_on(raw, output).status == "up_to_date"
    files.remove(files.join(output, manifest.generation, "manifest.json"))
    with pytest.raises(DatasetError):
        Manifest.load(output)
    assert run_on(raw, output).status == "committed"
    assert os.path.basename(Manifest.load(output).generation) == manifest.generation


@pytest.mark.parametrize("local", [True, False])
def test_a_commit_that_is_done_twice_is_done_once(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: bool
):
    """As when a worker dies between its commit and the engine's hearing of it; TensorFlow writes another graph then."""
    from penstock.pipeline.analysis import graph_writer

    process, finish, outcomes = Commit.process, graph_writer.finish, []

    def twice(self: Any, made: object) -> Any:
        outcomes.extend(process(self, made))
        committed = Manifest.load(self.options.dataset)
        outcomes.extend(process(self, made))
        patch.setattr(commit_step, "committed_already", lambda *_: None)  # as for an attempt at the same time
        outcomes.extend(process(self, made))
        assert Manifest.load(self.options.dataset) == committed
        yield outcomes[-1]

    def finish_otherwise(graph_path: str, *arguments: Any) -> None:
        finish(graph_path, *arguments)
        with open(os.path.join(graph_path, "transform_fn", "saved_model.pb"), "ab") as file:
            file.write(bytes([0x78, next(_NUMBERS) % 128]))  # a field that nobody knows

    monkeypatch.setattr(Commit, "process", twice)
    monkeypatch.setattr(graph_writer, "finish", finish_otherwise)
    output = str(tmp_path / "dataset") if local else f"{store()}/dataset"
    with pytest.MonkeyPatch.context() as patch:
        manifest = run_on(raw, output, Recipe(source=Images("images/*.png"))).manifest
    assert outcomes == [{"committed": manifest.generation}] * 3
    assert find_damage(output, manifest) == {}
    for file in manifest.files():
        assert files.sha256(files.join(output, file.path)) == (file.sha256, file.bytes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["global", "parquet", "phases"])
def test_tables_are_the_same_on_a_store(tmp_path: Path, kind: str):
    import tensorflow_transform as tft

    def features(inputs: Any) -> dict[str, Any]:
        scaled = tft.scale_to_z_score(inputs["x"])
        return {"x": tft.scale_to_z_score(scaled**2)}  # two passes, each over the shards

    fields = {"global": {"shuffle": "global"}, "parquet": {"format": "parquet"}, "phases": {"features": features}}
    rows = "".join(f"{number},{number % 9 / 7}\n" for number in range(2000))
    source = write(tmp_path / "raw", {f"{name}.csv": f"n,x\n{rows}" for name in "abc"})
    recipe = Recipe(source=Csv("*.csv"), shards=3, splits={"train": 0.8, "test": 0.2}, **fields[kind])
    run_on(source, tmp_path / "local", recipe)
    output = f"{store()}/dataset"
    run_on(source, output, recipe)
    here = download(output, tmp_path / "here")
    assert stable(contents(here)) == stable(contents(tmp_path / "local"))
