/* ctl_conf_internal: shared by the ctl_conf_*.c files. */
#pragma once
#include <stdbool.h>
#include <stdio.h>
#include "common/base/buf.h"
#include "common/base/span.h"
#include "common/conf/conf_internal.h"

#define CTL_CONF_FOLD 80 /* longest line with -f */

enum ctl_conf_object { CTL_MAIN, CTL_SERVICES, CTL_FIELDS, CTL_SERVICE_PARAMS };
enum ctl_conf_action { CTL_SHOW, CTL_EDIT, CTL_REMOVE, CTL_COMMENT };

struct ctl_conf {
    const char *dir;
    FILE *out, *err;
    enum ctl_conf_object object;
    enum ctl_conf_action action;
    bool defaults, set_only, expand, fold, json;
    bool hide_name, hide_value;
    char **args;    /* NULL-terminated */
    const char **settings; /* of -o; NULL-terminated, or NULL */
    size_t setting_count;
    struct conf *conf;
    struct conf_report report;
};

/* One "name = value" line, or what -h, -H, -f and -j make of it. l: the service it belongs to, or NULL. */
void ctl_conf_put(struct ctl_conf *c, const struct master_line *l, const char *name, const char *value);
/* One JSON object a line; pairs: member name, text, member name, text, ... */
void ctl_conf_put_json(struct ctl_conf *c, const char *const *pairs, size_t count);
/* White space folded to single spaces, as postconf prints values. */
void ctl_conf_squeeze(struct buf *out, const char *value);
int ctl_conf_show_main(struct ctl_conf *c);
int ctl_conf_show_master(struct ctl_conf *c);
int ctl_conf_edit_main(struct ctl_conf *c);
int ctl_conf_edit_master(struct ctl_conf *c);

/* The text of a service line in columns: "smtp       inet  n  ...  smtpd -o a=b". */
void ctl_conf_service_text(struct buf *out, const struct master_line *l, bool fold);
/* The index of a field name (service, type, private, ... command), or -1. */
int ctl_conf_field(struct span name);
/* Program and arguments of a line. */
void ctl_conf_command_text(struct buf *out, const struct master_line *l);
/* The line with what its -o settings expand to, made in the arena; what cannot be expanded stays as it is, with a warning. */
struct master_line *ctl_conf_expand_line(struct ctl_conf *c, const struct master_line *l, struct arena *a);
/* "*" or nothing: any. */
bool ctl_conf_is_any(struct span s);
/* Replaces DIR/name by the text; mode and owner stay. False with a message on c->err. */
bool ctl_conf_replace_file(struct ctl_conf *c, const char *name, const struct buf *text) MUST_CHECK;
bool ctl_conf_read_file(struct ctl_conf *c, const char *name, struct buf *text) MUST_CHECK;
