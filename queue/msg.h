/*
 * msg: one message as the queue knows it: envelope, recipients, where its content is
 *
 * Purpose    what travels from the SMTP server through spool and scheduler to a delivery thread. The envelope is
 *            immutable once the message was handed to spool_submit(); recipient progress belongs to the scheduler.
 * Source     RFC 5321, RFC 3461 (DSN parameters), RFC 6531; DESIGN "The spool"
 * Threads    envelope: immutable after submit, any thread with a reference. rcpt[].progress: guarded by the
 *            scheduler's lock. References: any thread.
 * Ownership  counted; all spans live in the message's arena
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/arena.h"
#include "common/base/attrs.h"
#include "common/base/span.h"
#include "queue/qid.h"

enum { /* RFC 3461 NOTIFY=; none set: the default, failure and delay */
    NOTIFY_NEVER = 1, NOTIFY_SUCCESS = 2, NOTIFY_FAILURE = 4, NOTIFY_DELAY = 8,
};
enum dsn_ret { DSN_RET_UNSET, DSN_RET_FULL, DSN_RET_HDRS };

enum { /* struct envelope.flags */
    ENV_SMTPUTF8     = 1 << 0, /* sender asked for it at MAIL FROM */
    ENV_8BITMIME     = 1 << 1, /* BODY=8BITMIME */
    ENV_BOUNCE       = 1 << 2, /* our own notification: never bounced again to a null sender */
    ENV_LOCAL_SUBMIT = 1 << 3, /* from sendmail or maildrop */
    ENV_HOLD         = 1 << 4, /* to be put on hold at once */
    ENV_AUTHENTICATED = 1 << 5,
    ENV_NO_DELAY_WARNING = 1 << 6,
    ENV_SOURCE_LOCAL = 1 << 8, /* the client, or whom XFORWARD names, is in local_header_rewrite_clients */
    ENV_FORCED_EXPIRE = 1 << 7, /* an administrator wants it bounced now; set by recovery and in listings */
};
enum { /* struct envelope.content_flags: what the receiving leg learned, so that no later leg scans again */
    CONTENT_HAS_8BIT      = 1 << 0,
    CONTENT_HAS_LONG_LINE = 1 << 1, /* a line over 998 bytes */
    CONTENT_HAS_DOT_LINE  = 1 << 2, /* a line begins with '.': must be dot-stuffed on output */
    CONTENT_HAS_BARE_CR   = 1 << 3,
    CONTENT_HAS_NUL       = 1 << 4,
    CONTENT_NO_FINAL_EOL  = 1 << 5, /* last line lacks CRLF (BDAT) */
    CONTENT_HAS_8BIT_HEADER = 1 << 6, /* needs SMTPUTF8 downstream */
};

/* Where a recipient goes; resolved by policy (policy/route.h), opaque text to the queue. */
struct msg_route {
    struct span transport; /* name of a master.cf transport; empty: not resolved yet */
    struct span nexthop;   /* as the transport reads it, e.g. "example.com", "[127.0.0.1]:24"; never empty once resolved */
};

enum rcpt_state {
    RCPT_TODO,     /* waits for a delivery attempt (first or retry) */
    RCPT_BUSY,     /* a delivery thread has it */
    RCPT_DONE,     /* delivered, or its failure has been reported: never to be tried again */
};

struct msg_rcpt {
    struct span addr;        /* recipient now (after rewriting and expansion) */
    struct span orig;        /* as given in RCPT TO */
    struct span orcpt;       /* DSN ORCPT "type;xtext-decoded address", empty when not given */
    uint8_t notify;          /* NOTIFY_* */
    struct msg_route route;  /* set by the receiving leg or by the scheduler; not written to the journal */
    /* progress: guarded by the scheduler's lock */
    uint8_t state;           /* enum rcpt_state */
    bool is_readdressed;     /* addr is what an administrator said, no longer that of the message record */
    bool is_alone;           /* to be tried in a job of its own: the last attempt with others ended for all of them */
    uint16_t attempts;
    int64_t due_us;          /* wall clock of the next attempt; 0: now */
    int64_t last_us;         /* wall clock of the last attempt; 0: not known in this life of the process */
    struct span last_dsn;    /* of the last attempt, e.g. "4.4.1"; malloc'd by the scheduler in the message's arena */
    struct span last_reason; /* of the last attempt, for queue listings and bounces */
    struct span last_mta;    /* host that said it, "" when none */
};

struct envelope {
    uint64_t id;
    int64_t arrival_us;      /* wall clock, begin of the transaction (MAIL FROM) */
    struct span sender;      /* reverse-path without <>; empty: null sender */
    uint32_t flags;          /* ENV_* */
    uint32_t content_flags;  /* CONTENT_* */
    enum dsn_ret ret;
    struct span envid;       /* DSN ENVID, xtext decoded, empty when not given */
    uint64_t content_bytes;  /* size of the content as stored (CRLF line ends, our Received: included) */
    /* who sent it, for logs, XFORWARD, queue show */
    struct span client_name, client_addr, client_port, helo, proto /* "ESMTP" */, sasl_user, sasl_method;
    struct span orig_id;     /* queue ID at the first hop that uses XFORWARD; empty: here */
    struct span filter;      /* content filter, "transport:nexthop", that all of it visits before any other delivery; empty: none */
    struct span message_id;  /* value of the Message-ID header with <>, may be empty */
    uint32_t rcpt_count;
    struct msg_rcpt *rcpts;  /* [rcpt_count], in the arena */
};

/* Position of a record in the journal. */
struct journal_pos {
    uint64_t segment; /* generation number of the segment: rises with every segment begun or recycled */
    uint64_t offset;  /* of the record's frame */
};

struct content_pool; /* content.h */
struct msg_sched; /* the scheduler's own data, queue/sched_internal.h */

struct msg {
    _Atomic uint32_t refs;
    struct arena *arena;       /* owned: all spans of env */
    struct envelope env;
    /* content: one of these; see spool.h for reading */
    char *content;             /* owned: whole content in memory, or NULL when only on disk */
    uint64_t content_offset;   /* within the record, when in the journal */
    bool is_large;             /* content is in large/ID, not in the journal record */
    struct journal_pos pos;    /* of its message record; guarded by SEGMENTS lock once committed (compaction moves it) */
    struct msg_sched *sched;   /* owned by the scheduler */
    struct msg *batch_next;    /* committer's batch list */
    bool batch_more;           /* the next one there is committed with it, or neither is */
    void (*done_cb)(void *arg, struct msg *m, int status); /* see spool_submit() */
    void *done_arg;
    int64_t received_ms;       /* monotonic: message complete, for delays= */

    /* the spool's own; nobody else reads or writes these */
    struct content_pool *pool; /* borrowed: budget that content_charged was taken from; NULL: none */
    size_t content_charged;    /* guarded by MSG_CONTENT, like content once the message is committed */
    uint32_t content_users;    /* views of content; guarded by MSG_CONTENT */
    bool content_drop;         /* free content with the last view; guarded by MSG_CONTENT */
    bool content_checked;      /* content_crc is known */
    uint32_t content_crc;      /* CRC-32C of the content */
    char *record;              /* owned: frame header and encoded envelope, from submit to commit */
    uint32_t record_bytes;
};

/* A message with one reference, an empty envelope and its own arena. */
struct msg *msg_new(void);
struct msg *msg_ref(struct msg *m);
/* Drops a reference, frees at zero; sets *m to NULL. NULL is fine. */
void msg_unref(struct msg **m);
/* Adds a zeroed recipient (array grows in the arena); spans are the caller's to fill with arena copies. */
struct msg_rcpt *msg_add_rcpt(struct msg *m);
/*
 * Copies the envelope into an arena of its own that is no larger than it, and frees the old one with all that else was in
 * it: spans that others took from there are gone. No recipients can be added any more.
 */
void msg_pack(struct msg *m);
