"""The query language of the `q` parameter, compiled to one PostgreSQL regular expression.

A regular expression is matched in time proportional to the text, whatever the text is. PostgreSQL's text search parser
is quadratic in text without blanks: 10,000 characters of `a_a_a…` cost `to_tsvector` 640 ms, ordinary text 1.2 ms, and
the expression 0.06 ms for either (PostgreSQL 15).
"""

import re
import unicodedata
from itertools import groupby

from msgspec import Struct

TOKEN = re.compile(r'(?P<excluded>-(?=["\w]))?(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))')

SEPARATOR = "[^[:alnum:]]"
# Lookahead from the start of the text: PostgreSQL scans the text at most once for each term.
REQUIRED = f"(?=(?:.*{SEPARATOR})?{{term}}(?:{SEPARATOR}|$))"
EXCLUDED = f"(?!(?:.*{SEPARATOR})?{{term}}(?:{SEPARATOR}|$))"


class SearchTerms(Struct, frozen=True):
    """A compiled query: the pattern for PostgreSQL's `~*`, and the number of terms, with which the cost grows."""

    pattern: str
    count: int


def compile_search_terms(q: str) -> SearchTerms | None:
    """Compile a query, or return None if it holds no letter or digit. Any text is a valid query.

    Words are runs of letters, digits and combining marks; every other character separates words. All words must occur,
    as whole words, in any case and any order. The words of a `"quoted phrase"`, or of a term such as `555-0100`, must
    follow each other. A term directly behind `-` must not occur. `or` separates alternatives.
    """
    alternatives: list[dict[str, None]] = [{}]
    for token in TOKEN.finditer(q):
        if token["word"] and not token["excluded"] and token["word"].lower() == "or":
            alternatives.append({})
            continue
        if words := _words(token["phrase"] or token["word"] or ""):
            condition = EXCLUDED if token["excluded"] else REQUIRED
            alternatives[-1][condition.format(term=f"{SEPARATOR}+".join(words))] = None
    patterns = ["".join(conditions) for conditions in alternatives if conditions]
    if not patterns:
        return None
    return SearchTerms(f"^(?:{'|'.join(patterns)})", sum(map(len, alternatives)))


def _words(text: str) -> list[str]:
    return ["".join(run) for is_word, run in groupby(text, _belongs_to_word) if is_word]


def _belongs_to_word(character: str) -> bool:
    """Combining marks, such as the vowel signs of Indic scripts, are part of the word around them."""
    return character.isalnum() or unicodedata.category(character).startswith("M")
