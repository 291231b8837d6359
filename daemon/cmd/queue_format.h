/*
 * queue_format: queued messages for people
 *
 * Purpose    the listing of mailq (postqueue -p, byte for byte), and the long form of one message
 * Source     reference/wire-formats.md section 9; input is queue_json()'s object
 * Threads    one owner
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct queue_list {
    FILE *out;
    bool long_ids;     /* enable_long_queue_ids: other column widths */
    bool as_json;      /* postqueue -j: one line per message, nothing else */
    uint64_t count, bytes;
};

/*
 * A member's text for people, "" when there is none. Senders, recipients and servers choose much of it: what a terminal would
 * act upon is replaced, in the object itself.
 */
const char *queue_text(const json_t *o, const char *name);
/* Prints one message, the heading before the first. */
void queue_list_add(struct queue_list *l, const json_t *m);
/* The last line, or that the queue is empty. */
void queue_list_end(struct queue_list *l);
/* Everything that is known of one message. now_s: wall clock. */
void queue_show_text(FILE *out, const json_t *m, int64_t now_s);
/* One line of JSON. */
void queue_show_json(FILE *out, const json_t *m);
