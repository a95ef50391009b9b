"""`penstock-worker`: a worker of a Beam engine, by Beam's boot, in a folder of its own; it ends with who started it.

It is what `PROCESS` environments start and what worker pools (`EXTERNAL`) start for each worker. Boot alone writes
`pipeline_options.json` into its working directory and artifacts into /tmp/staged, which all workers of a machine would
share; outlives its TaskManager, and starts Python again for minutes; and makes a virtual environment in which Penstock
is not installed. It is a program and not a shell script since slim images have neither `pkill` nor `ps`.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence

from ..pipeline.errors import RequestError
from .supervise import supervise

_BOOT = "/opt/apache/beam/boot"  # in Beam's images, and in those made from them
PROGRAM = "penstock-worker"
_POOL = "--worker_pool"
_POOL_PORT = "50000"  # Beam's


def main() -> None:
    """Takes the options that engines give to Beam's boot, and ends with its exit code."""
    arguments = sys.argv[1:]
    try:
        boot = find_boot()  # before a pool begins, too: engines would wait for each of its workers
    except RequestError as error:
        sys.exit(f"{PROGRAM}: {error}")
    if _POOL in arguments:
        sys.exit(_run_pool([argument for argument in arguments if argument != _POOL]))
    with tempfile.TemporaryDirectory(prefix="penstock-worker-", ignore_cleanup_errors=True) as folder:
        command = [boot, f"--semi_persist_dir={folder}", *boot_arguments(arguments)]
        code = supervise(command, folder, worker_environment())
    sys.exit(code)


def boot_arguments(arguments: Sequence[str]) -> list[str]:
    """What boot is given: Prism passes a worker's id in quotes, and would wait for a worker of that name for ever."""
    return [argument.replace("'", "") if argument.startswith("--id=") else argument for argument in arguments]


def worker_environment() -> dict[str, str]:
    """This process's environment, in which `python` is the one that has Penstock, and boot makes no other."""
    folders = [os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]
    return {**os.environ, "PATH": os.pathsep.join(folders), "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1"}


def find_boot(environment: Mapping[str, str] = os.environ) -> str:
    """Beam's boot: what PENSTOCK_BOOT names, else where Beam's images have it.

    Raises:
      RequestError: it is not there.
    """
    place = environment.get("PENSTOCK_BOOT") or _BOOT
    if boot := shutil.which(place):
        return boot
    raise RequestError(
        f"expected Beam's boot, found nothing at {place}; name it by PENSTOCK_BOOT, take it from the image "
        "apache/beam_python3.11_sdk, or build it: go install github.com/apache/beam/sdks/v2/python/container@v2.77.0"
    )


def _run_pool(arguments: Sequence[str]) -> int:
    """Runs a worker pool on port 50000, unless another is given, whose workers are started by this program."""
    if not any(argument.startswith("--service_port") for argument in arguments):
        arguments = [*arguments, f"--service_port={_POOL_PORT}"]
    module = "apache_beam.runners.worker.worker_pool_main"
    environment = worker_environment()
    starter = shutil.which(PROGRAM, path=environment["PATH"])
    if starter is None:
        sys.exit(
            f"{PROGRAM}: expected {PROGRAM} in PATH, which the pool starts workers by, found none; install Penstock"
        )
    return supervise([sys.executable, "-m", module, f"--container_executable={starter}", *arguments], None, environment)


if __name__ == "__main__":
    main()
