/* comm/allreduce.c -- see allreduce.h. */
#include "comm/allreduce.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "comm/comm.h"
#include "comm/wait.h"

#define DYNAMIC       "coll_tuned_use_dynamic_rules"
#define ALGORITHM     "coll_tuned_allreduce_algorithm"
#define SEGMENT       "coll_tuned_allreduce_algorithm_segmentsize"
#define WAYS_MAX      32
#define NAME_CHARS    64
/* What coll/tuned gives its segmented ring when it chooses it by itself; of 0, the variable's
 * default, that is the ring once more. */
#define SEGMENT_BYTES (1 << 20)

struct way {
    MPI_Comm ranks;
    char name[NAME_CHARS];
};

struct comm_allreduce {
    struct way ways[WAYS_MAX];
    int count;
};

/* A control variable of one integer. */
struct variable {
    MPI_T_cvar_handle handle;
    MPI_T_enum names; /* of its values; MPI_T_ENUM_NULL: none */
    int before;
};

void comm_allreduce_prepare(void)
{
    setenv("OMPI_MCA_" DYNAMIC, "1", 0);
}

/* --- variables --- */

/* Values are of several types and sizes: whatever is not zero is true. */
static bool is_on(const char *name)
{
    union {
        unsigned char bytes[256];
        long long aligned;
    } value = {.bytes = {0}};
    MPI_T_cvar_handle handle;
    int index = 0, count = 0;

    if (MPI_T_cvar_get_index(name, &index) != MPI_SUCCESS ||
        MPI_T_cvar_handle_alloc(index, NULL, &handle, &count) != MPI_SUCCESS)
        return false;
    if (count != 1 || MPI_T_cvar_read(handle, &value) != MPI_SUCCESS)
        value.bytes[0] = 0;
    MPI_T_cvar_handle_free(&handle);
    return value.bytes[0] != 0;
}

static void close_variable(struct variable *variable)
{
    if (variable->handle == MPI_T_CVAR_HANDLE_NULL)
        return;
    MPI_T_cvar_write(variable->handle, &variable->before);
    MPI_T_cvar_handle_free(&variable->handle);
}

/* Whether there is such a variable, and it can be written. */
static bool open_variable(struct variable *variable, const char *name)
{
    int index = 0, count = 0, verbosity, binding, scope, name_chars = 0, text_chars = 0;
    MPI_Datatype type = MPI_DATATYPE_NULL;

    *variable = (struct variable){.handle = MPI_T_CVAR_HANDLE_NULL};
    if (MPI_T_cvar_get_index(name, &index) != MPI_SUCCESS ||
        MPI_T_cvar_get_info(index, NULL, &name_chars, &verbosity, &type, &variable->names, NULL,
                            &text_chars, &binding, &scope) != MPI_SUCCESS ||
        type != MPI_INT ||
        MPI_T_cvar_handle_alloc(index, NULL, &variable->handle, &count) != MPI_SUCCESS)
        return false;
    return count == 1 && MPI_T_cvar_read(variable->handle, &variable->before) == MPI_SUCCESS &&
           MPI_T_cvar_write(variable->handle, &variable->before) == MPI_SUCCESS;
}

/* --- ways --- */

static int add_way(struct comm_allreduce *allreduce, const struct comm *comm, struct err *err)
{
    const struct comm_mpi *const mpi = comm->mpi;

    if (comm_check(MPI_Comm_dup(mpi->ranks, &allreduce->ways[allreduce->count].ranks),
                   "make a communicator", err) < 0)
        return -1;
    allreduce->count++;
    return 0;
}

static int force_each(struct comm_allreduce *allreduce, const struct comm *comm,
                      const struct variable *algorithm, const struct variable *segment, int values,
                      struct err *err)
{
    const int segment_bytes = SEGMENT_BYTES;

    MPI_T_cvar_write(segment->handle, &segment_bytes);
    for (int i = 0; i < values && allreduce->count < WAYS_MAX; i++) {
        struct way *const way = &allreduce->ways[allreduce->count];
        int value = 0, chars = sizeof way->name;

        if (MPI_T_enum_get_item(algorithm->names, i, &value, way->name, &chars) != MPI_SUCCESS ||
            value == 0 /* "ignore": none is forced */ ||
            MPI_T_cvar_write(algorithm->handle, &value) != MPI_SUCCESS)
            continue;
        if (add_way(allreduce, comm, err) < 0)
            return -1;
    }
    return 0;
}

/* A communicator is made by all: only where every rank finds the same list is any. */
static int is_everywhere(struct comm *comm, int values, bool *same, struct err *err)
{
    int *const all = calloc((size_t)comm->size, sizeof *all);
    int rc;

    if (all == NULL)
        abort();
    rc = comm_gather(comm, &values, sizeof values, all, err);
    *same = true;
    for (int rank = 0; rank < comm->size && rc == 0; rank++)
        *same = *same && all[rank] == values;
    free(all);
    return rc;
}

static int add_forced(struct comm_allreduce *allreduce, struct comm *comm, struct err *err)
{
    struct variable algorithm = {.handle = MPI_T_CVAR_HANDLE_NULL}, segment = algorithm;
    char name[NAME_CHARS];
    int values = 0, chars = sizeof name, rc;
    bool same = false;

    if (!is_on(DYNAMIC) || !open_variable(&algorithm, ALGORITHM) ||
        !open_variable(&segment, SEGMENT) || algorithm.names == MPI_T_ENUM_NULL ||
        MPI_T_enum_get_info(algorithm.names, &values, name, &chars) != MPI_SUCCESS)
        values = 0;
    rc = is_everywhere(comm, values, &same, err);
    if (rc == 0 && same)
        rc = force_each(allreduce, comm, &algorithm, &segment, values, err);
    close_variable(&algorithm);
    close_variable(&segment);
    return rc;
}

struct comm_allreduce *comm_allreduce_new(struct comm *comm, struct err *err)
{
    struct comm_allreduce *const allreduce = calloc(1, sizeof *allreduce);
    int level = 0, rc;

    if (allreduce == NULL)
        abort();
    snprintf(allreduce->ways[0].name, NAME_CHARS, "default");
    rc = add_way(allreduce, comm, err);
    if (rc == 0 && comm->size > 1 &&
        MPI_T_init_thread(MPI_THREAD_SERIALIZED, &level) == MPI_SUCCESS) {
        rc = add_forced(allreduce, comm, err);
        MPI_T_finalize();
    }
    if (rc == 0)
        return allreduce;
    free(allreduce);
    return NULL;
}

void comm_allreduce_free(struct comm_allreduce *allreduce)
{
    for (int way = 0; allreduce != NULL && way < allreduce->count; way++)
        MPI_Comm_free(&allreduce->ways[way].ranks);
    free(allreduce);
}

int comm_allreduce_ways(const struct comm_allreduce *allreduce)
{
    return allreduce->count;
}

const char *comm_allreduce_name(const struct comm_allreduce *allreduce, int way)
{
    assert(way >= 0 && way < allreduce->count);
    return allreduce->ways[way].name;
}

bool comm_allreduce_yields(void)
{
    int level = 0;
    bool yields;

    if (MPI_T_init_thread(MPI_THREAD_SERIALIZED, &level) != MPI_SUCCESS)
        return false;
    yields = is_on("mpi_yield_when_idle");
    MPI_T_finalize();
    return yields;
}

int comm_allreduce_sum(struct comm_allreduce *allreduce, int way, float *x, size_t count,
                       struct err *err)
{
    assert(way >= 0 && way < allreduce->count && count <= INT_MAX);
    return comm_check(
        MPI_Allreduce(MPI_IN_PLACE, x, (int)count, MPI_FLOAT, MPI_SUM, allreduce->ways[way].ranks),
        "sum by MPI_Allreduce", err);
}
