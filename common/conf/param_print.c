/*
 * param_print: the tables as text, for the ledger (tsv) and the manual page (man)
 *
 *   param_print tsv    name, kind, class, status, default; tab separated
 *   param_print man    posthouse-main.cf(5) between its fixed first and last part, which are read from the two files
 *                      given as arguments
 */
#include <stdio.h>
#include "common/base/ascii.h"
#include "common/base/buf.h"
#include "common/base/io.h"
#include "common/conf/param_table.h"

static const char *class_name(enum param_class c)
{
    switch (c) {
    case PARAM_CLASS_EFFECTIVE: return "effective";
    case PARAM_CLASS_NOT_YET: return "not-yet";
    case PARAM_CLASS_INERT: return "inert";
    }
    return "";
}

static int print_tsv(const struct param_index *ix, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct param_row *row = param_row(param_sorted(ix, i));
        printf("%s\t%s\t%s\t%s\t%s\n", row->name, param_kind_name(row->kind), class_name(param_status_class(row->status)),
               row->suffix ? row->suffix : "", row->def);
    }
    return 0;
}

/* Text for roff: backslashes and a leading dot or quote are neutralised, '-' stays a hyphen-minus. */
static void put_roff(struct buf *out, const char *s)
{
    if (*s == '.' || *s == '\'')
        buf_puts(out, "\\&");
    for (; *s != '\0'; s++) {
        if (*s == '\\')
            buf_puts(out, "\\e");
        else if (*s == '-')
            buf_puts(out, "\\-");
        else
            buf_putc(out, *s);
    }
}

static void put_range(struct buf *out, const struct param_row *row)
{
    if (row->kind == PARAM_TIME)
        buf_printf(out, ", default unit %c", row->unit);
    if (row->words != NULL) {
        buf_puts(out, row->kind == PARAM_LIST ? " of " : ": ");
        put_roff(out, row->words + (row->words[0] == '|'));
        if (row->words[0] == '|')
            buf_puts(out, " or nothing");
    }
    if ((row->kind == PARAM_INT || row->kind == PARAM_BYTES) && row->max < INT32_MAX)
        buf_printf(out, ", %lld to %lld", (long long)row->min, (long long)row->max);
    else if ((row->kind == PARAM_INT || row->kind == PARAM_BYTES) && row->min > 0)
        buf_printf(out, ", at least %lld", (long long)row->min);
}

static const char *second_name(const struct param_row *row)
{
    /* An lmtp_ row directly follows its smtp_ row in the tables. */
    if (row->home != PARAM_HOME_SMTP)
        return NULL;
    for (size_t i = 0; i + 1 < param_count(); i++) {
        if (param_row(i) == row)
            return param_row(i + 1)->name;
    }
    return NULL;
}

static bool is_described_elsewhere(const struct param_row *row)
{
    if (row->home == PARAM_HOME_NONE && row->doc[0] == '\0')
        return true;
    if (row->home != PARAM_HOME_LMTP)
        return false;
    for (size_t i = 1; i < param_count(); i++) {
        if (param_row(i) == row)
            return param_row(i - 1)->name != NULL;
    }
    return false;
}

static void put_entry(struct buf *out, const struct param_row *row)
{
    const char *also = second_name(row);
    buf_puts(out, ".TP\n.B ");
    put_roff(out, row->name);
    buf_puts(out, " \\fR(default: \\fP");
    put_roff(out, row->def[0] ? row->def : "empty");
    buf_puts(out, "\\fR)\\fP\n");
    put_roff(out, row->doc);
    buf_printf(out, "\n(%s", param_kind_name(row->kind));
    put_range(out, row);
    buf_puts(out, ")\n");
    if (also != NULL)
        buf_printf(out, "For LMTP: \\fB%s\\fP.\n", also);
    if (row->suffix != NULL)
        buf_printf(out, "For one transport: \\fItransport\\fP\\fB_%s\\fP.\n", row->suffix);
    if (param_status_class(row->status) != PARAM_CLASS_EFFECTIVE) {
        bool later = param_status_class(row->status) == PARAM_CLASS_NOT_YET;
        buf_puts(out, later ? ".br\nNot yet in effect" : ".br\nNo effect: ");
        put_roff(out, later ? "" : param_status_text(row->status));
        buf_puts(out, ".\n");
    }
}

static void put_names_only(struct buf *out, const struct param_index *ix, size_t count)
{
#define STATUS(id, class, text) PARAM_STATUS_##id,
    static const enum param_status all[] = {
#include "common/conf/param_status.def"
    };
#undef STATUS
    buf_puts(out, ".SH NAMES THAT CHANGE NOTHING\nThese are accepted, so that an existing file can be used as it is.\n");
    for (size_t s = 0; s < ARRAY_LEN(all); s++) {
        bool any = false;
        for (size_t i = 0; i < count; i++) {
            const struct param_row *row = param_row(param_sorted(ix, i));
            if (row->home != PARAM_HOME_NONE || row->doc[0] != '\0' || row->status != all[s])
                continue;
            if (!any) {
                buf_puts(out, ".PP\nBecause ");
                put_roff(out, param_status_text(all[s]));
                buf_puts(out, ":\n");
            }
            buf_printf(out, "%s\n", row->name);
            any = true;
        }
    }
}

static int print_man(const struct param_index *ix, size_t count, const char *head, const char *tail)
{
    struct buf out = BUF_INIT(0);
    struct err e = ERR_INIT;
    int rc = 1;
    if (!io_read_file(head, &out, &e))
        goto out;
    for (size_t i = 0; i < count; i++) {
        const struct param_row *row = param_row(param_sorted(ix, i));
        if (!is_described_elsewhere(row))
            put_entry(&out, row);
    }
    put_names_only(&out, ix, count);
    if (!io_read_file(tail, &out, &e))
        goto out;
    rc = fwrite(out.p, 1, out.n, stdout) == out.n && fflush(stdout) == 0 ? 0 : 1;
out:
    if (rc != 0)
        fprintf(stderr, "param_print: %s\n", e.text[0] ? e.text : "cannot write");
    buf_free(&out);
    return rc;
}

int main(int argc, char **argv)
{
    struct param_index *ix = param_index_new();
    size_t count = param_index_count(ix);
    int rc = 2;
    if (argc == 2 && strcmp(argv[1], "tsv") == 0)
        rc = print_tsv(ix, count);
    else if (argc == 4 && strcmp(argv[1], "man") == 0)
        rc = print_man(ix, count, argv[2], argv[3]);
    else
        fprintf(stderr, "usage: param_print tsv | param_print man HEAD TAIL\n");
    param_index_free(&ix);
    return rc;
}
