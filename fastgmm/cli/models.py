"""Commands on model files: info, convert."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from typer import Option

from .options import AsJson, Force, Model, check_output, check_suffix, print_facts

SUFFIXES = (".safetensors", ".json")
MOST_SHOWN = 10  # groups
PICKLES = (".pkl", ".pickle", ".joblib", ".skops")


def info(model: Model, as_json: AsJson = False) -> None:
    """Print what a model file holds, after checking it."""
    print_facts(_facts(model), as_json)


def convert(
    model: Model,
    output: Annotated[Path, Option("-o", "--output", help="The file to write: .safetensors or .json.")],
    as_json: AsJson = False,
    force: Force = False,
) -> None:
    """Write a model file anew, as safetensors or JSON, in the format of this version.

    Nothing is lost: numbers are exact in both. JSON is for models of up to 1,000,000 numbers. All commands read both.

    Pickles of scikit-learn are neither read nor written, since reading one runs the code in it, whoever wrote it.
    In a Python that you trust the file in, fastgmm.from_sklearn(estimator).save(path) converts the estimator itself,
    and fastgmm.load(path).to_sklearn() is the way back.
    """
    check_model_output(output, force, [model])
    from ..loading import load

    loaded = load(model)
    loaded.save(output)
    facts = {"model": type(loaded).__name__, "bytes": output.stat().st_size, "output": output}
    print_facts(facts, as_json)


def check_model_output(path: Path, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse a name that does not say how a model is written, would fail or destroy something."""
    if path.suffix.lower() in PICKLES:
        raise typer.BadParameter(
            f"{path}: pickles are not written, since reading one runs code; fastgmm.load(path).to_sklearn() gives "
            "scikit-learn's estimator",
            param_hint="--output",
        )
    check_suffix(path, SUFFIXES)
    check_output(path, force, inputs)


def _facts(model: Path) -> dict[str, Any]:
    """Return the content of a file of any kind, its arrays checked, without the large ones; imports no estimator."""
    from ..storage.container import held_model, parse_metadata
    from ..storage.factors import read_factor_mixture
    from ..storage.gaussian import LOG_LIKELIHOOD_OF_ROWS, STANDARDISATION, read_mixture, read_standardisation
    from ..storage.many import MODEL
    from ..storage.posterior import read_posterior
    from ..storage.text import open_model

    with open_model(model) as reader:
        facts: dict[str, Any] = {**reader.metadata, "model": held_model(reader.metadata)}
        if facts["model"] == MODEL:
            return _many_facts(reader)
        standardised = facts["model"] == "StandardisedMixture"
        if standardised:
            reader.set_aside(STANDARDISATION)
        mixture: Any
        if "BayesianGaussianMixture" in (facts["model"], facts.get("mixture")):
            mixture = read_posterior(reader).mixture
        elif facts["covariance_type"] == "low_rank":
            mixture = read_factor_mixture(reader)
            facts["n_factors"] = mixture.n_factors
        else:
            mixture = read_mixture(reader)
        n_components, n_features = mixture.means.shape
        if standardised:
            read_standardisation(reader, n_features)
            for name in ("log_likelihood", "lower_bound"):  # of the standardised rows
                facts.pop(name, None)
            if LOG_LIKELIHOOD_OF_ROWS in facts:
                facts["log_likelihood"] = facts.pop(LOG_LIKELIHOOD_OF_ROWS)
    facts |= {"n_components": n_components, "n_features": n_features, "weights": mixture.weights.tolist()}
    for name in ("lower_bounds", "diagnostics"):  # too long to read
        facts.pop(name, None)
    facts = {name: _parsed(value) for name, value in facts.items() if name != "images"} | {
        name: facts[name] for name in facts.keys() & {"images"}
    }
    if "images" in facts:
        try:
            images = parse_metadata(model, facts, "images", dict)
            del facts["images"]
            facts |= {"image_shape": list(images["shape"]), "classes": list(images["classes"])}
            facts["settings"] = images.get("settings", {})  # of the fit; those of the mixture inside were not used
        except (TypeError, KeyError):
            raise ValueError(f"model file {model}: metadata 'images' does not describe an image generator") from None
    return facts


def _many_facts(reader: Any) -> dict[str, Any]:
    """Of a file with a mixture for each group: how many there are, and how their fits ended."""
    from ..storage.many import read_many

    file = read_many(reader)
    counts = file.counts
    sizes = sorted(set(counts[:, 1].tolist()))
    facts = {name: value for name, value in reader.metadata.items() if name not in ("groups", "settings")}
    facts |= {
        "feature_names": None if file.feature_names is None else file.feature_names.tolist(),
        "n_groups": len(counts),
        "groups": file.groups[:MOST_SHOWN].tolist() + (["..."] if len(counts) > MOST_SHOWN else []),
        "rows": int(counts[:, 0].sum()),
        "n_components": sizes[0] if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}",
        "n_features": file.arrays["means"].shape[1],
        "converged": int((counts[:, 3] == 0).sum()),
        "not_converged": int((counts[:, 3] == 1).sum()),
        "without_a_mixture": int((counts[:, 3] > 1).sum()),
        "log_likelihood": float(np.nansum(file.numbers[:, 0])),
        "settings": file.settings,
    }
    return facts


def _parsed(value: Any) -> Any:
    """A fact from metadata, which are text: numbers, truth values and objects as such."""
    if not isinstance(value, str):
        return value
    try:
        return {"True": True, "False": False}.get(value) if value in ("True", "False") else json.loads(value)
    except ValueError:
        return value
