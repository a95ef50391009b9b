"""Beam's options, as they are given after `--`."""

import contextlib
import io
from collections.abc import Sequence

from ..pipeline.errors import RequestError

_OURS = {"runner": "--runner", "direct_num_workers": "--workers", "direct_running_mode": "--workers"}


def check_options(arguments: Sequence[str]) -> None:
    """Checks options for Beam before any work: Beam itself discards what it does not know.

    Args:
      arguments: What follows `--`, such as `["--temp_location=/tmp"]`.

    Raises:
      RequestError: Beam has no such option, its value is none of those that Beam takes, or Penstock sets it itself.
    """
    if not arguments:
        return
    for argument in arguments:
        name = argument.partition("=")[0].removeprefix("--")
        if argument.startswith("--") and name in _OURS:
            raise RequestError(
                f"expected options for Beam after `--`, found {argument}, which Penstock sets; "
                f"use {_OURS[name]} before `--`"
            )
    from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser  # takes seconds

    parser = _BeamArgumentParser(allow_abbrev=False)
    for options in {str(each): each for each in PipelineOptions.__subclasses__()}.values():  # as Beam itself does
        options._add_argparse_args(parser)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):  # where usage is printed too, of hundreds of options
            _, unknown = parser.parse_known_args(list(arguments))
    except SystemExit as error:
        cause = said.getvalue().strip().rpartition("error: ")[2]
        raise RequestError(f"expected options for Beam after `--`, found {' '.join(arguments)}: {cause}") from error
    if unknown:
        raise RequestError(
            f"expected options for Beam after `--`, found {' '.join(unknown)}, which Beam would discard; check the "
            "spelling (--name=value), and give Penstock's own options before `--`"
        )
