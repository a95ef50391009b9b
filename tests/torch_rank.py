"""What each process of a test of torch.distributed does: a module that a spawned process can import."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from penstock.pipeline.load import open_dataset


def load_share(rank: int, ranks: int, uri: str, store: str, folder: str) -> None:
    """Joins a group of `ranks` and writes the rows of the batches that it gets into `folder`, as JSON."""
    import torch.distributed
    from torch.utils.data import DataLoader

    def batches(**options: Any) -> Any:
        return open_dataset(uri).torch("train", 4, shuffle="exact", seed=2, **options)

    before = batches()
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    rows: dict[str, Any] = {"length": len(before), "here": _row_numbers(before)}
    for context in ("fork", "spawn"):
        rows[context] = _row_numbers(
            DataLoader(batches(), batch_size=None, num_workers=2, multiprocessing_context=context)
        )
    rows["all"] = _row_numbers(batches(shard=(0, 1)))
    (Path(folder) / f"{rank}.json").write_text(json.dumps(rows))
    torch.distributed.destroy_process_group()


def _row_numbers(batches: Iterable[Any]) -> list[int]:
    return [row for batch in batches for row in batch["row"].tolist()]
