/* tests/comm/test_abort.c -- rank 1 calls comm_abort(3), the others wait for it; see abort.sh. */
#include "base/err.h"
#include "comm/comm.h"

int main(void)
{
    struct comm comm;
    struct err err = {0};

    if (comm_open(&comm, &err) < 0)
        return 1;
    if (comm.rank == 1)
        comm_abort(&comm, 3);
    comm_barrier(&comm, &err); /* never ends: rank 1 is not coming */
    comm_close(&comm);
    return 0;
}
