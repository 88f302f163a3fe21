"""A request whose JSON body is read by msgspec, strictly, straight into the type its handler asks for."""

import re
from functools import lru_cache
from typing import Any

import litestar
import msgspec

from alerts_service.database import Database
from alerts_service.errors import Invalid

FIELD = re.compile(r"(?P<reason>.*) - at `\$\.?(?P<field>.*)`", re.DOTALL)

decoder_for = lru_cache(msgspec.json.Decoder)


class Request(litestar.Request[Any, Any, Any]):
    """What a handler receives: the request and the database that answers it."""

    @property
    def database(self) -> Database:
        """The database of the application."""
        database: Database = self.app.state.database
        return database

    async def json(self) -> Any:
        """Decode the body into the type of the handler's `data`.

        Raises:
            Invalid: it is no JSON, not UTF-8, or not of that type.
        """
        decoder = decoder_for(self.route_handler.parsed_fn_signature.parameters["data"].annotation)
        try:
            return decoder.decode(await self.body())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Invalid(reason(error)) from None


async def refuse_null(request: litestar.Request[Any, Any, Any]) -> None:
    """Refuse `null` for a parameter: Litestar takes it for one that was left out, and would drop a tenant or a filter.

    Raises:
        Invalid: there is one.
    """
    if not request.scope["query_string"]:
        return
    for name, value in request.query_params.multi_items():
        if value.lower() == "null":
            raise Invalid(f"{name}: must not be null")


def reason(error: Exception) -> str:
    """Name the field and what is wrong with it, as `field: reason`."""
    if isinstance(error, UnicodeDecodeError):
        return "body: not UTF-8"
    if str(error) == "Input data was truncated":
        return "body: JSON ends too early, or a text in it holds half a surrogate pair"
    found = FIELD.fullmatch(str(error))
    return f"{found['field'] or 'body'}: {found['reason']}" if found else f"body: {error}"
