"""Factories of random valid request bodies, with texts up to the limits of their lengths."""

from collections.abc import Callable

from polyfactory import Use
from polyfactory.factories.msgspec_factory import MsgspecFactory

from alerts_service.alerts.structs import CreateAlert, TransitionRequest

SURROGATES = range(0xD800, 0xE000)


def any_text(low: int, high: int) -> Callable[[], str]:
    """Return a function that makes texts of `low` to `high` characters, of all that PostgreSQL and JSON allow."""

    def text() -> str:
        random = CreateAlertFactory.__random__
        length = random.choice((low, high, random.randint(low, high), random.randint(low, min(high, 40))))
        points = (random.randint(1, random.choice((0x7F, 0x10FFFF))) for _ in range(length))
        return "".join("�" if point in SURROGATES else chr(point) for point in points)

    return text


class CreateAlertFactory(MsgspecFactory[CreateAlert]):
    rule_name = Use(any_text(1, 255))
    message = Use(any_text(1, 10_000))
    dedup_key = Use(lambda: CreateAlertFactory.__random__.choice((None, any_text(9, 255)())))


class NoteRequestFactory(MsgspecFactory[TransitionRequest]):
    note = Use(any_text(0, 10_000))
