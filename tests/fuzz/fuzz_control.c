/*
 * What a client of the control socket or of public/submit sends, line by line, and the content behind a submission. The
 * first byte says who it is. Every answer is a line of JSON, an answer is ended by one with "ok", and what was taken into the
 * queue has addresses that can be sent.
 */
#include "tests/fuzz/fuzz.h"

#include <jansson.h>

#include "daemon/cmd/queue_format.h"
#include "daemon/control/control_internal.h"
#include "policy/verify.h"
#include "tests/fuzz/fuzz_wire.h"
#include "tests/unit/ctl_fixture.h"

static bool reload(void *arg UNUSED, struct buf *text)
{
    buf_puts(text, "one finding\nanother\n");
    return true;
}

static void stop(void *arg UNUSED) { }

static struct fixture *the_fixture(void);

static void clean_up(void)
{
    nftw(the_fixture()->dir, remove_cb, 16, FTW_DEPTH | FTW_PHYS);
}

static struct fixture *the_fixture(void)
{
    static struct fixture *f;
    void *state = NULL;
    if (f == NULL) {
        if (access("/dev/shm", W_OK) == 0)
            setenv("TMPDIR", "/dev/shm", 0);
        CHECK(setup(&state) == 0);
        f = state;
        (void)teardown; /* it lives as long as the process */
        fixture_start_spool(f, false);
        atexit(clean_up);
    }
    return f;
}

/* ---- what came back ---- */

static void check_shown(const json_t *j)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    struct queue_list l = { .out = out };
    queue_list_add(&l, j);
    queue_show_text(out, j, 1700000000);
    fclose(out);
    for (size_t i = 0; i < n; i++)
        CHECK(text[i] == '\n' || ((unsigned char)text[i] >= 32 && text[i] != 127));
    free(text);
}

/* Content that queue-cat gives lies between the lines: its length was told. */
static void check_answers(struct span out)
{
    while (out.n > 0) {
        ptrdiff_t lf = span_find(out, '\n');
        CHECK(lf > 0);
        json_t *j = json_loadb(out.p, (size_t)lf, JSON_REJECT_DUPLICATES, NULL);
        CHECK(json_is_object(j));
        out = span_from(out, (size_t)lf + 1);
        json_t *bytes = json_object_get(j, "content_bytes");
        if (bytes != NULL && json_object_get(j, "ok") != NULL) {
            CHECK((uint64_t)json_integer_value(bytes) <= out.n);
            out = span_from(out, (size_t)json_integer_value(bytes));
        }
        if (json_object_get(j, "recipients") != NULL)
            check_shown(j);
        json_decref(j);
    }
}

static void check_queued(struct fixture *f)
{
    for (unsigned i = 0; i < f->sched.n; i++) {
        const struct envelope *e = &f->sched.got[i]->env;
        CHECK(!fuzz_has_control(e->sender) && !fuzz_has_control(e->envid) && e->rcpt_count > 0);
        for (uint32_t k = 0; k < e->rcpt_count; k++)
            CHECK(e->rcpts[k].addr.n > 0 && !fuzz_has_control(e->rcpts[k].addr));
        struct content_view v;
        struct err err = ERR_INIT;
        CHECK(content_acquire(f->spool, f->sched.got[i], &v, &err));
        /* what was imported is kept byte by byte */
        CHECK(v.n > 0 && ((e->content_flags & CONTENT_NO_FINAL_EOL) || v.p[v.n - 1] == '\n'));
        CHECK((e->flags & ENV_LOCAL_SUBMIT) == 0 || (v.n > 2 && v.p[v.n - 2] == '\r') || (e->content_flags & CONTENT_NO_FINAL_EOL));
        content_release(&v);
    }
    for (unsigned i = 0; i < f->sched.n; i++)
        spool_message_done(f->spool, f->sched.got[i]);
    fixture_forget(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fixture *f = the_fixture();
    struct span in = span_of((const char *)data, n);
    if (n < 2 || n > 16384 || memmem(data, n, "compact", 7) != NULL) /* waits for the keeper as long as that takes */
        return 0;
    struct verifier *verifier = verifier_new(&(struct verifier_options){ .log = &f->log });
    verifier_halt(verifier); /* no threads: who asks is answered at once */
    uint8_t who = fuzz_byte(&in);
    struct fuzz_wire w = { .in = in, .piece = who & 0xf0 ? (size_t)(who >> 4) * 7 : SIZE_MAX };
    struct control c = {
        .o = { .conf_dir = f->dir, .sched = &f->sched, .spool = f->spool, .verifier = verifier, .log = &f->log, .conf = fixture_conf, .reload = reload,
               .stop = stop, .arg = f },
    };
    struct ctl_client cl = { .c = &c, .peer = { .uid = who & 1 ? 12345 : 0, .pid = 1, .is_owner = !(who & 1) }, .is_public = who & 2,
                             .state = CLIENT_RUNNING };
    lock_init(&c.m, LOCK_CONTROL);
    cl.s = stream_new_layer((struct stream_layer){ &fuzz_wire_ops, &w }, -1);
    /* something to show: an odd stored message */
    struct msg *m = msg_new();
    m->env.id = 0x5f5e100aabbcc;
    m->env.sender = SPAN_LIT("a\x1b[2J\xff@x");
    struct msg_rcpt *r = msg_add_rcpt(m);
    r->addr = r->orig = SPAN_LIT("b\xc2\x9b@y");
    r->last_reason = SPAN_LIT("450 \x1b]0;x\a\nmore");
    f->sched.got[f->sched.n++] = m;
    ctl_client_run(&cl);
    check_answers(buf_span(&w.out));
    f->sched.got[0] = f->sched.got[--f->sched.n]; /* the last that came takes the place of the odd one */
    msg_unref(&m);
    check_queued(f);
    stream_free(&cl.s);
    verifier_free(&verifier);
    lock_destroy(&c.m);
    buf_free(&w.out);
    return 0;
}
