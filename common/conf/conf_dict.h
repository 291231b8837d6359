/*
 * conf_dict: the definitions of main.cf as they were written
 *
 * Purpose    name to unexpanded text, with the place of the definition; nothing is checked but the syntax
 * Source     postconf(5)
 * Threads    one owner while it is read; immutable after
 * Ownership  texts belong to the arena given to conf_dict_new()
 * Errors     each in the report, with file and line; reading goes on so that one run shows all
 */
#pragma once
#include <stddef.h>
#include "common/base/arena.h"
#include "common/base/span.h"
#include "common/conf/conf_report.h"

struct conf_entry {
    const char *name;
    const char *value; /* unexpanded, never NULL */
    const char *file;
    int line;
    const struct conf_entry *next; /* in the order of the last definitions */
};

struct conf_dict;

struct conf_dict *conf_dict_new(struct arena *arena);
/* Sets *d to NULL; NULL is fine. */
void conf_dict_free(struct conf_dict **d);
/* Reads main.cf text. A name defined again replaces the earlier definition, with a warning. */
void conf_dict_read(struct conf_dict *d, struct span text, const char *file, struct conf_report *report);
/* Adds or replaces one definition. Returns the line of the one it replaced, or -1. */
int conf_dict_set(struct conf_dict *d, struct span name, struct span value, const char *file, int line);
/* NULL when not defined. */
const struct conf_entry *conf_dict_get(const struct conf_dict *d, struct span name);
/* All entries in the order of definition: loop over ->next. */
const struct conf_entry *conf_dict_first(const struct conf_dict *d);
size_t conf_dict_count(const struct conf_dict *d);
/* "name = value" into its halves, trimmed. NULL when well formed, else what is wrong. */
const char *conf_split_definition(struct span line, struct span *name, struct span *value);
