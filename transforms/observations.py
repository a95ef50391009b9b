"""What is seen in single files and says something only of all together: then it is a warning."""

from collections import defaultdict
from collections.abc import Mapping

Observation = tuple[str, str]  # a kind and a value

GREY_BITS = "grey_bits"  # bits that the largest value of an image of 16-bit grey needs
COLOUR_BITS = "colour_bits"  # bits that the largest value of an image of 16-bit colours needs; at least 8
MASK_STORED = "mask_stored_as"  # how a mask's file holds its ids, in words
MASK_COLOUR = "mask_colour"  # "id: red, green, blue" of a palette
KINDS = (GREY_BITS, COLOUR_BITS, MASK_STORED, MASK_COLOUR)

_FEW_BITS = 14  # of 16: at most a quarter of the range
_GREY_ADVICE = (
    "scale them by their own range with image.decode(range=(0, {})), or keep them with image.decode(mode='I;16')"
)
_COLOUR_ADVICE = "scale them to 8 bit by their own range before, or store them as grey, for which decode has a range"


def warnings(observed: Mapping[Observation, tuple[int, str]]) -> list[str]:
    """What the user should know of all examples.

    Args:
      observed: How many examples made each observation, and one of them.

    >>> warnings({(GREY_BITS, "12"): (2, "a.png"), (GREY_BITS, "16"): (1, "b.png")})
    []
    """
    kinds: dict[str, dict[str, tuple[int, str]]] = defaultdict(dict)
    for (kind, value), seen in observed.items():
        kinds[kind][value] = seen
    return [
        *_of_bits("grey", _GREY_ADVICE, kinds[GREY_BITS]),
        *_of_bits("colours", _COLOUR_ADVICE, kinds[COLOUR_BITS]),
        *_of_storage(kinds[MASK_STORED]),
        *_of_palettes(kinds[MASK_COLOUR]),
        *_of_greys(kinds[MASK_COLOUR]),
    ]


def _of_bits(what: str, advice: str, seen: Mapping[str, tuple[int, str]]) -> list[str]:
    """A warning where images of 16 bit use little of their range."""
    bits = max(map(int, seen), default=16)
    if bits > _FEW_BITS:
        return []
    count = sum(number for number, _ in seen.values())
    highest, first = (1 << bits) - 1, min(key for _, key in seen.values())
    return [
        f"{count} images of 16-bit {what}, such as {first}, hold no value above {highest}: scaled by 65535 they keep "
        f"{max(1, (highest + 1) // 256)} of 256 levels; {advice.format(highest)}"
    ]


def _of_storage(seen: Mapping[str, tuple[int, str]]) -> list[str]:
    if len(seen) < 2:
        return []
    ways = ", ".join(f"{count} as {way} (such as that of {key})" for way, (count, key) in sorted(seen.items()))
    return [f"masks are stored in several ways, {ways}: see that an id means the same in all"]


def _of_palettes(seen: Mapping[str, tuple[int, str]]) -> list[str]:
    """A warning where an id has several colours: palettes may be in another order in each file."""
    colours: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for value, (_, key) in sorted(seen.items()):
        number, _, colour = value.partition(": ")
        colours[number].append((colour, key))
    several = {number: pairs for number, pairs in colours.items() if len(pairs) > 1}
    if not several:
        return []
    number = min(several, key=int)
    (first, key), (second, other), *_ = several[number]
    return [
        f"the palettes of masks differ in {len(several)} ids, such as {number}, which is ({first}) in that of {key} "
        f"and ({second}) in that of {other}: ids are the indices of palettes; if colours are what is meant, give "
        "image.decode(mask_palette={(red, green, blue): id, ...})"
    ]


def _of_greys(seen: Mapping[str, tuple[int, str]]) -> list[str]:
    """A warning where palettes hold greys alone, and other numbers than the ids: GIF and optimizers renumber greys."""
    others = []
    for value, (_, key) in seen.items():
        number, _, colour = value.partition(": ")
        red, green, blue = colour.split(", ")
        if not red == green == blue:
            return []
        if red != number and (number, red) != ("1", "255"):  # black and white
            others.append((int(number), red, key))
    if not others:
        return []
    least, grey, key = min(others)
    return [
        f"the palettes of masks hold greys that are not the ids, in {len(others)} ids, such as {least}, which is grey "
        f"{grey} in that of {key}: ids are the indices of palettes, which GIF and image optimizers renumber; if the "
        f"greys are what is meant, give image.decode(mask_palette={{({grey}, {grey}, {grey}): {grey}, ...}})"
    ]
