/* cmd_map: what the files of `posthousectl map` share. */
#pragma once
#include "common/table/table.h"
#include "daemon/cmd/map_rows.h"
#include "daemon/cmd/posthousectl.h"

struct map_options {
    struct map_rows_options rows;
    const char *query, *remove;  /* -q, -d */
    bool list, incremental, json;
    bool header, body, mime;     /* -h, -b, -m */
    bool keep_owner, plain_mode; /* -o, -p */
    int nul;                     /* -N: 1; -n: 0; neither: -1 */
    const char *default_type;
    struct conf *conf;           /* borrowed; NULL: none could be read */
};

/* Splits "type:file". */
struct span map_spec(const struct map_options *o, const char *arg, struct span *file);
/* Each: the exit status. */
int map_query(const struct map_options *o, char **maps, int count);
int map_list(const struct map_options *o, char **maps, int count);
int map_make(const struct map_options *o, char **maps, int count);
int map_remove(const struct map_options *o, char **maps, int count);
