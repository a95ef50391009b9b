"""Lightning's training loop: whole epochs in new orders, validations that are alike, checkpoints within an epoch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.pipeline.load import Dataset

from .adapters import ONCE, row_numbers

pytestmark = [
    pytest.mark.extras("lightning", "torchdata"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning"),
]


def _fit(loader: Any, validation: Any = None, save: tuple[int, Path] | None = None, **options: Any) -> Any:
    """Trains; returns a module that has in `rows` those of every epoch, and in `validated` those of every validation.

    Args:
      loader: Gives batches.
      validation: Gives those of validation.
      save: After which step a checkpoint is saved, and where.
      **options: The trainer's; `resume`: a checkpoint.
    """
    import lightning
    import torch

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.rows: list[list[int]] = [[]]
            self.validated: list[list[int]] = [[]]

        def training_step(self, batch: Any, number: int) -> Any:
            self.rows[-1] += batch["row"].tolist()
            return self.layer(batch["row"].float()[:, None]).mean()

        def validation_step(self, batch: Any, number: int) -> None:
            self.validated[-1] += batch["row"].tolist()

        def on_train_epoch_end(self) -> None:
            self.rows.append([])

        def on_validation_epoch_end(self) -> None:
            self.validated.append([])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 1e-6)

    class Save(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if save and trainer.global_step == save[0]:
                trainer.save_checkpoint(save[1])

    resume = options.pop("resume", None)
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Save()],
        **options,
    )
    module = Module()
    trainer.fit(module, loader, validation, ckpt_path=resume, weights_only=False)
    module.rows = [rows for rows in module.rows if rows]
    module.validated = [rows for rows in module.validated if rows]
    return module


def _plain(dataset: Dataset) -> Any:
    return dataset.torch("train", 4, **ONCE)


def _with_workers(dataset: Dataset) -> Any:
    import torch.utils.data

    return torch.utils.data.DataLoader(_plain(dataset), batch_size=None, num_workers=2)


def _stateful(dataset: Dataset) -> Any:
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(_plain(dataset), batch_size=None, num_workers=2)


def _epochs(dataset: Dataset, count: int) -> list[list[int]]:
    rows = row_numbers(dataset.numpy("train", 4, repeat=count, **ONCE))
    return [rows[start : start + 21] for start in range(0, len(rows), 21)]


@pytest.mark.parametrize("make", [_plain, _with_workers, _stateful])
def test_every_epoch_is_whole_and_has_an_order_of_its_own(dataset: Dataset, make: Callable[[Dataset], Any]) -> None:
    assert _fit(make(dataset), max_epochs=3).rows == _epochs(dataset, 3)


@pytest.mark.parametrize("make", [_plain, _stateful])
@pytest.mark.parametrize("step", [2, 6, 8])
def test_a_checkpoint_goes_on_where_it_was(
    dataset: Dataset, make: Callable[[Dataset], Any], step: int, tmp_path: Path
) -> None:
    file = tmp_path / "checkpoint"
    first = _fit(make(dataset), save=(step, file), max_steps=step)
    second = _fit(make(dataset), resume=file, max_epochs=3)
    rows = [row for module in (first, second) for epoch in module.rows for row in epoch]
    assert rows == [row for epoch in _epochs(dataset, 3) for row in epoch]


def test_validations_begin_at_the_beginning(dataset: Dataset) -> None:
    options = {"max_epochs": 3, "num_sanity_val_steps": 2, "limit_train_batches": 1}
    whole = _fit(_plain(dataset), dataset.torch("train", 4), **options)
    assert whole.validated == [list(range(8)), *[list(range(21))] * 3]
    part = _fit(_plain(dataset), dataset.torch("train", 4), limit_val_batches=3, **options)
    assert part.validated == [list(range(8)), *[list(range(12))] * 3]
    assert part.rows == [epoch[:4] for epoch in _epochs(dataset, 3)]
