"""Create the database of a postgres:// address afresh; exit 1 where the server does not let us."""

import sys
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

if __name__ == "__main__":
    address = urlsplit(sys.argv[1])
    name = sql.Identifier(address.path.lstrip("/"))
    try:
        with psycopg.connect(address._replace(path="/postgres").geturl(), autocommit=True, connect_timeout=5) as server:
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            server.execute(sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(name))
    except psycopg.OperationalError as error:
        sys.exit(f"{address.hostname}:{address.port}: {error}")
