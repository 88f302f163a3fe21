"""Groups of asyncpg's exceptions, and their translation into exceptions of the service.

The groups overlap. QueryCanceledError is an OperatorInterventionError. Since Python 3.11, asyncio.TimeoutError is the
built-in TimeoutError, which is an OSError. Both are therefore also in CONNECTION_ERRORS, RETRYABLE_CONNECT_ERRORS and
UNREACHABLE_ERRORS, and `except` clauses for timeouts must precede the clauses for these groups.
"""

import asyncio
import logging
import ssl

import asyncpg

from alerts_service.db.fair_queue import QueueFull, QueueTimeout
from alerts_service.errors import (
    ApiError,
    DatabaseBusy,
    DatabaseNotReady,
    DatabaseUnreachable,
    OutcomeUnknown,
    OutOfResources,
    StartupError,
    StatementTimeout,
    ValidationFailed,
)

logger = logging.getLogger(__name__)

# The connection is lost or no longer trusted, except for timeouts, which are in TIMEOUT_ERRORS too. A connection to a
# server that became read-only is also treated as lost: another server may be the primary by now. asyncpg raises
# InternalClientError when the server closes the connection during a call, and when none of several hosts has the
# requested role.
CONNECTION_ERRORS = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InternalClientError,
)

# A new connection failed, and a later attempt may succeed. InternalClientError: no host is the primary yet.
RETRYABLE_CONNECT_ERRORS = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InternalClientError,
)

# Any error of the driver or the network. While a connection is opened, such an error means an unreachable database.
UNREACHABLE_ERRORS = (*RETRYABLE_CONNECT_ERRORS, asyncpg.PostgresError, asyncpg.InterfaceError)

# The statement timed out. The connection is still usable.
TIMEOUT_ERRORS = (asyncio.TimeoutError, asyncpg.QueryCanceledError)

# The server reported an error and rolled the statement back, so the batch can be sent again in parts. `statement_error`
# has already translated connection errors, so a PostgresError is not one of them.
ROLLED_BACK_ERRORS = (ValidationFailed, OutOfResources, asyncpg.PostgresError)

# Errors of a statement that become the results of its items in a bulk call. The group includes ROLLED_BACK_ERRORS.
STATEMENT_ERRORS = (QueueFull, QueueTimeout, ApiError, asyncpg.PostgresError)

# If every item of a bulk batch failed with one of these errors, the following batches are not sent.
ABORTING_ERRORS = (DatabaseBusy, DatabaseUnreachable, OutcomeUnknown, QueueFull, QueueTimeout)

# Concurrent calls prevented the call: the queue was full or too slow, a row was locked, or a deadlock was resolved.
CONTENTION_ERRORS = (QueueFull, QueueTimeout, asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError)

# Errors of asyncpg that `statement_error` translates.
TRANSLATED_ERRORS = (asyncio.TimeoutError, asyncpg.DataError, asyncpg.InsufficientResourcesError, *CONNECTION_ERRORS)


def contention_error(error: Exception) -> DatabaseBusy:
    """Translate one of CONTENTION_ERRORS."""
    if isinstance(error, QueueFull):
        return DatabaseBusy("too many requests are waiting for the database")
    if isinstance(error, QueueTimeout):
        return DatabaseBusy("timed out waiting for the database")
    return DatabaseBusy("could not lock a row in time, because of concurrent changes")


def statement_error(error: Exception, *, may_be_committed: bool) -> ApiError:
    """Translate one of TRANSLATED_ERRORS.

    Args:
        error: the error of asyncpg.
        may_be_committed: whether a statement without a response may have been committed, because it changes data.
    """
    # The order matters: QueryCanceledError and TimeoutError are also CONNECTION_ERRORS, which are translated last.
    if not may_be_committed and isinstance(error, TIMEOUT_ERRORS):
        return StatementTimeout("the statement timed out")
    if isinstance(error, asyncpg.QueryCanceledError):
        return DatabaseBusy("the statement timed out")
    if isinstance(error, asyncio.TimeoutError):
        return OutcomeUnknown("the statement timed out; the change may still have been made")
    if isinstance(error, asyncpg.DataError):
        return ValidationFailed("the database cannot store a value of this request")
    if isinstance(error, asyncpg.InsufficientResourcesError):
        return out_of_resources(error)
    return unreachable(error)


def unreachable(error: Exception) -> DatabaseUnreachable:
    """Log the reason, which the response does not contain, and return the exception to raise."""
    logger.error("database unreachable", extra={"reason": str(error) or type(error).__name__})
    return DatabaseUnreachable()


def out_of_resources(error: Exception) -> OutOfResources:
    """Log the resource, which the response does not contain, and return the exception to raise."""
    logger.error("database out of resources", extra={"reason": str(error)})
    return OutOfResources("the database is out of resources")


def startup_error(action: str, error: Exception) -> StartupError:
    """Return the exception for a failed action at startup: DatabaseNotReady if a later attempt may succeed."""
    if isinstance(error, asyncpg.DuplicatePreparedStatementError) or "startup parameter" in str(error):
        return StartupError(f"{action}: the connection goes through a pooler: set AS_ALERTS_POOLER=true")
    retryable = isinstance(error, RETRYABLE_CONNECT_ERRORS) and not isinstance(error, ssl.SSLError)
    return (DatabaseNotReady if retryable else StartupError)(f"{action}: {str(error) or 'timed out'}")
