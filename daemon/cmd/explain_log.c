/*
 * What a client did, from the mail log: lines "posthouse/smtpd[SESSION]: QUEUEID: client=NAME[ADDR]", "QUEUEID: from=<A>",
 * "QUEUEID: to=<A>" and "QUEUEID|NOQUEUE: reject: RCPT from NAME[ADDR]: ...; from=<A> to=<A> proto=P helo=<N>". The file is
 * read once, from its beginning; later lines win, so that a number that was used again means its last user.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/cmd/explain.h"

struct log_read {
    const char *what;             /* queue id or session */
    struct arena *a;
    struct explain_question *q;
    bool found;
};

/* The text between `open` and `close` behind `name`, e.g. from=<a>. NULL: none. */
static char *between(struct arena *a, const char *line, const char *name, char close)
{
    const char *p = strstr(line, name);
    if (p == NULL)
        return NULL;
    p += strlen(name);
    const char *end = strchr(p, close);
    return end != NULL ? arena_strndup(a, p, (size_t)(end - p)) : NULL;
}

/* "name[addr]" or "name[addr]:port" */
static void take_client(struct log_read *r, const char *p)
{
    const char *open = strchr(p, '['), *close = open != NULL ? strchr(open, ']') : NULL;
    if (close == NULL)
        return;
    r->q->name = arena_strndup(r->a, p, (size_t)(open - p));
    r->q->client = arena_strndup(r->a, open + 1, (size_t)(close - open - 1));
    r->found = true;
}

static void add_rcpt(struct log_read *r, const char *rcpt)
{
    struct explain_question *q = r->q;
    for (size_t i = 0; i < q->rcpt_count; i++)
        if (strcmp(q->rcpt[i], rcpt) == 0)
            return;
    if (q->rcpt_count < EXPLAIN_RCPTS_MAX)
        q->rcpt[q->rcpt_count++] = rcpt;
}

/* from=<>, to=<>, proto=, helo=<>, sasl_username= of one line */
static void take_attributes(struct log_read *r, const char *line)
{
    const char *from = between(r->a, line, " from=<", '>'), *to = between(r->a, line, " to=<", '>');
    const char *orig = between(r->a, line, " orig_to=<", '>'), *helo = between(r->a, line, " helo=<", '>');
    const char *user = strstr(line, "sasl_username=");
    if (from != NULL)
        r->q->sender = from;
    if (orig != NULL || to != NULL)
        add_rcpt(r, orig != NULL ? orig : to);
    if (helo != NULL)
        r->q->helo = helo;
    if (user != NULL)
        r->q->sasl_user = arena_strndup(r->a, user + 14, strcspn(user + 14, ", \n"));
    if (strstr(line, " proto=ESMTP") != NULL)
        r->q->is_esmtp = true;
    if (strstr(line, " proto=ESMTPS") != NULL)
        r->q->is_tls = true;
}

/* A new session of that number: what an earlier one did is not meant. */
static void begin_session(struct log_read *r, const char *client)
{
    struct explain_question *q = r->q;
    q->sender = q->helo = q->sasl_user = NULL;
    q->rcpt_count = 0;
    take_client(r, client);
}

static void session_line(struct log_read *r, const char *text)
{
    const char *p;
    if (strncmp(text, "connect from ", 13) == 0)
        begin_session(r, text + 13);
    else if ((p = strstr(text, ": client=")) != NULL)
        take_client(r, p + 9);
    if ((p = strstr(text, ": reject: ")) != NULL || (p = strstr(text, ": reject_warning: ")) != NULL) {
        p = strstr(p, " from ");
        if (p != NULL)
            take_client(r, p + 6);
    }
    if (strstr(text, ": client=") != NULL || strstr(text, "; from=<") != NULL || strstr(text, " helo=<") != NULL)
        take_attributes(r, text);
}

static void queue_line(struct log_read *r, const char *text)
{
    const char *p = strstr(text, "client=");
    if (p == text)
        take_client(r, p + 7);
    char *line = arena_printf(r->a, " %s", text); /* attributes follow a space */
    take_attributes(r, line);
}

/* "... posthouse/smtpd[12]: TEXT" */
static void one_line(struct log_read *r, const char *line)
{
    size_t n = strlen(r->what);
    const char *tag = strstr(line, "]: "), *open = tag;
    if (tag == NULL)
        return;
    while (open > line && *open != '[')
        open--;
    const char *text = tag + 3;
    if ((size_t)(tag - open) == n + 1 && memcmp(open + 1, r->what, n) == 0 && open - line >= 5 && memcmp(open - 5, "smtpd", 5) == 0)
        session_line(r, text);
    else if (strncmp(text, r->what, n) == 0 && text[n] == ':' && text[n + 1] == ' ')
        queue_line(r, text + n + 2);
}

bool explain_from_log(const char *log_file, const char *what, struct arena *a, struct explain_question *q, struct err *e)
{
    struct log_read r = { .what = what, .a = a, .q = q };
    char *line = NULL;
    size_t cap = 0;
    FILE *f = fopen(log_file, "re");
    if (f == NULL) {
        err_set_sys(e, errno, "%s", log_file);
        return false;
    }
    while (getline(&line, &cap, f) > 0)
        if (strstr(line, what) != NULL)
            one_line(&r, line);
    free(line);
    fclose(f);
    if (!r.found)
        err_set(e, "%s says nothing of a client of \"%s\": expected a queue ID or the number in smtpd[NUMBER]", log_file, what);
    return r.found;
}
