"""beir-hybrid sweep"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from beir_hybrid.cli import options
from beir_hybrid.cli.processes import refuse_several
from beir_hybrid.cli.settings_file import as_mapping, read_config
from beir_hybrid.cli.train import run_command, typed_options
from beir_hybrid.collections.collection import MultilingualCollection
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.figures import Results
from beir_hybrid.files import check_writable, read_json, write_json, write_text
from beir_hybrid.training.mixing import batching_name

RESULTS, RECORD = "results.json", "hybrid_training.json"
_HYBRID = "hybrid"


def sweep(
    config: Annotated[
        Path,
        typer.Argument(help="The settings that all trainings share, as for `train --config`.", show_default=False),
    ],
    output: Annotated[Path, typer.Option(help="The folder for the models and the table.", show_default=False)],
    evaluate: Annotated[
        str,
        typer.Option(help="The collection to evaluate each model on: a name, or a folder.", show_default=False),
    ],
    alpha: Annotated[
        str | None, typer.Option(help="Alphas of hybrid, comma-separated.", show_default=False, metavar="A,B,...")
    ] = None,
    seed: Annotated[
        str | None, typer.Option(help="Seeds, comma-separated.", show_default=False, metavar="A,B,...")
    ] = None,
    batching: Annotated[
        str | None, typer.Option(help="Batchings, comma-separated.", show_default=False, metavar="A,B,...")
    ] = None,
    data_dir: options.DataDir = None,
    languages: options.Languages = None,
) -> None:
    """Train and evaluate one model for each combination of alpha, seed and batching, and put them into one table.

    Each is trained as by `beir-hybrid train --config CONFIG` into a folder of its own. The same command goes on after
    a stop, skips what is done, and takes more combinations. `--data-dir` and `--languages` are of the evaluation.

    `beir-hybrid sweep train.yaml --alpha 0,0.5,1 --seed 0,1 --output my-sweep --evaluate xquad-r`
    """
    refuse_several("beir-hybrid sweep")
    shared = read_config(config)
    given = typed_options({name: value for name, value in shared.items() if name != "arguments"}, config)
    if "model" not in given:
        raise BeirHybridError(f"{config}: names no model; write a line `model: ...`.")
    wanted = combinations(
        _values("batching", batching, str) or [given.get("batching", _HYBRID)],
        _values("alpha", alpha, float) or [given.get("alpha", 0.5)],
        _values("seed", seed, int) or [given.get("seed", 0)],
    )
    data = options.load_collection(evaluate, data_dir, languages)
    check_writable(output / RESULTS)
    _check_same(output / "sweep.json", shared, data)
    results = {}
    for number, (name, changed) in enumerate(wanted.items(), 1):
        typer.echo(f"[{number}/{len(wanted)}] {name}")
        results[name] = _one(config, given, output / name, changed, data)
    for path in _write(results, output):
        typer.echo(f"report: {path}")


def combinations(batchings: Sequence[str], alphas: Sequence[float], seeds: Sequence[int]) -> dict[str, dict[str, Any]]:
    """The settings that each training changes, by the name of its folder; only hybrid has alphas."""
    found = {}
    for batching, alpha, seed in itertools.product(batchings, alphas, seeds):
        share = {"alpha": alpha} if batching == _HYBRID else {}
        parts = [_label(batching), *(f"alpha{alpha:g}" for _ in share), f"seed{seed}"]
        found["-".join(parts)] = {"batching": batching, **share, "seed": seed}
    return found


def _label(batching: str) -> str:
    """A batching as part of a folder's name."""
    kinds = as_mapping("batching", batching)
    return batching if isinstance(kinds, str) else batching_name(kinds).replace(" ", "")


def _values(name: str, text: str | None, kind: type[Any]) -> list[Any]:
    try:
        return [kind(part.strip()) for part in (text or "").split(",") if part.strip()]
    except ValueError:
        raise BeirHybridError(f"--{name} is {text!r}; expected {kind.__name__}s with commas between them.") from None


def _check_same(path: Path, shared: dict[str, Any], data: MultilingualCollection) -> None:
    """Refuse to mix trainings of different settings in one folder, or figures on different data."""
    varied = ("alpha", "seed", "batching", "output", "overwrite", "restart", "save_steps")
    settings = {name: str(value) for name, value in shared.items() if name not in varied}
    settings |= {"evaluate": data.name, "evaluate_digest": data.digest}
    if path.exists() and any(path.parent.glob(f"*/{RECORD}")):
        earlier = read_json(path, "the settings of a sweep")
        if not isinstance(earlier, dict):
            raise BeirHybridError(f"{path}: expected an object with the settings of a sweep. Name another folder.")
        for name in {**settings, **earlier}:
            if settings.get(name) != earlier.get(name):
                raise BeirHybridError(
                    f"{path.parent} holds a sweep with other settings: {name} was {earlier.get(name)} and is "
                    f"{settings.get(name)}. Name another folder, or delete this one."
                )
    else:
        write_json(path, settings)


def _one(
    config: Path, given: dict[str, Any], folder: Path, changed: dict[str, Any], data: MultilingualCollection
) -> Results:
    """Train and evaluate, as far as it is not done."""
    if (folder / RESULTS).is_file():
        typer.echo("is done")
        return Results.read(folder / RESULTS)
    if (folder / RECORD).is_file():
        from beir_hybrid.cli.checkpoints import drop_work

        drop_work(folder)
    else:
        options_ = [f"--{name}={value}" for name, value in changed.items()]
        run_command(["--config", str(config), f"--output={folder}", *options_])
    from beir_hybrid.evaluation.grid import evaluate_grid

    encoder = options.load_encoder(str(folder), None, None, given.get("precision", "auto"))
    batching = _label(changed["batching"])
    system = folder.name.removeprefix(f"{batching}-")
    results = evaluate_grid(encoder, data, system=system, batching=batching)
    results.write_json(folder / RESULTS)
    return results


def _write(results: dict[str, Results], output: Path) -> list[Path]:
    """Tables of each training; in the page those that differ in their seed alone are runs of one system."""
    from beir_hybrid.evaluation.comparing.pairing import System
    from beir_hybrid.evaluation.reports.report import summary, summary_table, write_report

    each = list(results.values())
    typer.echo("")
    typer.echo(summary_table(each))
    tables = [summary(each, average) for average in ("macro", "micro")]
    text = "\n\n".join(f"**{table.title}**\n\n{table.markdown()}" for table in tables) + "\n"
    write_text(output / "table.md", text)
    runs: dict[str, list[Results]] = {}
    for name, one in results.items():
        runs.setdefault(name.rpartition("-seed")[0], []).append(one)
    systems = [System(name, tuple(own)) for name, own in runs.items()]
    return [output / "table.md", *write_report(each, output, systems=systems)]
