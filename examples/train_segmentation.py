"""Trains a small U-Net to tell pets from their background, in Keras: examples/pets.py prepares the photos and masks.

    penstock run examples/pets.py --input data/pets --output prepared/pets
    python examples/train_segmentation.py prepared/pets

Batching, shuffling, prefetching and caching are the loader's; the transform graph standardizes the pixels and makes the
masks' classes 0, 1, 2. It needs `pip install penstock[prepare]`, for TensorFlow.
"""

import argparse

import keras
import numpy as np
from keras import layers

from penstock.pipeline import open_dataset

CLASSES = 3  # pet, background, border


def unet(shape):
    def block(x, width):
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        return x

    inputs = x = keras.Input(shape)
    skipped = []
    for width in (12, 24, 48):
        x = block(x, width)
        skipped.append(x)
        x = layers.MaxPool2D()(x)
    x = block(x, 64)
    for width in (48, 24, 12):
        x = layers.UpSampling2D(interpolation="bilinear")(x)
        x = block(layers.Concatenate()([x, skipped.pop()]), width)
    return keras.Model(inputs, layers.Conv2D(CLASSES, 1)(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)

    pets = open_dataset(options.dataset)
    print(pets)

    def pairs(split, **arguments):
        batches = pets.tf(split, options.batch_size, cache=True, **arguments)
        return batches.map(lambda example: (example["image"], example["mask"]))

    train = pairs("train", shuffle="exact", repeat=None)
    validation = pairs("validation")
    model = unet(pets.features["image"].shape)
    steps = pets.splits["train"].examples // options.batch_size
    rate = keras.optimizers.schedules.CosineDecay(
        1e-4, options.epochs * steps, warmup_target=3e-3, warmup_steps=2 * steps
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["sparse_categorical_accuracy"])
    model.fit(train, steps_per_epoch=steps, epochs=options.epochs, validation_data=validation, verbose=2)

    crossed, united, right, total = np.zeros(CLASSES), np.zeros(CLASSES), 0, 0
    counts = np.zeros(CLASSES)
    for images, masks in pairs("test"):
        found, true = np.argmax(model.predict_on_batch(images), -1), masks.numpy()[..., 0]
        right, total = right + (found == true).sum(), total + true.size
        for kind in range(CLASSES):
            crossed[kind] += ((found == kind) & (true == kind)).sum()
            united[kind] += ((found == kind) | (true == kind)).sum()
            counts[kind] += (true == kind).sum()
    print("intersection over union: " + ", ".join(
        f"{name} {value:.3f}" for name, value in zip(("pet", "background", "border"), crossed / united, strict=True)
    ))  # fmt: skip
    print(f"test pixel accuracy {right / total:.3f} (the commonest class alone: {counts.max() / total:.3f})")


if __name__ == "__main__":
    main()
