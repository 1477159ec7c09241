"""Commands on images: fit, generate, inpaint, metrics."""

import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from typer import Option

from . import image_inputs as inputs
from .image_outputs import AsFloat, ImageForce, ImageOutput, Output
from .interruptions import exiting_on_signals
from .models import check_model_output
from .options import AsJson, Force, Model, Seed, Threads, chosen_seed, help_of, print_facts, print_result

if TYPE_CHECKING:
    from ..images import ImageGenerator

_MOST_COMPARED = 5000  # images that `metrics` draws unless told otherwise; evaluate compares no more of each set

app = typer.Typer(help="Learn the distribution of images; generate, complete and judge them.", no_args_is_help=True)


ImageModel = StrEnum("ImageModel", ["mfa", "full", "diag"])
Mode = StrEnum("Mode", ["mean", "sample"])
Temperature = Annotated[
    float, Option(min=0, help="What covariances are multiplied by: below 1 more typical images, 0 only means.")
]
Noise = Annotated[bool, Option("--noise", help="Add the noise of the pixels that the density includes.")]


# typer reads the options from the signature, one argument each.
def fit(
    source: inputs.Source,
    output: Annotated[Path, Option("-o", "--output", help="The model file to write (safetensors).")],
    components: Annotated[
        int | None,
        Option(
            "-k",
            "--components",
            min=1,
            show_default="one for every 80 images, at most 50",
            help="Components of the mixture; with labels, of each label's.",
        ),
    ] = None,
    model: Annotated[
        ImageModel,
        Option(help="mfa: factor analysers of the pixels; full, diag: Gaussians of their principal components."),
    ] = ImageModel.mfa,
    factors: Annotated[int | None, Option(min=1, show_default="6", help="Factors of each component (mfa).")] = None,
    noise_floor: Annotated[
        float | None, Option(min=0, show_default="0.001", help="Least noise variance, pixels being from 0 to 1 (mfa).")
    ] = None,
    size: Annotated[
        str | None,
        Option(
            metavar="WxH",
            help="Width and height in pixels to bring all pictures to: largest centred part, resampled by Lanczos.",
        ),
    ] = None,
    grey: Annotated[bool, Option("--grey", help="Make colour pictures grey.")] = False,
    labels: Annotated[
        bool | None,
        Option(
            "--labels/--no-labels",
            show_default="if there are two or more",
            help="Take the sub-folders of the folder as labels, and fit a mixture for each.",
        ),
    ] = None,
    labels_file: Annotated[
        Path | None,
        Option(exists=True, dir_okay=False, help="A .npy file with a label for each image, sorted by name."),
    ] = None,
    max_iter: Annotated[int, Option(min=1, help="Most iterations of EM.")] = 100,
    tol: Annotated[float, Option(min=0, help="Stop when an iteration gains less than this, in nats per image.")] = 0.1,
    seed: Seed = None,
    threads: Threads = None,
    skip_unreadable: inputs.SkipUnreadable = False,
    value_range: inputs.ValueRange = None,
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Learn the distribution of images and write it to a model file.

    Pictures are turned as EXIF says, transparent parts become white, and if any picture has colour, all have.
    """
    check_model_output(output, force, [source] if source.is_file() else [])
    seed = chosen_seed(seed)
    if labels is not None and labels_file is not None:
        raise typer.BadParameter("goes with neither --labels nor --no-labels", param_hint="--labels-file")
    wanted = {"n_factors": factors, "noise_floor": noise_floor}
    settings: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    if settings and model is not ImageModel.mfa:
        raise typer.BadParameter("--factors and --noise-floor need mfa", param_hint="--model")
    bounds = None if size is None else inputs.parse_size(size)

    from ..images import ImageGenerator
    from ..images.pictures import load_images, warn_of_losses

    found = load_images(
        source,
        size=bounds,
        grey=True if grey else None,
        skip_unreadable=skip_unreadable,
        value_range=inputs.parse_range(value_range),
    )
    warn_of_losses(found)
    given_labels = (
        inputs.load_labels(labels_file, found) if labels_file else inputs.folder_labels(source, found, labels)
    )
    start = time.perf_counter()
    generator = ImageGenerator(
        components, model=model.value, tol=tol, max_iter=max_iter, random_state=seed, n_jobs=threads, **settings
    ).fit(found.images, labels=given_labels)
    seconds = time.perf_counter() - start
    score = generator.score(found.images)
    generator.save(output)
    facts = {
        **inputs.counts(found),
        "shape": inputs.shape_text(generator.image_shape_),
        "labels": "none" if given_labels is None else len(generator.classes_),
        "model": model.value,
        "components": len(generator.mixture_.weights_),
        "factors": generator.mixture_.loadings_.shape[2],
        "seed": seed,
        "seconds": round(seconds, 2),
        "log_likelihood": score if as_json else f"{score:.10g} nats per image",
        **_bits(score, found.images),
        "output": output,
    }
    print_facts(facts, as_json)


def generate(
    model: Model,
    output: ImageOutput,
    n_images: Annotated[int, Option("-n", "--n-images", min=1, help="Images to draw.")],
    label: Annotated[
        str | None, Option(help="Draw images of this label only; without labels, of the component of this number.")
    ] = None,
    temperature: Temperature = 1.0,
    noise: Noise = False,
    first: Annotated[int, Option(min=0, help="Number of the first image: parts of one set, drawn apart.")] = 0,
    as_float: AsFloat = False,
    seed: Seed = None,
    as_json: AsJson = False,
    force: ImageForce = False,
) -> None:
    """Draw new images from a model.

    Image i of a seed, which is printed, is the same whatever --first and -n are.

    A .npy or Parquet file may be larger than memory.
    """
    generator = _load(model)
    shape = generator.image_shape_
    target = Output(output, shape, force, as_float)
    target.check(model, n_images)
    _check_temperature(temperature)
    chosen = None if label is None else _find_label(generator, label)
    seed = chosen_seed(seed)

    from ..images.output import generated_blocks

    settings: dict[str, Any] = {"temperature": temperature, "noise": noise, "first": first}
    with exiting_on_signals(), target.open(n_images, lambda i: f"{first + i:06d}.png") as write:
        for images in generated_blocks(generator, n_images, chosen, seed, **settings):
            write(images)
    print_facts({"images": n_images, "shape": inputs.shape_text(shape), "seed": seed, "output": output}, as_json)


def inpaint(
    model: Model,
    source: inputs.Source,
    mask: Annotated[
        str,
        Option(
            metavar="|".join((*inputs.SIDES, "FILE")),
            help="What is hidden: a half of the image, the middle half of its width and height (center), or what is "
            "not zero in a .png or .npy file of the size of an image; a .npy file may have a mask for each image.",
        ),
    ],
    output: ImageOutput,
    mode: Annotated[Mode, Option(help="mean: what is expected of the hidden pixels; sample: a draw.")] = Mode.mean,
    obs_noise: Annotated[
        float, Option(min=0, help="Variance by which visible pixels are thought to miss the model.")
    ] = 0.1,
    resize: inputs.Resize = False,
    as_float: AsFloat = False,
    seed: Seed = None,
    skip_unreadable: inputs.SkipUnreadable = False,
    value_range: inputs.ValueRange = None,
    as_json: AsJson = False,
    force: ImageForce = False,
) -> None:
    """Complete images of which a part is hidden; what is visible stays as it is.

    Files of an output folder have the names of the pictures that were read.
    """
    generator = _load(model)
    shape = generator.image_shape_
    target = Output(output, shape, force, as_float)
    target.check(source)
    if mask not in inputs.SIDES and not (Path(mask).is_file() and mask.lower().endswith((".npy", ".png"))):
        raise typer.BadParameter(
            f"{mask!r} is neither one of {', '.join(inputs.SIDES)} nor a .png or .npy file", param_hint="--mask"
        )

    from ..images.png import png_names

    found = inputs.load_images_of(generator, source, resize, skip_unreadable, value_range)
    n_images = len(found.images)
    target.check(source, n_images)
    hidden = inputs.side(mask, shape) if mask in inputs.SIDES else inputs.read_mask(Path(mask), n_images, shape)
    seed = chosen_seed(seed)
    completed = generator.inpaint(found.images, hidden, mode.value, obs_noise=obs_noise, random_state=seed)
    with target.open(n_images, png_names(found.names).__getitem__) as write:
        write(completed)
    share = float(hidden.mean())
    facts = {
        **inputs.counts(found),
        "shape": inputs.shape_text(shape),
        "hidden": share if as_json else f"{100 * share:.1f} % of the pixels",
        "mode": mode.value,
        **({"seed": seed} if mode is Mode.sample else {}),
        "output": output,
    }
    print_facts(facts, as_json)


def metrics(
    model: Model,
    train: Annotated[Path, Option(exists=True, help="The images that the model was fitted to, as `fit` takes.")],
    held_out: Annotated[Path, Option(exists=True, help="Other images of the same kind.")],
    n_images: Annotated[
        int | None,
        Option(
            "-n", "--n-images", min=2, show_default=f"as held out, at most {_MOST_COMPARED}", help="Images to draw."
        ),
    ] = None,
    temperature: Temperature = 1.0,
    noise: Noise = False,
    resize: inputs.Resize = False,
    seed: Seed = None,
    skip_unreadable: inputs.SkipUnreadable = False,
    value_range: inputs.ValueRange = None,
    as_json: AsJson = False,
) -> None:
    """Draw images and compare them with held-out ones; the baseline is what training images reach.

    The log-likelihood is in nats per image, bits per dimension (of uint8 images) per pixel and channel.

    Their values are of the held-out images, and their baselines of the training images.

    Beside bits per dimension stand those of a histogram of each pixel, and of LZMA.
    """
    generator = _load(model)
    _check_temperature(temperature)
    sets = {
        "train": inputs.load_images_of(generator, train, resize, skip_unreadable, value_range),
        "held_out": inputs.load_images_of(generator, held_out, resize, skip_unreadable, value_range),
    }

    from ..images.pixels import LEVELS, to_rows
    from ..images.png import to_bytes
    from ..metrics import evaluate

    has_levels = all(found.images.dtype == np.uint8 for found in sets.values())
    seed = chosen_seed(seed)
    size = n_images or min(len(sets["held_out"].images), _MOST_COMPARED)
    drawn: npt.NDArray[Any] = generator.generate(size, random_state=seed, temperature=temperature, noise=noise)
    # All on the scale and with the levels that the density is about: (k + u) / 256 for uint8.
    drawn = to_bytes(drawn) if has_levels else drawn
    shown = {"generated": drawn, **{name: found.images for name, found in sets.items()}}
    rows = [to_rows(images).reshape(images.shape) for images in shown.values()]
    report = evaluate(*rows, model=generator, levels=LEVELS if has_levels else None)
    facts: dict[str, Any] = {**{name: len(images) for name, images in shown.items()}, "seed": seed}
    if as_json:
        print_facts({**facts, "compared": report.n_rows, "metrics": report.to_dict()}, as_json)
    else:
        print_facts(facts, as_json)
        print_result(f"\n{report}")


def _load(model: Path) -> "ImageGenerator":
    from ..images import ImageGenerator

    return ImageGenerator.load(model)


def _find_label(generator: "ImageGenerator", text: str) -> Any:
    """Return the label that is written like this."""
    known = {str(label): label for label in generator.classes_.tolist()}
    if text not in known:
        names = ", ".join(list(known)[:20]) + (", ..." if len(known) > 20 else "")
        raise typer.BadParameter(f"{text!r} is not a label of the model, which has {names}", param_hint="--label")
    return known[text]


def _check_temperature(temperature: float) -> None:
    if not np.isfinite(temperature):
        raise typer.BadParameter(f"{temperature} is not finite", param_hint="--temperature")


def _bits(score: float, images: npt.NDArray[Any]) -> Mapping[str, float]:
    from ..images.pixels import LEVELS
    from ..representation.bits import bits_per_dimension

    if images.dtype != np.uint8:
        return {}
    return {"bits_per_dimension": float(round(bits_per_dimension(score, int(np.prod(images.shape[1:])), LEVELS), 4))}


EXAMPLES = {
    fit: "fastgmm images fit digits -o digits.safetensors --components 2 --seed 0\n"
    "fastgmm images fit photos -o photos.safetensors --size 32x32 --factors 12\n"
    "fastgmm images fit images.npy -o model.safetensors --labels-file labels.npy",
    generate: "fastgmm images generate digits.safetensors -n 100 -o new.png --seed 1\n"
    "fastgmm images generate digits.safetensors -n 10 --label 3 -o threes\n"
    "fastgmm images generate digits.safetensors -n 1000000 -o new.npy",
    inpaint: "fastgmm images inpaint digits.safetensors digits --mask right -o completed\n"
    "fastgmm images inpaint digits.safetensors digits --mask mask.png -o completed.npy",
    metrics: "fastgmm images metrics digits.safetensors --train digits --held-out others",
}
for command, examples in EXAMPLES.items():
    # Paragraphs keep their line ends only from a backspace on.
    lines = "\n".join(["\b", "Examples:", *examples.splitlines()])
    app.command(help=help_of(command), epilog=lines)(command)
