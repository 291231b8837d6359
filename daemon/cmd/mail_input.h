/*
 * mail_input: a message from standard input, ready to be handed over
 *
 * Purpose    line ends become LF, a mailbox "From " line in front is dropped, a line holding only a dot ends the message unless
 *            it is to be kept. All of it is read before anybody is asked to take it, so that a slow producer holds nothing up.
 * Source     sendmail(1) -i
 * Threads    one owner
 * Limits     the size limit given; INPUT_MEMORY_MAX in memory, more in an unnamed file
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "common/base/attrs.h"
#include "common/base/buf.h"
#include "common/base/err.h"

#define INPUT_MEMORY_MAX (8 * 1024 * 1024)

struct mail_input {
    struct buf head;    /* the first INPUT_MEMORY_MAX bytes */
    FILE *file;         /* owned; what comes after, NULL when there is no more */
    uint64_t bytes;
};

enum mail_input_status { INPUT_OK, INPUT_TOO_BIG, INPUT_FAILED };

/* limit_bytes 0: none. */
enum mail_input_status mail_input_read(struct mail_input *in, FILE *from, bool keep_dots, uint64_t limit_bytes, struct err *e) MUST_CHECK;
/* For who reads otherwise: adds bytes to an empty or begun input; at the end mail_input_finish(). False with errno. */
bool mail_input_add(struct mail_input *in, struct span bytes) MUST_CHECK;
bool mail_input_finish(struct mail_input *in) MUST_CHECK;
void mail_input_free(struct mail_input *in);
/* Calls fn with all pieces in order; false when fn or reading failed. */
bool mail_input_each(struct mail_input *in, bool (*fn)(void *arg, struct span piece), void *arg) MUST_CHECK;
