"""Which files of a generation are looked at: what its readers need, and what only later runs do."""

import json
from pathlib import Path

from stored_datasets import manifest_content

from penstock.pipeline.formats.damage import all_files, find_damage
from penstock.pipeline.formats.manifest import Manifest, stored_file

GENERATION = "0" * 16


def write(dataset: Path, path: str, content: bytes, **fields: object) -> dict[str, object]:
    (dataset / GENERATION / path).parent.mkdir(parents=True, exist_ok=True)
    (dataset / GENERATION / path).write_bytes(content)
    return stored_file(f"{GENERATION}/{path}", content).to_json() | fields


def make(dataset: Path) -> Manifest:
    kept = {"path": "units/00000.arrow", "examples": None, "bytes": 3, "sha256": "a" * 64}
    write(dataset, "units/00000.arrow", b"abc")
    journals = [{"unit": 0, "hashes": kept, "summaries": None, "accumulators": None}, {"unit": 1, "hashes": None}]
    lines = b"".join(json.dumps(journal).encode() + b"\n" for journal in journals)
    inputs = write(dataset, "units/inputs.arrow", b"inputs")
    units = write(dataset, "units/journals.jsonl", lines, lines=2, inputs=inputs)
    return Manifest.from_json({**manifest_content(GENERATION), "units": units})


def kept(manifest: Manifest) -> list[str]:
    return [f"{manifest.generation}/units/{name}" for name in ("inputs.arrow", "journals.jsonl", "00000.arrow")]


def test_what_units_left_is_listed_by_their_journals_and_no_concern_of_readers(tmp_path: Path):
    manifest = make(tmp_path)
    assert not [file.path for file in manifest.files() if "/units/" in file.path]
    assert [file.path for file in all_files(str(tmp_path), manifest)][-3:] == kept(manifest)
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_damage_to_it_is_found(tmp_path: Path):
    manifest = make(tmp_path)
    of_readers = {file.path for file in manifest.files()}
    assert find_damage(str(tmp_path), manifest).keys() == of_readers  # which are not there in this test
    (tmp_path / GENERATION / "units" / "00000.arrow").unlink()
    (tmp_path / GENERATION / "units" / "inputs.arrow").write_bytes(b"longer than before")
    assert find_damage(str(tmp_path), manifest).keys() == {*of_readers, kept(manifest)[0], kept(manifest)[2]}
    (tmp_path / GENERATION / "units" / "journals.jsonl").write_bytes(b"{")
    assert find_damage(str(tmp_path), manifest).keys() == {*of_readers, *kept(manifest)[:2]}


def test_a_generation_from_before_has_none_of_it(tmp_path: Path):
    manifest = Manifest.from_json(manifest_content(GENERATION))
    assert manifest.units is None
    assert list(all_files(str(tmp_path), manifest)) == list(manifest.files())
