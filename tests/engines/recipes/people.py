"""What the recipes of tables beside this file share: a module that no worker can import from anywhere."""

from penstock.transforms import categorical, numeric


def doubled(row):
    return {**row, "clicks": 2 * row["clicks"]}


def features(inputs):
    return {
        "height": numeric.standardize(inputs, "height"),
        "town": categorical.vocabulary(inputs, "town"),
        "clicks": inputs["clicks"],
    }
