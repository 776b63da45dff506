from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from transformers import AutoTokenizer
from typer.testing import CliRunner, Result

from beir_hybrid.cli import app
from beir_hybrid.cli.checkpoints import MARKER, training_folder, whole_checkpoints, work_folder
from beir_hybrid.files import read_json
from beir_hybrid.training.trainer import HybridTrainer

COMMON = ("--languages", "en,de,zh", "--batch-size", "8", "--max-tokens", "16")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(result: Result) -> str:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def train(model: Path, output: Path, *arguments: str | Path, steps: int = 6, save_steps: int = 2) -> Result:
    numbers = ("--steps", str(steps), "--save-steps", str(save_steps))
    return run("train", model, "--output", output, *COMMON, *numbers, *arguments)


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


class Stopped(Exception):
    pass


def stop_while_saving(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Stop as a kill would, with the checkpoint of `step` half written."""

    def stopped(self: HybridTrainer, folder: str) -> None:
        if folder.endswith(f"checkpoint-{step}"):
            raise Stopped
        save(self, folder)

    save = HybridTrainer._save_optimizer_and_scheduler
    monkeypatch.setattr(HybridTrainer, "_save_optimizer_and_scheduler", stopped)


@pytest.fixture(scope="module")
def unbroken(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unbroken") / "model"
    result = train(tiny_model, output)
    assert result.exit_code == 0, result.output
    assert [path.name for path in output.parent.iterdir()] == ["model"]
    return output


def test_it_goes_on_from_the_last_whole_checkpoint(
    tiny_model: Path, tmp_path: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model"
    with monkeypatch.context() as patched:
        stop_while_saving(patched, 4)
        assert isinstance(train(tiny_model, output).exception, Stopped)
    work = work_folder(output)
    assert {path.name for path in work.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}
    assert [path.name for path in whole_checkpoints(work)] == ["checkpoint-2"]
    (tmp_path / ".model.abcd_123.part").mkdir()
    (tmp_path / ".model.other.abcd_123.part").mkdir()  # of another output

    result = train(tiny_model, output)
    assert result.exit_code == 0, result.output
    assert "going on after step 2" in result.output
    assert weights(output) == weights(unbroken) != weights(tiny_model)
    assert {path.name for path in tmp_path.iterdir()} == {"model", ".model.other.abcd_123.part"}
    record, expected = (read_json(one / "hybrid_training.json", "a record") for one in (output, unbroken))
    assert record == expected


def test_other_settings_are_refused_with_what_differs(
    tiny_model: Path, tmp_path: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model"
    with monkeypatch.context() as patched:
        stop_while_saving(patched, 4)
        train(tiny_model, output, "--alpha", "1")
    said = refused(train(tiny_model, output, steps=8))
    assert "alpha was 1.0 and is 0.5" in said
    assert "steps was 6 and is 8" in said
    assert "--restart" in said
    for arguments, name in (
        (("--languages", "en,de"), "data_digest"),
        (("--query-prompt", "ask: "), "query_prompt"),
        (("--set", "weight_decay=0.5"), "weight_decay"),
    ):
        assert f"{name} was" in refused(train(tiny_model, output, "--alpha", "1", *arguments))
    other = tmp_path / "other"
    shutil.copytree(unbroken, other)
    assert "model was" in refused(train(other, output, "--alpha", "1"))
    shutil.copytree(tiny_model, tmp_path / "pieces")
    pieces = AutoTokenizer.from_pretrained(tiny_model)
    pieces.add_tokens(["a new piece"])
    pieces.save_pretrained(tmp_path / "pieces")
    said = refused(train(tmp_path / "pieces", output, "--alpha", "1"))
    assert "tokenizer was" in said
    assert "model was" not in said
    (work_folder(output) / "settings.json").write_text("[")
    assert "settings cannot be read" in refused(train(tiny_model, output))

    result = train(tiny_model, output, "--restart")
    assert result.exit_code == 0, result.output
    assert "going on" not in result.output
    assert weights(output) == weights(unbroken)


def test_a_checkpoint_with_a_file_cut_short_is_not_whole(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-5"
    checkpoint.mkdir()
    (checkpoint / "optimizer.pt").write_bytes(b"12345")
    assert not whole_checkpoints(tmp_path)
    (checkpoint / MARKER).write_text(json.dumps({"optimizer.pt": 5}))
    assert whole_checkpoints(tmp_path) == [checkpoint]
    (checkpoint / "optimizer.pt").write_bytes(b"123")
    assert not whole_checkpoints(tmp_path)


def test_two_at_a_time_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    with training_folder(tmp_path / "model", 1):
        assert "another process is training" in refused(train(tiny_model, tmp_path / "model"))


def test_it_says_what_it_will_do(tiny_model: Path, tmp_path: Path) -> None:
    result = train(tiny_model, tmp_path / "model", steps=1, save_steps=0)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    for words in (str(tiny_model), "sample-train@de+en+zh", "3 languages (de, en, zh)", "SHA-256", "hybrid (alpha 0.5)",
                  "8 pairs", "epochs", "checkpoints: none", f"output: {tmp_path / 'model'}"):  # fmt: skip
        assert words in said
    assert said.index("epochs") < said.index("train_runtime")


PAIRS = [
    {"item": str(item), "language": code, "query": f"where is {item}?", "passage": f"{code} is at {item} and {item}"}
    for item in range(20)
    for code in ("en", "nl")
]


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "mine.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in PAIRS))
    return folder / "mine.jsonl"


def test_pairs_of_a_file_alone(tiny_model: Path, tmp_path: Path, pairs_file: Path) -> None:
    (tmp_path / "train.yaml").write_text(f"pairs-file: [{pairs_file}]\nbatch-size: 4\nsteps: 2")
    result = run("train", tiny_model, "--config", tmp_path / "train.yaml", "--output", tmp_path / "model")
    assert result.exit_code == 0, result.output
    sources = read_json(tmp_path / "model" / "hybrid_training.json", "a record")["sources"]
    assert [(one["name"], one["languages"]) for one in sources] == [("mine", ["en", "nl"])]


def test_several_sources(tiny_model: Path, tmp_path: Path, pairs_file: Path) -> None:
    data = ("--collection", "sample-train", "--collection", "sample-test", "--pairs-file", pairs_file)
    command = ("train", tiny_model, "--output", tmp_path / "model", *data, "--batch-size", "4", "--steps", "2")
    result = run(*command, "--languages", "nl,en,de")
    assert result.exit_code == 0, result.output
    for words in ("sample-train@de+en: 72 parallel", "(de, en)", "sample-test@de+en: 36", "mine: 20", "(nl, en)"):
        assert words in result.output
    sources = read_json(tmp_path / "model" / "hybrid_training.json", "a record")["sources"]
    assert [one["name"] for one in sources] == ["sample-train@de+en", "sample-test@de+en", "mine"]
    command = (*command, "--overwrite")
    assert "mine has none of the languages de, zh" in refused(run(*command, "--languages", "de,zh"))
    said = refused(run(*command, "--languages", "en,nn"))
    assert "unknown language in sample-train and sample-test and mine: 'nn'. Known: ar, de" in said
    assert "sample-train is named twice" in refused(run(*command, "--collection", "sample-train"))


def test_the_best_checkpoint_becomes_the_model(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--dev", "sample-test@de+en", "--learning-rate", "1e-3")
    whole, output = tmp_path / "whole", tmp_path / "model"
    result = train(tiny_model, whole, *options, steps=5)
    assert result.exit_code == 0, result.output
    assert "dev:         sample-test@de+en at each checkpoint" in result.output
    said = re.search(r"best: step (\d+) of 5, mean AP 0\.\d+ on sample-test@de\+en", result.output)
    assert said
    record = read_json(whole / "hybrid_training.json", "a record")
    assert record["best_checkpoint"] == f"checkpoint-{said[1]}"
    assert said[1] in ("2", "4", "5")
    with monkeypatch.context() as patched:
        stop_while_saving(patched, 4)
        assert isinstance(train(tiny_model, output, *options, steps=5).exception, Stopped)
    assert "dev_digest was" in refused(train(tiny_model, output, "--dev", "sample-test@de", *options[2:], steps=5))
    result = train(tiny_model, output, *options, steps=5)
    assert said[0] in result.output
    assert "going on after step 2" in result.output
    assert weights(output) == weights(whole)
    assert read_json(output / "hybrid_training.json", "a record") == record


def test_a_run_stopped_after_its_last_step_makes_no_further_one(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--dev", "sample-test@de+en", "--learning-rate", "1e-3")
    assert train(tiny_model, tmp_path / "whole", *options).exit_code == 0
    with monkeypatch.context() as patched:
        patched.setattr(HybridTrainer, "_load_best_model", _stop)
        assert isinstance(train(tiny_model, tmp_path / "model", *options).exception, Stopped)
    result = train(tiny_model, tmp_path / "model", *options)
    assert result.exit_code == 0, result.output
    assert "going on after step 6" in result.output
    assert weights(tmp_path / "model") == weights(tmp_path / "whole")
    records = [read_json(tmp_path / name / "hybrid_training.json", "a record") for name in ("whole", "model")]
    assert records[0] == records[1]


def _stop(self: HybridTrainer) -> None:
    raise Stopped


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--alpha", "1.5"), "alpha is 1.5"),
        (("--batch-size", "80"), "batch size of at most"),
        (("--languages", "en,en"), "--languages names en twice"),
        (("--languages", "en,xx"), "unknown language in sample-train: 'xx'"),
        (("--languages", ","), "names no language"),
        (("--set", "pairs={en-xx: 1}"), "en-xx"),
        (("--dev", "sample-train@en"), "is trained on"),
        (("--dev", "sample-test", "--save-steps", "0"), "--save-steps must be above 0"),
        (("--dev", "sample-tset"), "unknown collection"),
        (("--set", "eval_steps=5"), "has an option of its own, --dev"),
        (("--pairs-file", "gone.jsonl"), "gone.jsonl: "),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    tiny_model: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    assert said in refused(train(tiny_model, tmp_path / "model", *arguments))
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_leaves_no_model(tiny_model: Path, tmp_path: Path) -> None:
    said = refused(train(tiny_model, tmp_path / "model", "--learning-rate", "1e38", "--set", "max_grad_norm=0"))
    assert "the loss is nan" in said
    assert said.count("error:") == 1
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_killed_at_random_it_ends_with_the_same_weights(tiny_model: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    arguments = ["train", str(tiny_model), *COMMON, "--steps", "60", "--save-steps", "3", "--overwrite"]
    assert run(*arguments, "--output", tmp_path / "whole").exit_code == 0
    random_, output, resumed = random.Random(0), tmp_path / "killed", 0
    for _ in range(3):
        before, command = whole_checkpoints(work_folder(output)), [*arguments, "--output", str(output)]
        with (
            tempfile.TemporaryFile("w+") as said,
            subprocess.Popen([sys.executable, "-m", "beir_hybrid.cli", *command], env=environment, stdout=said) as one,
        ):
            while one.poll() is None and not set(whole_checkpoints(work_folder(output))) - set(before):
                time.sleep(0.02)
            time.sleep(random_.uniform(0, 0.7))
            one.kill()
            one.wait()
            said.seek(0)
            resumed += "going on after step" in said.read()
    result = run(*arguments, "--output", output)
    assert result.exit_code == 0, result.output
    assert resumed + ("going on after step" in result.output)
    assert weights(output) == weights(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"killed", "whole"}


CONFIG = """\
model: {model}
languages: [en, de]
batch-size: 8
batching: x-y
steps: 2
learning_rate: 1e-4
max-tokens: 16
arguments:
  weight_decay: 0.25
"""


def test_options_stand_in_a_file(tiny_model: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(CONFIG.format(model=tiny_model))
    result = run("train", "--config", config, "--output", tmp_path / "one", "--steps", "1", "--set", "adam_beta1=0.8")
    assert result.exit_code == 0, result.output
    record = read_json(tmp_path / "one" / "hybrid_training.json", "a record")
    assert (record["batching"], record["steps"], record["learning_rate"]) == ("x-y", 1, 1e-4)
    assert (record["batch_size"], record["weight_decay"]) == (8, 0.25)
    assert record["sources"][0]["languages"] == ["de", "en"]
    arguments = ("--output", tmp_path / "two", "--set", "weight_decay=1e-1")
    result = run("train", "--config", config, *arguments)
    assert result.exit_code == 0, result.output
    record = read_json(tmp_path / "two" / "hybrid_training.json", "a record")
    assert (record["steps"], record["weight_decay"]) == (2, 0.1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch-sise: 8", "unknown setting 'batch_sise'. Did you mean 'batch_size'?"),
        ("batch-size: 8\nbatch_size: 9", "line 2: batch_size is there twice"),
        ("batch-size: 8.5", "batch_size is 8.5; expected int"),
        ("batch-size: true", "batch_size is True; expected int"),
        ("alpha: much", "alpha is 'much'; expected float"),
        ("symmetric: 3", "symmetric is 3; expected bool"),
        ("languages: [en, no]", "languages is ['en', False]; expected str; write text in quotes"),
        ("steps: 5\nalpha: [1", "train.yaml, line 2: not valid YAML"),
        ("steps: 5\n\talpha: 1", "train.yaml, line 2: not valid YAML"),
        ("just words", "expected lines of `name: value`"),
        ("", "expected lines of `name: value`"),
        ("!!python/object:os.system {}", "line 1: not valid YAML"),
        ("arguments: 5", "arguments is 5"),
        ("arguments:\n  weight_decai: 5", "unknown training argument 'weight_decai'. Did you mean 'weight_decay'?"),
        ("arguments:\n  max_steps: 5", "max_steps: has an option of its own, --steps"),
        ("arguments:\n  seed: 5", "seed: has an option of its own, --seed"),
        ("arguments:\n  weight_decay: five", "weight_decay is 'five'; expected float"),
    ],
)
def test_a_wrong_file_is_one_error(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "train.yaml").write_text(text)
    result = run("train", "nowhere", "--config", tmp_path / "train.yaml", "--output", tmp_path / "model")
    assert said in refused(result)


def test_every_training_argument_is_an_option(tiny_model: Path, tmp_path: Path) -> None:
    arguments = ("--weight-decay", "0.25", "--pairs=pivot:en", "--length-bucketing", "--repeat-items", "false")
    result = train(
        tiny_model, tmp_path / "model", *arguments, "--language-weights", "{de: 1, en: 2, zh: 0}", "--steps", "1"
    )
    assert result.exit_code == 0, result.output
    record = read_json(tmp_path / "model" / "hybrid_training.json", "a record")
    assert (record["weight_decay"], record["length_bucketing"]) == (0.25, True)
    assert record["composition"]["settings"]["pairs"] == dict.fromkeys(("en-de", "de-en", "en-zh", "zh-en"), 1.0)
    assert record["composition"]["settings"]["languages"]["en"] == pytest.approx(2 / 3)
    for wrong, said in (
        ("--weight-decai=1", "No such option: --weight-decai"),
        ("--max-steps=5", "max_steps: has an option of its own, --steps"),
        ("--pair-per=rwo", "unknown pair_per 'rwo'"),
        ("--hard-negatives=some", "hard_negatives is 'some'; expected int"),
    ):
        assert said in " ".join(train(tiny_model, tmp_path / "other", wrong).output.split()), wrong


def test_a_mixture_stands_in_a_file_and_on_the_command_line(tiny_model: Path, tmp_path: Path) -> None:
    config, kinds = tmp_path / "train.yaml", {"x-x-mono": 0.25, "x-y": 0.75}
    config.write_text("batching: {x-y: 3, x-x-mono: 1}")
    for number, arguments in enumerate([("--config", config), ("--batching", "x-y: 1.5, x-x-mono: 0.5")]):
        result = train(tiny_model, tmp_path / str(number), *arguments, "--steps", "1")
        assert result.exit_code == 0, result.output
        record = read_json(tmp_path / str(number) / "hybrid_training.json", "a record")
        assert record["composition"]["settings"]["kinds"] == kinds
        assert "x-x-mono 0.25 + x-y 0.75, 8 pairs" in result.output
    assert "expected one name" in refused(train(tiny_model, tmp_path / "2", "--batching", "x-y: 1: 2"))
    assert "unknown kind of batch" in refused(train(tiny_model, tmp_path / "2", "--batching", "{x-z: 1}"))


def test_other_wrong_settings_are_one_error(tiny_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    assert "gone.yaml: cannot be read" in refused(run("train", "--config", tmp_path / "gone.yaml", "--output", output))
    assert "expected NAME=VALUE" in refused(train(tiny_model, output, "--set", "weight_decay"))
    assert "not valid YAML" in refused(train(tiny_model, output, "--set", "weight_decay=[1"))
    assert "a setting of the training is wrong" in refused(train(tiny_model, output, "--scheduler", "linearr"))
    assert not list(tmp_path.iterdir())


def test_word_vectors_are_trained_and_evaluated(tiny_model: Path, tmp_path: Path) -> None:
    """A model of word vectors reads texts of any length: its maximum is infinite, and no number of JSON."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    words = StaticEmbedding(tokenizer, embedding_dim=8)
    SentenceTransformer(modules=[words], device="cpu").save(str(tmp_path / "words"))
    given = ("--languages", "en,de", "--dev", "sample-test", "--steps", "2", "--batch-size", "8")
    result = run("train", tmp_path / "words", "--output", tmp_path / "trained", *given)
    assert result.exit_code == 0, result.output
    result = run("evaluate", tmp_path / "trained", "--collection", "sample-test", "--json", tmp_path / "results.json")
    assert result.exit_code == 0, result.output
    for name in ("trained/hybrid_training.json", "results.json"):
        json.loads((tmp_path / name).read_text(), parse_constant=pytest.fail)
    said = refused(run("train", tmp_path / "words", "--output", tmp_path / "cut", *given, "--max-tokens", "16"))
    assert "leave --max-tokens out" in said
