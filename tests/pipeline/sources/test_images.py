import os
import unicodedata
from pathlib import Path

import pytest
from helpers import list_images

from penstock.pipeline import Images, RequestError, folder, table
from penstock.pipeline.sources.quarantine import FilteredExample


def touch(root: Path, *paths: str) -> str:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return str(root)


def labels(source: Images, root: str) -> dict[str, str | None]:
    return {reference.key: reference.label for reference in list_images(source, root).references}


def masks(source: Images, root: str) -> dict[str, str]:
    found = list_images(source, root).references
    return {reference.key: reference.mask.removeprefix(f"{root}/") for reference in found if reference.mask}


def test_keys_are_paths_relative_to_the_input(tmp_path: Path):
    root = touch(tmp_path, "b/2.jpg", "b/1.jpg", "a.jpg", "b/c/3.jpg", "b/4.png", "b/notes.txt")
    listing = list_images(Images(["*.jpg", "b/*.png", "b/**/*.jpg"]), root)
    keys = [reference.key for reference in listing.references]
    assert keys == ["a.jpg", "b/1.jpg", "b/2.jpg", "b/4.png", "b/c/3.jpg"]
    assert [reference.uri for reference in listing.references] == [f"{root}/{key}" for key in keys]
    assert listing.references[0].size == len("a.jpg")
    assert (listing.problems, listing.warnings) == ([], [])


def test_patterns_may_match_a_file_twice(tmp_path: Path):
    root = touch(tmp_path, "a/1.jpg")
    assert len(list_images(Images(["a/*", "**/*.jpg"]), root).references) == 1


def test_every_pattern_must_match_something(tmp_path: Path):
    root = touch(tmp_path, "a/1.jpg")
    with pytest.raises(RequestError, match=r"expected images at .*/b/\*\.jpg, found none; check --input"):
        list_images(Images(["a/*.jpg", "b/*.jpg"]), root)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (r"(?P<label>.+)_\d+", "big_cat"),
        (r"(.+?)_(.+)_\d+", "big"),
        (r"(\d+_)?(?P<label>\w+?)_\d+", "big_cat"),
        (r"\w+", "big_cat_01"),
        (r"pets/(?P<label>\w+)/.*", "house"),
        (folder(), "house"),
        (folder(0), "pets"),
        (folder(-2), "pets"),
    ],
)
def test_labels_by_rule(tmp_path: Path, label, expected: str):
    root = touch(tmp_path, "pets/house/big_cat_01.jpg")
    assert labels(Images("**/*.jpg", label=label), root) == {"pets/house/big_cat_01.jpg": expected}


@pytest.mark.parametrize("label", [r"dog_\d+", r"cat", r"(cat_)?(?P<label>x*)\d*(_\d+)?", folder(2), folder(-3)])
def test_an_example_without_a_label_is_quarantined(tmp_path: Path, label):
    root = touch(tmp_path, "pets/house/cat_01.jpg")
    listing = list_images(Images("**/*.jpg", label=label), root)
    assert listing.references == []
    (problem,) = listing.problems
    assert (problem.key, problem.stage, problem.code) == ("pets/house/cat_01.jpg", "plan", "label_missing")


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("labels.csv", "file,breed\na/1.jpg,cat\n2,dog\nstranger,cat\n", ("file", "breed")),
        ("labels.csv", "a/1.jpg,cat\n2,dog\nstranger,cat\n", (0, 1)),
        ("labels.tsv", "cat\ta/1.jpg\ndog\t2\ncat\tstranger\n", (1, 0)),
        ("labels.txt", "# id breed\n1 7 cat\n2.jpg 9 dog\nstranger 1 cat\n", (0, 2)),
    ],
)
def test_labels_by_list(tmp_path: Path, name: str, content: str, columns):
    root = touch(tmp_path, "a/1.jpg", "b/2.jpg", "b/3.jpg")
    (tmp_path / name).write_text(content)
    source = Images("*/*.jpg", label=table(name, *columns))
    assert labels(source, root) == {"a/1.jpg": "cat", "b/2.jpg": "dog"}
    listing = list_images(source, root)
    assert [(problem.key, problem.code) for problem in listing.problems] == [("b/3.jpg", "label_missing")]
    (warning,) = listing.warnings
    assert "labels 1 examples that the input lacks, such as 'stranger'" in warning


def test_a_list_may_repeat_itself_but_not_contradict_itself(tmp_path: Path):
    root = touch(tmp_path, "a/1.jpg")
    source = Images("*/*.jpg", label=table("labels.csv"))
    (tmp_path / "labels.csv").write_text("1,cat\na/1.jpg,cat\n")
    assert labels(source, root) == {"a/1.jpg": "cat"}
    (tmp_path / "labels.csv").write_text("1,cat\na/1.jpg,dog\n")
    with pytest.raises(RequestError, match=r"'a/1.jpg' has the labels 'cat' and 'dog', expected one"):
        list_images(source, root)


@pytest.mark.parametrize(
    ("template", "mask"),
    [
        ("masks/{stem}.png", "masks/1.png"),
        ("masks/{dir}/{stem}.png", "masks/a/b/1.png"),
        ("{dir}/{stem}_mask.png", "a/b/1_mask.png"),
        ("masks/{dir}/{name}", "masks/a/b/1.jpg"),
        ("masks/*.png", "masks/1.png"),
        ("**/masks/**/*.png", "x/masks/y/1.png"),
    ],
)
def test_masks_by_template_and_by_pattern(tmp_path: Path, template: str, mask: str):
    root = touch(tmp_path, "a/b/1.jpg", mask)
    assert masks(Images("a/**/*.jpg", mask=template), root) == {"a/b/1.jpg": mask}


@pytest.mark.parametrize("template", ["{dir}/{stem}.png", "masks/{dir}/{stem}.png"])
def test_a_template_with_dir_fits_images_in_no_folder(tmp_path: Path, template: str):
    root = touch(tmp_path, "1.jpg", "1.png", "masks/1.png", "a/2.jpg", "a/2.png", "masks/a/2.png")
    expected = {"1.jpg": "1.png", "a/2.jpg": "a/2.png"}
    prefix = "masks/" if template.startswith("masks") else ""
    found = masks(Images(["*.jpg", "a/*.jpg"], mask=template), root)
    assert found == {key: prefix + mask for key, mask in expected.items()}


def test_stems_with_the_characters_of_patterns(tmp_path: Path):
    root = touch(tmp_path, "images/a[1].jpg", "masks/a[1].png", "images/b*.jpg", "masks/b*.png")
    assert len(masks(Images("images/*", mask="masks/{stem}.png"), root)) == 2


def test_an_image_without_its_mask_is_quarantined_and_a_mask_without_its_image_told(tmp_path: Path):
    root = touch(tmp_path, "images/1.jpg", "images/2.jpg", "masks/1.png", *(f"masks/x{n}.png" for n in range(5)))
    listing = list_images(Images("images/*.jpg", mask="masks/{stem}.png"), root)
    assert [reference.key for reference in listing.references] == ["images/1.jpg"]
    (problem,) = listing.problems
    assert (problem.key, problem.code, problem.stage) == ("images/2.jpg", "mask_missing", "plan")
    assert "masks/2.png" in problem.message
    (warning,) = listing.warnings
    assert warning.startswith("5 masks belong to no image: ")
    assert "masks/x0.png" in warning
    assert warning.endswith("…")


def test_masks_must_be_somewhere(tmp_path: Path):
    root = touch(tmp_path, "images/1.jpg")
    for mask in ("masks/{stem}.png", "masks/*.png"):
        with pytest.raises(RequestError, match=r"expected masks at .*masks/.*found none"):
            list_images(Images("images/*.jpg", mask=mask), root)


def test_a_pattern_needs_stems_that_are_unique(tmp_path: Path):
    root = touch(tmp_path, "a/1.jpg", "b/1.jpg", "masks/1.png")
    with pytest.raises(RequestError, match=r"pairs by its stem with b/1.jpg and another image.*use a template"):
        list_images(Images("?/*.jpg", mask="masks/*.png"), root)
    root = touch(tmp_path, "masks/other/1.png")
    with pytest.raises(RequestError, match="have one stem, expected one mask"):
        list_images(Images("a/*.jpg", mask="masks/**/*.png"), root)


def test_a_template_may_give_images_one_mask_which_is_told(tmp_path: Path):
    root = touch(tmp_path, "day/1.jpg", "night/1.jpg", "day/2.jpg", "masks/1.png", "masks/2.png")
    source = Images("*/*.jpg", mask="masks/{stem}.png")
    assert len(masks(source, root)) == 3
    (warning,) = list_images(source, root).warnings
    assert warning.startswith("1 masks serve several images, such as ")
    assert "masks/1.png for day/1.jpg and night/1.jpg" in warning


def test_a_mask_is_not_the_image_itself(tmp_path: Path):
    root = touch(tmp_path, "a/1.png")
    with pytest.raises(RequestError, match=r"expected a mask beside a/1.png, found the image itself"):
        list_images(Images("a/*.png", mask="{dir}/{stem}.png"), root)


CITYSCAPES = {
    "pattern": "leftImg8bit/**/*.png",
    "parts": r"leftImg8bit/(?P<city>.+)/(?P<base>[^/]+)_leftImg8bit\.png",
    "mask": "gtFine/{city}/{base}_gtFine_labelIds.png",
}


def test_masks_by_parts_of_the_path(tmp_path: Path):
    image, mask = "leftImg8bit/train/bonn/b_{}_leftImg8bit.png", "gtFine/train/bonn/b_{}_gtFine_labelIds.png"
    root = touch(tmp_path, *(path.format(at) for path in (image, mask) for at in range(2)), "gtFine/train/bonn/x.json")
    assert masks(Images(**CITYSCAPES), root) == {image.format(at): mask.format(at) for at in range(2)}
    touch(tmp_path, "leftImg8bit/train/bonn/other.png", image.format(7))
    listing = list_images(Images(**CITYSCAPES), root)
    assert len(listing.references) == 2
    reasons = [(problem.code, problem.message) for problem in listing.problems]
    parts = f"Images(parts={CITYSCAPES['parts']!r})"
    assert reasons == [
        ("mask_missing", "expected its mask at gtFine/train/bonn/b_7_gtFine_labelIds.png, found none"),
        ("mask_missing", f"expected a key that {parts} matches, found leftImg8bit/train/bonn/other.png"),
    ]


def test_a_templates_other_characters_are_literal(tmp_path: Path):
    root = touch(tmp_path, "a/1.jpg", "masks[1]/1.png")
    assert masks(Images("a/*.jpg", mask="masks[1]/{stem}.png"), root) == {"a/1.jpg": "masks[1]/1.png"}


def test_what_is_no_file_is_left_out_and_told(tmp_path: Path):
    """It costs one file, not the run; a mask that is none costs its image."""
    root = touch(tmp_path, "images/1.jpg", "images/2.jpg", "masks/1.png")
    (tmp_path / "images/3.jpg").symlink_to("/annex/gone")
    (tmp_path / "masks/2.png").symlink_to("2.png")
    listing = list_images(Images("images/*.jpg", mask="masks/{stem}.png"), root)
    assert [reference.key for reference in listing.references] == ["images/1.jpg"]
    assert [(problem.key, problem.code, problem.message) for problem in listing.problems] == [
        (
            "images/2.jpg",
            "mask_unreadable",
            "expected its mask at masks/2.png, found a link that leads back to itself",
        )
    ]
    assert listing.filtered == {"not_a_file": 1}
    assert listing.filtered_examples == [FilteredExample("images/3.jpg", "not_a_file")]
    image, mask = listing.warnings
    assert image.startswith("1 of 3 images are left out (not_a_file), such as images/3.jpg: expected a file that can")
    assert "found a link to /annex/gone, where nothing is; fetch them" in image
    assert mask.startswith("1 masks cannot be read, such as masks/2.png: found a link that leads back to itself")


def test_a_mask_of_another_form_that_is_no_file_is_none(tmp_path: Path):
    root = touch(tmp_path, "images/u\u0308.jpg", "masks/1.png")
    (tmp_path / "masks/\u00fc.png").symlink_to("nowhere")
    listing = list_images(Images("images/*.jpg", mask="masks/{stem}.png"), root)
    assert [(problem.code, problem.message) for problem in listing.problems] == [
        ("mask_missing", "expected its mask at masks/u\u0308.png, found none")
    ]


@pytest.mark.parametrize(
    "path", ["images/._1.jpg", "__MACOSX/images/1.jpg", "images/.ipynb_checkpoints/1-checkpoint.jpg"]
)
def test_what_systems_leave_beside_files_is_passed_over_and_told(tmp_path: Path, path: str):
    root = touch(tmp_path, "images/1.jpg", path)
    listing = list_images(Images("**/*.jpg"), root)
    assert [reference.key for reference in listing.references] == ["images/1.jpg"]
    assert listing.problems == []
    (warning,) = listing.warnings
    assert warning.startswith(f"1 files that match '**/*.jpg' were passed over, such as {path}: ")


def test_hidden_files_are_taken_where_the_pattern_says_so(tmp_path: Path):
    root = touch(tmp_path, "._1.jpg")
    assert len(list_images(Images("._*.jpg"), root).references) == 1


def test_litter_alone_is_no_image(tmp_path: Path):
    root = touch(tmp_path, "images/._1.jpg")
    with pytest.raises(RequestError, match=r"found none.*1 files that match .* were passed over"):
        list_images(Images("images/*.jpg"), root)


def test_masks_and_labels_pair_whatever_the_unicode_form(tmp_path: Path):
    composed, decomposed = (unicodedata.normalize(form, "Ångström") for form in ("NFC", "NFD"))
    root = touch(tmp_path, f"images/{decomposed}.jpg", f"masks/{composed}.png")
    (tmp_path / "labels.csv").write_text(f"{composed}.jpg,7\n")
    for mask in ("masks/{stem}.png", "masks/*.png"):
        listing = list_images(Images("images/*.jpg", mask=mask, label=table("labels.csv")), root)
        (reference,) = listing.references
        assert (reference.label, reference.mask) == ("7", f"{root}/masks/{composed}.png")
        by_list, by_mask = listing.warnings
        assert "1 names are those of examples but for their Unicode form" in by_list
        assert "1 images and their masks have names of another Unicode form" in by_mask


def test_a_rule_for_labels_matches_whatever_the_unicode_form(tmp_path: Path):
    composed, decomposed = (unicodedata.normalize(form, "Dänisch") for form in ("NFC", "NFD"))
    root = touch(tmp_path, f"{decomposed}_1.jpg")
    assert labels(Images("*.jpg", label=rf"({composed})_\d+"), root) == {f"{decomposed}_1.jpg": composed}


def test_names_that_differ_only_in_their_unicode_form_are_told(tmp_path: Path):
    composed, decomposed = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    root = touch(tmp_path, f"{composed}/1.jpg", f"{decomposed}/1.jpg")
    keys, labels = list_images(Images("*/*.jpg", label=folder()), root).warnings
    assert keys.startswith("1 names of images stand there in several Unicode forms")
    assert labels.startswith("1 labels stand there in several Unicode forms")


def test_the_digest_sees_a_list_whose_name_has_the_characters_of_patterns(tmp_path: Path):
    root = touch(tmp_path, "1.jpg")
    (tmp_path / "labels[1].csv").write_text("1,cat\n")
    source = Images("*.jpg", label=table("labels[1].csv"))
    before = list_images(source, root).digest
    (tmp_path / "labels[1].csv").write_text("1,tiger\n")
    assert list_images(source, root).digest != before


def test_a_file_that_is_too_large_is_quarantined_unread(tmp_path: Path):
    root = touch(tmp_path, "1.jpg", "longer name.jpg")
    listing = list_images(Images("*.jpg", max_bytes=6), root)
    assert [reference.key for reference in listing.references] == ["1.jpg"]
    assert [(problem.key, problem.code) for problem in listing.problems] == [("longer name.jpg", "too_large")]


def test_a_file_name_that_is_no_utf8_is_quarantined(tmp_path: Path):
    root = touch(tmp_path, "1.jpg")
    with open(os.fsencode(root) + b"/caf\xe9.jpg", "wb"):
        pass
    listing = list_images(Images("*.jpg"), root)
    assert [reference.key for reference in listing.references] == ["1.jpg"]
    assert [(problem.key, problem.code) for problem in listing.problems] == [(r"caf\udce9.jpg", "name_not_utf8")]


def test_the_digest_sees_every_change(tmp_path: Path):
    root = touch(tmp_path, "images/1.jpg", "images/2.jpg", "masks/1.png", "masks/2.png", "labels.csv", "other.txt")
    (tmp_path / "labels.csv").write_text("1,cat\n2,dog\n")
    source = Images("images/*.jpg", mask="masks/{stem}.png", label=table("labels.csv"))

    def digest() -> str:
        return list_images(source, root).digest

    first = digest()
    (tmp_path / "other.txt").write_text("nobody reads it")
    assert digest() == first
    seen = {first}
    for name in ("images/1.jpg", "masks/2.png", "labels.csv"):
        stat = (tmp_path / name).stat()
        os.utime(tmp_path / name, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
        seen.add(digest())
    touch(tmp_path, "images/3.jpg", "masks/3.png")
    seen.add(digest())
    (tmp_path / "images/3.jpg").rename(tmp_path / "images/4.jpg")
    seen.add(digest())
    (tmp_path / "images/5.jpg").symlink_to("nowhere")
    seen.add(digest())
    assert len(seen) == 7


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pattern": ""}, "expected a pattern"),
        ({"pattern": []}, "expected a pattern"),
        ({"pattern": ["*.jpg", 3]}, "expected a pattern"),
        ({"pattern": "/data/*.jpg"}, "relative to --input"),
        ({"pattern": "../*.jpg"}, "relative to --input"),
        ({"pattern": "gs://bucket/*.jpg"}, "relative to --input"),
        ({"mask": "../masks/{stem}.png"}, "relative to --input"),
        ({"mask": "masks/{stm}.png"}, r"expected the fields .*found \['stm'\]"),
        ({"mask": {(0, 0, 0): 0}}, r"expected a template .* image.decode\(mask_palette"),
        ({"mask": "masks/{stem"}, "is no template"),
        ({"mask": "masks/{base}.png", "parts": "(?P<base>"}, "no regular expression"),
        ({"mask": "masks/{base}.png", "parts": "(.+)"}, "expected named groups"),
        ({"mask": "masks/{stem}.png", "parts": "(?P<stem>.+)"}, "expected named groups"),
        ({"mask": "masks/*.png", "parts": "(?P<base>.+)"}, "expected its groups in"),
        ({"parts": "(?P<base>.+)"}, r"expected a mask=\.\.\. that its groups are for"),
        ({"label": "(cat"}, "no regular expression"),
        ({"label": 3}, r"expected a regular expression, folder\(\), table\(...\) or sibling"),
    ],
)
def test_mistakes_in_a_source_are_named(fields, message: str):
    with pytest.raises(RequestError, match=message):
        Images(**{"pattern": "*.jpg", **fields})
