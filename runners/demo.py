"""`penstock demo`: draws a synthetic dataset, runs the whole job on it, and says what came out."""

import random
import tempfile
from pathlib import Path

import click
from PIL import Image, ImageDraw

from . import report, terminal

SHAPES = ("circle", "square", "triangle")

RECIPE = '''"""Synthetic shapes: images with masks, labelled by their file's name."""

import tensorflow_transform as tft
from penstock import Images, Recipe
from penstock.transforms import image


def features(inputs):
    return {
        "image": image.standardize(inputs, "image"),
        "mask": inputs["mask"],
        "label": tft.compute_and_apply_vocabulary(inputs["label"]),
    }


recipe = Recipe(
    source=Images("images/*.jpg", mask="masks/{stem}.png", label=r"(?P<label>.+)_\\d+"),
    prepare=[image.resize(64, 64)],
    features=features,
    splits={"train": 0.8, "validation": 0.1, "test": 0.1},
)
'''


def draw(folder: Path, examples: int, seed: int = 0) -> None:
    """Draws `images/<shape>_<n>.jpg` with `masks/<shape>_<n>.png` (1 where the shape is, else 0).

    Every 50th image is cut off in the middle, for the quarantine to have something to do.
    """
    generator = random.Random(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number in range(examples):
        shape = SHAPES[number % len(SHAPES)]
        width, height = generator.randrange(80, 160), generator.randrange(80, 160)
        image = Image.effect_noise((width, height), 40).convert("RGB")
        mask = Image.new("L", (width, height), 0)
        colour = tuple(generator.randrange(256) for _ in range(3))
        size = generator.randrange(24, 60)
        left, top = generator.randrange(width - size), generator.randrange(height - size)
        _draw_shape(ImageDraw.Draw(image), shape, left, top, size, colour)
        _draw_shape(ImageDraw.Draw(mask), shape, left, top, size, 1)
        image_path = folder / "images" / f"{shape}_{number:04d}.jpg"
        image.save(image_path, quality=90)
        mask.save(folder / "masks" / f"{shape}_{number:04d}.png")
        if number % 50 == 49:
            content = image_path.read_bytes()
            image_path.write_bytes(content[: len(content) // 2])


def _draw_shape(
    canvas: ImageDraw.ImageDraw, shape: str, left: int, top: int, size: int, colour: int | tuple[int, ...]
) -> None:
    box = (left, top, left + size, top + size)
    if shape == "circle":
        canvas.ellipse(box, fill=colour)
    elif shape == "square":
        canvas.rectangle(box, fill=colour)
    else:
        canvas.polygon([(left, top + size), (left + size, top + size), (left + size // 2, top)], fill=colour)


def run_demo(folder: str | None, examples: int) -> None:
    """Draws, runs, and shows the dataset.

    Raises:
      RequestError: `folder` is not empty.
    """
    from ..pipeline.errors import RequestError
    from ..pipeline.planned_run import RunRequest
    from ..pipeline.planning.recipe import load_recipe
    from .run import run

    root = Path(folder or tempfile.mkdtemp(prefix="penstock-demo-"))
    if root.exists() and any(root.iterdir()):
        raise RequestError(f"expected an empty folder for the demo, found files in {root}; name another one")
    click.echo(f"drawing {examples} synthetic images of shapes, with masks and labels, in {root / 'raw'}")
    draw(root / "raw", examples)
    recipe, dataset = root / "shapes.py", str(root / "dataset")
    recipe.write_text(RECIPE)
    click.echo(f"penstock run {recipe} --input {root / 'raw'} --output {dataset} --max-quarantined 5%")
    with terminal.reporter(quiet=False) as reporter:
        run(RunRequest(load_recipe(str(recipe)), str(root / "raw"), dataset, max_quarantined="5%"), reporter)
    report.show_dataset(report.dataset_entry(dataset))
    click.echo("next: change the recipe and run it again, or:")
    click.echo(f"  penstock inspect {dataset}")
    click.echo(f"  penstock verify {dataset}")
