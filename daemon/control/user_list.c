/* A user without a login name counts as "unknown". Lists are short and asked rarely: compiled for each question. */
#include "daemon/control/user_list.h"

#include <pwd.h>

#include "common/base/mem.h"
#include "common/table/match_list.h"

#define PW_BYTES 16384

static void user_name(uid_t uid, char *out, size_t size)
{
    struct passwd pw, *found = NULL;
    char *bytes = xmalloc(PW_BYTES);
    if (getpwuid_r(uid, &pw, bytes, PW_BYTES, &found) == 0 && found != NULL)
        snprintf(out, size, "%s", pw.pw_name);
    else
        snprintf(out, size, "unknown");
    free(bytes);
}

bool user_is_listed(struct conf *c, const char *title, const char *list, uid_t uid, const struct log_src *log, struct err *e)
{
    char name[256];
    user_name(uid, name, sizeof name);
    struct table_registry *reg = table_registry_new(log);
    table_registry_use_conf(reg, c);
    struct match_options o = { .registry = reg, .list = span_cstr(list), .kind = MATCH_NAMES, .title = title };
    struct match_list *ml = match_list_compile(&o);
    enum lookup found = match_list_name(ml, span_cstr(name), e);
    match_list_free(&ml);
    table_registry_unref(&reg);
    if (found == LOOKUP_NONE)
        err_set(e, "user %s (uid %lu) is not in %s", name, (unsigned long)uid, title);
    return found == LOOKUP_FOUND;
}
