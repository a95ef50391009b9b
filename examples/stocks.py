"""Daily prices of stocks in a CSV file each, standardized with the mean and standard deviation of each stock."""

from penstock import Csv, Recipe
from penstock.transforms import categorical, numeric

PRICES = ("Open", "High", "Low", "Close")


def features(inputs):
    outputs = {price: numeric.standardize_by_key(inputs, price, "Name") for price in PRICES}
    outputs["Volume"] = numeric.standardize_by_key(inputs, "Volume", "Name")
    outputs["Name"] = categorical.vocabulary(inputs, "Name")
    return outputs


recipe = Recipe(
    source=Csv("*_data.csv"),
    features=features,
    splits={"train": 0.9, "test": 0.1},
)
