"""Trains a small network on census data in JAX; examples/census.py prepares the rows.

    penstock run examples/census.py:evaluated --input data/census --output prepared/census
    python examples/train_jax.py prepared/census

It does not import TensorFlow: look-ups run on the host, and arithmetic is compiled and runs on the device.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from penstock import open_dataset


def columns(batch):
    """The names of the numeric columns, and those of the columns of class ids."""
    names = sorted(batch.keys() - {"label"})
    return [n for n in names if batch[n].dtype == np.float32], [n for n in names if batch[n].dtype != np.float32]


def initialize(key, sizes):
    layers = []
    for before, after in sizes:
        key, part = jax.random.split(key)
        layers.append((jax.random.normal(part, (before, after)) * (2 / before) ** 0.5, jnp.zeros(after)))
    return layers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=256)
    options = parser.parse_args()

    census = open_dataset(options.dataset)
    print(census)
    train = census.jax(
        "train", options.batch_size, shuffle="exact", repeat=options.epochs, cache=True, drop_remainder=True
    )
    numbers, classes = columns(next(iter(census.numpy("train", 8))))
    depths = {n: 1 + max(int(b[n].max()) for b in census.numpy("train", 4096)) for n in classes}
    width = len(numbers) + sum(depth + 1 for depth in depths.values())

    def predict(layers, batch):
        parts = [jnp.nan_to_num(batch[n])[:, None] for n in numbers]
        parts += [jax.nn.one_hot(jnp.clip(batch[n], 0, depths[n]), depths[n] + 1) for n in classes]
        x = jnp.concatenate(parts, axis=1)
        for weights, bias in layers[:-1]:
            x = jax.nn.relu(x @ weights + bias)
        return (x @ layers[-1][0] + layers[-1][1])[:, 0]

    def loss(layers, batch):
        logits, label = predict(layers, batch), batch["label"].astype(jnp.float32)
        return jnp.mean(jax.nn.softplus(logits) - label * logits)

    @jax.jit
    def step(layers, momenta, batch, rate):
        value, slopes = jax.value_and_grad(loss)(layers, batch)
        momenta = jax.tree.map(lambda m, g: 0.9 * m + g, momenta, slopes)
        return jax.tree.map(lambda w, m: w - rate * m, layers, momenta), momenta, value

    layers = initialize(jax.random.key(0), [(width, 64), (64, 32), (32, 1)])
    momenta = jax.tree.map(jnp.zeros_like, layers)
    steps, epoch = len(train), 0
    for number, batch in enumerate(train):
        rate = 0.05 * 0.5 * (1 + np.cos(np.pi * number / steps))
        layers, momenta, value = step(layers, momenta, batch, rate)
        if train.state()["epoch"] != epoch:
            epoch = train.state()["epoch"]
            print(f"epoch {epoch}: loss {float(value):.3f}")

    correct = total = positive = 0
    for batch in census.numpy("test", 4096):
        correct += int(((predict(layers, batch) > 0) == batch["label"]).sum())
        total, positive = total + len(batch["label"]), positive + int(batch["label"].sum())
    baseline = max(positive, total - positive) / total
    print(f"test accuracy {correct / total:.4f} (always the more frequent class: {baseline:.4f})")


if __name__ == "__main__":
    main()
