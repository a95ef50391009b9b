"""Loads prepared photos, epoch after epoch: what `stores.py` measures of loading.

    python benchmarks/_load_epochs.py URI COUNT [CACHE_DIR CACHE_BYTES]

It fails where the cache ever takes more than it may.
"""

import fcntl
import os
import sys
from pathlib import Path

from penstock import open_dataset

BATCH = 64
CHECKED = 16  # batches between two looks at the cache


def taken(cache: Path) -> int:
    """The bytes of a cache's files, while it is locked against changes."""
    with open(cache / "usage", "rb") as usage:
        fcntl.flock(usage, fcntl.LOCK_EX)
        return sum(512 * entry.stat().st_blocks for entry in os.scandir(cache))


def main() -> None:
    uri, count = sys.argv[1], int(sys.argv[2])
    folder, limit = (sys.argv[3], int(sys.argv[4])) if len(sys.argv) > 3 else (None, None)
    dataset = open_dataset(uri, cache_dir=folder, cache_bytes=limit)
    loaded = 0
    for number, batch in enumerate(dataset.numpy("train", BATCH, shuffle=True, repeat=None)):
        loaded += len(batch["image"])
        if folder and limit and number % CHECKED == 0 and taken(Path(folder, "penstock-blocks")) > limit:
            sys.exit(f"the cache took more than {limit} bytes")
        if loaded >= count:
            return


if __name__ == "__main__":
    main()
