"""Commands on images, and the folders they read and write: what they give, and how they fail."""

import itertools
import json
import os
import re
import shlex
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

import fastgmm.images.output
from fastgmm import GaussianMixture, cli
from fastgmm.datasets import load_digits
from fastgmm.images import ImageGenerator, image_grid, read_images, write_images

ROOT = Path(__file__).parents[1]
N_TRAIN, N_OTHERS = 240, 60
FIT = ("--components", 1, "--factors", 2, "--seed", 0)


def call(*arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    return stop.value.code


@pytest.fixture(autouse=True)
def in_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    """Function that runs the command and returns (exit code, stdout, stderr); boxes become plain text."""

    def run_command(*arguments):
        capsys.readouterr()
        code = call(*arguments)
        out, err = capsys.readouterr()
        return code, out, re.sub(r"[│╭╮╰╯─\s]+", " ", err)

    return run_command


@pytest.fixture(scope="module")
def digits():
    """(n, 8, 8) uint8 and labels, in the order in which a folder by label gives them."""
    images, labels = load_digits()
    order = np.argsort(labels[: N_TRAIN + N_OTHERS], kind="stable")
    return np.rint(images[order] * 255).astype(np.uint8), labels[order]


@pytest.fixture(scope="module")
def data(tmp_path_factory, digits):
    """A folder with `digits` and `others`, both with a sub-folder for each label, and a model of `digits`."""
    folder = tmp_path_factory.mktemp("images")
    images, labels = digits
    held_out = np.arange(len(images)) % 5 == 4
    for name, chosen in (("digits", ~held_out), ("others", held_out)):
        places = [f"{label}/{i:04d}" for i, label in enumerate(labels[chosen])]
        write_images(folder / name, images[chosen], places)
    assert call("images", "fit", folder / "digits", "-o", folder / "m.safetensors", *FIT) == 0
    return folder


@pytest.fixture
def model(data):
    return data / "m.safetensors"


def table(out):
    return dict(line.split(maxsplit=1) for line in out.splitlines())


def save(name, pixels, **options):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **options)


def noise(*shape):
    return np.random.default_rng(0).integers(256, size=shape).astype(np.uint8)


# Reading folders


def test_a_folder_is_read_sorted_with_its_sub_folders_as_labels(data, digits):
    images, labels, names = read_images(data / "others")
    chosen = np.arange(len(digits[0])) % 5 == 4
    np.testing.assert_array_equal(images, digits[0][chosen])
    np.testing.assert_array_equal(labels, digits[1][chosen])
    assert labels.dtype == np.int64
    assert names[0] == "0/0000.png"
    assert names == sorted(names)


def test_labels_are_the_first_sub_folders_and_none_if_an_image_lies_outside():
    for name in ("a/deep/1.png", "01/2.PNG", "b/3.png"):
        save(name, noise(4, 5))
    assert read_images(".")[1].tolist() == ["01", "a", "b"]
    save("4.png", noise(4, 5))
    images, labels, names = read_images(".")
    assert labels is None
    assert names == ["01/2.PNG", "4.png", "a/deep/1.png", "b/3.png"]
    assert images.shape == (4, 4, 5)


def test_grey_and_colour_together_become_colour_unless_grey_is_asked():
    grey, colour = noise(4, 5), noise(4, 5, 3)
    save("in/1.png", grey)
    save("in/2.png", colour)
    save("in/3.png", grey)
    images = read_images("in")[0]
    np.testing.assert_array_equal(images, [np.stack([grey] * 3, -1), colour, np.stack([grey] * 3, -1)])
    images = read_images("in", grey=True)[0]
    np.testing.assert_array_equal(images[0], grey)
    assert np.abs(images[1] - colour @ [0.299, 0.587, 0.114]).max() <= 1
    (Path("in") / "2.png").unlink()
    assert read_images("in")[0].shape == (2, 4, 5)
    assert read_images("in", grey=False)[0].shape == (2, 4, 5, 3)


def test_every_mode_of_pillow_becomes_8_bits_on_white():
    grey = noise(4, 5)
    save("16/a.png", grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_images("16")[0], [grey])
    save("bits/a.png", grey > 100)
    np.testing.assert_array_equal(read_images("bits")[0], [255 * (grey > 100)])
    save("grey_palette/a.gif", grey)
    np.testing.assert_array_equal(read_images("grey_palette")[0], [grey])
    half = np.dstack([np.zeros((4, 5, 3), np.uint8), np.full((4, 5), 51, np.uint8)])
    half[0, 0, 3] = 255
    save("alpha/a.png", half)
    images = read_images("alpha")[0]
    assert images.shape == (1, 4, 5, 3)
    assert images[0, 0, 0].tolist() == [0, 0, 0]
    assert images[0, 1, 1].tolist() == [204, 204, 204]
    Path("palette").mkdir()
    Image.fromarray(noise(4, 5, 3)).quantize(8).save("palette/a.png", transparency=0)
    assert read_images("palette")[0].shape == (1, 4, 5, 3)
    save("float/a.tiff", noise(4, 5).astype(np.float32))
    with pytest.raises(ValueError, match=r"a\.tiff \(its pixels \(mode F\) have no known scale; value_range"):
        read_images("float")


@pytest.mark.parametrize("ending", ["gif", "tif", "webp", "png"])
def test_each_frame_or_page_is_an_image(ending):
    Path("in/7").mkdir(parents=True)
    levels = (10, 200, 90)
    frames = [Image.fromarray(np.full((4, 5), level, np.uint8)) for level in levels]
    lossless = {"lossless": True} if ending == "webp" else {}
    frames[0].save(f"in/7/a.{ending}", save_all=True, append_images=frames[1:], **lossless)
    images, labels, names = read_images("in", grey=True)
    np.testing.assert_array_equal(images, [np.full((4, 5), level) for level in levels])
    assert labels.tolist() == [7] * 3
    assert names == [f"7/a.{i:04d}.{ending}" for i in (1, 2, 3)]
    assert read_images(f"in/7/a.{ending}")[0].ndim == (4 if ending == "webp" else 3)  # that is always in colour
    write_images("out", images, names)
    assert sorted(file.name for file in Path("out/7").iterdir()) == [f"a.{i:04d}.png" for i in (1, 2, 3)]


def test_pages_are_more_than_there_are_files():
    stack = [Image.fromarray(noise(4, 5)) for _ in range(40)]
    Path("in").mkdir()
    stack[0].save("in/b.tif", save_all=True, append_images=stack[1:])
    save("in/a.png", noise(4, 5, 3))
    save("in/c.png", noise(4, 5))
    images, _, names = read_images("in")
    assert images.shape == (42, 4, 5, 3)
    assert names[0] == "a.png"
    np.testing.assert_array_equal(images[1:41, ..., 1], np.stack([np.asarray(page) for page in stack]))


def test_depth_is_not_lost_without_a_word():
    levels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    save("in/a.png", levels)
    with pytest.warns(UserWarning, match=r"no value above 4095 of 65535.*value_range=\(0, 4095\)"):
        assert len(np.unique(read_images("in")[0])) == 17
    images = read_images("in", value_range=(0, 4095))[0]
    np.testing.assert_array_equal(images[0], np.rint(levels / 4095 * 255))
    save("in/b.png", levels * 16)  # as deep as the file
    assert len(np.unique(read_images("in")[0][1])) == 256
    save("float/a.tiff", np.linspace(-1, 3, 20, dtype=np.float32).reshape(4, 5))
    found = read_images("float", value_range=(0, 2))[0][0]
    np.testing.assert_array_equal(found, np.rint(np.clip(np.linspace(-1, 3, 20).reshape(4, 5) / 2, 0, 1) * 255))
    for bad in ((3, 3), (0, np.inf), (np.nan, 1)):
        with pytest.raises(ValueError, match="value_range must be two finite numbers"):
            read_images("float", value_range=bad)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_among_pictures_is_no_picture():
    save("in/a.png", noise(4, 5))
    os.mkfifo("in/b.png")
    assert read_images("in")[2] == ["a.png"]
    with pytest.raises(ValueError, match="is neither a folder nor a regular file"):
        read_images("in/b.png")


def test_exif_orientation_is_respected_also_where_only_sizes_are_counted():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    upright = noise(6, 4)
    save("in/a.png", upright)
    save("in/b.png", np.rot90(upright), exif=exif)
    np.testing.assert_array_equal(read_images("in")[0], [upright, upright])
    save("in/a.png", noise(3, 3))
    save("in/c.png", np.rot90(upright), exif=exif)
    with pytest.raises(ValueError, match=r"2 sizes: 4x6 \(2 images, as b\.png\), 3x3 \(1 image, as a\.png\)"):
        read_images("in")


def test_size_cuts_out_the_centre_and_resamples():
    wide = noise(8, 20)
    save("in/a.png", wide)
    save("in/b.png", np.full((4, 4), 200, np.uint8))
    middle = Image.fromarray(wide).resize((4, 4), Image.Resampling.LANCZOS, box=(6, 0, 14, 8))
    np.testing.assert_array_equal(read_images("in", size=(4, 4))[0], [middle, np.full((4, 4), 200)])
    same = noise(4, 4)
    save("in/a.png", same)
    np.testing.assert_array_equal(read_images("in", size=(4, 4))[0][0], same)
    assert read_images("in", size=(3, 5))[0].shape == (2, 5, 3)
    with pytest.raises(ValueError, match="at least 1"):
        read_images("in", size=(0, 4))


def test_one_picture_and_arrays_are_read_too(digits):
    save("a.png", noise(4, 5))
    images, labels, names = read_images("a.png")
    assert (images.shape, labels, names) == ((1, 4, 5), None, ["a.png"])
    np.save("a.npy", digits[0])
    images, labels, names = read_images("a.npy")
    assert (images.shape, labels, names[1]) == (digits[0].shape, None, "000001")
    with pytest.raises(ValueError, match="only pictures can be resized"):
        read_images("a.npy", size=(4, 4))


@pytest.mark.parametrize(
    ("content", "error", "cause"),
    [
        (np.zeros((3, 4)), ValueError, "must have shape"),
        (np.zeros((3, 4, 4), int), TypeError, "must be uint8 or floats"),
        (np.full((3, 4, 4), 2.0), ValueError, r"must lie in \[0, 1\], but image 0 holds 2"),
        (np.array([[["a"]]], object), ValueError, "Object arrays"),
    ],
)
def test_arrays_of_other_things_are_refused_by_name(content, error, cause):
    np.save("a.npy", content, allow_pickle=True)
    with pytest.raises(error, match=rf"^a\.npy is no \.npy file of images: .*{cause}"):
        read_images("a.npy")


def damage(folder):
    """Put a truncated picture, a text file and an empty file among two good pictures."""
    for name in ("a", "b", "z"):
        save(f"{folder}/{name}.png", noise(40, 50))
    path = Path(folder) / "b.png"
    path.write_bytes(path.read_bytes()[:600])
    (Path(folder) / "c.png").write_text("no picture")
    (Path(folder) / "d.jpg").write_bytes(b"")
    (Path(folder) / "notes.txt").write_text("ignored")
    (Path(folder) / ".e.png").write_text("hidden")


def test_every_unreadable_file_is_named_with_its_cause():
    damage("in")
    with pytest.raises(ValueError) as caught:
        read_images("in")
    assert str(caught.value).startswith("3 of 5 images in in cannot be read: b.png (")
    assert re.search(
        r"b\.png \(.*truncated.*\), c\.png \(no image.*\), d\.jpg \(no image.*\); .*skip", str(caught.value)
    )
    with pytest.warns(UserWarning, match=r"left out what cannot be read: b\.png .*c\.png .*d\.jpg"):
        images, _, names = read_images("in", skip_unreadable=True)
    np.testing.assert_array_equal(images, [noise(40, 50)] * 2)
    assert names == ["a.png", "z.png"]


def test_long_lists_of_unreadable_files_are_cut_and_shown_without_control_characters():
    Path("in").mkdir()
    for i in range(14):
        (Path("in") / f"\x1b{i:02d}.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"14 of 14 images.*09\.png.* and 4 more") as caught:
        read_images("in", skip_unreadable=True)  # nothing would be left
    assert "\x1b" not in str(caught.value)
    assert r"\x1b" in str(caught.value)


def test_pictures_that_could_exhaust_memory_are_unreadable(monkeypatch):
    save("in/a.png", noise(12, 12))
    save("in/b.png", noise(16, 16))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"2 of 2 .*a\.png \(Image size \(144 .*b\.png \(Image size \(256 "):
        read_images("in")


def test_a_picture_is_read_as_one_of_the_named_formats_only():
    Path("in").mkdir()
    Image.fromarray(noise(4, 5, 3)).save("in/a.eps")
    Path("in/a.eps").rename("in/a.png")
    with pytest.raises(ValueError, match=r"a\.png \(no image of a known format\)"):
        read_images("in")


def test_mixed_sizes_are_listed_with_a_remedy():
    for i in range(13):
        save(f"in/{i:02d}.png", noise(4, 5 + i))
    save("in/99.png", noise(4, 17))
    with pytest.raises(ValueError) as caught:
        read_images("in")
    message = str(caught.value)
    assert message.startswith("in holds images of 13 sizes: 17x4 (2 images, as 12.png), 5x4 (1 image, as 00.png)")
    assert "and 3 more" in message
    assert "--size WxH" in message
    assert "Lanczos" in message


def test_folders_without_images_say_what_they_hold():
    Path("in").mkdir()
    with pytest.raises(ValueError, match=r"in holds no images; their names must end in \.png"):
        read_images("in")
    Path("in/a.txt").touch()
    with pytest.raises(ValueError, match=r"in holds no images \(1 file of other endings\)"):
        read_images("in")
    with pytest.raises(ValueError, match="neither a folder nor"):
        read_images("in/a.txt")


# Writing folders


def test_written_folders_are_read_back():
    images = np.linspace(0, 1, 2 * 4 * 5).reshape(2, 4, 5, 1)
    write_images("out", images)
    assert sorted(path.name for path in Path("out").iterdir()) == ["000000.png", "000001.png"]
    np.testing.assert_array_equal(read_images("out")[0], np.rint(images[..., 0] * 255))
    write_images("two", noise(2, 4, 5, 3), ["x/a.jpg", "x/a.gif"])  # .png for both would be one file
    assert read_images("two")[2] == ["x/a.gif.png", "x/a.jpg.png"]


def test_only_empty_folders_or_with_force_folders_of_png_files_are_replaced():
    Path("out").mkdir()
    write_images("out", noise(3, 4, 5))
    with pytest.raises(FileExistsError, match="out is not empty"):
        write_images("out", noise(2, 4, 5))
    write_images("out", noise(2, 4, 5), force=True)
    assert len(list(Path("out").iterdir())) == 2
    (Path("out") / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match=r"other files than PNG, as thesis\.txt"):
        write_images("out", noise(1, 4, 5), force=True)
    with pytest.raises(FileExistsError, match="is a file"):
        write_images("out/thesis.txt", noise(1, 4, 5), force=True)
    assert len(list(Path("out").iterdir())) == 3
    assert [path.name for path in Path().iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["../a", "/a", ""])
def test_names_cannot_lead_out_of_the_folder(name):
    with pytest.raises(ValueError, match="no path inside"):
        write_images("out", noise(1, 4, 5), [name])
    with pytest.raises(ValueError, match="one name per image"):
        write_images("out", noise(1, 4, 5), ["a", "b"])
    with pytest.raises(ValueError, match="1 or 3 channels"):
        write_images("out", noise(1, 4, 5, 2))
    assert list(Path().iterdir()) == []


# fit


def assert_same_model(path, expected):
    loaded = ImageGenerator.load(path)
    np.testing.assert_array_equal(loaded.mixture_.means_, expected.mixture_.means_)
    np.testing.assert_array_equal(loaded.classes_, expected.classes_)


def test_fit_writes_the_model_the_class_finds(run, data):
    options = "--components 2 --factors 3 --noise-floor 0.02 --max-iter 40 --tol 2 --seed 3 --threads 1 --no-labels"
    code, out, err = run("images", "fit", data / "digits", "-o", "m.safetensors", *options.split())
    assert (code, err) == (0, "")
    images, _, _ = read_images(data / "digits")
    settings = {"n_factors": 3, "noise_floor": 0.02, "max_iter": 40, "tol": 2, "random_state": 3}
    expected = ImageGenerator(2, **settings).fit(images)
    assert_same_model("m.safetensors", expected)
    facts = table(out)
    assert (facts["images"], facts["shape"], facts["labels"]) == (str(len(images)), "8x8", "none")
    assert (facts["components"], facts["factors"], facts["model"]) == ("2", "3", "mfa")
    assert float(facts["log_likelihood"].split()[0]) == pytest.approx(expected.score(images), rel=1e-8)
    assert float(facts["bits_per_dimension"]) == pytest.approx(expected.bits_per_dim(images), abs=1e-4)
    assert float(facts["seconds"]) >= 0


def test_labels_come_from_sub_folders_or_a_file_or_not_at_all(run, data, model):
    images, labels, _ = read_images(data / "digits")
    expected = ImageGenerator(1, n_factors=2, random_state=0).fit(images, labels=labels)
    assert_same_model(model, expected)
    np.save("images.npy", images)
    np.save("labels.npy", labels)
    fit = ("images", "fit", "images.npy", "-o", "a.safetensors", *FIT, "--labels-file", "labels.npy")
    code, out, _ = run(*fit)
    assert (code, table(out)["labels"]) == (0, "10")
    assert_same_model("a.safetensors", expected)
    # A single sub-folder is a label only if labels are asked for.
    for option, shown in (((), "none"), (("--labels",), "1")):
        source, output = data / "digits" / "3", f"{shown}.safetensors"
        Path("one").mkdir(exist_ok=True)
        shutil.copytree(source, "one/3", dirs_exist_ok=True)
        code, out, _ = run("images", "fit", "one", "-o", output, *FIT, *option)
        assert (code, table(out)["labels"]) == (0, shown)


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_fit_takes_the_other_models_and_float_arrays(run, digits, kind):
    np.save("images.npy", digits[0][:150] / 255)
    code, out, _ = run("images", "fit", "images.npy", "-o", "m.safetensors", "-k", 1, "--model", kind, "--seed", 1)
    assert code == 0
    assert "bits_per_dimension" not in out  # of floats they mean nothing
    expected = ImageGenerator(1, model=kind, random_state=1).fit(digits[0][:150] / 255)
    assert_same_model("m.safetensors", expected)


@pytest.mark.parametrize("kind", ["full", "diag"])
@pytest.mark.parametrize("k", [2, 3, 7])
def test_components_of_float32_images_become_a_mixture_of_pixels(digits, kind, k):
    model = ImageGenerator(k, model=kind, random_state=0, max_iter=5).fit((digits[0][:300] / 255).astype(np.float32))
    assert abs(np.float64(model.mixture_.weights_).sum() - 1) < 1e-6
    assert len(model.mixture_.weights_) == k
    assert model.generate(3).shape == (3, *digits[0].shape[1:])


def test_fit_resizes_makes_grey_and_leaves_out_what_it_is_told_to(run):
    damage("in")
    for i in range(10):
        save(f"in/good{i}.png", np.random.default_rng(i).integers(256, size=(12, 10, 3)).astype(np.uint8))
    fit = ("images", "fit", "in", "-o", "m.safetensors", *FIT)
    code, out, err = run(*fit, "--size", "5x6", "--grey", "--skip-unreadable")
    assert code == 0
    facts = table(out)
    assert (facts["images"], facts["shape"]) == ("12", "5x6")
    assert (facts["other_files_ignored"], facts["unreadable_left_out"]) == ("2", "3")
    assert re.match(r"warning: left out what cannot be read: b\.png .*c\.png .*d\.jpg", err)
    assert ImageGenerator.load("m.safetensors").image_shape_ == (6, 5)
    assert run(*fit, "--size", "5x6", "--skip-unreadable", "--force")[0] == 0
    assert ImageGenerator.load("m.safetensors").image_shape_ == (6, 5, 3)


def test_fit_without_pillow_names_the_remedy(run, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    code, out, err = run("images", "fit", data / "digits", "-o", "m.safetensors")
    assert (code, out) == (1, "")
    assert err == "error: reading and writing pictures needs Pillow: pip install 'fastgmm[images]' "


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--size", "8"), "--size"),
        (("--size", "0x8"), "--size"),
        (("--size", "8x8px"), "--size"),
        (("--components", 0), "--components"),
        (("--model", "vae"), "--model"),
        (("--model", "full", "--factors", 3), "--model"),
        (("--model", "diag", "--noise-floor", 0.1), "--model"),
        (("--labels", "--labels-file", "labels.npy"), "--labels-file"),
        (("--labels-file", "missing.npy"), "--labels-file"),
        (("-o", "missing/m.safetensors"), "--output"),
        (("-o", "labels.npy"), "--output"),
    ],
)
def test_wrong_usage_of_fit_exits_with_2_and_names_the_option(run, data, options, named):
    np.save("labels.npy", np.arange(3))
    before = Path("labels.npy").read_bytes()
    code, out, err = run("images", "fit", data / "digits", "-o", "m.safetensors", *options)
    assert (code, out) == (2, "")
    assert named in err
    assert [path.name for path in Path().iterdir()] == ["labels.npy"]
    assert Path("labels.npy").read_bytes() == before


@pytest.mark.parametrize(
    ("make", "options", "cause"),
    [
        (lambda: damage("in"), (), r"3 of 5 images in in cannot be read: b\.png"),
        (lambda: damage("in"), ("--skip-unreadable", "--labels-file", "l.npy"), "--labels-file names all images"),
        (lambda: Path("in").mkdir(), (), "in holds no images"),
        (
            lambda: (save("in/a.png", noise(4, 4)), save("in/b.png", noise(4, 5))),
            (),
            r"2 sizes: 4x4 .*\(--size",
        ),
        (lambda: save("in/a.png", noise(4, 4)), ("--labels",), "every image of in in a sub-folder"),
        (
            lambda: save("in/a.png", noise(4, 4)),
            ("--labels-file", "l.npy"),
            r"l\.npy has shape \(3,\), but there are 1",
        ),
        (
            lambda: save("in/a.png", noise(4, 4)),
            ("--labels-file", "f.npy"),
            r"f\.npy must hold .* whole numbers or str",
        ),
        (lambda: save("in/a.png", noise(4, 4)), ("--labels-file", "t.npy"), r"t\.npy is not a usable \.npy file"),
        (lambda: save("in/a.png", noise(4, 4)), ("-k", 2), "one image has no distribution to learn"),
    ],
)
def test_failed_fits_exit_with_1_and_leave_nothing(run, make, options, cause):
    make()
    np.save("l.npy", np.arange(3))
    np.save("f.npy", np.arange(3.0))
    Path("t.npy").write_text("text")
    code, out, err = run("images", "fit", "in", "-o", "m.safetensors", *options)
    assert (code, out) == (1, "")
    assert "error: " in err
    assert re.search(cause, err)
    assert {path.name for path in Path().iterdir()} == {"in", "l.npy", "f.npy", "t.npy"}


# generate


def generate(run, model, *options):
    code, out, err = run("images", "generate", model, *options)
    assert (code, err) == (0, "")
    return table(out)


def test_generate_writes_arrays_of_either_type_block_by_block(run, model, monkeypatch):
    expected = ImageGenerator.load(model).generate(150, random_state=5)
    facts = generate(run, model, "-n", 150, "-o", "whole.npy", "--seed", 5)
    assert facts == {"images": "150", "shape": "8x8", "seed": "5", "output": "whole.npy"}
    monkeypatch.setattr(fastgmm.images.output, "BLOCK_BYTES", 8 * 64 * 7)
    generate(run, model, "-n", 150, "-o", "blocks.npy", "--seed", 5)
    assert Path("blocks.npy").read_bytes() == Path("whole.npy").read_bytes()
    np.testing.assert_array_equal(np.load("blocks.npy"), np.rint(255 * expected).astype(np.uint8))
    generate(run, model, "-n", 150, "-o", "float.npy", "--seed", 5, "--float")
    images = np.load("float.npy")
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, expected.astype(np.float32))
    generate(run, model, "-n", 30, "-o", "part.npy", "--seed", 5, "--first", 110)
    np.testing.assert_array_equal(np.load("part.npy"), np.load("whole.npy")[110:140])


def test_generate_writes_tables_of_pixels(run, model):
    expected = ImageGenerator.load(model).generate(20, random_state=5)
    facts = generate(run, model, "-n", 20, "-o", "new.parquet", "--seed", 5, "--float")
    assert facts == {"images": "20", "shape": "8x8", "seed": "5", "output": "new.parquet"}
    pixels = np.column_stack([column.to_numpy() for column in pyarrow.parquet.read_table("new.parquet").columns])
    np.testing.assert_array_equal(pixels.reshape(20, 8, 8), expected.astype(np.float32))


def test_generate_passes_its_options_on(run, model):
    generate(
        run, model, "-n", 20, "-o", "a.npy", "--seed", 5, "--label", 3, "--temperature", 0.25, "--noise", "--float"
    )
    expected = ImageGenerator.load(model).generate(20, 3, 5, temperature=0.25, noise=True)
    np.testing.assert_array_equal(np.load("a.npy"), expected.astype(np.float32))


def test_generate_takes_another_seed_each_time_and_prints_it(run, model):
    seeds = [generate(run, model, "-n", 5, "-o", f"{i}.npy")["seed"] for i in range(2)]
    assert seeds[0] != seeds[1]
    generate(run, model, "-n", 5, "-o", "again.npy", "--seed", seeds[0])
    assert Path("again.npy").read_bytes() == Path("0.npy").read_bytes()


def test_generate_draws_a_contact_sheet_or_a_folder(run, model):
    expected = ImageGenerator.load(model).generate(12, random_state=5)
    generate(run, model, "-n", 12, "-o", "sheet.png", "--seed", 5)
    with Image.open("sheet.png") as sheet:
        np.testing.assert_array_equal(np.asarray(sheet), image_grid(expected))
    Path("new").mkdir()
    generate(run, model, "-n", 12, "-o", "new", "--seed", 5, "--first", 0)
    images, _, names = read_images("new")
    np.testing.assert_array_equal(images, np.rint(255 * expected))
    assert names == [f"{i:06d}.png" for i in range(12)]
    generate(run, model, "-n", 2, "-o", "new", "--seed", 5, "--first", 10, "--force")
    images, _, names = read_images("new")
    assert names == ["000010.png", "000011.png"]
    np.testing.assert_array_equal(images, np.rint(255 * expected[10:]))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("-o", "new.npy", "-n", 0), "--n-images"),
        (("-o", "new.npy", "-n", 2, "--label", "x"), "--label: 'x' is not a label of the model, which has 0, 1, 2"),
        (("-o", "new.npy", "-n", 2, "--temperature", -1), "--temperature"),
        (("-o", "new.npy", "-n", 2, "--temperature", "inf"), "--temperature"),
        (("-o", "new.npy", "-n", 2, "--temperature", "nan"), "--temperature"),
        (("-o", "new.npy", "-n", 2, "--first", -1), "--first"),
        (("-o", "new.png", "-n", 401), "--output: a contact sheet holds at most 400"),
        (("-o", "new.jpg", "-n", 2), "--output: new.jpg must end in .npy, .parquet or .png"),
        (("-o", "new.png", "-n", 2, "--float"), "--float"),
        (("-o", "missing/new.npy", "-n", 2), "--output"),
        (("-o", "missing/new", "-n", 2), "--output"),
        (("-o", "kept.npy", "-n", 2), "--force"),
        (("-o", "kept", "-n", 2), "--force"),
        (("-o", "notes", "-n", 2, "--force"), "--output: notes holds other files than PNG, as todo.txt"),
        (("-o", ".", "-n", 2, "--force"), "--output: . is the current folder"),
        (("-o", "..", "-n", 2, "--force"), "--output: .. is"),
    ],
)
def test_wrong_usage_of_generate_exits_with_2_and_names_the_option(run, model, options, named):
    Path("kept").mkdir()
    Path("notes").mkdir()
    kept = [Path("kept.npy"), Path("kept/a.png"), Path("notes/todo.txt")]
    for path in kept:
        path.write_bytes(b"precious")
    code, out, err = run("images", "generate", model, *options)
    assert (code, out) == (2, "")
    assert named in err
    assert {path for path in Path().rglob("*") if path.is_file()} == set(kept)
    assert {path.read_bytes() for path in kept} == {b"precious"}


def test_a_model_of_another_kind_is_refused(run, digits):
    GaussianMixture(1).fit(digits[0][:100].reshape(100, -1) + np.eye(100, 64)).save("rows.safetensors")
    for command in (("generate", "rows.safetensors", "-n", 2), ("inpaint", "rows.safetensors", ".", "--mask", "left")):
        code, out, err = run("images", *command, "-o", "new.npy")
        assert (code, out) == (1, "")
        assert err.startswith("error: model file rows.safetensors: holds a 'GaussianMixture', not a 'ImageGenerator'")
    assert [path.name for path in Path().iterdir()] == ["rows.safetensors"]


@pytest.mark.parametrize("output", ["new.npy", "new.png", "new"])
@pytest.mark.parametrize("existing", [False, True])
def test_failed_writes_leave_what_was_there(run, model, monkeypatch, output, existing):
    if existing:
        assert run("images", "generate", model, "-n", 4, "-o", output, "--seed", 0)[0] == 0
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    written = []
    save_picture = Image.Image.save

    def disk_full(*arguments, **options):
        written.append(arguments)
        if output == "new" and len(written) < 3:
            return save_picture(*arguments, **options)
        raise OSError(28, "No space left on device")

    if output == "new.npy":
        monkeypatch.setattr(fastgmm.images.output, "BLOCK_BYTES", 8 * 64)
        monkeypatch.setattr("fastgmm.images.ImageGenerator.generate", disk_full)
    monkeypatch.setattr(Image.Image, "save", disk_full)
    code, out, err = run("images", "generate", model, "-n", 5, "-o", output, "--seed", 1, "--force")
    assert (code, out) == (1, "")
    assert "No space left" in err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    assert {path.name for path in Path().iterdir()} == ({output} if existing else set())


def test_a_folder_that_cannot_be_moved_into_place_is_put_back(monkeypatch):
    write_images("out", noise(3, 4, 5))
    rename = Path.rename

    def busy(self, target):
        if self.suffix == ".tmp":
            raise OSError(16, "Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", busy)
    with pytest.raises(OSError, match="busy"):
        write_images("out", noise(1, 4, 5), force=True)
    assert [path.name for path in Path().iterdir()] == ["out"]
    assert len(list(Path("out").iterdir())) == 3


# inpaint


HIDDEN = {
    "left": np.s_[:, :4],
    "right": np.s_[:, 4:],
    "top": np.s_[:4, :],
    "bottom": np.s_[4:, :],
    "center": np.s_[2:6, 2:6],
}


@pytest.mark.parametrize("side", HIDDEN)
def test_inpaint_completes_the_hidden_side_and_keeps_the_rest(run, data, model, side):
    code, out, err = run("images", "inpaint", model, data / "others", "--mask", side, "-o", "new.npy")
    assert (code, err) == (0, "")
    hidden = np.zeros((8, 8), bool)
    hidden[HIDDEN[side]] = True
    given = read_images(data / "others")[0]
    completed = np.load("new.npy")
    np.testing.assert_array_equal(completed[:, ~hidden], given[:, ~hidden])
    expected = ImageGenerator.load(model).inpaint(given, hidden)
    np.testing.assert_array_equal(completed, np.rint(255 * expected))
    assert table(out)["hidden"] == f"{100 * hidden.mean():.1f} % of the pixels"


def test_inpaint_takes_masks_from_files(run, data, model):
    given = read_images(data / "others")[0]
    hidden = np.random.default_rng(0).random((8, 8)) < 0.4
    each = np.random.default_rng(1).random(given.shape) < 0.4
    np.save("mask.npy", hidden)
    np.save("numbers.npy", hidden * -2.5)
    np.save("each.npy", each)
    save("mask.png", hidden * np.uint8(1))
    save("colour.png", np.stack([0 * hidden, 0 * hidden, hidden], -1).astype(np.uint8))
    generator = ImageGenerator.load(model)
    for name in ("mask.npy", "numbers.npy", "each.npy", "mask.png", "colour.png"):
        code, _, _ = run("images", "inpaint", model, data / "others", "--mask", name, "-o", "new.npy", "--force")
        assert code == 0
        expected = generator.inpaint(given, each if name == "each.npy" else hidden)
        np.testing.assert_array_equal(np.load("new.npy"), np.rint(255 * expected))


def test_inpaint_draws_with_a_seed_and_an_obs_noise(run, data, model):
    command = ("images", "inpaint", model, data / "others", "--mask", "top", "--mode", "sample", "--float")
    code, out, _ = run(*command, "-o", "a.npy", "--seed", 4, "--obs-noise", 0.02)
    assert (code, table(out)["seed"]) == (0, "4")
    given, hidden = read_images(data / "others")[0], np.arange(8)[:, None] < np.full(8, 4)
    expected = ImageGenerator.load(model).inpaint(given, hidden, "sample", obs_noise=0.02, random_state=4)
    np.testing.assert_array_equal(np.load("a.npy"), expected.astype(np.float32))
    seed = table(run(*command, "-o", "b.npy")[1])["seed"]
    run(*command, "-o", "c.npy", "--seed", seed)
    assert Path("b.npy").read_bytes() == Path("c.npy").read_bytes()


def test_inpaint_writes_the_names_it_read_or_a_sheet(run, data, model):
    assert run("images", "inpaint", model, data / "others", "--mask", "top", "-o", "new")[0] == 0
    assert read_images("new")[2] == read_images(data / "others")[2]
    assert run("images", "inpaint", model, data / "others", "--mask", "top", "-o", "new.png")[0] == 0
    with Image.open("new.png") as sheet, np.errstate(all="raise"):
        np.testing.assert_array_equal(np.asarray(sheet), image_grid(read_images("new")[0]))
    np.save("many.npy", np.zeros((401, 8, 8), np.uint8))
    code, _, err = run("images", "inpaint", model, "many.npy", "--mask", "top", "-o", "many.png")
    assert code == 2
    assert "at most 400 images, not 401" in err


def test_inpaint_reads_pictures_as_the_model_sees_them(run, data, model):
    images = read_images(data / "others")[0][:3]
    write_images("colour", np.stack([images] * 3, -1))
    assert run("images", "inpaint", model, "colour", "--mask", "left", "-o", "new.npy")[0] == 0
    np.testing.assert_array_equal(np.load("new.npy")[:, :, 4:], images[:, :, 4:])
    write_images("large", images.repeat(2, axis=1).repeat(2, axis=2))
    command = ("images", "inpaint", model, "large", "--mask", "left", "-o", "large.npy")
    code, _, err = run(*command)
    assert code == 1
    assert err == "error: large holds images of 16x16; the model has 8x8; --resize brings pictures to it "
    save("large/000009.png", noise(5, 5))
    code, _, err = run(*command)
    assert code == 1
    assert re.match(r"error: large holds images of 2 sizes: 16x16 .*; the model has 8x8; --resize brings", err)
    assert not Path("large.npy").exists()
    assert run(*command, "--resize")[0] == 0
    assert np.load("large.npy").shape == (4, 8, 8)


def test_colour_models_hide_all_channels_of_a_pixel(run):
    images = np.random.default_rng(0).integers(256, size=(30, 4, 5, 3)).astype(np.uint8)
    write_images("in", images)
    assert run("images", "fit", "in", "-o", "m.safetensors", *FIT)[0] == 0
    save("mask.png", np.eye(4, 5, dtype=np.uint8) * 255)
    save("one/a.png", images[0])
    for mask, hidden in (("left", np.arange(5) < np.full((4, 1), 3)), ("mask.png", np.eye(4, 5, dtype=bool))):
        assert run("images", "inpaint", "m.safetensors", "in", "--mask", mask, "-o", "new", "--force")[0] == 0
        completed = read_images("new")[0]
        np.testing.assert_array_equal(completed[:, ~hidden], images[:, ~hidden])
        assert (completed[:, hidden] != images[:, hidden]).mean() > 0.9
    code, out, _ = run("info", "m.safetensors", "--json")
    assert (code, json.loads(out)["image_shape"]) == (0, [4, 5, 3])


def test_models_of_one_or_two_channels_are_read_or_refused(run):
    np.save("one.npy", noise(30, 4, 5, 1))
    np.save("two.npy", noise(30, 4, 5, 2))
    for name in ("one", "two"):
        assert run("images", "fit", f"{name}.npy", "-o", f"{name}.safetensors", *FIT)[0] == 0
    write_images("in", noise(3, 4, 5))
    assert run("images", "inpaint", "one.safetensors", "in", "--mask", "left", "-o", "new")[0] == 0
    np.testing.assert_array_equal(read_images("new")[0][:, :, 3:], noise(3, 4, 5)[:, :, 3:])
    code, _, err = run("images", "generate", "two.safetensors", "-n", 2, "-o", "new.png")
    assert code == 2
    assert "images of 2 channels cannot be pictures" in err
    assert run("images", "generate", "two.safetensors", "-n", 2, "-o", "new.npy")[0] == 0
    assert np.load("new.npy").shape == (2, 4, 5, 2)


@pytest.mark.parametrize(
    ("mask", "code", "cause"),
    [
        ("middle", 2, "--mask: 'middle' is neither one of left, right"),
        ("text.txt", 2, "--mask"),
        ("small.npy", 1, r"mask small\.npy has shape \(4, 8\), but must be \(height, width\) = \(8, 8\)"),
        ("small.png", 1, r"mask small\.png has shape \(4, 8\)"),
        ("few.npy", 1, r"mask few\.npy has shape \(3, 8, 8\)"),
        ("zero.npy", 1, r"mask zero\.npy hides nothing"),
        ("words.npy", 1, r"mask words\.npy must hold numbers"),
        ("text.npy", 1, r"mask text\.npy is not a usable \.npy file"),
        ("text.png", 1, r"text\.png \(no image of a known format\)"),
    ],
)
def test_masks_that_do_not_fit_are_refused(run, data, model, mask, code, cause):
    np.save("small.npy", np.ones((4, 8)))
    save("small.png", np.ones((4, 8), np.uint8))
    np.save("few.npy", np.ones((3, 8, 8)))
    np.save("zero.npy", np.zeros((8, 8)))
    np.save("words.npy", np.full((8, 8), "a"))
    for name in ("text.npy", "text.png", "text.txt"):
        Path(name).write_text("text")
    got, out, err = run("images", "inpaint", model, data / "others", "--mask", mask, "-o", "new.npy")
    assert (got, out) == (code, "")
    assert re.search(cause, err)
    assert not Path("new.npy").exists()


def test_outputs_never_replace_what_is_read(run, model):
    Path("in").mkdir()
    write_images("in/a", noise(2, 8, 8))
    picture = "in/a/000000.png"
    for source, output in (("in/a", "in"), ("in/a", "in/a"), (picture, "in"), (picture, picture)):
        code, _, err = run("images", "inpaint", model, source, "--mask", "left", "-o", output, "--force")
        assert code == 2
        assert f"{output} is or holds what is read ({source})" in err
    np.testing.assert_array_equal(read_images("in")[0], noise(2, 8, 8))


# metrics and info


def test_metrics_prints_the_report(run, data, model):
    command = ("images", "metrics", model, "--train", data / "digits", "--held-out", data / "others", "--seed", 3)
    code, out, err = run(*command, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    train, held_out = (read_images(data / name)[0] for name in ("digits", "others"))
    generator = ImageGenerator.load(model)
    assert (facts["train"], facts["held_out"], facts["generated"], facts["seed"]) == (240, 60, 60, 3)
    bits, score = facts["metrics"]["bits_per_dimension"], facts["metrics"]["log_likelihood"]
    assert bits["value"] == pytest.approx(generator.bits_per_dim(held_out), rel=1e-6)
    assert bits["baseline"] == pytest.approx(generator.bits_per_dim(train), rel=1e-6)
    assert score["value"] == pytest.approx(generator.score(held_out), rel=1e-6)
    assert {"precision", "recall", "two_sample_accuracy", "memorised_share"} < set(facts["metrics"])
    code, out, _ = run(*command, "-n", 50, "--temperature", 0.5, "--noise")
    assert code == 0
    assert re.search(r"^generated +50$", out, re.MULTILINE)
    assert re.search(r"^bits_per_dimension +\d", out, re.MULTILINE)
    assert out.endswith("50 rows of each set\n")


def test_metrics_of_float_images_have_no_bits(run, digits, model):
    for name, part in (("train", digits[0][:100]), ("held", digits[0][100:140])):
        np.save(f"{name}.npy", part / 255)
    code, out, _ = run("images", "metrics", model, "--train", "train.npy", "--held-out", "held.npy", "--json")
    assert code == 0
    assert "bits_per_dimension" not in json.loads(out)["metrics"]


def test_metrics_refuses_images_of_another_size(run, data, model):
    write_images("in", noise(3, 4, 5))
    code, out, err = run("images", "metrics", model, "--train", data / "digits", "--held-out", "in")
    assert (code, out) == (1, "")
    assert err.startswith("error: in holds images of 5x4; the model has 8x8")
    assert run("images", "metrics", model, "--train", data / "digits")[0] == 2


def test_info_describes_image_models(run, model):
    code, out, _ = run("info", model)
    assert code == 0
    facts = table(out)
    assert (facts["covariance_type"], facts["image_shape"], facts["classes"]) == (
        "low_rank",
        "8 8",
        "0 1 2 3 4 5 6 7 8 9",
    )
    assert (facts["n_components"], facts["n_features"], facts["n_factors"]) == ("10", "64", "2")
    facts = json.loads(run("info", model, "--json")[1])
    assert facts["classes"] == list(range(10))
    assert facts["image_shape"] == [8, 8]
    assert sum(facts["weights"]) == pytest.approx(1)


def test_info_describes_factor_mixtures_and_refuses_damaged_ones(run, model):
    ImageGenerator.load(model).mixture_.save("rows.safetensors")
    code, out, _ = run("info", "rows.safetensors")
    assert (code, table(out)["n_factors"]) == (0, "2")
    assert "classes" not in out
    content = model.read_bytes()
    Path("cut.safetensors").write_bytes(content[:-8])
    Path("other.safetensors").write_bytes(content.replace(b'\\"classes\\"', b'\\"glasses\\"'))
    for name, cause in (("cut", "is not a valid safetensors file"), ("other", "does not describe an image generator")):
        code, out, err = run("info", f"{name}.safetensors")
        assert (code, out) == (1, "")
        assert cause in err


# Help and README


@pytest.mark.parametrize("command", ["fit", "generate", "inpaint", "metrics"])
def test_help_shows_examples_that_are_valid_commands(run, command):
    code, out, _ = run("images", command, "--help")
    assert code == 0
    assert "Examples:" in out
    assert f"fastgmm images {command} " in out


def test_help_names_every_command(run):
    code, out, _ = run("images", "--help")
    assert code == 0
    for command in ("fit", "generate", "inpaint", "metrics"):
        assert re.search(rf"\b{command}\b", out)


def commands_of(text):
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("fastgmm ")]


def test_the_commands_in_the_readme_and_in_the_help_work(run, data):
    section = (ROOT / "README.md").read_text().split("### Images from the command line")[1].split("\n## ")[0]
    shown = commands_of(section)
    assert {command[1] for command in shown} == {"fit", "generate", "inpaint", "metrics"}
    examples = itertools.chain(*map(commands_of, cli.images.EXAMPLES.values()))
    for folder in ("digits", "others"):
        shutil.copytree(data / folder, folder)
    photos = np.random.default_rng(0).integers(256, size=(20, 8, 8, 3)).astype(np.uint8)
    write_images("photos", photos)
    np.save("images.npy", photos)
    np.save("labels.npy", np.arange(20) % 2)
    save("mask.png", np.eye(8, dtype=np.uint8))
    for command in [*shown, *examples]:
        options = [] if command[1] == "metrics" else ["--force"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code, _, err = run(*("1000" if word == "1000000" else word for word in command), *options)
        assert code == 0, (command, err)
