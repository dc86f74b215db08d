/* What launcher/channel.c makes of bytes that nobody meant: the same ones at every run. Under ASan
 * and UBSan (preset asan) each read and write of it is checked. */
#include <cmocka.h> /* IWYU pragma: keep */
