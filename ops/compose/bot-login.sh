#!/bin/sh
# The bot's login, once, when the image makes the cluster. `tripod migrate` gives it its rights.
set -eu
# By standard input: a password is on no command line.
printf "CREATE ROLE tripod_bot LOGIN PASSWORD '%s';\n" "$(cat /run/secrets/postgres-bot)" |
    psql -v ON_ERROR_STOP=1 --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB"
