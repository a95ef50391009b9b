"""Inventory reports: the lists of objects that stores write themselves, Amazon S3 and Google Cloud Storage.

A report's manifest names its files, which hold a row for each object. Which rows are objects that can be read (the
latest versions, and no marks of deleted ones), and how keys are encoded, differs by report.
"""

import base64
import binascii
import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import RequestError
from ..storage import files
from ..storage.globs import escape_glob
from .csv import Csv
from .file_content import open_content, read_fully
from .list_rows import ListColumns
from .list_tables import parquet_names, split_patterns
from .orc import Orc
from .parquet import Parquet
from .record_source import RecordSource
from .reference_lists import OpenedList, References

_MANIFEST_BYTES = 64 << 20
_HEAD_BYTES = 1 << 16
_S3_NAMES = {  # the columns that are read, as CSV reports and the others call them
    "Bucket": "bucket",
    "Key": "key",
    "Size": "size",
    "ETag": "e_tag",
    "IsLatest": "is_latest",
    "IsDeleteMarker": "is_delete_marker",
}
_GCS_NAMES = ("bucket", "name", "size", "md5Hash", "timeDeleted")
_LEFT_OUT = "older versions, marks of deleted objects, and folders"


@dataclass(frozen=True)
class Inventory:
    """An inventory report, found by its manifest.

    Attributes:
      manifest: The manifest's path relative to the input, or its URI.
    """

    manifest: str

    def open(self, root: str) -> OpenedList:
        """The report's rows; see `ListFinder`.

        Raises:
          RequestError: there is no such manifest, it is no report's, or it names files that are not there.
        """
        folder, (name,) = split_patterns(root, [self.manifest])
        uri = files.join(folder, name)
        try:
            manifest = files.read_bytes(uri, _MANIFEST_BYTES)
            content = json.loads(manifest)
        except (OSError, ValueError) as error:
            raise RequestError(f"{uri}: expected the manifest of an inventory report, found: {error}") from error
        if isinstance(content, dict) and "fileSchema" in content and isinstance(content.get("files"), list):
            return replace(_open_s3(uri, content), digest=hashlib.sha256(manifest).hexdigest())
        if isinstance(content, dict) and (shards := _gcs_shards(content)):
            return replace(_open_gcs(uri, content, shards), digest=hashlib.sha256(manifest).hexdigest())
        raise RequestError(
            f"{uri}: expected the manifest.json of an S3 Inventory, or the manifest of a Storage Insights inventory "
            "report, found neither; name another file"
        )


def inventory(manifest: str) -> References:
    """The objects of an inventory report, for `Images(uris=...)`.

    Args:
      manifest: The report's manifest: of an S3 Inventory `…/YYYY-MM-DDTHH-MMZ/manifest.json`, of a Storage Insights
        report of Google Cloud Storage `…_manifest.json`; relative to the input, or a URI.
    """
    return References(Inventory(manifest))


def _open_s3(uri: str, content: Mapping[str, Any]) -> OpenedList:
    """The report of an S3 Inventory, in CSV, Parquet or ORC."""
    form, schema = str(content.get("fileFormat", "")).lower(), str(content["fileSchema"])
    paths = [str(file.get("key", "")) for file in content["files"] if isinstance(file, dict)]
    if form not in ("csv", "parquet", "orc") or not paths:
        raise RequestError(f"{uri}: expected files in CSV, Parquet or ORC, found {len(paths)} in {form or 'no format'}")
    bucket = str(content.get("destinationBucket", "")).rpartition(":")[2]
    if uri.startswith(f"s3://{bucket}/"):
        folder = f"s3://{bucket}"
    else:  # a copy of the report: its folders are as they were
        folder, paths = f"{_parent(_parent(uri))}/data", [path.rpartition("/")[2] for path in paths]
    patterns = [escape_glob(path) for path in paths]
    names = _S3_NAMES if form != "csv" else {name: name for name in _S3_NAMES}
    present = [name.strip() for name in schema.split(",")] if form == "csv" else re.findall(r"\w+", schema)
    used = {role: name for role, name in names.items() if name in present}
    if not {"Bucket", "Key"} <= used.keys():
        raise RequestError(f"{uri}: expected the columns Bucket and Key in the report, found {schema!r}")
    booleans = "string" if form == "csv" else "int64"
    kinds = {"Size": "int64", "IsLatest": booleans, "IsDeleteMarker": booleans}
    columns = {name: kinds.get(role, "string") for role, name in used.items()}
    table: RecordSource
    if form == "csv":
        table = Csv(patterns, names=present, missing=[""], strip=False, columns=columns)
    else:
        table = Parquet(patterns, columns=columns) if form == "parquet" else Orc(patterns, columns)
    key = used["Key"]

    def keep(batch: pa.RecordBatch) -> pa.Array:
        is_object = pc.invert(pc.ends_with(batch.column(key), "/"))
        for role, value in (("IsLatest", "false"), ("IsDeleteMarker", "true")):
            if role in used:
                values = batch.column(used[role])
                told = values if form == "csv" else pc.if_else(pc.equal(values, 0), "false", "true")
                is_object = pc.and_(is_object, pc.not_equal(pc.utf8_lower(pc.coalesce(told, "")), value))
        return is_object

    return OpenedList(
        table,
        folder,
        ListColumns(
            f"s3://{{{used['Bucket']}}}/{{{key}}}",
            size=used.get("Size", ""),
            etag=used.get("ETag", ""),
            keep=keep,
            left_out=_LEFT_OUT,
            decode={key: unquote_plus} if form == "csv" else {},
        ),
    )


def _gcs_shards(content: Mapping[str, Any]) -> list[str]:
    """The names of the files of a Storage Insights report."""
    shards = content.get("report_shards_file_names", content.get("reportNames"))
    return [str(name).rpartition("/")[2] for name in shards] if isinstance(shards, list) else []


def _open_gcs(uri: str, content: Mapping[str, Any], shards: Sequence[str]) -> OpenedList:
    """The report of Storage Insights, in CSV or Parquet, whose files lie beside its manifest."""
    folder, patterns = _parent(uri), [escape_glob(name) for name in shards]
    config = content.get("report_config", content.get("reportConfig", {}))
    if shards[0].endswith(".parquet"):
        present, header, delimiter = parquet_names(files.join(folder, shards[0])), True, ","
    else:
        delimiter = _find(config, "delimiter") or ","
        first = _first_row(files.join(folder, shards[0]), delimiter)
        header = "name" in first
        present = first if header else [str(name) for name in _find(config, "metadata_fields", "metadataFields") or []]
    used = [name for name in _GCS_NAMES if name in present]
    if not {"bucket", "name"} <= {*used}:
        raise RequestError(f"{uri}: expected the columns bucket and name in the report, found {present}")
    columns = {name: "int64" if name == "size" else "string" for name in used}
    table: RecordSource = Parquet(patterns, columns=columns)
    if not shards[0].endswith(".parquet"):
        names = None if header else present
        table = Csv(patterns, delimiter=delimiter, names=names, missing=[""], strip=False, columns=columns)

    def keep(batch: pa.RecordBatch) -> pa.Array:
        is_object = pc.invert(pc.ends_with(batch.column("name"), "/"))
        return pc.and_(is_object, batch.column("timeDeleted").is_null()) if "timeDeleted" in used else is_object

    return OpenedList(
        table,
        folder,
        ListColumns(
            "gs://{bucket}/{name}",
            size="size" if "size" in used else "",
            etag="md5Hash" if "md5Hash" in used else "",
            keep=keep,
            left_out=_LEFT_OUT,
            decode={"md5Hash": _as_hex},
        ),
    )


def _parent(uri: str) -> str:
    return uri.rpartition("/")[0]


def _find(config: Any, *names: str) -> Any:
    """The value of the first of these names in nested objects; None where there is none."""
    if not isinstance(config, dict):
        return None
    for name, value in config.items():
        if name in names:
            return value
    return next((value for each in config.values() if (value := _find(each, *names)) is not None), None)


def _first_row(uri: str, delimiter: str) -> list[str]:
    with open_content(uri, RequestError) as file:
        head = read_fully(file, _HEAD_BYTES).decode("utf-8-sig", "replace")
    return next(csv.reader(io.StringIO(head, newline=""), delimiter=delimiter), [])


def _as_hex(md5: str) -> str:
    """An MD5 in base64 as ETags write it; empty where it is none."""
    try:
        return base64.b64decode(md5, validate=True).hex()
    except binascii.Error:
        return ""
