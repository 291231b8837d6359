/*
 * smtpd_internal: the session and what the files of this folder share
 *
 * States, and what is waited for in each:
 *   UPSTREAM  the header of the proxy in front: WAIT_INPUT; only with smtpd_upstream_proxy_protocol
 *   CONNECT   client name being looked up, banner not sent: WAIT_CALLBACK
 *   COMMAND   a command line: WAIT_INPUT
 *   DATA      message text up to the final dot: WAIT_INPUT
 *   BDAT      the rest of a chunk: WAIT_INPUT
 *   COMMIT    the spool makes the message durable: WAIT_CALLBACK, back to COMMAND
 *   ASK       policy waits for DNS (WAIT_CALLBACK) or a pause (WAIT_TIMER); then back to where it came from
 *   END       the last reply is being written: WAIT_OUTPUT, then WAIT_DONE
 * In any of them a tarpit may hold back replies (WAIT_TIMER) and a full socket may (WAIT_OUTPUT).
 *
 * Order of one step: callbacks and time-outs are settled first, then input is read once, then commands are run until
 * input is used up, then replies are written once.
 */
#pragma once
#include <stdatomic.h>
#include "common/base/arena.h"
#include "common/base/ascii.h"
#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/base/span_set.h"
#include "common/conf/params.h"
#include "common/mail/address.h"
#include "common/mail/transcript.h"
#include "common/table/maps.h"
#include "daemon/smtpd/content.h"
#include "daemon/smtpd/smtpd.h"
#include "daemon/smtpd/xattr.h"
#include "policy/checks.h"
#include "policy/pipe.h"
#include "policy/rewrite/rewrite_stage.h"
#include "queue/own_mail.h"

#define IN_BUF_COMMAND_BYTES 1024 /* read buffer; malloc has blocks of up to so much at hand for each thread */
#define IN_BUF_PIPELINE_BYTES 4096
#define IN_BUF_BYTES 16384        /* for content; more than CONTENT_HEADER_LINE_MAX */
#define SCRATCH_BYTES 960         /* of an arena's block; with its head it is small enough for the same */
#define IN_BUF_DATA_BYTES 65536   /* while a message comes in fast */
#define OUT_FLUSH_BYTES 8192      /* replies gathered before they are written in the middle of a step */
#define COMMANDS_PER_STEP 100     /* then others get their turn */
#define SESS_FREE_BYTES 4096      /* of envelope and buffers that a session may hold beside the budget */
#define UNAUTH_PIPELINE_SHOWN 100 /* bytes of early input in the log */

enum smtpd_state { SMTPD_CONNECT, SMTPD_COMMAND, SMTPD_DATA, SMTPD_BDAT, SMTPD_COMMIT, SMTPD_ASK, SMTPD_UPSTREAM, SMTPD_END };

/* What a command handler made of it. */
enum cmd_result {
    CMD_OK,
    CMD_ERROR,  /* counts as an error */
    CMD_LATER,  /* smtpd_command_done() will be called */
};

enum { CMD_LAST = 1, CMD_JUNK = 2, CMD_ALWAYS = 4 };
enum cmd_id {
#define CMD(id, verb, name, flags) CMD_##id,
#include "daemon/smtpd/commands.def"
#undef CMD
    CMD_UNKNOWN,
    CMD_COUNT
};

/* Settings of a listener under normal load or stress, ready for use. */
struct smtpd_texts {
    const struct params *p;
    unsigned ehlo_discard;      /* 1 << enum ehlo_keyword */
    bool strip[256], reject[256];
    bool has_strip, has_reject;
    bool has_footer;            /* smtpd_reject_footer or its tables */
    bool has_reject_filter;     /* smtpd_reject_filter_maps */
    unsigned notify_classes;    /* those that ask for transcripts */
    struct hdr_names drop;      /* message_drop_headers */
};

struct smtpd_pattern; /* service.c: a regexp of smtpd_forbidden_commands */

struct smtpd_service {
    atomic_uint refs;
    uint32_t number;               /* for client_count */
    const struct conf_service *svc;
    struct policy *policy;         /* counted */
    struct conf *conf;             /* counted */
    struct arena *arena;           /* owned: texts below */
    struct smtpd_texts normal, stress;
    struct hosts_file *hosts;      /* owned */
    bool has_v4, has_v6;           /* of inet_protocols */
    struct smtpd_pattern *forbidden; /* owned */
    size_t forbidden_count;
    struct maps *discard_maps;     /* owned: smtpd_discard_ehlo_keyword_address_maps */
    struct maps *command_filter;   /* owned */
    struct maps *footer_maps;      /* owned: smtpd_reject_footer_maps */
    struct maps *reject_filter_maps; /* owned: smtpd_reject_filter_maps */
    const struct content_checks *checks; /* of the policy; NULL: none, or receive_override_options says so */
};

/* A mail transaction: MAIL to RSET or the end of the message. Its texts live in the message's arena. */
struct smtpd_tx {
    struct msg *msg;               /* owned until submitted */
    struct content_writer *writer; /* owned */
    struct span sender_given;      /* the sender before it was completed */
    struct span mail_arg;          /* sender as given in external form, for log lines */
    struct span sender;            /* as given, internal form, completed; that of the envelope may be another */
    struct span first_rcpt;        /* internal form of the first accepted recipient as given */
    struct content_scan scan;
    struct content_pipe *pipe;     /* owned; NULL: nobody wants to see the content */
    struct checks_run *checks;     /* owned; NULL: no header or body checks */
    enum rewrite_origin header_origin; /* whose header it is; known when content begins */
    struct mail_list *lists;       /* in the message's arena */
    struct mail_expanded *expanded; /* as lists */
    struct msg *report;            /* owned until submitted: on those */
    struct rewrite_stage *rewrite; /* owned; NULL: header addresses stay as they are */
    uint64_t size_param;
    unsigned accepted;             /* recipients */
    unsigned overshoot;
    enum spool_status failed;      /* of the writer: SPOOL_OK so far */
    bool has_qid;
    char qid_text[QID_TEXT_MAX];   /* once has_qid */
    bool is_bdat;                  /* BDAT was seen */
    bool is_smtputf8;
    uint8_t map_fault;             /* enum map_fault */
    bool too_big, too_many_hops;
    bool wants_missing_headers;
    struct buf carry;              /* owned: end of a chunk that cannot be judged alone */
    uint64_t *seen;                /* owned: hashes of recipients, to find duplicates */
    size_t seen_count, seen_cap;
    struct smtpd_action *actions, **actions_end; /* in the message's arena; see actions.c */
    struct span_set copies;        /* addresses of EFFECT_BCC */
};

enum ehlo_keyword { EHLO_PIPELINING, EHLO_SIZE, EHLO_VRFY, EHLO_ETRN, EHLO_STARTTLS, EHLO_AUTH, EHLO_XCLIENT,
                    EHLO_XFORWARD, EHLO_ENHANCEDSTATUSCODES,
                    EHLO_8BITMIME, EHLO_DSN, EHLO_SMTPUTF8, EHLO_CHUNKING, EHLO_KEYWORDS };
#define EHLO_SILENT (1u << EHLO_KEYWORDS) /* "silent-discard": what is left out is not logged */

/* What XFORWARD said of the message to come: owned texts, NULL: not said. */
struct smtpd_forward {
    char *text[XATTR_COUNT];
};

struct smtpd_sess {
    struct sess s;                 /* first; peer is whom XCLIENT names */
    struct smtpd_env *env;         /* borrowed for life */
    struct smtpd_service *svc;     /* counted */
    const struct smtpd_texts *t;   /* of svc */
    const struct params *p;        /* t->p */
    struct log_src log;
    int out_fd;                    /* -1: s.fd, a socket */
    uint8_t state;                 /* enum smtpd_state */
    uint8_t last_cmd;              /* enum cmd_id, for "lost connection after" */
    uint8_t pending_cmd;           /* CMD_LATER: which */
    bool is_esmtp;
    bool has_limits;               /* those by client apply */
    bool is_counted, is_unnamed;   /* in env->clients */
    uint32_t client_connections, client_unnamed, client_rate; /* as counted at the beginning */
    bool in_was_full;              /* the last read took all the room */
    bool has_drained;              /* the read of this step took all there was, and nothing was sent since */
    bool is_after_message;         /* no command since the end of a message, for log lines */
    bool skipping;                 /* inside a command line that is too long */
    bool tarpit;                   /* replies wait for the timer */
    bool saw_bare_lf;              /* for the disconnect line */
    bool saw_illegal_pipelining;
    bool is_connected;             /* connect line logged */
    uint8_t bare_lf_excluded;      /* 0 not looked up, 1 no, 2 yes */
    bool access_denied;            /* refused at connect time: nothing but QUIT works */
    struct buf in;                 /* owned; bytes [in_pos, n) are not used yet */
    size_t in_pos;
    struct buf out;                /* owned */
    char *client_name;             /* owned: verified, or "unknown" */
    char *reverse_name;            /* owned: from the PTR, or "unknown" */
    char port_text[8];             /* for policy, of port_printed */
    uint16_t port_printed;
    char *namaddr;                 /* owned: "name[addr]" for log lines */
    char *helo;                    /* owned, NULL until said */
    char *login;                   /* owned: LOGIN of XCLIENT; NULL: not authenticated */
    struct smtpd_forward *forward; /* owned; NULL: nothing was forwarded */
    struct ip_addr server_addr;    /* our end, once is_server_known */
    uint16_t server_port;          /* 0: not known */
    bool is_server_known;
    bool is_name_tempfail, is_reverse_tempfail; /* why client_name and reverse_name are "unknown" */
    uint8_t may_xclient, may_xforward; /* 0 not looked up, else 1 + enum lookup */
    bool is_probe;                 /* in UPSTREAM: may come without a header */
    size_t upstream_left;          /* in UPSTREAM: bytes of the header to be thrown away */
    bool wants_greeting;           /* XCLIENT: the session begins again after this command */
    unsigned ehlo_discard;         /* keywords this client is not offered */
    struct policy_carry *carry;    /* owned; only with smtpd_delay_reject = no */
    struct connect_lookup *lookup; /* owned while state is CONNECT */
    struct policy_answers *answers; /* owned; NULL until policy is asked */
    uint8_t ask_from;              /* enum smtpd_state before ASK */
    bool is_asking;                /* policy said VERDICT_WAIT: the command is to be done again */
    bool is_rerun;                 /* it is being done again */
    uint16_t rounds;               /* so often for this verdict */
    int64_t sleep_ms;              /* in ASK: a pause that is not over; 0: answers are awaited */
    size_t line_pos;               /* where the command line begins in `in` */
    struct arena *scratch;         /* owned; reset after each command */
    struct smtpd_tx *tx;           /* NULL: no transaction */
    struct transcript *transcript; /* owned; NULL unless notify_classes or debug_peer_list asks for one */
    unsigned notify_errors;        /* NOTIFY_BIT: what went wrong since the last notice */
    _Atomic uint8_t handoff;       /* enum handoff: a callback and the step that waits for it */
    atomic_uint commit_open;       /* messages being committed */
    _Atomic uint8_t commit_status; /* enum spool_status from the committer */
    unsigned errors, junk;
    int64_t begun_us;              /* wall clock, when the connection came */
    unsigned transactions;         /* begun so far; with begun_us the `instance` of policy servers */
    int64_t request_deadline_ms;   /* smtpd_per_request_deadline: of the request that is waited for; 0: none yet */
    int64_t reply_deadline_ms;     /* and of the replies being written */
    uint64_t bdat_left;            /* of the chunk */
    uint64_t bdat_chunk;           /* its whole size */
    bool bdat_last, bdat_skip;
    bool bdat_failed;              /* chunks are thrown away up to the last one, or RSET */
    uint64_t commit_id;            /* of the message being committed */
    uint64_t commit_bytes;
    size_t charged;                /* bytes of the spool's memory budget that this session holds */
    struct { uint16_t ok, total; } count[CMD_COUNT];
};

/*
 * One callback may come while the step that asked is still running. Both sides exchange the field: who comes second
 * continues the session.
 */
enum handoff { HANDOFF_ASKED, HANDOFF_ANSWERED, HANDOFF_WAITING };
void smtpd_handoff_begin(struct smtpd_sess *S);
/* The callback's side, last thing it does. */
void smtpd_handoff_answer(struct smtpd_sess *S);
/* The step's side: true when the answer is already here; else it must return WAIT_CALLBACK. */
bool smtpd_handoff_is_here(struct smtpd_sess *S);

enum flow {
    FLOW_ON,     /* state may have changed: go on */
    FLOW_INPUT,  /* nothing to do before more input */
    FLOW_WAIT,   /* callback */
    FLOW_SLEEP,  /* sleep_ms from now */
};

/* session.c */
struct arena *smtpd_scratch(struct smtpd_sess *S);
void smtpd_set_state(struct smtpd_sess *S, enum smtpd_state to);
struct span smtpd_input(const struct smtpd_sess *S);
/* Is there input that we have not used, in our buffer or (asking the kernel) in the socket? */
bool smtpd_has_early_input(struct smtpd_sess *S);
const char *smtpd_state_word(const struct smtpd_sess *S);
/* Content came: smtpd_min_data_rate says how much time that buys, never more than smtpd_timeout from now. */
void smtpd_request_earned(struct smtpd_sess *S, size_t bytes);

/* What the session keeps while it waits is charged to spool_memory_limit. False: there is no room for so much. */
bool smtpd_may_hold(struct smtpd_sess *S, size_t bytes);
size_t smtpd_envelope_bytes(const struct smtpd_sess *S);

/* reply.c: replies and the lines that go with them */
void smtpd_reply(struct smtpd_sess *S, int code, const char *dsn, const char *fmt, ...) PRINTF_FMT(4, 5);
void smtpd_reply_raw(struct smtpd_sess *S, struct span text); /* whole lines, 2xx or 3xx */
/* Replies and logs "reject: STAGE from ...". */
void smtpd_reject(struct smtpd_sess *S, const char *stage, struct span rcpt, const struct verdict_reply *r);
void smtpd_reject_text(struct smtpd_sess *S, const char *stage, struct span rcpt, int code, const char *dsn,
                       const char *fmt, ...) PRINTF_FMT(6, 7);
void smtpd_end_session(struct smtpd_sess *S); /* after what is in out */

/* upstream.c */
void smtpd_upstream_begin(struct smtpd_sess *S);
enum flow smtpd_upstream_run(struct smtpd_sess *S);
void smtpd_upstream_timeout(struct smtpd_sess *S);

/* cmd_xclient.c */
enum lookup smtpd_may_xclient(struct smtpd_sess *S);
enum lookup smtpd_may_xforward(struct smtpd_sess *S);
/* 421: whether the list has the client cannot be told. */
void smtpd_refuse_unsure(struct smtpd_sess *S, const char *parameter);
bool smtpd_xattr_read(struct smtpd_sess *S, enum xattr_verb verb, struct span arg, struct xattrs *x);

/* cmd_xforward.c */
void smtpd_forward_forget(struct smtpd_sess *S);
/* Only with S->forward; empty: not available. */
struct span smtpd_forwarded(const struct smtpd_sess *S, enum xattr_id id);

/* footer.c: the text so far is the reply, one line or several */
struct smtpd_new_reply {
    int code;
    struct span dsn, text;
};
/* True: this is to be sent in the place of the reply; spans in the arena. */
bool smtpd_reject_filter(struct smtpd_sess *S, struct arena *a, int code, struct span dsn, struct span text, struct smtpd_new_reply *out);
void smtpd_footer_add(struct smtpd_sess *S, int code, struct span dsn, struct buf *text);

/* slog.c */
/* Of the transaction, which owns the text; or "NOQUEUE". */
const char *smtpd_qid(const struct smtpd_sess *S);
void smtpd_log_connect(struct smtpd_sess *S);
void smtpd_log_disconnect(struct smtpd_sess *S);
void smtpd_log_client(struct smtpd_sess *S);
void smtpd_log_message_id(struct smtpd_sess *S);
/* "QID: WHAT: STAGE from client: TEXT; from=<> to=<> proto= helo=<>"; what is "reject", "reject_warning", ... */
void smtpd_log_event(struct smtpd_sess *S, const char *what, const char *stage, struct span rcpt, struct span text);
void smtpd_log_pipelining(struct smtpd_sess *S, const char *after);

/* limits.c */
void smtpd_limit_reached(struct smtpd_sess *S, enum smtpd_limit which, int64_t value);

/* actions.c */
/* Remembers what a note wants done with the message. */
void smtpd_action_note(struct smtpd_sess *S, const struct policy_note *n);
/* From the content's checks; value is in the message's arena. */
void smtpd_action_add(struct smtpd_tx *tx, enum policy_effect effect, struct span value);
bool smtpd_action_is(const struct smtpd_tx *tx, enum policy_effect effect);
/* The header fields to stand in front of our Received. */
void smtpd_action_headers(const struct smtpd_tx *tx, struct buf *b);
/* Hold, redirect, further recipients: once, when the message is accepted. False: a look-up failed, replied. */
bool smtpd_action_apply(struct smtpd_sess *S);

/* ask.c */
/* What policy asks others for the commands of one session. */
struct policy_answers *smtpd_answers_new(struct smtpd_env *env);
/* Leaves the present state for ASK, and asks. */
void smtpd_ask(struct smtpd_sess *S);
enum flow smtpd_ask_run(struct smtpd_sess *S);
/* What was waited for is here. */
enum flow smtpd_ask_again(struct smtpd_sess *S);

/* connect.c */
/* Policy at connect time, and the banner. */
void smtpd_greet(struct smtpd_sess *S);
/* XCLIENT: limits and policy for the new client, then the banner. */
void smtpd_greet_anew(struct smtpd_sess *S);
/* Copies; addresses are those of the session. */
void smtpd_set_name(struct smtpd_sess *S, const char *verified, const char *reverse);
/* Fills server_addr and server_port from the socket if nobody else did. */
void smtpd_know_server(struct smtpd_sess *S);
enum flow smtpd_connect_run(struct smtpd_sess *S);
bool smtpd_connect_begin(struct smtpd_sess *S);
void smtpd_lookup_free(struct connect_lookup **l);
/* client_limits.c */
/*
 * Counts a new session of its client (polling thread: nothing here may wait). False: the client has more than its share
 * while session_limit is nearly reached; the reply is in out.
 */
bool smtpd_client_may_enter(struct smtpd_sess *S, bool is_stressed);
/* The session no longer counts as one of its client, nor has limits. */
void smtpd_client_gone(struct smtpd_sess *S);
/*
 * A client whose name servers do not answer cannot fill session_limit with sessions that wait for its name. False: it has
 * more than its limit, among them so many without a name, that this one's name is not waited for. (A client may be
 * exempt by its name, so below that number the name decides.)
 */
bool smtpd_client_may_wait(struct smtpd_sess *S);
/* The name is known. False: refused, the reply is in out. */
bool smtpd_client_check(struct smtpd_sess *S);
/* MAIL and RCPT, of the client; of its account and of the sender's domain. True: over a limit, replied. */
bool smtpd_client_over_rate(struct smtpd_sess *S, enum client_event ev);
bool smtpd_sender_over_rate(struct smtpd_sess *S, enum client_event ev, struct span sender);

/* command.c */
enum flow smtpd_command_run(struct smtpd_sess *S);
void smtpd_command_done(struct smtpd_sess *S, enum cmd_id cmd, bool ok);
const char *smtpd_command_name(enum cmd_id id);
/* Fills what policy may ask; borrows from the session. */
void smtpd_policy_client(struct smtpd_sess *S, struct policy_client *c);
/* Asks policy; on refusal replies and logs. True: go on. False with is_asking: there is no verdict yet, nothing was replied. */
bool smtpd_policy_ok(struct smtpd_sess *S, enum policy_stage stage, const char *word, struct policy_client *c, struct span rcpt_arg);

typedef enum cmd_result cmd_fn(struct smtpd_sess *S, struct span arg);
cmd_fn smtpd_cmd_HELO, smtpd_cmd_EHLO, smtpd_cmd_XCLIENT, smtpd_cmd_XFORWARD, smtpd_cmd_MAIL, smtpd_cmd_RCPT, smtpd_cmd_DATA, smtpd_cmd_BDAT, smtpd_cmd_RSET,
    smtpd_cmd_STARTTLS, smtpd_cmd_AUTH, smtpd_cmd_NOOP, smtpd_cmd_VRFY, smtpd_cmd_ETRN, smtpd_cmd_HELP, smtpd_cmd_QUIT;

/* path_arg.c: "FROM:<path> parameters" of MAIL and RCPT */
struct path_arg {
    struct span path;       /* as given */
    struct span params;     /* behind it */
};
bool smtpd_path_split(struct span arg, const char *keyword, struct path_arg *out);
/* Parses an address; on failure replies and returns false. `bad` is the reply for bad syntax. */
bool smtpd_path_parse(struct smtpd_sess *S, struct span path, bool utf8, const char *bad_dsn, const char *bad_text, struct addr *out);
/* Routes and judges a recipient; on refusal replies, logs and returns false. `as_given` is its external form. */
bool smtpd_rcpt_is_welcome(struct smtpd_sess *S, enum policy_stage stage, struct span as_given, const struct addr *addr, struct route *out);
/* mapping.c: envelope addresses as they are stored */
struct rcpt_params {
    uint8_t notify;
    bool has_orcpt;
    struct span orcpt;     /* decoded, with its type */
};
struct rcpt_ctx {
    struct span as_given;  /* external form without <>, for texts and logs */
    struct addr addr;
    struct route route;    /* of addr */
    struct rcpt_params params;
    bool is_copy;          /* nobody named it: a blind copy, or a redirected message */
};
/* A look-up that failed on the way is told at the end of the message: smtpd_map_failed(). */
enum map_fault { MAP_FAULT_NONE, MAP_FAULT_TABLE, MAP_FAULT_ALIAS };
/* tx->sender becomes that of the envelope. */
void smtpd_map_sender(struct smtpd_sess *S);
/* Adds what canonical tables and alias expansion make of the recipient. */
void smtpd_map_rcpt(struct smtpd_sess *S, const struct rcpt_ctx *x);
/* Adds the blind copies that the sender and always_bcc cause. */
void smtpd_map_bcc(struct smtpd_sess *S);
/* receive_override_options lets addresses be changed. */
bool smtpd_maps_addresses(const struct smtpd_sess *S);
/* True: the message must not be taken; replied. */
bool smtpd_map_failed(struct smtpd_sess *S);
/* Adds a recipient that no client named (REDIRECT, BCC), with alias expansion. */
void smtpd_rcpt_add(struct smtpd_sess *S, struct span address, uint8_t notify);
/* Next "KEYWORD[=value]"; false at the end. */
bool smtpd_param_next(struct span *rest, struct span *name, struct span *value, bool *has_value);

/* lists.c: members of mailing lists with an owner */
struct mail_list;
/* The content is complete: makes their messages, and the report on aliases. */
enum spool_status smtpd_lists_copy(struct smtpd_sess *S);

/* tx.c: the transaction */
struct smtpd_tx *smtpd_tx_begin(struct smtpd_sess *S);
void smtpd_tx_drop(struct smtpd_sess *S);
void smtpd_tx_need_qid(struct smtpd_sess *S);
/* True when this recipient with these DSN wishes is already among rcpts[count] (and remembers it otherwise); without orig: this address. */
bool smtpd_tx_is_duplicate(struct smtpd_tx *tx, const struct msg_rcpt *rcpts, uint32_t count, const struct msg_rcpt *r, int64_t limit);

/* message.c: content */
void smtpd_committed_cb(void *arg, struct msg *m, int status);
void smtpd_message_begin(struct smtpd_sess *S, bool dots);
enum flow smtpd_data_run(struct smtpd_sess *S);
enum flow smtpd_bdat_run(struct smtpd_sess *S);
/* All content is here: checks, submits; replies at once when it is refused. */
enum flow smtpd_message_end(struct smtpd_sess *S);
/* Its second half: policy, commit. */
enum flow smtpd_message_judge(struct smtpd_sess *S);
enum flow smtpd_commit_run(struct smtpd_sess *S);
void smtpd_message_feed_bdat(struct smtpd_sess *S, char *p, size_t n);
bool smtpd_bare_lf_is_excluded(struct smtpd_sess *S);

/* The facts of the header as it is stored. */
static inline const struct hdr_scan *smtpd_header(const struct smtpd_tx *tx) { return tx->pipe != NULL ? &tx->pipe->hdr : &tx->scan.hdr; }

/* inspect.c: who wants to see the content as it comes in */
/* Makes tx->pipe if somebody does; what goes through it ends in put(). */
void smtpd_inspect_begin(struct smtpd_sess *S, void (*put)(void *arg, struct span bytes));
void smtpd_inspect_free(struct smtpd_tx *tx);
/* Header and body checks refused it, or could not be made: replied (and logged before). */
bool smtpd_inspect_refused(struct smtpd_sess *S);

/* received.c */
void smtpd_put_received(struct smtpd_sess *S, struct buf *b);

/* notify.c: transcripts for the postmaster. All do nothing without a transcript. */
unsigned smtpd_notify_classes(const struct params *p);
void smtpd_notify_begin(struct smtpd_sess *S);
/* The client is known: does debug_peer_list want to see the session? */
void smtpd_debug_begin(struct smtpd_sess *S);
void smtpd_notify_error(struct smtpd_sess *S, enum notify_class c);
/* A reply that is an error of the dialogue; a refusal at a stage. */
void smtpd_notify_reply(struct smtpd_sess *S, int code, const char *dsn);
void smtpd_notify_reject(struct smtpd_sess *S, const char *stage, int code, const char *dsn);
/* EHLO, RSET, end of a message: a long transcript is sent if it has errors, and begins again. */
void smtpd_notify_flush_point(struct smtpd_sess *S);
void smtpd_notify_end(struct smtpd_sess *S);

/* service.c */
bool smtpd_service_is_forbidden(const struct smtpd_service *v, struct span line);
/* Bits 1 << enum ehlo_keyword, and EHLO_SILENT. */
unsigned smtpd_ehlo_keywords_parse(const char *list);
const char *smtpd_ehlo_keyword_name(enum ehlo_keyword k);
/* Is `word` in a list of words, without case? */
bool smtpd_word_in_list(const char *list, struct span word);

/* hosts_file.c */
struct hosts_file *hosts_file_load(const char *path);
void hosts_file_free(struct hosts_file **h);
const char *hosts_file_name(const struct hosts_file *h, const struct ip_addr *a);
