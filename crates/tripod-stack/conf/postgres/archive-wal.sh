# Puts one finished file of PostgreSQL's write-ahead log into the archive. PostgreSQL runs it in its data directory:
#   archive-wal.sh FILE NAME ARCHIVE SYNC
#
# When it ends with 0, ARCHIVE/NAME is that file, whole, and with SYNC `on` also on disk: PostgreSQL then forgets its own.
# A reader of the archive never sees half a file: it is written beside and gets its name in one step that cannot replace
# anything (a hard link). A file of that name with the same bytes is one of an earlier try whose answer was lost, and is
# accepted; with other bytes it is another server's, and is refused: PostgreSQL keeps its own and tries again for ever.
set -u
file=$1 name=$2 archive=$3 sync=$4
place=$archive/$name
beside=$archive/.$name.new

fail() {
    echo "cannot archive $name: $1" >&2
    rm -f -- "$beside" 2>/dev/null
    exit 1
}
to_disk() {
    [ "$sync" != on ] || sync -- "$@"
}

[ -d "$archive" ] || fail "$archive is not a directory"
if [ -e "$place" ] || [ -L "$place" ]; then
    cmp -s -- "$file" "$place" || fail "$place is there already and differs"
    to_disk "$place" "$archive" || fail "sync does not work"
    exit 0
fi
# Holes instead of zeros: a file that was sent before it was full takes only the disk of what is in it.
cp --sparse=always -- "$file" "$beside" || fail "it cannot be copied into $archive"
to_disk "$beside" || fail "sync does not work"
ln -T -- "$beside" "$place" || fail "it gets no name in $archive"
rm -f -- "$beside"
to_disk "$archive" || fail "sync does not work"
