"""Payloads that an engine hashes are those that the launcher hashes, and what was hashed is not hashed again."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers import Made, contents, draw, plan_job, request, run_job, write

from penstock.pipeline import Images, PenstockError, Recipe, RequestError
from penstock.pipeline.build import payload_hashes
from penstock.pipeline.build.payload_hashes import HashOptions, hash_task, read_hashes, write_tasks
from penstock.pipeline.commit.prune import remove_unused
from penstock.pipeline.formats import paths
from penstock.pipeline.planning import payloads
from penstock.pipeline.planning.payloads import CANDIDATES, hash_here
from penstock.pipeline.storage import files, leases
from penstock.runners.run import run


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """12 images, of which 3 are there twice, and one copy under another label."""
    folder = draw(tmp_path / "raw")
    images = folder / "images"
    for number in (1, 4, 5):
        shutil.copy(images / f"cat_{number:03d}.png", images / f"cat_{number + 20:03d}.png")
    shutil.copy(images / "dog_003.png", images / "owl_003.png")
    return folder


def recipe() -> Recipe:
    return Recipe(
        source=Images("images/*.png", label=r"(?P<label>.+)_\d+"),
        splits={"train": 0.7, "test": 0.3},
        deduplicate=True,
    )


def candidates(raw: Path) -> pa.RecordBatch:
    found = sorted((raw / "images").iterdir())
    rows = [{"rid": 100 - at, "uri": str(path), "size": path.stat().st_size} for at, path in enumerate(found)]
    return pa.RecordBatch.from_pylist([*rows, {"rid": 7, "uri": str(raw / "gone.png"), "size": 9}], CANDIDATES)


def rows(batches: Any) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.to_pylist()]


def test_a_run_leaves_out_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: Path):
    here = run_job(recipe(), raw, tmp_path / "here", hash="9" * 64).manifest
    monkeypatch.setattr(payloads, "READ_HERE", 0)
    monkeypatch.setattr(payload_hashes, "_TASK_PAYLOADS", 10)
    hashed = []

    def counted(uri: str) -> str | None:
        hashed.append(uri)
        return payloads.hash_payload(uri)

    monkeypatch.setattr(payload_hashes, "hash_payload", counted)
    there = run_job(recipe(), raw, tmp_path / "there", hash="9" * 64).manifest
    assert hashed
    for split in ("train", "test"):
        assert Made(tmp_path / "there", there).records(split) == Made(tmp_path / "here", here).records(split)
    assert (there.filtered, there.reasons, there.warnings) == (here.filtered, here.reasons, here.warnings)
    assert there.filtered == 4
    assert any("contradict the label" in warning for warning in there.warnings)
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == sorted(
        [paths.POINTER, there.generation, *(path.name for path in (tmp_path / "here").glob(".*"))]
    )


def test_a_plan_alone_hashes_here_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: Path):
    monkeypatch.setattr(payloads, "READ_HERE", 0)
    planned = plan_job(recipe(), raw, tmp_path / "nowhere")
    assert planned.inventory.filtered == {"duplicate": 4}
    assert not (tmp_path / "nowhere").exists()


def test_tasks_hash_what_the_launcher_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: Path):
    monkeypatch.setattr(payload_hashes, "_TASK_PAYLOADS", 10)
    batch = candidates(raw)
    folder = str(tmp_path / "hashes")
    tasks = write_tasks(folder, iter([batch.slice(0, 5), batch.slice(5)]))
    assert tasks == 2
    for task in range(tasks):
        hash_task(HashOptions(folder, tasks), task)
    assert rows(read_hashes(folder, tasks)) == rows(hash_here(iter([batch]), 2))


def test_what_is_hashed_is_not_hashed_again_unless_a_task_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: Path
):
    batch, folder = candidates(raw), str(tmp_path / "hashes")
    options = HashOptions(folder, write_tasks(folder, iter([batch])))
    hash_task(options, 0)
    before = contents(tmp_path / "hashes")
    with monkeypatch.context() as patched:
        patched.setattr(payload_hashes, "hash_payload", lambda uri: pytest.fail(f"{uri} was hashed again"))
        numbered = batch.set_column(0, "rid", pa.array(range(len(batch)), pa.int64()))  # as another listing may
        assert write_tasks(folder, iter([numbered])) == 1
        hash_task(options, 0)
    assert [row["rid"] for row in rows(read_hashes(folder, 1))] == [*range(len(batch) - 1)]
    write_tasks(folder, iter([batch.slice(3)]))
    hash_task(options, 0)
    assert rows(read_hashes(folder, 1)) == rows(hash_here(iter([batch.slice(3)]), 1))
    assert contents(tmp_path / "hashes") != before


@pytest.mark.parametrize("local", [True, False])
def test_two_runs_of_one_job_do_not_read_each_others_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: Path, local: bool
):
    """The second may list the images in another order, and its tasks would get the names of the first one's."""
    monkeypatch.setattr(payloads, "READ_HERE", 0)
    monkeypatch.setattr(leases, "_BEAT", 0.1)
    output = str(tmp_path / "dataset") if local else f"memory://hashes-{tmp_path.name}/dataset"
    asked = request(recipe(), raw, output, "9" * 64)  # type: ignore[arg-type]
    read = payload_hashes.read_hashes

    def read_beside_others(*arguments: Any) -> Any:
        monkeypatch.setattr(payload_hashes, "read_hashes", read)
        with pytest.raises(PenstockError, match=r"another run is making .*\.hashes; wait for its end"):
            run(asked)
        assert [gone for uri, gone in remove_unused(output) if uri.endswith(".hashes")] == [False]
        return read(*arguments)

    run(request(recipe(), raw, output, "8" * 64))  # type: ignore[arg-type]
    monkeypatch.setattr(payload_hashes, "read_hashes", read_beside_others)
    assert run(asked).manifest.filtered == 4
    assert not [name for name in files.list_names(output) if name.endswith(".hashes")]


def test_hashes_of_a_killed_run_are_no_strangers_and_are_pruned(tmp_path: Path, raw: Path):
    output = tmp_path / "dataset"
    left = paths.payload_hashes("0123456789abcdef")
    write(output, {f"{left}/00000.hashes": b""})
    run_job(recipe(), raw, output)
    assert [Path(uri).name for uri, gone in remove_unused(str(output)) if gone] == [left]
    assert not (output / left).exists()
    write(tmp_path / "other", {"something.hashes": b""})
    with pytest.raises(RequestError, match=r"something\.hashes"):
        run_job(recipe(), raw, tmp_path / "other")
