"""BM25 on Lucene with its analyzers: the lexical baseline."""
