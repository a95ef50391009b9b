"""One way to say that an argument is wrong."""


def expect(holds: bool, what: str, expected: str, found: object) -> None:
    """Raises a ValueError that names the argument, what it should be and what it is, unless `holds`.

    >>> expect(False, "resize(height=...)", "a whole number from 1", 0)
    Traceback (most recent call last):
    ValueError: resize(height=...): expected a whole number from 1, found 0; fix the recipe
    """
    if not holds:
        raise ValueError(f"{what}: expected {expected}, found {found!r}; fix the recipe")


def is_int(value: object, low: int, high: int | None = None) -> bool:
    """Whether the value is an int (not a bool) from `low` to `high`, both included.

    >>> is_int(3, 1, 9), is_int(True, 1), is_int(3.0, 1)
    (True, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and low <= value and (high is None or value <= high)


def is_colour(value: object) -> bool:
    """Whether the value is a tuple of red, green and blue, each from 0 to 255.

    >>> is_colour((0, 128, 255)), is_colour((0, 128, 256))
    (True, False)
    """
    return isinstance(value, tuple) and len(value) == 3 and all(is_int(part, 0, 255) for part in value)
