/*
 * tests/fuzz/script.h -- a server whose answers an input spells out, in the network's place.
 *
 * The targets are linked so that s3_http_send, clock_now_s and clock_sleep_s of all of s3io come
 * here (ld's --wrap): what stands above them runs as it is, and its waits cost no time. An input is
 * answers as they would come over the wire, "%%" on a line of its own between them. In front of an
 * answer may stand lines with
 *
 *     !connect | !stale | !broken     no answer: how s3_http_send fails
 *     !cut                            the answer breaks off behind what is there of its body
 */
#ifndef TESTS_FUZZ_SCRIPT_H
#define TESTS_FUZZ_SCRIPT_H

#include <stddef.h>
#include <stdint.h>

struct s3_client;

/** A client of such a server; `endpoint` NULL: of AWS. What a case learns of a server goes with it.
 * The environment is set so that no file or host outside is asked. */
struct s3_client *script_client(const char *endpoint);

/** Begin anew, with these answers (the caller's). When there are none left requests fail for good.
 */
void script_begin(const uint8_t *data, size_t bytes);

/** Keep what goes to a sink also at the place it has in its object, as far as it lies within
 * `bytes` bytes of room (the caller's): for comparing. NULL: do not. */
void script_shadow(unsigned char *object, size_t bytes);

#endif
