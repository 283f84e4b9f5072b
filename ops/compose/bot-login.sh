#!/bin/sh
# The bot's login and the archive of the log, once, when the image makes the cluster. `tripod migrate` gives it its rights.
set -eu
# By standard input: a password is on no command line.
printf "CREATE ROLE tripod_bot LOGIN PASSWORD '%s';\n" "$(cat /run/secrets/postgres-bot)" |
    psql -v ON_ERROR_STOP=1 --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB"
psql -v ON_ERROR_STOP=1 --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'END'
ALTER SYSTEM SET archive_command = '/bin/sh /etc/tripod/archive-wal.sh "%p" "%f" ../archive on';
END
