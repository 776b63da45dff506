"""Training arguments as options of the command line: those that it does not name itself."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import typer
import yaml
from typer.core import TyperCommand

from beir_hybrid.cli import processes
from beir_hybrid.cli.settings_file import ARGUMENTS, as_type
from beir_hybrid.errors import BeirHybridError, unknown

_OWN = {
    "max_steps": "--steps",
    "num_train_epochs": "--steps",
    "per_device_train_batch_size": "--batch-size",
    "warmup_steps": "--warmup",
    "lr_scheduler_type": "--scheduler",
    "bf16": "--precision",
    "output_dir": "--output",
    "save_strategy": "--save-steps",
    "eval_strategy": "--dev",
    "eval_steps": "--dev and --save-steps",
    "load_best_model_at_end": "--dev",
    "metric_for_best_model": "--dev",
    "greater_is_better": "--dev",
}
"""Training arguments that the command has an option for under another name."""


class TrainCommand(TyperCommand):
    """A command that takes every training argument as an option: `--weight-decay 0.1` is `--set weight_decay=0.1`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        # The training arguments take a while to import, so the words are looked through for others first.
        takes_value = {name: not getattr(one, "is_flag", False) for one in self.params for name in one.opts}
        known = {*takes_value, *(name for one in self.params for name in one.secondary_opts), *ctx.help_option_names}
        words, read = list(args), list[str]()
        while words:
            word = words.pop(0)
            name, equals, value = word.partition("=")
            kind = None if name in known or not name.startswith("--") else _kind(name)
            if kind is None:
                read.append(word)
                if takes_value.get(name) and not equals:
                    read += [words.pop(0) for _ in words[:1]]
            else:
                if not equals:
                    flag = kind is bool and not (words and words[0].lower() in ("true", "false"))
                    value = "true" if flag or not words else words.pop(0)
                read += ["--set", f"{name[2:]}={value}"]
        return super().parse_args(ctx, read)


def _kind(option: str) -> Any:
    """The type of the training argument that an option names; None if it names none."""
    from beir_hybrid.training.arguments import HybridTrainingArguments

    return typing.get_type_hints(HybridTrainingArguments).get(option[2:].replace("-", "_"))


@processes.told_once()
def other_arguments(context: typer.Context, given: typing.Sequence[str]) -> dict[str, Any]:
    """The training arguments of the file and of the command line, which wins.

    Raises:
        BeirHybridError: one is unknown, of another type, or has an option of its own.
    """
    found = dict(context.meta.get(ARGUMENTS, {}))
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise BeirHybridError(f"--set {text}: expected NAME=VALUE, as in --set weight_decay=0.1.")
        try:
            found[name.strip().replace("-", "_")] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):
            raise BeirHybridError(f"--set {text}: {value!r} is not valid YAML; put text in quotes.") from None
    if not found:
        return {}
    from beir_hybrid.training.trainer import HybridTrainingArguments

    fields = [field.name for field in dataclasses.fields(HybridTrainingArguments) if field.init]
    hints = typing.get_type_hints(HybridTrainingArguments)
    own = _OWN | {param.name: param.opts[0] for param in context.command.params if param.name in fields}
    for name, value in found.items():
        if name in own:
            raise BeirHybridError(f"{name}: has an option of its own, {own[name]}; use that.")
        if name not in fields:
            raise unknown("training argument", str(name), [field for field in fields if field not in own])
        try:
            found[name] = as_type(value, hints[name])
        except ValueError:
            wanted = hints[name].__name__ if isinstance(hints[name], type) else str(hints[name])
            raise BeirHybridError(f"{name} is {value!r}; expected {wanted}.") from None
    return found
