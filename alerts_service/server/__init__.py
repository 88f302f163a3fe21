"""Extensions of uvicorn: limits of time and size for connections, and graceful shutdown.

Only the command line imports this package.
"""
