"""The collections known to ir_datasets, and the measures known to ir_measures."""

from __future__ import annotations


def register() -> None:
    """Let ir_datasets know of `beir-hybrid/...`, and ir_measures of our measures; doing so again changes nothing.

    After it `ir_datasets.load("beir-hybrid/xquad-r/multi/en")` and `ir_measures.parse_measure("RankDistance")` work.
    """
    from beir_hybrid.collections.formats import irds
    from beir_hybrid.evaluation import measures

    irds.register()
    measures.register()
