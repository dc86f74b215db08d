#include "launcher/machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include "launcher/cpus.h"

/* x86 has a line "model name : ..." for each processor. ARM has none: its number stands there. */
static void read_cpu(char *cpu, size_t bytes)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[512];

    snprintf(cpu, bytes, "unknown CPU");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *value = strchr(line, ':');

        line[strcspn(line, "\n")] = '\0';
        if (value == NULL)
            continue;
        value += 1 + strspn(value + 1, " \t");
        if (strncmp(line, "model name", 10) == 0) {
            snprintf(cpu, bytes, "%s", value);
            break;
        }
        if (strncmp(line, "CPU part", 8) == 0)
            snprintf(cpu, bytes, "ARM part %s", value);
    }
    if (file != NULL)
        fclose(file);
}

void launch_machine_read(struct launch_machine *machine)
{
    struct utsname name = {0};
    struct sysinfo info = {0};

    uname(&name);
    sysinfo(&info);
    *machine = (struct launch_machine){.cores = launch_cpus_usable(),
                                       .memory_bytes = (uint64_t)info.totalram * info.mem_unit,
                                       .load = (double)info.loads[0] / (1 << SI_LOAD_SHIFT)};
    snprintf(machine->host, sizeof machine->host, "%s", name.nodename);
    snprintf(machine->kernel, sizeof machine->kernel, "%.40s %.70s %.40s", name.sysname,
             name.release, name.machine);
    read_cpu(machine->cpu, sizeof machine->cpu);
}
