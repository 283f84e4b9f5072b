# Brings one file of the write-ahead log to a recovery. PostgreSQL runs it in the data directory of the cluster that recovers:
#   restore-wal.sh NAME TO
#
# The places to look at stand in `tripod-restore/places`, one a line, the first that has it wins. One that is nowhere is
# noted, and ends with 1: the log ends there, or that file is missing. One that is there and cannot be read ends with 200:
# PostgreSQL then gives up, instead of taking that for the end of the log.
set -u
name=$1 to=$2
while IFS= read -r place; do
    if [ -e "$place/$name" ]; then
        cp -- "$place/$name" "$to" || exit 200
        exit 0
    fi
done <tripod-restore/places
echo "$name" >>tripod-restore/missing
exit 1
