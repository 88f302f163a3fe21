"""PostgreSQL through asyncpg: the connection pool, SQL files, batching, migrations and the schema check."""
