# Runs "$@" and makes sure that it does not outlive the process at the other
# end of stdin: however that process dies, its end of the pipe is closed.
#
# $CURFEW_LOG takes the output, $CURFEW_SWEEP (if any) is a folder to remove
# when stdin closes. The first line on stdout is the pid of "$@".
exec 3<&0 </dev/null
log=$CURFEW_LOG sweep=$CURFEW_SWEEP
unset CURFEW_LOG CURFEW_SWEEP
"$@" 3<&- >>"$log" 2>&1 &
child=$!
echo "$child"
exec >/dev/null
(
    read -r _ <&3
    trap '' TERM
    kill -TERM "$child"
    tries=0
    while kill -0 "$child"; do
        [ "$tries" -ne 30 ] || kill -KILL "$child"
        tries=$((tries + 1))
        sleep 0.1
    done
    [ -n "$sweep" ] || exit 0
    # Others of the same harness may still be writing there, so look again.
    for _ in 1 2 3 4; do
        rm -rf -- "$sweep"
        sleep 1
    done
) 2>/dev/null &
guard=$!
wait "$child"
status=$?
# The guard has nothing left to do, unless stdin was closed: then it ignores
# this and goes on to sweep.
kill "$guard" 2>/dev/null
exit "$status"
