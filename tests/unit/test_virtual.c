/* virtual(8): files byte for byte, look-ups, loops, limits, paths that must not lead out. */
#include "tests/unit/unit.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/io.h"
#include "common/base/mem.h"
#include "daemon/deliver/maildir.h"
#include "daemon/deliver/tables.h"
#include "tests/unit/client_fake.h"

/* Stands in front of the C library's: the disk is full when it comes to the flush. */
static int fsync_errno;

int fsync(int fd)
{
    if (fsync_errno != 0) {
        errno = fsync_errno;
        return -1;
    }
    return fdatasync(fd);
}

struct box {
    char dir[64];
    struct sched *s;
    struct conf *c;
    struct table_registry *reg;
    struct log_src log;
    struct deliver_env env;
};

static void box_open(struct box *b, const char *maps, const char *more)
{
    snprintf(b->dir, sizeof b->dir, "/tmp/posthouse-virtual-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    char *text = xasprintf("virtual_mailbox_base = %s/base\n" "virtual_mailbox_maps = inline:{%s}\nrecipient_delimiter = +\n"
                           "virtual_uid_maps = static:%u\n" "virtual_gid_maps = static:%u\n" "virtual_minimum_uid = 0\n%s", b->dir, maps,
                           (unsigned)geteuid(), (unsigned)getegid() ? (unsigned)getegid() : 1u, more);
    b->c = fake_conf(text, "");
    free(text);
    assert_non_null(b->c);
    b->log = (struct log_src){ .name = "posthouse" };
    b->reg = table_registry_new(&b->log);
    b->s = fake_sched_new();
    b->env = (struct deliver_env){ .sched = b->s, .log = &b->log, .tables = deliver_tables_new(b->reg, &b->log) };
}

static void remove_tree(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        char path[700];
        if (e->d_name[0] == '.' && (e->d_name[1] == '\0' || e->d_name[1] == '.'))
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (e->d_type == DT_DIR)
            remove_tree(path);
        else
            unlink(path);
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

static void box_close(struct box *b)
{
    deliver_tables_free(&b->env.tables);
    table_registry_unref(&b->reg);
    conf_unref(&b->c);
    fake_sched_free(&b->s);
    remove_tree(b->dir);
}

static void run(struct box *b, const struct fake_mail *m)
{
    fake_add_job(b->s, b->c, "virtual", "d.example", 0xabc, m);
    deliver_virtual(&b->env, sched_next(b->s, NULL));
    assert_int_equal(b->s->unreported, 0);
}

/* The only file of DIR/base/SUB/, or how many there are instead. */
static int read_only_file(const struct box *b, const char *sub, struct buf *out, char *name, size_t name_size)
{
    char dir[300], path[700];
    int count = 0;
    snprintf(dir, sizeof dir, "%s/base/%s", b->dir, sub);
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        count++;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (name)
            snprintf(name, name_size, "%s", e->d_name);
        struct err err = ERR_INIT;
        if (out && !io_read_file(path, out, &err))
            return -1;
    }
    if (d)
        closedir(d);
    return count;
}

static void files_byte_for_byte(void **state)
{
    (void)state;
    static const struct {
        const char *name, *in, *out;
        size_t in_n;
    } cases[] = {
        { "lines", "A: b\r\n\r\nx\r\ny\r\n", "A: b\n\nx\ny\n", 0 },
        { "no end", "A: b\r\n\r\nx", "A: b\n\nx\n", 0 },
        { "bare CR stays", "A: b\r\n\r\nx\ry\r\r\n\r", "A: b\n\nx\ry\r\n\r\n", 0 },
        { "dots and From stay", "A: b\r\n\r\n.\r\nFrom me\r\n", "A: b\n\n.\nFrom me\n", 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct box b;
        struct buf got = BUF_INIT(0), want = BUF_INIT(0);
        char name[300];
        box_open(&b, " u@d.example=d/u/ ", "");
        run(&b, &(struct fake_mail){ .sender = "s@s.example", .rcpts = "U+ext@D.example", .content = cases[i].in });
        const struct fake_report *r = fake_report_of(b.s, 0xabc, 0);
        if (r->outcome != OUTCOME_SENT)
            fail_msg("%s: %s", cases[i].name, r->reason);
        assert_string_equal(r->relay, "virtual");
        assert_string_equal(r->reason, "delivered to maildir");
        assert_true(r->is_final_delivery);
        assert_int_equal(read_only_file(&b, "d/u/new", &got, name, sizeof name), 1);
        assert_int_equal(read_only_file(&b, "d/u/tmp", NULL, NULL, 0), 0);
        assert_int_equal(read_only_file(&b, "d/u/cur", NULL, NULL, 0), 0);
        buf_printf(&want, "Return-Path: <s@s.example>\nX-Original-To: U+ext@D.example\nDelivered-To: U+ext@D.example\n%s", cases[i].out);
        if (!span_eq(buf_span(&got), buf_span(&want)))
            fail_msg("%s: file is \"%s\"", cases[i].name, buf_cstr(&got));
        assert_non_null(strstr(name, ".client.example"));
        buf_free(&got);
        buf_free(&want);
        box_close(&b);
    }
}

/* Another thread is making the same Maildir and has got no further than tmp/. */
static void half_made_maildir_is_completed(void **state)
{
    (void)state;
    struct box b;
    char path[700];
    box_open(&b, " u@d.example=u/ ", "");
    run(&b, &(struct fake_mail){ .sender = "s@s.example", .rcpts = "u@d.example", .content = "A: b\r\n\r\nx\r\n" });
    static const char *const gone[] = { "new", "cur" };
    for (size_t i = 0; i < ARRAY_LEN(gone); i++) {
        snprintf(path, sizeof path, "%s/base/u/%s", b.dir, gone[i]);
        remove_tree(path);
    }
    run(&b, &(struct fake_mail){ .sender = "s@s.example", .rcpts = "u@d.example", .content = "A: b\r\n\r\ny\r\n" });
    assert_int_equal(fake_report_of(b.s, 0xabc, 0)->outcome, OUTCOME_SENT);
    assert_int_equal(read_only_file(&b, "u/new", NULL, NULL, 0), 1);
    box_close(&b);
}

/*
 * A kill between the rename and the result record: the recovered message (received_ms is 0, as in all jobs here) must not
 * get there twice, wherever the reader has moved it; another message of that name must not be taken for it.
 */
static void repeats_are_noticed(void **state)
{
    (void)state;
    struct box b;
    char name[300], from[700], to[700];
    const struct fake_mail m = { .sender = "s@s.example", .rcpts = "u@d.example", .content = "A: b\r\n\r\nx\r\ny" };
    const struct fake_mail other = { .sender = "s@s.example", .rcpts = "u@d.example", .content = "A: b\r\n\r\nx\r\nz" };
    box_open(&b, " u@d.example=u/ ", "");
    run(&b, &m);
    run(&b, &m);
    assert_int_equal(read_only_file(&b, "u/new", NULL, name, sizeof name), 1);
    assert_int_equal(read_only_file(&b, "u/tmp", NULL, NULL, 0), 0);
    snprintf(from, sizeof from, "%s/base/u/new/%s", b.dir, name);
    snprintf(to, sizeof to, "%s/base/u/cur/%s:2,S", b.dir, name);
    assert_int_equal(rename(from, to), 0);
    run(&b, &m);
    assert_int_equal(read_only_file(&b, "u/new", NULL, NULL, 0), 0);
    run(&b, &other);
    run(&b, &m);
    assert_int_equal(read_only_file(&b, "u/new", NULL, NULL, 0), 1); /* the other one; m is in cur/ */
    assert_int_equal(unlink(to), 0);
    run(&b, &m);
    assert_int_equal(read_only_file(&b, "u/new", NULL, NULL, 0), 2); /* the name is taken by other: a second name */
    box_close(&b);
}

static void large_content_is_whole(void **state)
{
    (void)state;
    struct box b;
    struct buf in = BUF_INIT(0), want = BUF_INIT(0), got = BUF_INIT(0);
    box_open(&b, " u@d.example=u/ ", "enable_original_recipient = no\n");
    buf_puts(&want, "Return-Path: <>\nDelivered-To: u@d.example\n");
    for (int i = 0; i < 20000; i++) { /* CRLF falls on every place of the 64 KiB buffer */
        buf_printf(&in, "%0*d\r\n", 1 + i % 13, i);
        buf_printf(&want, "%0*d\n", 1 + i % 13, i);
    }
    run(&b, &(struct fake_mail){ .sender = "", .rcpts = "u@d.example", .content = in.p, .content_n = in.n });
    assert_int_equal(fake_report_of(b.s, 0xabc, 0)->outcome, OUTCOME_SENT);
    assert_int_equal(read_only_file(&b, "u/new", &got, NULL, 0), 1);
    assert_true(span_eq(buf_span(&got), buf_span(&want)));
    buf_free(&in);
    buf_free(&want);
    buf_free(&got);
    box_close(&b);
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *name, *maps, *conf, *content;
        enum outcome outcome;
        const char *dsn, *reason;
    } cases[] = {
        { "unknown user", "x@d.example=x/", "", NULL, OUTCOME_BOUNCED, "5.1.1", "unknown user: \"u@d.example\"" },
        { "loop", "u@d.example=u/", "", "Delivered-To: u@d.example\r\n\r\n", OUTCOME_BOUNCED, "5.4.6", "mail forwarding loop for u@d.example" },
        { "mbox form", "u@d.example=u", "", NULL, OUTCOME_DEFERRED, "4.3.5", "mail system configuration error" },
        { "too large", "u@d.example=u/", "virtual_mailbox_limit = 20\nmessage_size_limit = 20\n", NULL, OUTCOME_BOUNCED, "5.2.3", NULL },
        { "out by dots", "u@d.example=../../u/", "", NULL, OUTCOME_DEFERRED, "4.2.0", NULL },
        { "the sender's choice of a path", "", "virtual_mailbox_maps = pcre:{{/^(.*)@d\\.example$$/ $$1/}}\n", NULL, OUTCOME_BOUNCED, "5.1.1",
          "unknown user: \"u@d.example\"" },
        { "a pattern with a path of its own", "", "virtual_mailbox_maps = pcre:{{/^(.*)@d\\.example$$/ all/}}\n", NULL, OUTCOME_SENT, "2.0.0", NULL },
        { "table fails", "u@d.example=u/", "virtual_mailbox_maps = fail:1\n", NULL, OUTCOME_DEFERRED, "4.3.5", NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct box b;
        char maps[100];
        snprintf(maps, sizeof maps, " %s ", cases[i].maps);
        box_open(&b, maps, cases[i].conf);
        run(&b, &(struct fake_mail){ .sender = "s@s.example", .rcpts = "u@d.example",
                                     .content = cases[i].content ? cases[i].content : "x: y\r\n\r\n" });
        const struct fake_report *r = fake_report_of(b.s, 0xabc, 0);
        if (r->outcome != cases[i].outcome || strcmp(r->dsn, cases[i].dsn) != 0 ||
            (cases[i].reason && strcmp(r->reason, cases[i].reason) != 0))
            fail_msg("%s: %d %s (%s)", cases[i].name, r->outcome, r->dsn, r->reason);
        box_close(&b);
    }
}

static void links_do_not_lead_out(void **state)
{
    (void)state;
    struct box b;
    char path[300], outside[300];
    box_open(&b, " u@d.example=u/, v@d.example=v/, w@d.example=w/ ", "");
    snprintf(path, sizeof path, "%s/base", b.dir);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(outside, sizeof outside, "%s/outside", b.dir);
    assert_int_equal(mkdir(outside, 0700), 0);
    snprintf(path, sizeof path, "%s/base/u", b.dir);
    assert_int_equal(symlink(outside, path), 0);
    snprintf(path, sizeof path, "%s/base/v", b.dir);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/base/v/tmp", b.dir);
    assert_int_equal(symlink(outside, path), 0);
    snprintf(path, sizeof path, "%s/base/w", b.dir);
    assert_int_equal(symlink("v2", path), 0); /* stays inside */
    snprintf(path, sizeof path, "%s/base/v2", b.dir);
    assert_int_equal(mkdir(path, 0700), 0);
    run(&b, &(struct fake_mail){ .sender = "s@s.example", .rcpts = "u@d.example v@d.example w@d.example", .content = "x\r\n" });
    assert_int_equal(fake_report_of(b.s, 0xabc, 0)->outcome, OUTCOME_DEFERRED);
    assert_int_equal(fake_report_of(b.s, 0xabc, 1)->outcome, OUTCOME_DEFERRED);
    assert_int_equal(fake_report_of(b.s, 0xabc, 2)->outcome, OUTCOME_SENT);
    assert_int_equal(read_only_file(&b, "../outside", NULL, NULL, 0), 0);
    assert_int_equal(read_only_file(&b, "v2/new", NULL, NULL, 0), 1);
    box_close(&b);
}

static enum outcome deliver_for(struct box *b, const char *content, const char **dsn)
{
    run(b, &(struct fake_mail){ .sender = "s@s.example", .rcpts = "u@d.example", .content = content });
    const struct fake_report *r = fake_report_of(b->s, 0xabc, 0);
    *dsn = r->dsn;
    return r->outcome;
}

/* Nothing is left of a delivery that failed, and the next one succeeds. */
static void disk_and_quota_are_full(void **state)
{
    (void)state;
    static const struct { int sys; const char *dsn, *reason; } cases[] = {
        { EDQUOT, "4.2.2", "Disk quota exceeded" }, { ENOSPC, "4.3.1", "No space left on device" }, { EIO, "4.2.0", "Input/output error" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct box b;
        const char *dsn;
        box_open(&b, " u@d.example=u/ ", "");
        fsync_errno = cases[i].sys;
        enum outcome got = deliver_for(&b, "x: y\r\n\r\n", &dsn);
        fsync_errno = 0;
        if (got != OUTCOME_DEFERRED || strcmp(dsn, cases[i].dsn) != 0 || !strstr(fake_report_of(b.s, 0xabc, 0)->reason, cases[i].reason))
            fail_msg("%s: %d %s (%s)", cases[i].reason, got, dsn, fake_report_of(b.s, 0xabc, 0)->reason);
        assert_int_equal(read_only_file(&b, "u/tmp", NULL, NULL, 0), 0);
        assert_int_equal(read_only_file(&b, "u/new", NULL, NULL, 0), 0);
        box_close(&b);
    }
}

/* A file that may not grow: the write itself stops half way. */
static void files_have_a_size_limit(void **state)
{
    (void)state;
    struct box b;
    const char *dsn;
    struct rlimit before, small;
    char big[9000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    box_open(&b, " u@d.example=u/ ", "");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum outcome got = deliver_for(&b, big, &dsn);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(got, OUTCOME_DEFERRED);
    assert_string_equal(dsn, "4.2.0");
    assert_non_null(strstr(fake_report_of(b.s, 0xabc, 0)->reason, "File too large"));
    assert_int_equal(read_only_file(&b, "u/tmp", NULL, NULL, 0), 0);
    assert_int_equal(read_only_file(&b, "u/new", NULL, NULL, 0), 0);
    box_close(&b);
}

/* As root: the file belongs to the user of the maps, and one that may not write there is refused. */
static void owners_come_from_the_maps(void **state)
{
    (void)state;
    struct box b;
    struct stat st;
    char path[400], name[300];
    if (!maildir_can_switch_user()) {
        print_message("skipped: needs CAP_SETUID\n");
        return;
    }
    box_open(&b, " u@d.example=u/, v@d.example=v/ ", "virtual_uid_maps = static:4321\n" "virtual_gid_maps = static:4322\n");
    snprintf(path, sizeof path, "%s/base", b.dir);
    assert_int_equal(mkdir(path, 0755), 0);
    assert_int_equal(chmod(b.dir, 0755), 0);
    snprintf(path, sizeof path, "%s/base/u", b.dir);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(chown(path, 4321, 4322), 0);
    snprintf(path, sizeof path, "%s/base/v", b.dir);
    assert_int_equal(mkdir(path, 0700), 0);
    run(&b, &(struct fake_mail){ .sender = "s@s.example", .rcpts = "u@d.example v@d.example", .content = "x\r\n" });
    assert_int_equal(fake_report_of(b.s, 0xabc, 0)->outcome, OUTCOME_SENT);
    assert_int_equal(fake_report_of(b.s, 0xabc, 1)->outcome, OUTCOME_DEFERRED);
    assert_int_equal(read_only_file(&b, "u/new", NULL, name, sizeof name), 1);
    snprintf(path, sizeof path, "%s/base/u/new/%s", b.dir, name);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, 4321);
    assert_int_equal(st.st_gid, 4322);
    box_close(&b);
    box_open(&b, " u@d.example=u/ ", "virtual_uid_maps = static:99\n" "virtual_minimum_uid = 100\n");
    run(&b, &(struct fake_mail){ .sender = "s@s.example", .rcpts = "u@d.example", .content = "x\r\n" });
    assert_string_equal(fake_report_of(b.s, 0xabc, 0)->dsn, "4.3.5");
    box_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeats_are_noticed),
        cmocka_unit_test(half_made_maildir_is_completed),
        cmocka_unit_test(files_byte_for_byte), cmocka_unit_test(large_content_is_whole), cmocka_unit_test(refusals),
        cmocka_unit_test(links_do_not_lead_out), cmocka_unit_test(owners_come_from_the_maps),
        cmocka_unit_test(disk_and_quota_are_full), cmocka_unit_test(files_have_a_size_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
