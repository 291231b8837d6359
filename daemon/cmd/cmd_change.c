/*
 * posthousectl queue hold|release|delete|undelete|requeue|expire|readdress
 *
 * A selection is asked for once, then its messages are changed BATCH at a time, each batch with one flush. Between two
 * batches Ctrl-C is obeyed: what was answered is done, the rest was not touched.
 */
#include "daemon/cmd/posthousectl.h"

#include <errno.h>
#include <sysexits.h>

#include "common/base/ascii.h"
#include "common/base/mem.h"
#include "common/mail/address.h"
#include "daemon/cmd/long_work.h"
#include "daemon/cmd/queue_format.h"
#include "daemon/cmd/select_options.h"

#define BATCH 1000

struct verb {
    const char *name, *done, *doing;
    const char *of;       /* what it is chosen from */
    const char *states;   /* those it makes sense for; NULL: all */
};

static const struct verb verbs[] = {
    { "hold", "placed on hold", "placing on hold", "queue", "active deferred incoming" },
    { "release", "released", "releasing", "queue", "hold" },
    { "delete", "deleted", "deleting", "queue", NULL },
    { "undelete", "restored", "restoring", "deleted", NULL },
    { "requeue", "requeued", "requeueing", "queue", NULL },
    { "expire", "expired", "expiring", "queue", NULL },
    { "readdress", "readdressed", "readdressing", "queue", NULL },
};

struct change {
    struct ctl *ctl;
    const struct verb *verb;
    struct select_args args;
    const char *from, *to;  /* readdress */
    struct arena *text;     /* owned: for them */
    struct long_work work;
    bool is_quiet;          /* many: only what was not done is told */
    size_t asked, sent;
    json_int_t done, missing, busy, failed;
};

/* ---- a batch ---- */

static const char *result_text(const struct change *ch, const char *result)
{
    if (strcmp(result, "missing") == 0)
        return strcmp(ch->verb->of, "deleted") == 0 ? "was not deleted, or is gone for good" :
               ch->from != NULL ? "no such message in the queue, or no such recipient waits in it" : "no such message in the queue";
    if (strcmp(result, "busy") == 0)
        return ch->from != NULL ? "is being delivered now: try again after the attempt"
                                : "is being delivered now: the change takes effect after the attempt";
    return "the change failed";
}

static void tell_result(const struct change *ch, const json_t *j)
{
    const char *result = queue_text(j, "result"), *error = queue_text(j, "error");
    if (ch->args.json)
        json_dumpf(j, stdout, 0), putchar('\n');
    else if (result[0] != '\0' && strcmp(result, "done") != 0)
        ctl_complain("%s: %s", queue_text(j, "queue_id"), error[0] != '\0' ? error : result_text(ch, result));
}

static int send_batch(struct change *ch, json_t *ids)
{
    struct err e = ERR_INIT;
    bool is_last = false;
    char op[64];
    snprintf(op, sizeof op, "queue-%s", ch->verb->name);
    json_t *request = json_pack("{s:s, s:O, s:b, s:b}", "op", op, "ids", ids, "quiet", ch->is_quiet && !ch->args.json, "final", ch->args.final);
    if (ch->from != NULL) {
        json_object_set_new(request, "from", json_string(ch->from));
        json_object_set_new(request, "to", json_string(ch->to));
    }
    int status = ctl_request(&ch->ctl->conn, request, &e) ? 0 : EX_TEMPFAIL;
    while (status == 0 && !is_last) {
        json_t *j = ctl_answer(&ch->ctl->conn, &is_last, &e);
        if (j == NULL) {
            status = EX_TEMPFAIL;
        } else if (is_last) {
            status = ctl_status_of(j, &e);
            ch->done += json_integer_value(json_object_get(j, "done"));
            ch->missing += json_integer_value(json_object_get(j, "missing"));
            ch->busy += json_integer_value(json_object_get(j, "busy"));
            ch->failed += json_integer_value(json_object_get(j, "failed"));
        } else {
            tell_result(ch, j);
        }
        json_decref(j);
    }
    if (status != 0)
        ctl_complain("%s", e.text);
    return status;
}

static int send_and_tell(void *arg, json_t *batch)
{
    struct change *ch = arg;
    int status = long_work_is_interrupted(&ch->work) ? EX_INTERRUPTED : send_batch(ch, batch);
    ch->sent += json_array_size(batch);
    long_work_tell_part(&ch->work, ch->verb->doing, ch->sent, ch->asked);
    return status;
}

static int send_all(struct change *ch, const json_t *ids)
{
    long_work_begin(&ch->work, ch->args.verbose); /* until here Ctrl-C ends the program: nothing was changed */
    ch->asked = json_array_size(ids);
    int status = select_each_batch(ids, BATCH, send_and_tell, ch);
    long_work_end(&ch->work);
    return status;
}

/* ---- the end ---- */

static int report(const struct change *ch, size_t asked, bool named)
{
    const char *s = ch->done == 1 ? "" : "s";
    if (ch->work.is_interrupted) {
        fprintf(stderr, "interrupted: %" JSON_INTEGER_FORMAT " of %zu message%s %s, the others are as they were\n", ch->done, asked, s,
                ch->verb->done);
        return EX_INTERRUPTED;
    }
    fprintf(stderr, "%" JSON_INTEGER_FORMAT " message%s %s\n", ch->done, s, ch->verb->done);
    if (!named && ch->missing > 0)
        fprintf(stderr, "%" JSON_INTEGER_FORMAT " had left meanwhile\n", ch->missing);
    if (ch->failed > 0)
        return EX_IOERR;
    if (ch->busy > 0 && ch->from != NULL)
        return EX_TEMPFAIL; /* these were left as they are */
    return asked > 0 && ch->done + ch->busy == 0 && !ch->args.all ? 1 : 0;
}

static int dry_run(const struct change *ch, const json_t *ids)
{
    size_t i, n = json_array_size(ids);
    json_t *id;
    json_array_foreach(ids, i, id) {
        if (ch->args.json)
            printf("{\"queue_id\": \"%s\", \"result\": \"selected\"}\n", json_string_value(id));
        else
            puts(json_string_value(id));
    }
    fprintf(stderr, "%zu message%s would be %s\n", n, n == 1 ? "" : "s", ch->verb->done);
    return 0;
}

static int nothing(const struct change *ch)
{
    if (ch->args.all) {
        fprintf(stderr, "0 messages %s%s\n", ch->args.dry_run ? "would be " : "", ch->verb->done);
        return 0;
    }
    if (ch->verb->states != NULL)
        ctl_complain("no message that is%s on hold matches", strcmp(ch->verb->name, "hold") == 0 ? " not" : "");
    else
        ctl_complain("no %smessage matches", strcmp(ch->verb->of, "deleted") == 0 ? "deleted " : "");
    return 1;
}

/* ---- what is meant ---- */

/* hold is for what is not on hold, release for what is. */
static void imply_states(struct change *ch)
{
    struct span rest = span_cstr(ch->verb->states != NULL ? ch->verb->states : ""), one;
    if (json_object_get(ch->args.select, "state") != NULL)
        return;
    while (span_next_token(&rest, " ", &one)) {
        char *text = xstrndup(one.p, one.n);
        select_args_add(&ch->args, "state", text);
        free(text);
    }
}

static int run_selection(struct change *ch)
{
    int status;
    if (ch->from != NULL && json_object_get(ch->args.select, "recipient") == NULL)
        select_args_add(&ch->args, "recipient", ch->from);
    imply_states(ch);
    json_t *ids = select_ids(ch->ctl, ch->args.select, ch->verb->of, &status);
    if (ids == NULL)
        return status;
    size_t n = json_array_size(ids);
    ch->is_quiet = true;
    if (n == 0)
        status = nothing(ch);
    else if (ch->args.dry_run)
        status = dry_run(ch, ids);
    else
        status = send_all(ch, ids);
    json_decref(ids);
    if (n == 0 || ch->args.dry_run)
        return status;
    int told = report(ch, n, false);
    return status != 0 ? status : told;
}

struct found {
    struct change *ch;
    json_t *ids; /* owned */
};

static int find_batch(void *arg, json_t *batch)
{
    struct found *f = arg;
    int status;
    json_t *select = json_pack("{s:O}", "id", batch);
    json_t *ids = select_ids(f->ch->ctl, select, f->ch->verb->of, &status);
    if (ids != NULL)
        json_array_extend(f->ids, ids);
    json_decref(ids);
    json_decref(select);
    return status;
}

/* Which of these there are. */
static int dry_run_ids(struct change *ch)
{
    struct found f = { ch, json_array() };
    json_t *ids = select_ids_told(ch->args.ids);
    int status = select_each_batch(ids, BATCH, find_batch, &f);
    if (status == 0)
        status = json_array_size(f.ids) > 0 ? dry_run(ch, f.ids) : nothing(ch);
    json_decref(ids);
    json_decref(f.ids);
    return status;
}

static int run_ids(struct change *ch)
{
    int status = ctl_open(ch->ctl, false);
    if (status == 0 && ch->args.dry_run)
        return dry_run_ids(ch);
    if (status == 0)
        status = send_all(ch, ch->args.ids);
    if (status != 0 && ch->done == 0 && !ch->work.is_interrupted)
        return status;
    int told = report(ch, json_array_size(ch->args.ids), true);
    return status != 0 ? status : told;
}

/* In internal form; blanks and the like only where quotes stood around them. */
static bool is_address(struct span t, bool was_quoted)
{
    struct span local, domain;
    bool ok = addr_split(t, &local, &domain) && domain.n > 0;
    for (size_t i = 0; ok && i < t.n; i++) {
        unsigned char c = (unsigned char)t.p[i];
        bool is_special = c == ' ' || c == '<' || c == '>' || c == '"';
        ok = c >= ' ' && c != 0x7f && (!is_special || (was_quoted && i < local.n));
    }
    return ok;
}

/* Both to their internal form. */
static int check_addresses(struct change *ch)
{
    struct span from = addr_unquoted(ch->text, span_cstr(ch->from)), to = addr_unquoted(ch->text, span_cstr(ch->to));
    if (is_address(from, from.p != ch->from) && is_address(to, to.p != ch->to) && (*from.p == '@') == (*to.p == '@')) {
        ch->from = arena_strndup(ch->text, from.p, from.n);
        ch->to = arena_strndup(ch->text, to.p, to.n);
        return 0;
    }
    ctl_complain("readdress: expected two addresses, or two domains as @example.com: \"%s\" \"%s\"", ch->from, ch->to);
    return EX_USAGE;
}

static int usage(const struct change *ch)
{
    if (strcmp(ch->verb->name, "readdress") == 0)
        ctl_complain("usage: queue readdress [-j] [-n] OLD NEW [ID... | - | SELECTION]");
    else
        ctl_complain("usage: queue %s [-j] [-n]%s ID... | - | ALL | SELECTION", ch->verb->name,
                     strcmp(ch->verb->name, "delete") == 0 ? " [--final]" : "");
    return EX_USAGE;
}

int ctl_queue_cmd_change(struct ctl *ctl, int argc, char **argv)
{
    struct change ch = { .ctl = ctl };
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (strcmp(verbs[i].name, argv[0]) == 0)
            ch.verb = &verbs[i];
    bool moves = strcmp(argv[0], "readdress") == 0;
    unsigned accepted = SEL_JSON | SEL_DRY_RUN | SEL_VERBOSE | (strcmp(argv[0], "delete") == 0 ? SEL_FINAL : 0u);
    if (select_args_parse(&ch.args, argc, argv, accepted, moves ? 2 : 0) != 0)
        return usage(&ch);
    ch.text = arena_new(0);
    int status = 0;
    bool selects = select_args_has_options(&ch.args) || ch.args.all;
    if (moves) {
        size_t words = json_array_size(ch.args.ids) + json_array_size(json_object_get(ch.args.select, "id")) + ch.args.all + ch.args.is_stdin;
        ch.from = argv[(size_t)argc - words - 2];
        ch.to = argv[(size_t)argc - words - 1];
        status = check_addresses(&ch);
        selects = selects || (json_array_size(ch.args.ids) == 0 && !ch.args.is_stdin);
    } else if (!selects && json_array_size(ch.args.ids) == 0 && !ch.args.is_stdin) {
        status = usage(&ch);
    }
    if (status == 0)
        select_args_read_stdin(&ch.args);
    if (status == 0 && ch.args.is_stdin && json_array_size(ch.args.ids) == 0) {
        ctl_complain("standard input has no queue id");
        status = 1;
    }
    if (status == 0)
        status = selects ? run_selection(&ch) : run_ids(&ch);
    select_args_free(&ch.args);
    arena_free(&ch.text);
    return status;
}
