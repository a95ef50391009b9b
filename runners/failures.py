"""What failed, in one sentence: an engine's own words are tracebacks of Python and Java, one within the other."""

import re

_ERROR = re.compile(r"^(?:Caused by: )?(?P<name>[\w.$]*(?:Error|Exception|Exit)): ?(?P<words>.*)$")
_PACKAGES = re.compile(r"^(?:[a-z_]\w*\.)+(?=[A-Z])")  # before a class's name
_STAGE = re.compile(r" ?\[while running .*$")
_MARKS = ("Traceback (most recent call last)", "\n\tat ", "Caused by: ")
_ADVICE = {  # what a cause begins with, of those that a worker comes to before a line of Penstock's runs
    "ModuleNotFoundError": "install that where workers run, or move it into the recipe's folder",
    "AttributeError: Can't get attribute": "let workers and launcher run in the same image",
    "TypeError: code() ": "let workers and launcher run in the same image, with one version of Python",
    "ValueError: bad marshal data": "let workers and launcher run in the same image, with one version of Python",
}
_LONGEST = 1000  # characters


def root_cause(error: BaseException) -> str:
    """What an exception that an engine raised comes from, in words; of gRPC's those of the server."""
    import grpc

    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, grpc.RpcError) and callable(getattr(error, "details", None)):
        return cause_in_words(str(error.details()))
    return cause_in_words(f"{type(error).__name__}: {str(error).strip()}")


def cause_in_words(text: str) -> str:
    """The last error that tracebacks name: what was raised first, with the words of who raised it again.

    Args:
      text: What an engine says of a job that failed: any words, which stay as they are, or tracebacks.
    """
    text = text.strip()
    if any(mark in text for mark in _MARKS):
        errors = [error for error in map(_error, text.splitlines()) if error]
        text = errors[-1] if errors else text
    advice = next((f"; {advice}" for start, advice in _ADVICE.items() if text.startswith(start)), "")
    return f"{text[:_LONGEST]}{advice}" or "its engine does not say why"


def _error(line: str) -> str | None:
    """The error that a line of a traceback names, if it names one and is not only the head of a longer story."""
    match = _ERROR.match(line.strip())
    if match is None or match["words"].endswith(f"{_MARKS[0]}:"):
        return None
    words = _STAGE.sub("", match["words"]).strip()
    return f"{_PACKAGES.sub('', match['name'])}: {words}" if words else None
