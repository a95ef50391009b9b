import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, quote_plus

import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet
import pytest

from penstock.pipeline import RequestError
from penstock.pipeline.sources.inventory import inventory
from penstock.pipeline.storage import files

# bucket, key, version, is latest, is delete marker, size, ETag
OBJECTS: list[tuple[str, str, str, bool, bool, int | None, str | None]] = [
    ("raw", "cat/1.jpg", "v1", True, False, 10, "aa"),
    ("raw", "cat/ü #%+ 2.jpg", "v2", True, False, 20, "bb-2"),
    ("raw", 'comma, "quote".jpg', "v3", True, False, 30, "cc"),
    ("raw", "cat/1.jpg", "v0", False, False, 9, "00"),
    ("raw", "gone.jpg", "v4", True, True, None, None),
    ("raw", "cat/", "v5", True, False, 0, "ff"),
]
EXPECTED = [
    ("s3://raw/cat/1.jpg", 10, "aa"),
    ("s3://raw/cat/ü #%+ 2.jpg", 20, "bb-2"),
    ('s3://raw/comma, "quote".jpg', 30, "cc"),
]
CSV_SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"
COLUMNS = ("bucket", "key", "version_id", "is_latest", "is_delete_marker", "size", "e_tag")
PARQUET_SCHEMA = (
    "message s3.inventory { required binary bucket (UTF8); required binary key (UTF8); optional binary version_id "
    "(UTF8); optional boolean is_latest; optional boolean is_delete_marker; optional int64 size; optional binary e_tag "
    "(UTF8); }"
)
ORC_SCHEMA = (
    "struct<bucket:string,key:string,version_id:string,is_latest:boolean,is_delete_marker:boolean,size:bigint,"
    "e_tag:string>"
)


def csv_gz(objects: Sequence[tuple[Any, ...]], encode: Any = quote_plus) -> bytes:
    """As S3 writes it: no header, every value quoted, keys encoded."""
    lines = []
    for bucket, key, version, latest, deleted, size, etag in objects:
        values = [
            bucket,
            encode(key, safe="/"),
            version,
            latest,
            deleted,
            size,
            "2026-11-01T00:00:00.000Z",
            etag,
            "STANDARD",
        ]
        written = [
            "" if value is None else str(value).lower() if isinstance(value, bool) else str(value) for value in values
        ]
        lines.append(",".join(f'"{value}"' for value in written) + "\n")
    return gzip.compress("".join(lines).encode())


def parquet(objects: Sequence[tuple[Any, ...]]) -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table(objects), sink)
    return bytes(sink.getvalue())


def orc(objects: Sequence[tuple[Any, ...]]) -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.orc.write_table(table(objects), sink)
    return bytes(sink.getvalue())


def table(objects: Sequence[tuple[Any, ...]]) -> pa.Table:
    return pa.table({name: list(values) for name, values in zip(COLUMNS, zip(*objects, strict=True), strict=True)})


def manifest(form: str, schema: str, names: Sequence[str], bucket: str = "reports") -> bytes:
    content = {
        "sourceBucket": "raw",
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "version": "2016-11-30",
        "creationTimestamp": "1793491200000",
        "fileFormat": form,
        "fileSchema": schema,
        "files": [{"key": f"p/raw/daily/data/{name}", "size": 1, "MD5checksum": "0"} for name in names],
    }
    return json.dumps(content).encode()


REPORTS = [
    ("CSV", CSV_SCHEMA, "csv.gz", csv_gz),
    ("Parquet", PARQUET_SCHEMA, "parquet", parquet),
    ("ORC", ORC_SCHEMA, "orc", orc),
]
MANIFEST = "p/raw/daily/2026-11-01T00-00Z/manifest.json"


def listed(root: str, path: str = MANIFEST) -> list[dict[str, Any]]:
    return [row for batch in inventory(path).list_files(root).batches for row in batch.to_pylist()]


@pytest.mark.parametrize(("form", "schema", "suffix", "write"), REPORTS)
def test_the_latest_versions_of_an_s3_inventory(tmp_path, form, schema, suffix, write):
    root = f"memory://{tmp_path.name}"
    files.write_bytes(f"{root}/{MANIFEST}", manifest(form, schema, [f"1.{suffix}", f"2.{suffix}"]))
    files.write_bytes(f"{root}/p/raw/daily/data/1.{suffix}", write(OBJECTS[:2]))
    files.write_bytes(f"{root}/p/raw/daily/data/2.{suffix}", write(OBJECTS[2:]))
    files.write_bytes(f"{root}/p/raw/daily/data/of-yesterday.{suffix}", write(OBJECTS))
    listing = inventory(MANIFEST).list_files(root)
    rows = [row for batch in listing.batches for row in batch.to_pylist()]
    assert [(row["uri"], row["size"], row["etag"]) for row in rows] == EXPECTED
    assert [row["key"] for row in rows] == [uri.removeprefix("s3://") for uri, _, _ in EXPECTED]
    assert {row["code"] for row in rows} == {None}
    assert (
        "3 rows of the list are passed over: older versions, marks of deleted objects, and folders" in listing.warnings
    )


@pytest.mark.parametrize("encode", [quote, quote_plus])
def test_keys_in_csv_are_decoded_however_blanks_are_written(tmp_path, encode):
    root = str(tmp_path)
    files.write_bytes(f"{root}/{MANIFEST}", manifest("CSV", CSV_SCHEMA, ["1.csv.gz"]))
    files.write_bytes(f"{root}/p/raw/daily/data/1.csv.gz", csv_gz(OBJECTS, encode))
    assert [row["uri"] for row in listed(root)] == [uri for uri, _, _ in EXPECTED]


def test_an_inventory_without_versions_sizes_and_etags(tmp_path):
    content = b'"raw","a.jpg"\n"raw","b%2Fc.jpg"\n'
    files.write_bytes(f"{tmp_path}/{MANIFEST}", manifest("CSV", "Bucket, Key", ["1.csv.gz"]))
    files.write_bytes(f"{tmp_path}/p/raw/daily/data/1.csv.gz", gzip.compress(content))
    assert [(row["key"], row["size"], row["etag"]) for row in listed(str(tmp_path))] == [
        ("raw/a.jpg", -1, ""),
        ("raw/b/c.jpg", -1, ""),
    ]


def test_objects_below_the_input_have_keys_below_it(tmp_path):
    path = f"{tmp_path}/{MANIFEST}"
    files.write_bytes(path, manifest("Parquet", PARQUET_SCHEMA, ["1.parquet"]))
    files.write_bytes(f"{tmp_path}/p/raw/daily/data/1.parquet", parquet(OBJECTS))
    assert [row["key"] for row in listed("s3://raw/cat", path)][:2] == ["1.jpg", "ü #%+ 2.jpg"]


GCS_FIELDS = ("project", "bucket", "name", "size", "timeDeleted", "md5Hash")
MD5 = base64.b64encode(hashlib.md5(b"1").digest()).decode()
GCS_ROWS = [
    ("1", "raw", "cat/1.jpg", 10, None, MD5),
    ("1", "raw", 'é, "x".jpg', 20, None, None),
    ("1", "raw", "cat/0.jpg", 5, "2026-10-01T00:00:00Z", MD5),
    ("1", "raw", "cat/", 0, None, MD5),
]


def gcs_csv(header: bool, delimiter: str = ",") -> bytes:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    if header:
        writer.writerow(GCS_FIELDS)
    writer.writerows(GCS_ROWS)
    return text.getvalue().encode()


def gcs_parquet() -> bytes:
    sink = pa.BufferOutputStream()
    columns = {name: list(values) for name, values in zip(GCS_FIELDS, zip(*GCS_ROWS, strict=True), strict=True)}
    pyarrow.parquet.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("suffix", "content", "delimiter"),
    [
        ("csv", gcs_csv(header=True), ","),
        ("csv", gcs_csv(header=False), ","),
        ("csv", gcs_csv(header=False, delimiter=";"), ";"),
        ("parquet", gcs_parquet(), ","),
    ],
)
def test_a_storage_insights_report(tmp_path, suffix, content, delimiter):
    name = "1b9a-uuid_2026-11-01T00:00"
    config = {
        "name": "projects/1/locations/us/reportConfigs/1b9a-uuid",
        "csv_options": {"delimiter": delimiter, "record_separator": "\n", "header_required": False},
        "object_metadata_report_options": {"metadata_fields": list(GCS_FIELDS)},
    }
    report = {
        "report_config": config,
        "records_processed": len(GCS_ROWS),
        "snapshot_time": "2026-11-01T00:00:00Z",
        "shard_count": 1,
        "report_shards_file_names": [f"{name}_0.{suffix}"],
    }
    files.write_bytes(f"{tmp_path}/r/{name}_manifest.json", json.dumps(report).encode())
    files.write_bytes(f"{tmp_path}/r/{name}_0.{suffix}", content)
    rows = listed(str(tmp_path), f"r/{name}_manifest.json")
    assert [(row["uri"], row["size"], row["etag"]) for row in rows] == [
        ("gs://raw/cat/1.jpg", 10, hashlib.md5(b"1").hexdigest()),
        ('gs://raw/é, "x".jpg', 20, ""),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "expected the manifest"),
        (b"[]", "found neither"),
        (b"{}", "found neither"),
        (manifest("CSV", CSV_SCHEMA, []), "found 0 in csv"),
        (manifest("Avro", CSV_SCHEMA, ["1"]), "in avro"),
        (manifest("CSV", "Key, Size", ["1.csv"]), "columns Bucket and Key"),
        (manifest("CSV", CSV_SCHEMA, ["1.csv.gz"]), "expected record files"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path, content, words):
    files.write_bytes(f"{tmp_path}/{MANIFEST}", content)
    with pytest.raises(RequestError, match=words):
        inventory(MANIFEST).list_files(str(tmp_path))


def test_a_manifest_leads_to_no_other_folders(tmp_path):
    content = manifest("CSV", "Bucket, Key", ["../../../../secret.csv"])
    files.write_bytes(f"{tmp_path}/in/{MANIFEST}", content)
    files.write_bytes(f"{tmp_path}/secret.csv", b"a,b\n")
    with pytest.raises(RequestError, match="expected record files"):
        inventory(MANIFEST).list_files(f"{tmp_path}/in")


@pytest.mark.parametrize(("form", "schema", "suffix", "write"), REPORTS)
def test_a_damaged_file_of_a_report_is_refused_by_name(tmp_path, form, schema, suffix, write):
    files.write_bytes(f"{tmp_path}/{MANIFEST}", manifest(form, schema, [f"1.{suffix}"]))
    content = write(OBJECTS)
    for damaged in (content[: len(content) // 2], content[:-20] + bytes(20)):
        files.write_bytes(f"{tmp_path}/p/raw/daily/data/1.{suffix}", damaged)
        with pytest.raises(RequestError, match=rf"1\.{suffix}"):
            listed(str(tmp_path))
