#!/bin/sh
# Make the database the first time, then run it. Who reaches it is in this machine or on its host: it asks for no password.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username=shop --auth=trust --encoding=UTF8 >/dev/null
    echo 'host all all all trust' >> "$PGDATA/pg_hba.conf"
    echo 'CREATE TABLE notes (id serial PRIMARY KEY, text text NOT NULL);' | postgres --single -jE postgres >/dev/null
fi
exec postgres -c listen_addresses='*'
