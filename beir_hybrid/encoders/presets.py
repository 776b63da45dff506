"""How well-known encoder families want their texts: prompts and pooling, where a model does not say so itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

POOLER = "pooler"


@dataclass(frozen=True)
class Preset:
    """A family of encoders.

    Attributes:
        name: The family.
        pattern: A regular expression found in the lower-cased last part of a model's name.
        query_prompt, passage_prompt: What stands before each text, with its trailing blank.
        pooling: `mean`, `cls` or `pooler`, for a model that is a bare transformer without a pooling module. The pooler
            is BERT's own, a dense layer and tanh over `cls`, with normalised output; without its weights it is `cls`.
    """

    name: str
    pattern: str
    query_prompt: str = ""
    passage_prompt: str = ""
    pooling: str = "mean"


PRESETS: tuple[Preset, ...] = (
    # Wang et al. 2024, arXiv 2402.05672: every text carries its role, also in symmetric tasks.
    Preset("e5", r"(^|[^a-z0-9])e5-(small|base|large)", "query: ", "passage: "),
    # Chen et al. 2024, arXiv 2402.03216: the dense vector is the CLS token's, without instructions.
    Preset("bge-m3", r"bge-m3", pooling="cls"),
    # Feng et al. 2022, arXiv 2007.01852: pooler output, which its sentence-transformers folder says itself.
    Preset("labse", r"labse", pooling=POOLER),
    # Elmahdy et al. 2024, arXiv 2408.10536, section 4: prefixes for a bare XLM-R that is fine-tuned for retrieval.
    Preset("xlm-r", r"xlm-?r(oberta)?", "Query: ", "Passage: "),
)


def preset_for(model_name: str) -> Preset:
    """The preset whose pattern the model's name matches, else one without prompts and with mean pooling."""
    last = re.split(r"[/:\\]", model_name.rstrip("/\\"))[-1].lower()
    for preset in PRESETS:
        if re.search(preset.pattern, last):
            return preset
    return Preset("other", "")
