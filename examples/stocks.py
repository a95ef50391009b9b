"""Daily prices of stocks, a CSV file each: prices are standardized by the stock's own mean and deviation."""

from penstock.pipeline import Csv, Recipe
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
