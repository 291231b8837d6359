/*
 * request: one job on its way through the SMTP and LMTP client
 *
 * Purpose    what the stages of a delivery share: the job, its parameters, the connection in use, which recipients are
 *            still to be delivered, and the last failure in the words of the log
 * Source     smtp(8), lmtp(8)
 * Threads    one delivery thread
 * Ownership  request_end() releases everything but the connection that is kept
 */
#pragma once
#include "common/conf/params.h"
#include "daemon/deliver.h"
#include "daemon/smtp/conn.h"
#include "queue/notice.h"
#include "daemon/smtp/downgrade.h"
#include "daemon/smtp/inspect.h"

/* Stages of a conversation; stage_info() has the words and time limits. */
enum smtp_stage {
    STAGE_GREETING, STAGE_EHLO, STAGE_HELO, STAGE_LHLO, STAGE_XFORWARD_NAME, STAGE_XFORWARD_PROTO, STAGE_RSET,
    STAGE_MAIL, STAGE_RCPT, STAGE_DATA, STAGE_BODY, STAGE_END, STAGE_COUNT,
};

struct smtp_reply {
    int code;          /* 200 to 599 */
    struct span text;  /* all lines with their codes, joined by LF; borrowed from the connection until the next read */
    struct span dsn;   /* enhanced status in the reply, else "C.0.0" with the class of the code; borrowed from dsn_text */
    char dsn_text[12];
    bool has_dsn;      /* the peer gave one */
};

/* How an exchange with the peer ended. */
enum smtp_io { SMTP_IO_OK, SMTP_IO_LOST, SMTP_IO_TIMEOUT, SMTP_IO_PROTOCOL, SMTP_IO_LOCAL };

enum rcpt_mark {
    MARK_LEFT,      /* to be delivered */
    MARK_ACCEPTED,  /* 250 at RCPT in the transaction under way */
    MARK_DONE,      /* reported */
};

/* A failure in the words of the log; text grows in buffers that are reused. */
struct smtp_failure {
    bool is_set;
    bool is_permanent;
    bool is_site;           /* the host as a whole: no more recipients can be tried on this connection */
    bool is_for_one;        /* a conversation over LMTP ended among the replies: retry each recipient alone */
    char dsn[12];
    struct buf reason;
    struct buf diagnostic;  /* the reply itself, empty when the words are ours */
    char mta[256];          /* host that said it, "" when none */
    char relay[400];        /* for relay= */
};

#define RCPT_INLINE 64

struct smtp_request {
    struct deliver_env *env;
    struct job *job;
    const struct client_params *cp;
    const struct params *p;
    struct log_src log;
    bool is_lmtp;
    unsigned copy_flags;          /* COPY_* of trace_headers.h, from flags= */
    struct smtp_conn *conn;       /* in use, or NULL */
    bool is_reused;               /* conn served another delivery before this one */
    bool was_answered;            /* conn has answered this request: a loss now counts */
    bool is_last_host;            /* no other host follows: soft failures are final for this attempt */
    bool is_last_destination;     /* no other next hop or fallback relay follows */
    bool is_last_session;         /* smtp_mx_session_limit allows no other */
    bool is_over;                 /* a refusal that no other host can mend */
    bool found_self;              /* this machine is an MX of the destination */
    bool wants_best_mx_transport; /* ... and the best one: best_mx_transport takes the job */
    char *tried;                  /* owned: endpoint key of a host that has had its chance */
    bool is_best_mx;              /* conn leads to a host of the best preference */
    bool wants_loop_check;        /* a peer with our name means that mail goes in a circle */
    bool any_sent;
    enum site_verdict verdict;    /* by the last host that was tried */
    uint32_t left;                /* recipients not reported */
    uint8_t *mark;                /* enum rcpt_mark by job_rcpt; mark_inline or owned */
    uint8_t mark_inline[RCPT_INLINE];
    struct content_view view;     /* while has_view */
    bool has_view;
    struct inspected *inspected;  /* owned: what is sent instead of the view; NULL: the view itself */
    bool is_downgraded;           /* the host in use gets 8-bit parts encoded */
    struct buf extra;             /* headers put in front of the content */
    int64_t begun_us;             /* wall: for delays= */
    int64_t conn_done_us;         /* connection set up, or found */
    struct smtp_failure fail;
    struct transcript *transcript; /* owned; NULL unless notify_classes or debug_peer_list asks for one */
    unsigned notify_classes, notify_errors; /* NOTIFY_BIT: asked for; what happened */
    char notify_about[300];       /* "host[addr]" of the last error, "" when nobody was called */
};

struct stage_info {
    const char *doing;    /* "lost connection with X while ..." */
    const char *reply_to; /* "(in reply to ... command)" */
};
const struct stage_info *stage_info(enum smtp_stage s);
/* Sets the stream's time limit for a stage: for each wait, or with smtp_per_request_deadline for the whole. */
void stage_begin(struct smtp_request *r, enum smtp_stage s);

/* ---- reply.c ---- */
/* Reads one reply of one or more lines. */
enum smtp_io reply_read(struct smtp_conn *c, struct smtp_reply *out) MUST_CHECK;
/* Turns the stream's error into ours. */
enum smtp_io conn_io_status(const struct smtp_conn *c);

/* ---- hello.c ---- */
/* Greeting and EHLO, LHLO or HELO. False: r->fail is set. */
bool hello_exchange(struct smtp_request *r) MUST_CHECK;
/* The word is an item of a comma or blank separated list; ASCII case ignored. */
bool list_has_word(const char *list, struct span word);

/* ---- command.c ---- */
void command_xforward_name(struct smtp_request *r);
void command_xforward_proto(struct smtp_request *r);
void command_mail(struct smtp_request *r, bool use_8bit, bool use_utf8);
void command_rcpt(struct smtp_request *r, uint32_t i);

/* What is sent has these CONTENT_* flags. */
static inline uint32_t request_content_flags(const struct smtp_request *r)
{
    return r->inspected != NULL ? r->inspected->content_flags : r->job->msg->env.content_flags;
}

/* ---- content.c ---- */
/* Bytes that BDAT will announce; 0 when lines are split or parts encoded, and only DATA will do. */
uint64_t content_wire_bytes(const struct smtp_request *r);
struct mime_limits content_mime_limits(const struct smtp_request *r);
/* Puts the whole content for DATA, with the final dot; or for BDAT. Sends large content on the way; the rest is left for the flush. */
void content_put_data(struct smtp_request *r);
void content_put_bdat(struct smtp_request *r);

/* ---- transact.c ---- */
enum transact_end {
    TRANSACT_OK,     /* the connection may serve another transaction */
    TRANSACT_AGAIN,  /* recipients that the peer found too many are left: another one on this connection */
    TRANSACT_FAILED, /* r->fail says why; the connection is closed or closing */
    TRANSACT_STALE,  /* a reused connection was gone before it answered: try a fresh one */
};
enum transact_end transact(struct smtp_request *r);

/* ---- outcome.c ---- */
/* Each sets r->fail. */
void fail_reply(struct smtp_request *r, enum smtp_stage s, const struct smtp_reply *rep);
void fail_refused(struct smtp_request *r, const struct smtp_reply *rep); /* "refused to talk to me" */
void fail_io(struct smtp_request *r, enum smtp_stage s, enum smtp_io io);
void fail_words(struct smtp_request *r, const char *dsn, const char *fmt, ...) PRINTF_FMT(3, 4);
/* Reports recipient i with r->fail. */
void report_failed(struct smtp_request *r, uint32_t i);
/* Reports every recipient that is left with r->fail. */
void report_left_failed(struct smtp_request *r);
/* Reports recipient i as delivered. */
void report_sent(struct smtp_request *r, uint32_t i, const struct smtp_reply *rep);
/* All recipients of the job, none of which was reported: one record for all. */
void report_all_sent(struct smtp_request *r, const struct smtp_reply *rep);
/* Logs r->fail with the queue ID when it is temporary and another host will be tried. */
void log_soft_failure(struct smtp_request *r);

/* ---- notify.c: all do nothing unless notify_classes asks for it ---- */
void notify_begin(struct smtp_request *r);
/* r->conn was opened or taken over. */
void notify_adopt(struct smtp_request *r);
void notify_error(struct smtp_request *r, enum notify_class c);
/* A reply that is a failure: is it one of the protocol? */
void notify_code(struct smtp_request *r, int code);
/* Tells the postmaster, if there is something to tell. */
void notify_end(struct smtp_request *r);

/* ---- connect.c ---- */
/*
 * A connection to the host that is ready for a transaction: parked there before, or new with its greeting and EHLO done.
 * False: r->fail is set and r->conn NULL.
 */
struct smtp_target {
    const char *host;
    struct ip_addr addr;       /* IP_NONE: a unix socket */
    uint16_t port;
    struct span path;          /* of the unix socket as configured */
    bool is_last;              /* of its destination */
};
bool connect_target(struct smtp_request *r, const struct smtp_target *target, bool fresh) MUST_CHECK;
#define CONN_KEY_MAX 1400
/* Keys of the connection cache; false when too long to be parked. */
bool conn_key_nexthop(const struct smtp_request *r, char out[static CONN_KEY_MAX]) MUST_CHECK;
bool conn_key_endpoint(const struct smtp_request *r, const struct smtp_target *target, char out[static CONN_KEY_MAX]) MUST_CHECK;
