/*
 * posthousectl map: asks tables, and makes databases from texts, as postmap and postalias do; by these names it is nothing else
 *
 * Exit status of -q and -d: 0 found, 1 not found, 75 the table failed.
 */
#include "daemon/cmd/cmd_map.h"

#include <getopt.h>
#include <sysexits.h>

#include "common/conf/conf_internal.h"
#include "common/conf/params.h"

static int usage(void)
{
    fputs("usage: posthousectl map [-afFjuU] [-bhm] -q KEY | -q - type:name ...   ask\n"
          "       posthousectl map [-fFju] -s type:name ...                      list every row\n"
          "       posthousectl map [-afFnNopruw] [-i] [type:]file ...            make (add to) file's database\n"
          "       posthousectl map [-fu] -d KEY | -d - type:file ...             remove from file's database\n", stderr);
    return EX_USAGE;
}

struct span map_spec(const struct map_options *o, const char *arg, struct span *file)
{
    struct span spec = span_cstr(arg);
    ptrdiff_t colon = span_find(spec, ':');
    *file = span_from(spec, (size_t)(colon + 1));
    return colon < 0 ? span_cstr(o->default_type) : span_of(arg, (size_t)colon);
}

static bool set_option(struct map_options *o, int c, bool *force_utf8)
{
    switch (c) {
    case 'a': o->rows.is_aliases = true; break;
    case 'b': o->body = true; break;
    case 'd': o->remove = optarg; break;
    case 'f': o->rows.keep_case = true; break;
    case 'F': o->rows.is_files = true; break;
    case 'h': o->header = true; break;
    case 'i': o->incremental = true; break;
    case 'j': o->json = true; break;
    case 'm': o->mime = true; break;
    case 'n': o->nul = 0; break;
    case 'N': o->nul = 1; break;
    case 'o': o->keep_owner = true; break;
    case 'p': o->plain_mode = true; break;
    case 'q': o->query = optarg; break;
    case 'r': o->rows.replace = true; break;
    case 's': o->list = true; break;
    case 'u': o->rows.is_bytes = true; break;
    case 'U': *force_utf8 = true; break;
    case 'v': break;
    case 'w': o->rows.ignore = true; break;
    default: return false;
    }
    return true;
}

/* Options that have no meaning together. */
static const char *conflict(const struct map_options *o)
{
    bool message = o->header || o->body;
    if ((o->query != NULL) + (o->remove != NULL) + o->list + o->incremental > 1)
        return "-q, -d, -s and -i are different things to do: give one of them";
    if (message && (o->query == NULL || strcmp(o->query, "-") != 0))
        return "-b and -h read a message: they want -q -";
    if (o->json && o->query == NULL && !o->list)
        return "-j wants -q or -s";
    return NULL;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

bool ctl_is_map_name(const char *program)
{
    const char *name = base_name(program);
    return strcmp(name, "postmap") == 0 || strcmp(name, "postalias") == 0;
}

int ctl_cmd_map(struct ctl *ctl, int argc, char **argv)
{
    struct map_options o = { .nul = -1 };
    bool force_utf8 = false;
    int c;
    o.rows.is_aliases = strcmp(base_name(argv[0]), "postalias") == 0;
    while ((c = getopt(argc, argv, "+abc:d:fFhijmnNopq:rsuUvw")) != -1) {
        if (c == 'c')
            ctl->dir = optarg;
        else if (!set_option(&o, c, &force_utf8))
            return usage();
    }
    const char *why = conflict(&o);
    if (why != NULL)
        ctl_complain("map: %s", why);
    if (why != NULL || optind >= argc)
        return usage();
    if (o.mime && !o.header && !o.body)
        ctl_complain("map: warning: -m means nothing without -b or -h");
    const struct conf *conf = ctl_config(ctl); /* without one, the defaults serve */
    o.conf = ctl->conf;
    o.default_type = conf != NULL ? conf_global(conf)->default_database_type : "hash";
    if ((conf != NULL && !conf_global(conf)->smtputf8_enable) || ((o.header || o.body) && !force_utf8))
        o.rows.is_bytes = true;
    argv += optind;
    argc -= optind;
    if (o.query != NULL)
        return map_query(&o, argv, argc);
    if (o.list)
        return map_list(&o, argv, argc);
    return o.remove != NULL ? map_remove(&o, argv, argc) : map_make(&o, argv, argc);
}
