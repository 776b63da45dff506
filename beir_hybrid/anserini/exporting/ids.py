"""Ids as Pyserini's readers keep them: words of visible ASCII. What they would break is percent-encoded, reversibly.

Pyserini strips the lines of `docid` and reads them in the locale's encoding; runs and qrels are split at blanks, by
pandas at quotation marks too; and a question's id that is all digits is read as a number, which loses leading zeros.
"""

from __future__ import annotations

import string
from urllib.parse import quote, unquote

from beir_hybrid.errors import BeirHybridError

_KEPT = "".join(sorted(set(string.punctuation) - set('%"')))
RULE = (
    "percent-encoding of UTF-8 (Python: urllib.parse.unquote gives the id back) of all but visible ASCII characters, "
    "of % and \", and of the first digit of a question's id that is all digits and begins with 0"
)


def escape(identifier: str) -> str:
    """A passage's id as it stands in the folder; mostly itself.

    Raises:
        BeirHybridError: it is empty.
    """
    if not identifier:
        raise BeirHybridError("a text has an empty id, which no file of Pyserini's can hold; give it one.")
    return quote(identifier, safe=_KEPT, errors="surrogatepass")


def escape_query(identifier: str) -> str:
    """A question's id as it stands in the folder; mostly itself.

    Raises:
        BeirHybridError: it is empty.
    """
    escaped = escape(identifier)
    if escaped.isdecimal() and escaped != str(int(escaped)):
        return f"%{ord(escaped[0]):02X}{escaped[1:]}"
    return escaped


def unescape(escaped: str) -> str:
    """The id that `escape` or `escape_query` was given."""
    return unquote(escaped, errors="surrogatepass")
