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

# All are killed, but for PostgreSQL in the first five seconds: by SIGQUIT it ends at once too, and gives its shared memory back.
tries=0
while [ $tries -lt 100 ]; do
    left=$(ours)
    [ -n "$left" ] || break
    for pid in $left; do
        signal=KILL
        case $tries/$(tr '\0' ' ' <"/proc/$pid/cmdline") in
            ?/*postgres* | [1-4]?/*postgres*) signal=QUIT ;;
        esac
        kill -CONT "$pid"
        kill -$signal "$pid"
    done 2>/dev/null
    tries=$((tries + 1))
    sleep 0.1
done
[ -z "$keep" ] || exit 0
IFS=$newline
for directory in $directories; do rm -rf -- "$directory"; done
