"""Beam's options, as they are given after `--`."""

import contextlib
import io
from collections.abc import Mapping, Sequence

from ..pipeline.errors import RequestError


def refuse_options(arguments: Sequence[str], ours: Mapping[str, str]) -> None:
    """Raises RequestError where options for Beam hold one that Penstock sets.

    Args:
      arguments: What follows `--`.
      ours: Beam's name of each such option to that of Penstock's which sets it.
    """
    for argument in arguments:
        name = argument.partition("=")[0].removeprefix("--")
        if argument.startswith("--") and name in ours:
            raise RequestError(
                f"expected options for Beam after `--`, found {argument}, which Penstock sets; "
                f"use {ours[name]} before `--`"
            )


def check_options(arguments: Sequence[str]) -> None:
    """Checks options for Beam before any work: Beam itself discards what it does not know.

    Args:
      arguments: What follows `--`, such as `["--temp_location=/tmp"]`.

    Raises:
      RequestError: Beam has no such option, or its value is none of those that Beam takes.
    """
    if unknown := unknown_options(arguments):
        raise RequestError(
            f"expected options for Beam after `--`, found {' '.join(unknown)}, which Beam would discard; check the "
            "spelling (--name=value), and give Penstock's own options before `--`"
        )


def unknown_options(arguments: Sequence[str]) -> Sequence[str]:
    """Those of some options that Beam's Python does not know, though the engine may.

    Args:
      arguments: What follows `--`.

    Raises:
      RequestError: the value of one is none of those that Beam takes.
    """
    if not arguments:
        return ()
    from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser  # takes seconds

    parser = _BeamArgumentParser(allow_abbrev=False)
    for options in {str(each): each for each in PipelineOptions.__subclasses__()}.values():  # as Beam itself does
        options._add_argparse_args(parser)
    usage = io.StringIO()
    try:
        with contextlib.redirect_stderr(usage):  # where usage is printed too, of hundreds of options
            return tuple(parser.parse_known_args(list(arguments))[1])
    except SystemExit as error:
        cause = usage.getvalue().strip().rpartition("error: ")[2]
        raise RequestError(f"expected options for Beam after `--`, found {' '.join(arguments)}: {cause}") from error
