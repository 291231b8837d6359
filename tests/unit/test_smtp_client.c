/* The SMTP and LMTP client against scripted peers: one dialogue a case, and what was reported. */
#include "tests/unit/unit.h"

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "daemon/deliver/tables.h"
#include "tests/unit/client_fake.h"

#define GREETING "S 220 mx.example ESMTP\nC EHLO client.example\n"
#define PLAIN    GREETING "S 250 mx.example\n"
#define PIPE     GREETING "S 250-mx.example\nS 250 PIPELINING\n"
#define CHUNK    GREETING "S 250-mx.example\nS 250-PIPELINING\nS 250 CHUNKING\n"
#define LMTP     "S 220 mx.example LMTP\nC LHLO client.example\nS 250-mx.example\nS 250 PIPELINING\n"
#define BODY     "Subject: x\r\n\r\nhello\r\n"
#define QUIT     "C QUIT\nS 221 bye\n"

struct want {
    enum outcome outcome;
    const char *dsn, *reason; /* @ stands for mx's "127.0.0.1[127.0.0.1]" */
};

struct dialogue {
    const char *name, *script, *conf;
    const char *lmtp_conf;    /* the same in LMTP's names: the dialogue is spoken a second time, with LHLO */
    bool is_lmtp;
    struct fake_mail mail;    /* defaults: a@s.example to r0..; BODY */
    struct want want[4];
    const char *content;      /* what the peer must have got; NULL: not looked at */
    size_t content_n;         /* 0: strlen */
    enum site_verdict verdict;
};

static char big[1000000];   /* filled once by main() */
static char huge[16000000]; /* more than sockets hold */

static const struct dialogue dialogues[] = {
    { .name = "without pipelining each command waits",
      .script = PLAIN "C MAIL FROM:<a@s.example>\nQ\nS 250 2.1.0 Ok\nC RCPT TO:<r0@d.example>\nQ\nS 250 2.1.5 Ok\nC DATA\nQ\n"
                "S 354 go\nD\nS 250 2.0.0 Ok: queued as X\n" QUIT,
      .want = { { OUTCOME_SENT, "2.0.0", "250 2.0.0 Ok: queued as X" } }, .content = BODY },
    { .name = "with pipelining they come in one go",
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\nS 250 Ok\nS 250 Ok\nS 354 go\nD\nS 250 done\n" QUIT,
      .want = { { OUTCOME_SENT, "2.0.0", "250 done" } }, .content = BODY },
    { .name = "chunking sends all at once",
      .script = CHUNK "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC BDAT 21 LAST\nB *\nS 250 Ok\nS 250 Ok\nS 250 2.0.0 done\n" QUIT,
      .want = { { OUTCOME_SENT, "2.0.0", "250 2.0.0 done" } }, .content = BODY },
    { .name = "EHLO refused: HELO",
      .script = "S 220 mx.example\nC EHLO client.example\nS 502 what?\nC HELO client.example\nS 250 mx.example\n"
                "C MAIL FROM:<a@s.example>\nS 250 Ok\nC RCPT TO:<r0@d.example>\nS 250 Ok\nC DATA\nS 354 go\nD\nS 250 done\n" QUIT,
      .want = { { OUTCOME_SENT, "2.0.0", "250 done" } } },
    { .name = "5xx greeting is a deferral",
      .script = "S 554 5.7.1 no mail here\nC QUIT\n", .verdict = SITE_UNAVAILABLE,
      .want = { { OUTCOME_DEFERRED, "4.7.1", "host @ refused to talk to me: 554 5.7.1 no mail here" } } },
    { .name = "5xx greeting bounces when told so", .conf = "smtp_skip_5xx_greeting = no\n", .lmtp_conf = "lmtp_skip_5xx_greeting = no\n",
      .script = "S 554 no mail here\nC QUIT\n", .verdict = SITE_UNAVAILABLE,
      .want = { { OUTCOME_BOUNCED, "5.0.0", "host @ refused to talk to me: 554 no mail here" } } },
    { .name = "4xx greeting", .script = "S 421-4.3.2 busy\nS 421 4.3.2 later\nC QUIT\n", .verdict = SITE_UNAVAILABLE,
      .want = { { OUTCOME_DEFERRED, "4.3.2", "host @ refused to talk to me: 421-4.3.2 busy 421 4.3.2 later" } } },
    { .name = "closed before the greeting", .script = "X\n", .verdict = SITE_UNAVAILABLE,
      .want = { { OUTCOME_DEFERRED, "4.4.2", "lost connection with @ while receiving the initial server greeting" } } },
    { .name = "closed in the EHLO", .script = "S 220 mx\nC EHLO client.example\nX\n", .verdict = SITE_UNAVAILABLE,
      .want = { { OUTCOME_DEFERRED, "4.4.2", "lost connection with @ while performing the EHLO handshake" } } },
    { .name = "silent greeting times out", .conf = "smtp_helo_timeout = 1s\n", .lmtp_conf = "lmtp_lhlo_timeout = 1s\n", .script = "E\n", .verdict = SITE_UNAVAILABLE,
      .want = { { OUTCOME_DEFERRED, "4.4.2", "conversation with @ timed out while receiving the initial server greeting" } } },
    { .name = "garbage instead of a greeting", .script = "S hello there\nE\n", .verdict = SITE_UNAVAILABLE,
      .want = { { OUTCOME_DEFERRED, "4.5.0", "protocol error: unreadable reply from @ while receiving the initial server greeting" } } },
    { .name = "MAIL refused for good",
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC RCPT TO:<r1@d.example>\nC DATA\n"
                "S 550 5.7.1 go away\nS 503 no\nS 503 no\nS 503 no\n" QUIT,
      .mail.rcpts = "r0@d.example r1@d.example",
      .want = { { OUTCOME_BOUNCED, "5.7.1", "host @ said: 550 5.7.1 go away (in reply to MAIL FROM command)" },
                { OUTCOME_BOUNCED, "5.7.1", "host @ said: 550 5.7.1 go away (in reply to MAIL FROM command)" } } },
    { .name = "MAIL refused for now, without pipelining nothing follows",
      .script = PLAIN "C MAIL FROM:<a@s.example>\nS 451 4.7.1 greylisted\n" QUIT,
      .want = { { OUTCOME_DEFERRED, "4.7.1", "host @ said: 451 4.7.1 greylisted (in reply to MAIL FROM command)" } } },
    { .name = "each recipient has its own reply",
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC RCPT TO:<r1@d.example>\nC RCPT TO:<r2@d.example>\nC DATA\n"
                "S 250 Ok\nS 550 5.1.1 unknown\nS 250 Ok\nS 450 4.2.1 later\nS 354 go\nD\nS 250 done\n" QUIT,
      .mail.rcpts = "r0@d.example r1@d.example r2@d.example", .content = BODY,
      .want = { { OUTCOME_BOUNCED, "5.1.1", "host @ said: 550 5.1.1 unknown (in reply to RCPT TO command)" },
                { OUTCOME_SENT, "2.0.0", "250 done" },
                { OUTCOME_DEFERRED, "4.2.1", "host @ said: 450 4.2.1 later (in reply to RCPT TO command)" } } },
    { .name = "all recipients refused, pipelined DATA refused too",
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\nS 250 Ok\nS 550 no\nS 554 no valid recipients\n" QUIT,
      .want = { { OUTCOME_BOUNCED, "5.0.0", "host @ said: 550 no (in reply to RCPT TO command)" } } },
    { .name = "all recipients refused but 354: a lone dot",
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\nS 250 Ok\nS 550 no\nS 354 go\nC .\nS 554 nobody\n" QUIT,
      .want = { { OUTCOME_BOUNCED, "5.0.0", "host @ said: 550 no (in reply to RCPT TO command)" } } },
    { .name = "421 after an accepted recipient, and 354: no dot, which would be an empty message", .verdict = SITE_UNAVAILABLE,
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC RCPT TO:<r1@d.example>\nC DATA\n"
                "S 250 Ok\nS 250 Ok\nS 421 4.7.0 enough\nS 354 go\nE\n",
      .mail.rcpts = "r0@d.example r1@d.example",
      .want = { { OUTCOME_DEFERRED, "4.7.0", "host @ said: 421 4.7.0 enough (in reply to RCPT TO command)" },
                { OUTCOME_DEFERRED, "4.7.0", "host @ said: 421 4.7.0 enough (in reply to RCPT TO command)" } } },
    { .name = "421 after an accepted recipient when the chunk is there: its reply counts",
      .script = CHUNK "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC RCPT TO:<r1@d.example>\nC BDAT 21 LAST\nB *\n"
                "S 250 Ok\nS 250 Ok\nS 421 4.7.0 enough\nS 250 done\nE\n",
      .mail.rcpts = "r0@d.example r1@d.example", .content = BODY, .verdict = SITE_OK,
      .want = { { OUTCOME_SENT, "2.0.0", "250 done" },
                { OUTCOME_DEFERRED, "4.7.0", "host @ said: 421 4.7.0 enough (in reply to RCPT TO command)" } } },
    { .name = "MAIL refused, a recipient taken all the same, and 354: no dot",
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\nS 451 4.7.1 no\nS 250 Ok\nS 354 go\nE\n",
      .want = { { OUTCOME_DEFERRED, "4.7.1", "host @ said: 451 4.7.1 no (in reply to MAIL FROM command)" } } },
    { .name = "all recipients refused without pipelining: no DATA",
      .script = PLAIN "C MAIL FROM:<a@s.example>\nS 250 Ok\nC RCPT TO:<r0@d.example>\nS 550 no\n" QUIT,
      .want = { { OUTCOME_BOUNCED, "5.0.0", "host @ said: 550 no (in reply to RCPT TO command)" } } },
    { .name = "552 at RCPT is too many: the rest in a second transaction",
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC RCPT TO:<r1@d.example>\nC DATA\n"
                "S 250 Ok\nS 250 Ok\nS 552 too many\nS 354 go\nD\nS 250 one\n"
                "C MAIL FROM:<a@s.example>\nC RCPT TO:<r1@d.example>\nC DATA\nS 250 Ok\nS 250 Ok\nS 354 go\nD\nS 250 two\n" QUIT,
      .mail.rcpts = "r0@d.example r1@d.example", .content = BODY BODY,
      .want = { { OUTCOME_SENT, "2.0.0", "250 one" }, { OUTCOME_SENT, "2.0.0", "250 two" } } },
    { .name = "552 to the only recipient is a deferral",
      .script = PLAIN "C MAIL FROM:<a@s.example>\nS 250 Ok\nC RCPT TO:<r0@d.example>\nS 552 5.5.3 too many\n" QUIT,
      .want = { { OUTCOME_DEFERRED, "4.5.3", "host @ said: 552 5.5.3 too many (in reply to RCPT TO command)" } } },
    { .name = "DATA refused",
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\nS 250 Ok\nS 250 Ok\nS 451 4.3.0 no\n" QUIT,
      .want = { { OUTCOME_DEFERRED, "4.3.0", "host @ said: 451 4.3.0 no (in reply to DATA command)" } } },
    { .name = "DATA answered 250",
      .script = PLAIN "C MAIL FROM:<a@s.example>\nS 250 Ok\nC RCPT TO:<r0@d.example>\nS 250 Ok\nC DATA\nS 250 what\n" QUIT,
      .want = { { OUTCOME_DEFERRED, "4.5.0", "host @ said: 250 what (in reply to DATA command)" } } },
    { .name = "content refused",
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\nS 250 Ok\nS 250 Ok\nS 354 go\nD\nS 554-5.7.1 spam\nS 554 5.7.1 and more\n" QUIT,
      .want = { { OUTCOME_BOUNCED, "5.7.1", "host @ said: 554-5.7.1 spam 554 5.7.1 and more (in reply to end of DATA command)" } } },
    { .name = "closed after the dot", .verdict = SITE_UNAVAILABLE,
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\nS 250 Ok\nS 250 Ok\nS 354 go\nD\nX\n",
      .want = { { OUTCOME_DEFERRED, "4.4.2",
                  "lost connection with @ while sending end of data -- message may be sent more than once" } } },
    { .name = "closed after MAIL", .verdict = SITE_UNAVAILABLE,
      .script = PLAIN "C MAIL FROM:<a@s.example>\nX\n",
      .want = { { OUTCOME_DEFERRED, "4.4.2", "lost connection with @ while sending MAIL FROM" } } },
    { .name = "reset after RCPT", .verdict = SITE_UNAVAILABLE,
      .script = PLAIN "C MAIL FROM:<a@s.example>\nS 250 Ok\nC RCPT TO:<r0@d.example>\nx\n",
      .want = { { OUTCOME_DEFERRED, "4.4.2", "lost connection with @ while sending RCPT TO" } } },
    { .name = "silence after RCPT", .verdict = SITE_UNAVAILABLE, .conf = "smtp_rcpt_timeout = 1s\n", .lmtp_conf = "lmtp_rcpt_timeout = 1s\n",
      .script = PLAIN "C MAIL FROM:<a@s.example>\nS 250 Ok\nC RCPT TO:<r0@d.example>\nE\n",
      .want = { { OUTCOME_DEFERRED, "4.4.2", "conversation with @ timed out while sending RCPT TO" } } },
    { .name = "421 at RCPT ends it", .verdict = SITE_UNAVAILABLE,
      .script = PLAIN "C MAIL FROM:<a@s.example>\nS 250 Ok\nC RCPT TO:<r0@d.example>\nS 421 4.3.2 shutting down\nE\n",
      .want = { { OUTCOME_DEFERRED, "4.3.2", "host @ said: 421 4.3.2 shutting down (in reply to RCPT TO command)" } } },
    { .name = "garbage among the replies", .verdict = SITE_UNAVAILABLE,
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\nS 250 Ok\nS \nE\n",
      .want = { { OUTCOME_DEFERRED, "4.5.0", "protocol error: unreadable reply from @ while sending RCPT TO" } } },
    { .name = "discarded keywords", .conf = "smtp_discard_ehlo_keywords = pipelining, Chunking\n", .lmtp_conf = "lmtp_discard_lhlo_keywords = pipelining, Chunking\n",
      .script = CHUNK "C MAIL FROM:<a@s.example>\nQ\nS 250 Ok\nC RCPT TO:<r0@d.example>\nQ\nS 250 Ok\nC DATA\nS 354 go\nD\nS 250 done\n" QUIT,
      .want = { { OUTCOME_SENT, "2.0.0", "250 done" } }, .content = BODY },
    { .name = "parameters of MAIL and RCPT",
      .script = GREETING "S 250-mx.example\nS 250-SIZE 1000\nS 250-8BITMIME\nS 250-SMTPUTF8\nS 250 DSN\n"
                "C MAIL FROM:<\"a b\"@s.example> SIZE=6 BODY=8BITMIME ENVID=id+2B1 RET=HDRS SMTPUTF8\nS 250 Ok\n"
                "C RCPT TO:<r0@d.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o+2Bx@y\nS 250 Ok\nC DATA\nS 354 go\nD\nS 250 done\n" QUIT,
      .mail = { .sender = "a b@s.example", .content = "\r\n\xc3\xa4\r\n", .content_flags = CONTENT_HAS_8BIT, .flags = ENV_SMTPUTF8,
                .envid = "id+1", .ret = DSN_RET_HDRS, .notify = NOTIFY_SUCCESS | NOTIFY_DELAY, .orcpt = "rfc822;o+x@y" },
      .want = { { OUTCOME_SENT, "2.0.0", "250 done" } } },
    { .name = "larger than SIZE allows", .script = GREETING "S 250-mx.example\nS 250 SIZE 20\n" QUIT, .verdict = SITE_NEUTRAL,
      .want = { { OUTCOME_BOUNCED, "5.3.4", "message size 21 exceeds size limit 20 of server @" } } },
    { .name = "SMTPUTF8 needed and not offered", .script = PLAIN QUIT, .verdict = SITE_NEUTRAL,
      .mail = { .sender = "\xc3\xa4@s.example", .flags = ENV_SMTPUTF8 },
      .want = { { OUTCOME_BOUNCED, "5.6.7", "SMTPUTF8 is required, but was not offered by host @" } } },
    { .name = "dots, stray CR and long lines", .conf = "smtp_line_length_limit = 20\n", .lmtp_conf = "lmtp_line_length_limit = 20\n",
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\nS 250 Ok\nS 250 Ok\nS 354 go\nD\nS 250 done\n" QUIT,
      .mail = { .content = ".\r\n..x\r\na\rb\r\n0123456789012345678\xc3\xa4" "0123456789012345678yz\r\nend",
                .content_flags = CONTENT_HAS_DOT_LINE | CONTENT_HAS_BARE_CR | CONTENT_HAS_8BIT | CONTENT_NO_FINAL_EOL },
      .content = "..\r\n...x\r\na b\r\n0123456789012345678\r\n \xc3\xa4" "01234567890123456\r\n 78yz\r\nend\r\n",
      .want = { { OUTCOME_SENT, "2.0.0", "250 done" } } },
    { .name = "XFORWARD", .conf = "smtp_send_xforward_command = yes\n", .lmtp_conf = "lmtp_send_xforward_command = yes\n",
      .script = GREETING "S 250-mx.example\nS 250-PIPELINING\nS 250 XFORWARD NAME ADDR PROTO HELO IDENT SOURCE\n"
                "C XFORWARD NAME=source.example ADDR=IPV6:2001:db8::7\nC XFORWARD PROTO=ESMTP HELO=helo.example IDENT=1 SOURCE=REMOTE\n"
                "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\nS 250 Ok\nS 250 Ok\nS 250 Ok\nS 250 Ok\nS 354 go\nD\nS 250 done\n" QUIT,
      .want = { { OUTCOME_SENT, "2.0.0", "250 done" } } },
    { .name = "the name we give", .conf = "smtp_helo_name = other.example\n", .lmtp_conf = "lmtp_lhlo_name = other.example\n",
      .script = "S 220 mx\nC EHLO other.example\nS 421 no\nE\n", .verdict = SITE_UNAVAILABLE,
      .want = { { OUTCOME_DEFERRED, "4.0.0", "host @ refused to talk to me: 421 no" } } },
    { .name = "silence after MAIL", .conf = "smtp_mail_timeout = 1s\n", .lmtp_conf = "lmtp_mail_timeout = 1s\n", .verdict = SITE_UNAVAILABLE,
      .script = PLAIN "C MAIL FROM:<a@s.example>\nE\n",
      .want = { { OUTCOME_DEFERRED, "4.4.2", "conversation with @ timed out while sending MAIL FROM" } } },
    { .name = "silence after DATA", .conf = "smtp_data_init_timeout = 1s\n", .lmtp_conf = "lmtp_data_init_timeout = 1s\n", .verdict = SITE_UNAVAILABLE,
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\nS 250 Ok\nS 250 Ok\nE\n",
      .want = { { OUTCOME_DEFERRED, "4.4.2", "conversation with @ timed out while sending DATA command" } } },
    { .name = "silence after the dot", .conf = "smtp_data_done_timeout = 1s\n", .lmtp_conf = "lmtp_data_done_timeout = 1s\n", .verdict = SITE_UNAVAILABLE,
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\nS 250 Ok\nS 250 Ok\nS 354 go\nD\nE\n",
      .want = { { OUTCOME_DEFERRED, "4.4.2",
                  "conversation with @ timed out while sending end of data -- message may be sent more than once" } } },
    { .name = "silence after XFORWARD", .verdict = SITE_UNAVAILABLE,
      .conf = "smtp_send_xforward_command = yes\n" "smtp_xforward_timeout = 1s\n",
      .lmtp_conf = "lmtp_send_xforward_command = yes\n" "lmtp_xforward_timeout = 1s\n",
      .script = GREETING "S 250-mx.example\nS 250 XFORWARD NAME\nC XFORWARD NAME=source.example\nE\n",
      .want = { { OUTCOME_DEFERRED, "4.4.2", "conversation with @ timed out while sending XFORWARD name/address" } } },
    { .name = "the envelope as it is", .conf = "smtp_quote_rfc821_envelope = no\n", .lmtp_conf = "lmtp_quote_rfc821_envelope = no\n",
      .script = PLAIN "C MAIL FROM:<a b@s.example>\nS 550 no\n" QUIT, .mail.sender = "a b@s.example",
      .want = { { OUTCOME_BOUNCED, "5.0.0", "host @ said: 550 no (in reply to MAIL FROM command)" } } },
    { .name = "a stored sender that would begin a command of its own is refused before the first", .verdict = SITE_NEUTRAL, .mail.sender = "a@s.example>\r\nRCPT TO:<x@y.example",
      .script = PLAIN QUIT,
      .want = { { OUTCOME_BOUNCED, "5.1.7", "the sender address is too long, or has control characters" } } },
    { .name = "and so is such a recipient, alone",
      .script = PLAIN "C MAIL FROM:<a@s.example>\nS 250 Ok\nC RCPT TO:<r1@d.example>\nS 250 Ok\nC DATA\nS 354 go\nD\nS 250 done\n" QUIT,
      .mail.rcpts = "\"r0\r\n.\"@d.example r1@d.example", .content = BODY,
      .want = { { OUTCOME_BOUNCED, "5.1.3", "the recipient address is too long, or has control characters" }, { OUTCOME_SENT, "2.0.0", "250 done" } } },
    { .name = "also where the envelope goes as it is", .verdict = SITE_NEUTRAL, .conf = "smtp_quote_rfc821_envelope = no\n", .lmtp_conf = "lmtp_quote_rfc821_envelope = no\n",
      .script = PLAIN QUIT, .mail.sender = "a\x1b@s.example",
      .want = { { OUTCOME_BOUNCED, "5.1.7", "the sender address is too long, or has control characters" } } },
    { .name = "a trickling reply is in time as long as something comes", .conf = "smtp_mail_timeout = 1s\n",
      .lmtp_conf = "lmtp_mail_timeout = 1s\n",
      .script = PLAIN "C MAIL FROM:<a@s.example>\nR 250-\nW 600\nR slow\\r\\n250\nW 600\nS \nC RCPT TO:<r0@d.example>\nS 250 Ok\n"
                "C DATA\nS 354 go\nD\nS 250 done\n" QUIT,
      .want = { { OUTCOME_SENT, "2.0.0", "250 done" } } },
    { .name = "but not with a deadline for the whole", .verdict = SITE_UNAVAILABLE,
      .conf = "smtp_mail_timeout = 1s\nsmtp_per_request_deadline = yes\n",
      .lmtp_conf = "lmtp_mail_timeout = 1s\nlmtp_per_request_deadline = yes\n",
      .script = PLAIN "C MAIL FROM:<a@s.example>\nR 250-\nW 600\nR slow\\r\\n250\nE\n",
      .want = { { OUTCOME_DEFERRED, "4.4.2", "conversation with @ timed out while sending MAIL FROM" } } },
    { .name = "keywords discarded by address", .conf = "smtp_discard_ehlo_keyword_address_maps = inline:{127.0.0.1=pipelining}\n",
      .lmtp_conf = "lmtp_discard_lhlo_keyword_address_maps = inline:{127.0.0.1=pipelining}\n",
      .script = PIPE "C MAIL FROM:<a@s.example>\nQ\nS 550 no\n" QUIT,
      .want = { { OUTCOME_BOUNCED, "5.0.0", "host @ said: 550 no (in reply to MAIL FROM command)" } } },
    { .name = "a table that fails defers", .verdict = SITE_NEUTRAL, .conf = "smtp_discard_ehlo_keyword_address_maps = fail:1\n", .script = PIPE QUIT,
      .want = { { OUTCOME_DEFERRED, "4.3.5", "mail system configuration error: table lookup failed" } } },
    { .name = "never EHLO", .conf = "smtp_never_send_ehlo = yes\n", .script = "S 220 mx ESMTP\nC HELO client.example\nS 421 no\nE\n",
      .want = { { OUTCOME_DEFERRED, "4.0.0", "host @ refused to talk to me: 421 no" } }, .verdict = SITE_UNAVAILABLE },
    { .name = "EHLO only for ESMTP", .conf = "smtp_always_send_ehlo = no\n", .script = "S 220 mx\nC HELO client.example\nS 421 no\nE\n",
      .want = { { OUTCOME_DEFERRED, "4.0.0", "host @ refused to talk to me: 421 no" } }, .verdict = SITE_UNAVAILABLE },
    { .name = "PIX firewall", .conf = "smtp_pix_workaround_threshold_time = 0s\n" "smtp_pix_workarounds = disable_esmtp, delay_dotcrlf\n"
                                      "smtp_pix_workaround_delay_time = 1s\n",
      .script = "S 220 ***************2******0\nC HELO client.example\nS 250 ok\nC MAIL FROM:<a@s.example>\nS 250 Ok\n"
                "C RCPT TO:<r0@d.example>\nS 250 Ok\nC DATA\nS 354 go\nB 21\nQ\nC .\nS 250 done\n" QUIT,
      .want = { { OUTCOME_SENT, "2.0.0", "250 done" } } },
    { .name = "PIX workarounds by address", .conf = "smtp_pix_workaround_threshold_time = 0s\n" "smtp_pix_workaround_maps = static:other\n",
      .script = "S 220 ***************2******0\nC EHLO client.example\nS 421 no\nE\n", .verdict = SITE_UNAVAILABLE,
      .want = { { OUTCOME_DEFERRED, "4.0.0", "host @ refused to talk to me: 421 no" } } },
    { .name = "all refused, BDAT already sent",
      .script = CHUNK "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC BDAT 21 LAST\nB *\nS 250 Ok\nS 550 no\nS 554 nobody\n" QUIT,
      .want = { { OUTCOME_BOUNCED, "5.0.0", "host @ said: 550 no (in reply to RCPT TO command)" } } },
    { .name = "LMTP: all refused and 354 all the same", .is_lmtp = true,
      .script = LMTP "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\nS 250 Ok\nS 550 no\nS 354 go\nC .\nE\n",
      .want = { { OUTCOME_BOUNCED, "5.0.0", "host @ said: 550 no (in reply to RCPT TO command)" } } },
    { .name = "replies byte by byte and in pieces",
      .script = GREETING "R 250-m\nR x\\r\nR \\n250 PIPE\nR LINING\\r\\n\nC MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\n"
                "R 250 Ok\\n250 Ok\\r\\n354 \nR go\\r\\n\nD\nS 250\n" QUIT,
      .want = { { OUTCOME_SENT, "2.0.0", "250" } } },
    { .name = "large content for DATA comes whole", .mail.content = big, .mail.content_n = sizeof big, .content_n = sizeof big,
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\nS 250 Ok\nS 250 Ok\nS 354 go\nD\nS 250 done\n" QUIT,
      .want = { { OUTCOME_SENT, "2.0.0", "250 done" } }, .content = big },
    { .name = "large content waits for the replies before BDAT", .mail.content = big, .mail.content_n = sizeof big, .content_n = sizeof big,
      .script = CHUNK "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nQ\nS 250 Ok\nS 250 Ok\nC BDAT 1000000 LAST\nB *\nS 250 done\n" QUIT,
      .want = { { OUTCOME_SENT, "2.0.0", "250 done" } }, .content = big },
    { .name = "a peer that does not take the content", .mail.content = huge, .mail.content_n = sizeof huge, .verdict = SITE_UNAVAILABLE,
      .conf = "smtp_data_xfer_timeout = 1s\n", .lmtp_conf = "lmtp_data_xfer_timeout = 1s\n",
      .script = PIPE "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC DATA\nS 250 Ok\nS 250 Ok\nS 354 go\nW 4000\n",
      .want = { { OUTCOME_DEFERRED, "4.4.2", "conversation with @ timed out while sending message body" } } },
    { .name = "LMTP: a reply for each recipient", .is_lmtp = true,
      .script = LMTP "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC RCPT TO:<r1@d.example>\nC RCPT TO:<r2@d.example>\nC DATA\n"
                "S 250 Ok\nS 250 Ok\nS 250 Ok\nS 550 5.1.1 unknown\nS 354 go\nD\nS 250 2.1.5 r0 ok\nS 452 4.2.2 r1 full\n" QUIT,
      .mail.rcpts = "r0@d.example r1@d.example r2@d.example",
      .want = { { OUTCOME_SENT, "2.1.5", "250 2.1.5 r0 ok" },
                { OUTCOME_DEFERRED, "4.2.2", "host @ said: 452 4.2.2 r1 full (in reply to end of DATA command)" },
                { OUTCOME_BOUNCED, "5.1.1", "host @ said: 550 5.1.1 unknown (in reply to RCPT TO command)" } } },
    { .name = "LMTP: lost between two replies", .is_lmtp = true,
      .script = LMTP "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC RCPT TO:<r1@d.example>\nC DATA\n"
                "S 250 Ok\nS 250 Ok\nS 250 Ok\nS 354 go\nD\nS 250 2.1.5 r0 ok\nX\n",
      .mail.rcpts = "r0@d.example r1@d.example",
      .want = { { OUTCOME_SENT, "2.1.5", "250 2.1.5 r0 ok" },
                { OUTCOME_DEFERRED, "4.4.2",
                  "lost connection with @ while sending end of data -- message may be sent more than once" } } },
    { .name = "LMTP with BDAT", .is_lmtp = true,
      .script = "S 220 mx.example LMTP\nC LHLO client.example\nS 250-mx.example\nS 250-PIPELINING\nS 250 CHUNKING\n"
                "C MAIL FROM:<a@s.example>\nC RCPT TO:<r0@d.example>\nC RCPT TO:<r1@d.example>\nC BDAT 21 LAST\nB *\n"
                "S 250 Ok\nS 250 Ok\nS 250 Ok\nS 250 2.0.0 one\nS 250 2.0.0 two\n" QUIT,
      .mail.rcpts = "r0@d.example r1@d.example", .content = BODY,
      .want = { { OUTCOME_SENT, "2.0.0", "250 2.0.0 one" }, { OUTCOME_SENT, "2.0.0", "250 2.0.0 two" } } },
};

static char *with_peer(const char *text, unsigned port)
{
    struct buf b = BUF_INIT(0);
    char name[100];
    snprintf(name, sizeof name, "127.0.0.1[127.0.0.1]");
    (void)port;
    for (; *text; text++) {
        if (*text == '@')
            buf_puts(&b, name);
        else
            buf_putc(&b, *text);
    }
    buf_putc(&b, '\0');
    return b.p;
}

static void check(const struct dialogue *d, struct sched *s, struct peer *p)
{
    const char *problem = peer_finish(p);
    if (*problem)
        fail_msg("%s: peer: %s", d->name, problem);
    if (s->unreported != 0 || s->finished != 1)
        fail_msg("%s: %d recipients without a report, %u jobs finished", d->name, s->unreported, s->finished);
    unsigned n = 0;
    for (; n < ARRAY_LEN(d->want) && d->want[n].dsn; n++) {
        const struct fake_report *r = fake_report_of(s, 1, n);
        if (r == NULL)
            fail_msg("%s: no report for recipient %u", d->name, n);
        char *reason = with_peer(d->want[n].reason, peer_port(p));
        if (r->outcome != d->want[n].outcome || strcmp(r->dsn, d->want[n].dsn) != 0 || strcmp(r->reason, reason) != 0)
            fail_msg("%s: recipient %u: outcome %d dsn %s (%s), wanted %d %s (%s)", d->name, n, r->outcome, r->dsn, r->reason,
                     d->want[n].outcome, d->want[n].dsn, reason);
        free(reason);
    }
    if (s->report_count != n)
        fail_msg("%s: %u reports, wanted %u", d->name, s->report_count, n);
    if (s->verdicts[0] != d->verdict)
        fail_msg("%s: site verdict %d, wanted %d", d->name, s->verdicts[0], d->verdict);
    if (d->content && !span_eq(peer_content(p), span_of(d->content, d->content_n ? d->content_n : strlen(d->content))))
        fail_msg("%s: content \"%.*s\"", d->name, SPAN_ARG(peer_content(p)));
}

/* SMTP's script as LMTP speaks it. */
static char *with_lhlo(const char *script)
{
    char *copy = xstrdup(script);
    for (char *at = copy; (at = strstr(at, "C EHLO ")) != NULL; at++)
        at[2] = 'L';
    return copy;
}

static void speak(const struct dialogue *d, bool is_lmtp, const char *conf)
{
    struct sched *s = fake_sched_new();
    struct conf *c = fake_conf(conf ? conf : "", "");
    struct log_src log = { .name = "posthouse" };
    struct table_registry *reg = table_registry_new(&log);
    struct deliver_env env = { .sched = s, .log = &log, .tables = deliver_tables_new(reg, &log) };
    char *script = is_lmtp ? with_lhlo(d->script) : xstrdup(d->script);
    struct peer *p = peer_start(script);
    char nexthop[64];
    snprintf(nexthop, sizeof nexthop, is_lmtp ? "inet:[127.0.0.1]:%u" : "[127.0.0.1]:%u", peer_port(p));
    struct fake_mail mail = d->mail;
    if (mail.sender == NULL)
        mail.sender = "a@s.example";
    if (mail.rcpts == NULL)
        mail.rcpts = "r0@d.example";
    if (mail.content == NULL)
        mail.content = BODY;
    fake_add_job(s, c, is_lmtp ? "lmtp" : "smtp", nexthop, 1, &mail);
    deliver_smtp(&env, sched_next(s, NULL));
    check(d, s, p);
    peer_free(&p);
    free(script);
    deliver_tables_free(&env.tables);
    table_registry_unref(&reg);
    conf_unref(&c);
    fake_sched_free(&s);
}

static void every_dialogue(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(dialogues); i++) {
        speak(&dialogues[i], dialogues[i].is_lmtp, dialogues[i].conf);
        if (dialogues[i].lmtp_conf)
            speak(&dialogues[i], true, dialogues[i].lmtp_conf);
    }
}

/* More recipients than one group of commands holds: the peer reads and answers a group at a time. */
static void many_recipients(void **state)
{
    (void)state;
    struct buf rcpts = BUF_INIT(0), script = BUF_INIT(0), replies = BUF_INIT(0);
    buf_puts(&script, PIPE "C MAIL FROM:<a@s.example>\nS 250 Ok\n");
    for (int i = 0; i < 500; i++) {
        buf_printf(&rcpts, "%srecipient-number-%d@d.example", i ? " " : "", i);
        buf_printf(&script, "C RCPT TO:<recipient-number-%d@d.example>\nS %s\n", i, i % 5 == 4 ? "550 5.1.1 no" : "250 Ok");
    }
    buf_puts(&script, "C DATA\nS 354 go\nD\nS 250 done\n" QUIT);
    struct sched *s = fake_sched_new();
    struct conf *c = fake_conf("", "");
    struct log_src log = { .name = "posthouse" };
    struct deliver_env env = { .sched = s, .log = &log };
    struct peer *p = peer_start(buf_cstr(&script));
    char nexthop[64];
    snprintf(nexthop, sizeof nexthop, "[127.0.0.1]:%u", peer_port(p));
    fake_add_job(s, c, "smtp", nexthop, 1, &(struct fake_mail){ .sender = "a@s.example", .rcpts = buf_cstr(&rcpts), .content = BODY });
    deliver_smtp(&env, sched_next(s, NULL));
    assert_string_equal(peer_finish(p), "");
    assert_int_equal(s->report_count, 500);
    for (unsigned i = 0; i < 500; i++)
        assert_int_equal(fake_report_of(s, 1, i)->outcome, i % 5 == 4 ? OUTCOME_BOUNCED : OUTCOME_SENT);
    peer_free(&p);
    conf_unref(&c);
    fake_sched_free(&s);
    buf_free(&rcpts);
    buf_free(&script);
    buf_free(&replies);
}

/* A reply with overlong lines, and more text than is kept: cut, and the conversation goes on. */
static void overlong_replies(void **state)
{
    (void)state;
    struct buf script = BUF_INIT(0);
    buf_puts(&script, GREETING "S 250-mx.example\n");
    for (int i = 0; i < 300; i++)
        buf_printf(&script, "S 250-X%0100d\n", i);
    buf_puts(&script, "S 250 OK\nC MAIL FROM:<a@s.example>\nS 550 ");
    for (int i = 0; i < 9000; i++)
        buf_putc(&script, 'y');
    buf_puts(&script, "\n" QUIT);
    struct sched *s = fake_sched_new();
    struct conf *c = fake_conf("", "");
    struct log_src log = { .name = "posthouse" };
    struct deliver_env env = { .sched = s, .log = &log };
    struct peer *p = peer_start(buf_cstr(&script));
    char nexthop[64];
    snprintf(nexthop, sizeof nexthop, "[127.0.0.1]:%u", peer_port(p));
    fake_add_job(s, c, "smtp", nexthop, 1, &(struct fake_mail){ .sender = "a@s.example", .rcpts = "r0@d.example", .content = BODY });
    deliver_smtp(&env, sched_next(s, NULL));
    assert_string_equal(peer_finish(p), "");
    assert_int_equal(fake_report_of(s, 1, 0)->outcome, OUTCOME_BOUNCED);
    assert_non_null(strstr(fake_report_of(s, 1, 0)->reason, "said: 550 yyyyyyyyyyyy"));
    peer_free(&p);
    conf_unref(&c);
    fake_sched_free(&s);
    buf_free(&script);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_dialogue), cmocka_unit_test(many_recipients), cmocka_unit_test(overlong_replies) };
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = i % 80 == 78 ? '\r' : i % 80 == 79 ? '\n' : (char)('a' + i / 80 % 26);
    memset(huge, 'h', sizeof huge);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
