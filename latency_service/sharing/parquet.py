"""The files of an export: a folder with ``spaces``, ``targets`` and ``measurements`` as Parquet.

Their hashes lie beside them, as ``sha256sum --check SHA256SUMS`` reads them: damage is found, never
imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from latency_service.core.errors import BadRequest
from latency_service.sharing.schemas import Shared

FORMAT = "1"
SPACES_FILE = "spaces.parquet"
TARGETS_FILE = "targets.parquet"
MEASUREMENTS_FILE = "measurements.parquet"
FILES = (SPACES_FILE, TARGETS_FILE, MEASUREMENTS_FILE)
SUMS_FILE = "SHA256SUMS"
_FORMAT_KEY = b"latency_service_format"
#: Rows that are held in memory at a time.
BATCH = 200
Row = TypeVar("Row", bound=Shared)

_TEXT, _WHOLE, _REAL, _TRUTH = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_INSTANT = pa.timestamp("us", tz="UTC")
_ROUND = pa.struct(
    {
        "at_seconds": _REAL,
        "latency_ms": _REAL,
        "runs": _WHOLE,
        "before_ms": pa.list_(_REAL),
        "after_ms": pa.list_(_REAL),
        "reference_ms": pa.list_(_REAL),
        "contenders": _WHOLE,
        "disturbed": _TEXT,
    }
)
SPACES = pa.schema({"id": _TEXT, "is_probe": _TRUTH, "blob": pa.binary()})
TARGETS = pa.schema(
    {
        **dict.fromkeys(("id", "device_id", "device_name", "source", "fingerprint"), _TEXT),
        **dict.fromkeys(("runtime", "facts", "context"), _TEXT),
        "canaries": pa.list_(_TEXT),
        "canary_ms": pa.list_(_REAL),
        "generation": _WHOLE,
        "is_current": _TRUTH,
        "created_at": _INSTANT,
    }
)
MEASUREMENTS = pa.schema(
    {
        **dict.fromkeys(("id", "space_id", "target_id", "job_id", "job_kind", "attempt_id"), _TEXT),
        **dict.fromkeys(("attempt_number", "position"), _WHOLE),
        "widths": pa.list_(_WHOLE),
        "model_sha256": _TEXT,
        "counted": _TRUTH,
        **dict.fromkeys(("latency_ms", "lower_ms", "upper_ms", "naive_ms"), _REAL),
        **dict.fromkeys(("reference_ms", "reference_elasticity"), _REAL),
        "verdict": _TEXT,
        "reason": _TEXT,
        "trainable": _TRUTH,
        **dict.fromkeys(("quiet_share", "quarantined_share"), _REAL),
        "rounds_used": _WHOLE,
        "stopped": _TEXT,
        "created_at": _INSTANT,
        "calibration": _TEXT,
        "rounds": pa.list_(_ROUND),
        "rounds_kept": _TRUTH,
    }
)


class BadExport(BadRequest):
    """The folder is no export of this program, or is damaged."""

    code = "bad_export"


def write_sums(folder: Path) -> None:
    """Write the hashes of the files in a folder."""
    paths = [folder / name for name in FILES]
    lines = [f"{_sha256(path)}  {path.name}\n" for path in paths]
    (folder / SUMS_FILE).write_text("".join(lines))


def check_sums(folder: Path) -> None:
    """Check every file of a folder against its hash.

    Raises:
        BadExport: a file or the hashes are missing, or a file was changed.
    """
    try:
        sums = (folder / SUMS_FILE).read_text().splitlines()
        known = {name: sha256 for sha256, name in (line.split("  ", 1) for line in sums)}
        wrong = [name for name in FILES if _sha256(folder / name) != known.get(name)]
    except (OSError, ValueError) as error:
        raise _unreadable(folder, error) from error
    if wrong:
        raise _unreadable(folder, f"{', '.join(wrong)} was changed or damaged")


def write(path: Path, schema: pa.Schema, batches: Iterable[list[Mapping[str, Any]]]) -> int:
    """Write one file of rows; how many rows there were."""
    marked = schema.with_metadata({_FORMAT_KEY: FORMAT})
    count = 0
    with pq.ParquetWriter(path, marked, compression="zstd") as writer:
        for rows in batches:
            count += len(rows)
            writer.write_table(pa.Table.from_pylist(list(rows), schema=marked))
    return count


def count(path: Path) -> int:
    """Number of rows of a file that was checked."""
    return int(pq.read_metadata(path).num_rows)


def read(path: Path, schema: pa.Schema, kind: type[Row]) -> Iterator[list[Row]]:
    """Rows of one file, checked, some at a time.

    Raises:
        BadExport: the file is missing, damaged, of another form, or a value in it is not valid.
    """
    try:
        with pq.ParquetFile(path) as file:
            _check_form(path, file.schema_arrow, schema)
            for batch in file.iter_batches(BATCH):
                yield [kind.model_validate(row) for row in batch.to_pylist()]
    except (OSError, pa.ArrowException, ValidationError) as error:
        raise _unreadable(path, _cause(error)) from error


def as_text(value: object) -> str:
    """A value whose form is not fixed, as a column holds it."""
    return json.dumps(value, sort_keys=True)


def _check_form(path: Path, found: pa.Schema, wanted: pa.Schema) -> None:
    form = (found.metadata or {}).get(_FORMAT_KEY, b"none").decode(errors="replace")
    if form != FORMAT or found.names != wanted.names:
        raise BadExport(
            f"{path} is no file of `latency-service export` in format {FORMAT} (found: {form}).",
            "Export again with the version of latency-service that is to import.",
        )


def _unreadable(path: Path, why: object) -> BadExport:
    return BadExport(
        f"{path} cannot be imported: {why}.", "Copy the folder again from where it was exported."
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cause(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)
