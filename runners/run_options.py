"""What a run is asked for, as `penstock run` and `penstock.run` take it: one place for names, defaults and checks.

Imports nothing heavy before it is asked to: `penstock run --help` shows the defaults.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..pipeline.commit import budget
from ..pipeline.errors import RequestError

if TYPE_CHECKING:
    from ..pipeline.commit.drift import DriftLimits
    from ..pipeline.planned_run import RunRequest
    from ..pipeline.planning.recipe import LoadedRecipe
    from .engine import Engine

StrPath = str | os.PathLike[str]

_COUNTS = ("workers", "threads", "limit")
_DRIFT = {
    "max_new_values": "new_values",
    "max_mean_shift": "mean",
    "max_missing_growth": "missing",
    "max_share_shift": "shares",
}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a run is asked for, beside its recipe. `penstock.run` says what each option means.

    Raises:
      RequestError: an option does not hold what it should, or asks for another one that is not there.
    """

    input: StrPath
    output: StrPath
    runner: str = "direct"
    workers: int | None = None
    threads: int | None = None
    max_quarantined: str | float = budget.DEFAULT
    fail_on_drift: bool = False
    max_new_values: str | float | None = None
    max_mean_shift: float | None = None
    max_missing_growth: str | float | None = None
    max_share_shift: str | float | None = None
    limit: int | None = None
    full: bool = False
    retry: bool = False
    keep_prepared: bool = False
    forget: StrPath | None = None
    isolate: bool = False
    timeout: float = 30.0
    single_writer: bool = False
    metrics: StrPath | None = None
    on_commit: str | None = None
    openlineage: str | None = None
    flink_master: str | None = None
    flink_job_server_jar: str | None = None
    detach: bool = False
    engine_options: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in _COUNTS:
            count = getattr(self, name)
            if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
                raise RequestError(f"{_flag(name)}: expected a whole number of at least 1, found {count!r}")
        if not _is_number(self.timeout) or not self.timeout > 0:
            raise RequestError(f"--timeout: expected seconds above 0, found {self.timeout!r}")
        shift = self.max_mean_shift
        if shift is not None and (not _is_number(shift) or not shift >= 0):
            raise RequestError(f"--max-mean-shift: expected standard deviations from 0, found {shift!r}")
        if isinstance(self.engine_options, str):
            raise RequestError(
                f"engine_options: expected a list such as ['--project=mine'], found the string {self.engine_options!r}"
            )
        if self.on_commit is not None:
            from .on_commit import check_hook

            if self.detach:
                raise RequestError(
                    "--on-commit: expected a command that is there at the commit, found --detach; give --on-commit to "
                    "`penstock attach`"
                )
            check_hook(self.on_commit)

    def engine(self) -> "Engine":
        """The engine that is asked for.

        Raises:
          RequestError: there is no such engine, or an option is not for it.
        """
        from .engine import EngineOptions, make_engine

        options = EngineOptions(self.workers, tuple(self.engine_options), self.flink_master, self.flink_job_server_jar)
        return make_engine(self.runner, options)

    def request(self, recipe: "LoadedRecipe") -> "RunRequest":
        """The request to run a recipe so.

        Raises:
          RequestError: what is to be forgotten cannot be read, or limits of drift are wrong.
        """
        from ..pipeline.planned_run import RunRequest
        from ..pipeline.planning.forgotten import NOTHING, Forgotten

        return RunRequest(
            recipe,
            folder_uri(self.input),
            folder_uri(self.output),
            max_quarantined=str(self.max_quarantined),
            threads=self.threads,
            workers=self.workers or 1,
            isolate=self.timeout if self.isolate else None,
            single_writer=self.single_writer,
            drift=self._drift_limits(),
            limit=self.limit,
            full=self.full,
            forget=NOTHING if self.forget is None else Forgotten.read_keys(os.fspath(self.forget)),
            retry=self.retry,
            keep_prepared=self.keep_prepared,
        )

    def _drift_limits(self) -> "DriftLimits | None":
        """How far a run may drift; raises RequestError where limits are given that nothing would ask for."""
        from ..pipeline.commit.drift import DriftLimits

        given = {name: getattr(self, name) for name in _DRIFT if getattr(self, name) is not None}
        if given and not self.fail_on_drift:
            raise RequestError(
                f"{', '.join(map(_flag, _DRIFT))}: expected --fail-on-drift beside them, found none; add it, or leave "
                "them out"
            )
        limits = {
            _DRIFT[name]: float(limit) if name == "max_mean_shift" else _share(name, limit)
            for name, limit in given.items()
        }
        return DriftLimits(**limits) if self.fail_on_drift else None


def folder_uri(uri: StrPath) -> str:
    """A folder's URI without the slash at its end."""
    return os.fspath(uri).rstrip("/") or "/"


def _share(name: str, share: str | float) -> float:
    """Reads an option's share: `0.01` or `1%`."""
    text = str(share)
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise RequestError(f"{_flag(name)}: expected a share such as 0.01 or 1%, found {share!r}")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flag(name: str) -> str:
    """An option as the command line has it."""
    return f"--{name.replace('_', '-')}"
