#!/bin/sh
# abort.sh MPIRUN PROGRAM: rank 1 of 3 gives up with status 3 while the others wait for it in a barrier.
timeout 40 "$1" --oversubscribe --bind-to none -n 3 "$2" 2>/dev/null
status=$?
[ "$status" -eq 3 ] && exit 0
echo "mpirun ended with $status, not with the 3 that rank 1 gave to comm_abort" >&2
exit 1
