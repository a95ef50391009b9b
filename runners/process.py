"""What the command line does to its own process."""

import contextlib
import ctypes
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import TextIO

from ..pipeline.cores import cores
from ..pipeline.errors import RequestError

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
_LARGE = ("apache_beam", "tensorflow", "tensorflow_transform")  # to import
_PREPARING = (*_LARGE, "duckdb")


def open_standard_streams() -> None:
    """Opens to nowhere what of standard input, output and error is closed.

    The next file that is opened would take such a stream's number, and a library's remarks would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one


@contextlib.contextmanager
def spoken_if_possible() -> Iterator[None]:
    """Says something where it can be said: a full or closed output changes nothing of what was done before."""
    try:
        yield
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, SystemExit):  # the latter is what rich makes of a closed pipe
        for number, stream in ((1, sys.stdout), (2, sys.stderr)):
            _silence(number, stream)


def _silence(number: int, stream: TextIO | None) -> None:
    """Lets a stream that cannot be written to lead nowhere: Python would complain of what is left in it at the end."""
    try:
        if stream is not None:
            stream.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), number)


def expect_preparing(*names: str) -> None:
    """Raises RequestError where some of what makes a dataset, by default all, is not installed."""
    missing = [name for name in names or _PREPARING if not _is_installed(name)]
    if missing:
        raise RequestError(
            f"expected {', '.join(missing)}, which this command needs, found none installed; "
            "pip install 'penstock[prepare]'"
        )


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def is_of_preparing(error: ModuleNotFoundError) -> bool:
    """Whether a module that is missing comes with `penstock[prepare]`."""
    return (error.name or "").partition(".")[0] in _PREPARING


def search_working_folder() -> None:
    """Lets modules be imported from the working folder, as `python -m` does, when a recipe's functions run, too."""
    with contextlib.suppress(FileNotFoundError):  # it may have been removed
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())


def share_freed_memory() -> None:
    """Lets few threads' heaps keep what was freed: memory that one gave back is of no use to the others.

    Arrow's own allocator has a heap for each thread, and glibc's eight for each core.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # before Arrow is imported
    with contextlib.suppress(OSError, AttributeError):  # not glibc's
        ctypes.CDLL(None).mallopt(_ARENA_MAX, cores())


def quiet_libraries(preparing: bool) -> None:
    """Keeps the remarks of TensorFlow, tf.Transform, Beam and urllib3 off the terminal; imports none of them.

    Args:
      preparing: Whether the process prepares or exports: then TensorFlow, if it comes to be imported, says nothing of
        itself and gets no accelerator.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not preparing:
        return
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    for name, level in (
        ("absl", logging.ERROR),
        ("tensorflow", logging.ERROR),
        ("apache_beam", logging.CRITICAL),  # what a stage raised is told once, without Beam's traceback
        ("urllib3", logging.ERROR),  # which tells of every new try
    ):
        logging.getLogger(name).setLevel(level)
    logging.getLogger("PrismJobServer").disabled = True
    logging.getLogger().addFilter(_is_no_job_message)
    threading.excepthook = _tell_of_thread
    if not any(isinstance(finder, _LargeImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LargeImport())


def _is_no_job_message(record: logging.LogRecord) -> bool:
    """Whether a record is none of those that Beam writes, by no logger of its own, of all that a job server tells."""
    return record.module != "portable_runner"


def _tell_of_thread(failure: threading.ExceptHookArgs) -> None:
    """Shows what ended a thread, unless it is that a connection of gRPC's has ended: whoever waits for it is told."""
    is_grpc = failure.exc_type.__module__.partition(".")[0] == "grpc"
    if not is_grpc and not str(failure.exc_value).startswith("Cannot monitor channel state"):
        threading.__excepthook__(failure)


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Leaves what is there after the block to the end of the process, which gives all memory back at once.

    Python would look through all objects twice for garbage when it ends.
    """
    try:
        yield
    finally:
        gc.freeze()


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keeps the garbage collector from what comes to be meanwhile, for good: modules stay as long as their process.

    Otherwise it looks through a million objects again and again while they are imported, and once more at the exit.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.enable()


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Lets standard error lead nowhere, for what is written by C++ too."""
    terminal = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


class _LargeImport(importlib.abc.MetaPathFinder):
    """Has large libraries imported without garbage collections, whoever imports them first.

    TensorFlow in silence, too: its C++ greets before it reads how much it may say.
    """

    def __init__(self) -> None:
        self._asking_others = False

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name not in _LARGE or self._asking_others:
            return None
        self._asking_others = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asking_others = False
        if spec is not None and spec.loader is not None:
            spec.loader = _LargeLoader(spec.loader)
        return spec


class _LargeLoader(importlib.abc.Loader):
    """A loader that lets a module's own one load it without garbage collections."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        is_loud = module.__name__ == "tensorflow"
        with _uncollected(), _silenced() if is_loud else contextlib.nullcontext():
            self._loader.exec_module(module)
