#!/bin/sh
# silence.sh MPIRUN PROGRAM: the last of three ranks freezes at various moments of a step, and at any. The others have a deadline of 1.5 s;
# a line names the frozen rank, within a second more (two on a busy machine), and the job ends with status 3.
failed=0

# Open MPI 4.1.4's mpirun may itself crash at its very end, in PMIx_server_finalize, when several ranks abort at once.
status() {
    case "$2" in
    *PMIx_server_finalize*) echo 3 ;;
    *) echo "$1" ;;
    esac
}

run() { # WHEN RANKS_OF_HOST
    timeout 60 "$mpirun" --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 -n 3 "$program" "$1" "$2" 1.5 2>&1
}

expect() { # CONDITION... of the test command
    [ "$@" ] && return
    echo "$when, $hosts ranks of a host: [ $* ] does not hold; it printed:" >&2
    echo "$said" >&2
    failed=1
}

mpirun=$1
program=$2
for when in computing elsewhere backward answered any any; do
    for hosts in 1 2 3; do
        said=$(run $when $hosts)
        expect "$(status $? "$said")" -eq 3
        lines=$(echo "$said" | grep -c "^after [1234]\.[0-9] s: .*no sign of progress from host '.*' (rank 2) for [12] s (--step-timeout)")
        expect "$lines" -ge 1
        expect "$(echo "$said" | grep -c '^after ')" -eq "$lines"
    done
done
# One that is killed ends the job, which mpirun sees or the others do.
for when in "killed computing" "killed backward" "killed answered" "killed any"; do
    for hosts in 1 3; do
        begun=$(date +%s)
        said=$(run "$when" $hosts)
        status=$?
        expect $status -ne 0
        expect $status -ne 124
        expect $(($(date +%s) - begun)) -le 15
    done
done
when=all
for hosts in 1 3; do
    said=$(run all $hosts)
    expect $? -eq 0
done
when="all in a gather"
said=$(run "$when" 1)
expect $? -eq 0
for when in barrier broadcast gather; do
    case $when in
    barrier) line="cannot wait for all ranks: no word from another rank" ;;
    broadcast) line="cannot broadcast: no word from another rank" ;;
    gather) line="cannot sum 1 integers: no word from host '.*' (rank 2)" ;;
    esac
    said=$(run $when 1)
    expect "$(status $? "$said")" -eq 3
    expect "$(echo "$said" | grep -c "^after [123]\.[0-9] s: $line for 2 s: it is dead, frozen, cut off, or stuck in reading or saving")" -ge 1
done
exit $failed
