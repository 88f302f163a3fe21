"""The query language of the `q` parameter, compiled to one PostgreSQL regular expression.

The time to match the regular expression grows linearly with the text, whatever the text is. PostgreSQL's text search
parser takes quadratic time for text without blanks. Measured on PostgreSQL 15 with 10,000 characters: `to_tsvector`
takes 640 ms for `a_a_a…` and 1.2 ms for ordinary text; the regular expression takes 0.06 ms for both.
"""

import re
import unicodedata
from itertools import groupby

from msgspec import Struct

TOKEN = re.compile(r'(?P<excluded>-(?=["\w]))?(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))')

SEPARATOR = "[^[:alnum:]]"
# A lookahead from the start of the text: PostgreSQL scans the text at most once for each term.
REQUIRED = f"(?=(?:.*{SEPARATOR})?{{term}}(?:{SEPARATOR}|$))"
EXCLUDED = f"(?!(?:.*{SEPARATOR})?{{term}}(?:{SEPARATOR}|$))"


class SearchTerms(Struct, frozen=True):
    """A compiled query: the pattern for PostgreSQL's `~*`, and the number of terms. Each term adds to the cost."""

    pattern: str
    count: int


def compile_search_terms(q: str) -> SearchTerms | None:
    """Compile a query, or return None if the query contains no word other than `or`. Any text is a valid query.

    Words are runs of letters, digits and combining marks. Every other character separates words. The word `or`
    separates alternatives. A text matches an alternative if it contains all terms, as whole words, in any case and any
    order. The words of a `"quoted phrase"`, or of a term such as `555-0100`, must be adjacent and in the same order. A
    term that directly follows `-` must not occur.
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
    """Return whether a character is a letter, a digit or a combining mark, such as a vowel sign of an Indic script."""
    return character.isalnum() or unicodedata.category(character).startswith("M")
