/* comm/comm.c -- see comm.h. */
#include "comm/comm.h"

#include <assert.h>
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/err.h"
#include "comm/wait.h"

#define GATHER_BYTES_MAX 4096
#define HEADER_BYTES     4096 /* room for what Open MPI puts before a message; it needs less */
#define COMPONENTS_MAX   256  /* of Open MPI that are loaded; some 30 are */
#define ABORT_S          10   /* for which an end that was asked for is waited for */
#define BROADCAST_BYTES_CHUNK                                                                      \
    ((size_t)16 << 20) /* MPI counts in int; the library pipelines within a chunk */

int comm_place(const int *host_first, int ranks, int rank)
{
    int place = 0;

    for (int other = 0; other < ranks; other++)
        place += host_first[other] < host_first[rank] ||
                 (host_first[other] == host_first[rank] && other < rank);
    return place;
}

/* Who shares this host: sets local_rank and local_size; *host_first is the lowest world rank here.
 */
static int find_host(struct comm *comm, int world_rank, int *host_first, struct err *err)
{
    char name[MPI_MAX_PROCESSOR_NAME] = "";
    MPI_Comm local = MPI_COMM_NULL;
    int length = 0, code;

    code = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, world_rank, MPI_INFO_NULL,
                               &local);
    if (comm_check(code, "find the ranks of this host", err) < 0)
        return -1;
    MPI_Comm_rank(local, &comm->local_rank);
    MPI_Comm_size(local, &comm->local_size);
    *host_first = world_rank;
    code = MPI_Bcast(host_first, 1, MPI_INT, 0, local);
    MPI_Comm_free(&local);
    if (comm_check(code, "find the first rank of this host", err) < 0)
        return -1;
    MPI_Get_processor_name(name, &length);
    snprintf(comm->host, sizeof comm->host, "%s", name);
    return 0;
}

/* Hosts in the order of their ranks: those of one have the same first. */
static void number_hosts(struct comm *comm, const int *all_first)
{
    comm->host_of = calloc((size_t)comm->size, sizeof *comm->host_of);
    if (comm->host_of == NULL)
        abort();
    for (int rank = 0; rank < comm->size; rank++)
        if (all_first[rank] == rank)
            comm->hosts++;
    for (int world = 0; world < comm->size; world++) {
        int host = 0;

        for (int other = 0; other < all_first[world]; other++)
            host += all_first[other] == other;
        comm->host_of[comm_place(all_first, comm->size, world)] = host;
    }
}

/* A communicator whose ranks are numbered by (host, place on the host). mpirun --map-by slot
 * numbers them so already; under another mapping the split puts them in order. */
static int number_ranks(struct comm *comm, struct comm_mpi *mpi, struct err *err)
{
    int world_rank = 0, host_first = 0, *all_first = NULL;
    int rc = -1;

    MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
    MPI_Comm_size(MPI_COMM_WORLD, &comm->size);
    if (find_host(comm, world_rank, &host_first, err) < 0)
        return -1;
    all_first = calloc((size_t)comm->size, sizeof *all_first);
    if (all_first == NULL)
        abort();
    if (comm_check(MPI_Allgather(&host_first, 1, MPI_INT, all_first, 1, MPI_INT, MPI_COMM_WORLD),
                   "learn the hosts of all ranks", err) < 0)
        goto out;
    if (comm_check(MPI_Comm_split(MPI_COMM_WORLD, 0, comm_place(all_first, comm->size, world_rank),
                                  &mpi->ranks),
                   "number the ranks by host", err) < 0)
        goto out;
    MPI_Comm_set_errhandler(mpi->ranks, MPI_ERRORS_RETURN);
    MPI_Comm_rank(mpi->ranks, &comm->rank);
    number_hosts(comm, all_first);
    rc = 0;
out:
    free(all_first);
    return rc;
}

/* "Open MPI v4.1.4, package: ..., ident: ...": what stands before the first comma. */
static void name_library(struct comm *comm)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;

    MPI_Get_library_version(text, &length);
    text[strcspn(text, ",\n")] = '\0';
    snprintf(comm->library, sizeof comm->library, "%.63s", text);
}

/* A process that no mpirun started would start an orted beside it, to be able to spawn others: a
 * fifth of a second for nothing. The folder in /tmp that Open MPI makes for ranks that share memory
 * is not needed either, and two processes that make it at the same moment fail. */
static void spare_a_lone_process(void)
{
    static const char *const set_by_launchers[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};

    for (size_t i = 0; i < sizeof set_by_launchers / sizeof set_by_launchers[0]; i++)
        if (getenv(set_by_launchers[i]) != NULL)
            return;
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    setenv("OMPI_MCA_orte_create_session_dirs", "0", 0);
}

/* What Open MPI reads of the environment when it starts; what is set there stays. (A setting of
 * openmpi-mca-params.conf does not: the environment goes before it.) */
static void set_number(const char *name, int value)
{
    char text[16];

    snprintf(text, sizeof text, "%d", value);
    setenv(name, text, 0);
}

static void send_segments_whole(void)
{
    set_number("OMPI_MCA_btl_tcp_eager_limit", COMM_SEGMENT_BYTES + HEADER_BYTES);
    set_number("OMPI_MCA_btl_tcp_max_send_size", COMM_SEGMENT_BYTES + HEADER_BYTES);
}

/* With two hosts a port has one sender. */
static void narrow_flows(void)
{
    const char *const ranks = getenv("OMPI_COMM_WORLD_SIZE");
    const char *const of_host = getenv("OMPI_COMM_WORLD_LOCAL_SIZE");

    if (ranks == NULL || of_host == NULL || atoi(ranks) <= 2 * atoi(of_host))
        return;
    set_number("OMPI_MCA_btl_tcp_rcvbuf", COMM_WINDOW_BYTES);
}

int comm_open(struct comm *comm, struct err *err)
{
    struct comm_mpi *mpi = calloc(1, sizeof *mpi);
    int level = 0;

    if (mpi == NULL)
        abort();
    spare_a_lone_process();
    narrow_flows();
    send_segments_whole();
    *comm = (struct comm){.mpi = mpi};
    mpi->ranks = MPI_COMM_NULL;
    if (comm_check(MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level), "start MPI", err) <
        0) {
        free(mpi);
        *comm = (struct comm){0};
        return -1;
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (level < MPI_THREAD_SERIALIZED) {
        comm_close(comm);
        return err_set(err, ERR_PEER,
                       "this MPI cannot be called by one thread after another "
                       "(MPI_THREAD_SERIALIZED), as the exchange does");
    }
    name_library(comm);
    /* Linux lengthens every sleep by up to 50 us unless told not to: too much beside SLEEP_S_MIN.
     */
    prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul);
    if (number_ranks(comm, mpi, err) < 0) {
        comm_close(comm);
        return -1;
    }
    mpi->requests = calloc(2 * (size_t)comm->size, sizeof(MPI_Request));
    mpi->done = calloc(2 * (size_t)comm->size, sizeof *mpi->done);
    mpi->integers = calloc((size_t)comm->size * COMM_INTEGERS_MAX, sizeof *mpi->integers);
    mpi->names = calloc((size_t)comm->size, sizeof *mpi->names);
    if (mpi->requests == NULL || mpi->done == NULL || mpi->integers == NULL || mpi->names == NULL)
        abort();
    if (comm_call_host(comm, NULL, err) < 0) {
        comm_close(comm);
        return -1;
    }
    return 0;
}

int comm_call_host(struct comm *comm, const char *name, struct err *err)
{
    struct comm_mpi *const mpi = comm->mpi;

    if (name != NULL && name[0] != '\0')
        snprintf(comm->host, sizeof comm->host, "%s", name);
    return comm_gather(comm, comm->host, sizeof *mpi->names, mpi->names, err);
}

const char *comm_host_name(const struct comm *comm, int rank)
{
    const struct comm_mpi *const mpi = comm->mpi;

    return mpi->names[rank];
}

struct components {
    const char *paths[COMPONENTS_MAX];
    int count;
};

static int note_component(struct dl_phdr_info *object, size_t bytes, void *context)
{
    struct components *const found = context;

    (void)bytes;
    if (strstr(object->dlpi_name, "/mca_") != NULL && found->count < COMPONENTS_MAX)
        found->paths[found->count++] = object->dlpi_name;
    return 0;
}

/* MPI_Finalize unloads Open MPI's components while its progress thread may still be within one
 * (4.1.4: on a busy machine one of some hundred short runs ends by SIGSEGV): let none go. */
static void keep_components(void)
{
    struct components found = {.count = 0};

    dl_iterate_phdr(note_component, &found);
    for (int i = 0; i < found.count; i++) /* never closed: that is what keeps it */
        dlopen(found.paths[i], RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

void comm_close(struct comm *comm)
{
    struct comm_mpi *mpi = comm->mpi;

    if (mpi == NULL)
        return;
    if (mpi->ranks != MPI_COMM_NULL)
        MPI_Comm_free(&mpi->ranks);
    keep_components();
    MPI_Finalize();
    free(mpi->requests);
    free(mpi->done);
    free(mpi->integers);
    free(mpi->names);
    free(comm->host_of);
    free(mpi);
    *comm = (struct comm){0};
}

static int status_of_abort;

static void leave(int number)
{
    (void)number;
    _exit(status_of_abort);
}

/* MPI_Abort asks the daemons of Open MPI, which may be cut off themselves. */
void comm_abort(struct comm *comm, int status)
{
    const struct sigaction action = {.sa_handler = leave};
    sigset_t alarms;

    status_of_abort = status;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    sigaction(SIGALRM, &action, NULL);
    pthread_sigmask(SIG_UNBLOCK, &alarms, NULL);
    alarm(ABORT_S);
    if (comm->mpi != NULL)
        MPI_Abort(MPI_COMM_WORLD, status);
    _exit(status);
}

int comm_barrier(struct comm *comm, struct err *err)
{
    struct comm_mpi *mpi = comm->mpi;

    if (comm->size == 1)
        return 0;
    if (comm_check(MPI_Ibarrier(mpi->ranks, &mpi->requests[0]), "wait for all ranks", err) < 0)
        return -1;
    return comm_wait_all(comm, 1, "wait for all ranks", err);
}

int comm_broadcast(struct comm *comm, void *data, size_t bytes, int root, struct err *err)
{
    struct comm_mpi *mpi = comm->mpi;
    unsigned char *next = data;

    assert(root >= 0 && root < comm->size && (bytes == 0 || data != NULL));
    if (comm->size == 1)
        return 0;
    while (bytes > 0) {
        const size_t chunk = bytes < BROADCAST_BYTES_CHUNK ? bytes : BROADCAST_BYTES_CHUNK;

        if (comm_check(MPI_Ibcast(next, (int)chunk, MPI_BYTE, root, mpi->ranks, &mpi->requests[0]),
                       "broadcast", err) < 0)
            return -1;
        if (comm_wait_all(comm, 1, "broadcast", err) < 0)
            return -1;
        next += chunk;
        bytes -= chunk;
    }
    return 0;
}

/* What comm_gather waits for in vain: the request at 2 (step - 1) is from the rank so many steps
 * before this one, the one behind it to the rank so many steps after. */
static int gave_up(const struct comm *comm, int count, struct err *err)
{
    const struct comm_mpi *const mpi = comm->mpi;
    int at = 0, step, rank;

    while (at < count - 1 && mpi->requests[at] == MPI_REQUEST_NULL)
        at++;
    step = at / 2 + 1;
    rank = (comm->rank + (at % 2 == 0 ? comm->size - step : step)) % comm->size;
    return err_set(err, ERR_PEER, "no word from host '%s' (rank %d) for %.0f s: " COMM_SILENT_MEANS,
                   comm_host_name(comm, rank), rank, comm_patience_s(comm));
}

int comm_gather(struct comm *comm, const void *mine, size_t bytes, void *all, struct err *err)
{
    struct comm_mpi *mpi = comm->mpi;
    unsigned char *parts = all;
    int count = 0, rc;

    assert(bytes <= GATHER_BYTES_MAX && (bytes == 0 || (mine != NULL && all != NULL)));
    if (bytes == 0)
        return 0;
    memcpy(parts + (size_t)comm->rank * bytes, mine, bytes);
    /* Everybody straight to everybody, each beginning with its neighbour so that nobody is flooded.
     */
    for (int step = 1; step < comm->size; step++) {
        const int to = (comm->rank + step) % comm->size;
        const int from = (comm->rank + comm->size - step) % comm->size;

        if (comm_check(MPI_Irecv(parts + (size_t)from * bytes, (int)bytes, MPI_BYTE, from,
                                 COMM_TAG_GATHER, mpi->ranks, &mpi->requests[count++]),
                       "gather", err) < 0 ||
            comm_check(MPI_Isend(mine, (int)bytes, MPI_BYTE, to, COMM_TAG_GATHER, mpi->ranks,
                                 &mpi->requests[count++]),
                       "gather", err) < 0)
            return -1;
    }
    rc = comm_wait_a_while(comm, count, "gather", err);
    return rc == 1 ? gave_up(comm, count, err) : rc;
}

int comm_sum_integers(struct comm *comm, int64_t *x, int count, struct err *err)
{
    const struct comm_mpi *mpi = comm->mpi;

    assert(count >= 0 && count <= COMM_INTEGERS_MAX);
    if (comm->size == 1)
        return 0;
    if (comm_gather(comm, x, (size_t)count * sizeof *x, mpi->integers, err) < 0)
        return err_wrap(err, "cannot sum %d integers", count);
    for (int i = 0; i < count; i++) {
        uint64_t sum = 0; /* unsigned: overflow wraps the same way everywhere */

        for (int rank = 0; rank < comm->size; rank++)
            sum += (uint64_t)mpi->integers[rank * count + i];
        x[i] = (int64_t)sum;
    }
    return 0;
}
