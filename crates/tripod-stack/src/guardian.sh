# Outlives a test process and ends what it started, however it ended: also by kill -9, also where a static is never
# dropped. It hears of that by the end of its standard input, which the test process holds open.
#
# Lines it reads first: `id ID` (the stack's id on command lines), `remove DIRECTORY` (may come more than once).
# Then `done` (everything is removed already) or `keep` (end the servers, leave the files).
id='' keep='' directories=''
newline='
'
while IFS= read -r line; do
    case $line in
        'id '*) id=${line#id } ;;
        'remove '*) directories=$directories${line#remove }$newline ;;
        keep) keep=1 ;;
        done) exit 0 ;;
    esac
done
[ -n "$id" ] || exit 0

# Prints the ids of the live processes of the stack. This script does not carry the id: it came by standard input.
ours() {
    for process in /proc/[0-9]*; do
        case $(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) in
            *"tripod-$id-"*) echo "${process#/proc/}" ;;
        esac
    done
}

# PostgreSQL ends at once by SIGQUIT and gives its shared memory back; the others do not end by it.
for pid in $(ours); do kill -CONT "$pid"; kill -QUIT "$pid"; done 2>/dev/null
tries=0
while [ $tries -lt 100 ]; do
    left=$(ours)
    [ -n "$left" ] || break
    # After the first second whatever is left; before that all but PostgreSQL.
    for pid in $left; do
        case $tries/$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) in
            ?/*postgres*) ;;
            *) kill -KILL "$pid" ;;
        esac
    done 2>/dev/null
    tries=$((tries + 1))
    sleep 0.1
done
[ -z "$keep" ] || exit 0
IFS=$newline
for directory in $directories; do rm -rf -- "$directory"; done
