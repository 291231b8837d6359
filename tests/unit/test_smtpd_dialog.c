/*
 * Golden dialogues: what the client sends, what it must be told. Replies are compared from the start of the line; "*" at the
 * end of an expected line allows anything behind. Replies that Postfix 3.7 gave to the same lines, unless noted.
 */
#include "tests/unit/smtpd_fixture.h"

struct turn {
    const char *say;   /* NULL: the end */
    const char *hear;  /* lines without CR, each ended by \n */
};

struct dialogue {
    const char *name, *main_cf;
    const struct turn *turns;
    const char *peer;
};

#define EHLO_REPLY \
    "250-mx.example.com\n250-PIPELINING\n250-SIZE 10240000\n250-VRFY\n250-ETRN\n250-ENHANCEDSTATUSCODES\n250-8BITMIME\n" \
    "250-DSN\n250-SMTPUTF8\n250 CHUNKING\n"
#define GREETING "220 mx.example.com ESMTP Posthouse\n"
#define BANNER { "", GREETING }
#define EHLO_XCLIENT { "EHLO x\r\n", "250-mx.example.com\n250-PIPELINING\n250-SIZE 10240000\n250-VRFY\n250-ETRN\n" \
    "250-XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT\n250-ENHANCEDSTATUSCODES\n250-8BITMIME\n" \
    "250-DSN\n250-SMTPUTF8\n250 CHUNKING\n" }
#define EHLO_SIZE(n) { "EHLO x\r\n", "250-mx.example.com\n250-PIPELINING\n250-SIZE " n "\n250-VRFY\n250-ETRN\n" \
    "250-ENHANCEDSTATUSCODES\n250-8BITMIME\n250-DSN\n250-SMTPUTF8\n250 CHUNKING\n" }
#define HELLO BANNER, { "EHLO client.example\r\n", EHLO_REPLY }
#define MAIL { "MAIL FROM:<a@b.example>\r\n", "250 2.1.0 Ok\n" }
#define RCPT { "RCPT TO:<joe@example.com>\r\n", "250 2.1.5 Ok\n" }
#define DATA { "DATA\r\n", "354 End data with <CR><LF>.<CR><LF>\n" }
#define END { NULL, NULL }
#define T (const struct turn[])

static const struct dialogue dialogues[] = {
    { "one message", "", T{ HELLO, MAIL, RCPT, DATA, { "Subject: x\r\n\r\nhello\r\n.\r\n", "250 2.0.0 Ok: queued as *\n" },
        { "QUIT\r\n", "221 2.0.0 Bye\n" }, END }, NULL },
    { "commands out of order", "", T{ BANNER,
        { "RCPT TO:<joe@example.com>\r\n", "503 5.5.1 Error: need MAIL command\n" },
        { "DATA\r\n", "503 5.5.1 Error: need RCPT command\n" }, MAIL,
        { "MAIL FROM:<a@b.example>\r\n", "503 5.5.1 Error: nested MAIL command\n" },
        { "DATA\r\n", "554 5.5.1 Error: no valid recipients\n" },
        { "RSET\r\n", "250 2.0.0 Ok\n" }, { "DATA\r\n", "503 5.5.1 Error: need RCPT command\n" }, END }, NULL },
    { "small commands", "", T{ BANNER, { "NOOP\r\n", "250 2.0.0 Ok\n" }, { "noop x y\r\n", "250 2.0.0 Ok\n" },
        { "HELP\r\n", "214-2.0.0 *\n214 2.0.0 *\n" }, /* ours: Postfix has no HELP */
        { "VRFY\r\n", "501 5.5.4 Syntax: VRFY address [SMTPUTF8]\n" }, { "VRFY joe@example.com\r\n", "252 2.0.0 joe@example.com\n" },
        { "VRFY joe\r\n", "454 4.7.1 <joe>: Relay access denied\n" } /* joe@mx.example.com */,
        { "VRFY x@remote.example\r\n", "454 4.7.1 <x@remote.example>: Relay access denied\n" },
        { "ETRN x\r\n", "459 <x>: service unavailable\n" }, { "ETRN\r\n", "500 Syntax: ETRN domain\n" },
        { "ETRN x..y\r\n", "501 Error: invalid parameter syntax\n" }, { "EHLO\r\n", "501 Syntax: EHLO hostname\n" },
        { "HELO\r\n", "501 Syntax: HELO hostname\n" }, { "HELO a b\r\n", "250 mx.example.com\n" }, END }, NULL },
    { "unknown commands", "", T{ BANNER, { "EXPN x\r\n", "500 5.5.2 Error: command not recognized\n" },
        { "XYZ\r\n", "500 5.5.2 Error: command not recognized\n" }, { "RSET x\r\n", "501 5.5.4 Syntax: RSET\n" }, { "\r\n", "500 5.5.2 Error: bad syntax\n" },
        { "STARTTLS\r\n", "502 5.5.1 Error: command not implemented\n" },
        { "AUTH PLAIN\r\n", "503 5.5.1 Error: authentication not enabled\n" }, END }, NULL },
    { "http", "", T{ BANNER, { "GET / HTTP/1.0\r\n", "221 2.7.0 Error: I can break rules, too. Goodbye.\n" },
        { "NOOP\r\n", "" }, END }, NULL },
    { "header line", "", T{ BANNER, { "Subject: x\r\n", "221 2.7.0 Error: I can break rules, too. Goodbye.\n" }, END }, NULL },
    { "binary", "smtpd_forbidden_commands = CONNECT GET POST regexp:{{/^[^A-Z]/ Bogus}}\n", T{ BANNER, { "\x16\x03\x01\r\n", "221 2.7.0 Error: I can break rules, too. Goodbye.\n" }, END }, NULL },
    { "forbidden list", "smtpd_forbidden_commands = FOO\n", T{ BANNER, { "GET /\r\n", "500 5.5.2 *\n" },
        { "foo\r\n", "221 2.7.0 *\n" }, END }, NULL },
    { "noop commands", "smtpd_noop_commands = XYZ mail\n", T{ BANNER, { "xyz\r\n", "250 2.0.0 Ok\n" },
        { "MAIL\r\n", "250 2.0.0 Ok\n" }, END }, NULL },
    { "helo required", "smtpd_helo_required = yes\n", T{ BANNER,
        { "MAIL FROM:<a@b.example>\r\n", "503 5.5.1 Error: send HELO/EHLO first\n" },
        { "ETRN x\r\n", "503 Error: send HELO/EHLO first\n" },
        { "HELO x\r\n", "250 mx.example.com\n" }, MAIL, END }, NULL },
    { "no vrfy", "disable_vrfy_command = yes\n", T{ BANNER, { "VRFY joe@example.com\r\n", "502 5.5.1 VRFY command is disabled\n" },
        END }, NULL },
    { "discarded keywords", "smtpd_discard_ehlo_keywords = pipelining, DSN, chunking\ndisable_vrfy_command = yes\n"
        "smtputf8_enable = no\nmessage_size_limit = 0\n", T{ BANNER,
        { "EHLO x\r\n", "250-mx.example.com\n250-SIZE\n250-ETRN\n250-ENHANCEDSTATUSCODES\n250 8BITMIME\n" },
        { "MAIL FROM:<a@b.example> RET=FULL\r\n", "501 5.7.1 DSN support is disabled\n" },
        { "MAIL FROM:<a@b.example> SMTPUTF8\r\n", "555 5.5.4 Unsupported option: SMTPUTF8\n" }, MAIL, RCPT,
        { "BDAT 4 LAST\r\nNOOP", "521 5.5.1 Error: command not implemented\n" }, END }, NULL },
    { "all keywords discarded", "smtpd_discard_ehlo_keywords = pipelining size vrfy etrn enhancedstatuscodes 8bitmime dsn "
        "smtputf8 chunking\n", T{ BANNER, { "EHLO x\r\n", "250 mx.example.com\n" }, END }, NULL },
    { "keywords discarded by address", "smtpd_discard_ehlo_keywords = dsn\n" "smtpd_discard_ehlo_keyword_address_maps = "
        "inline:{ {10.0.0.1=pipelining vrfy etrn enhancedstatuscodes size} }\n", T{ BANNER,
        { "EHLO x\r\n", "250-mx.example.com\n250-8BITMIME\n250-DSN\n250-SMTPUTF8\n250 CHUNKING\n" },
        { "MAIL FROM:<a@b.example> RET=FULL\r\n", "250 2.1.0 Ok\n" }, END }, "10.0.0.1" },
    { "command filter", "smtpd_command_filter = inline:{ {NOPE=NOOP}, {MAIL FROM:<x>=MAIL FROM:<x@y.example>} }\n", T{ HELLO,
        { "NOPE\r\n", "250 2.0.0 Ok\n" }, { "NOPE x\r\n", "500 5.5.2 *\n" }, { "MAIL FROM:<x>\r\n", "250 2.1.0 Ok\n" },
        END }, NULL },
    { "MAIL arguments", "smtpd_soft_error_limit = 100\nsmtpd_hard_error_limit = 100\n", T{ HELLO,
        { "MAIL\r\n", "501 5.5.4 Syntax: MAIL FROM:<address>\n" }, { "MAIL FROM\r\n", "501 5.5.4 Syntax: MAIL FROM:<address>\n" },
        { "MAIL FROM:\r\n", "501 5.5.4 Syntax: MAIL FROM:<address>\n" },
        { "MAIL FROM:a@b.example\r\n", "250 2.1.0 Ok\n" }, { "RSET\r\n", "250 2.0.0 Ok\n" },
        { "mail from: <a@b.example>\r\n", "250 2.1.0 Ok\n" }, { "RSET\r\n", "250 2.0.0 Ok\n" },
        { "MAIL FROM:<a@b.example> SIZE=abc\r\n", "501 5.5.4 Bad message size syntax\n" },
        { "MAIL FROM:<a@b.example> SIZE=\r\n", "501 5.5.4 Bad message size syntax\n" },
        { "MAIL FROM:<a@b.example> SIZE=-1\r\n", "501 5.5.4 Bad message size syntax\n" },
        { "MAIL FROM:<a@b.example> SIZE=10240001\r\n", "552 5.3.4 Message size exceeds fixed limit\n" },
        { "MAIL FROM:<a@b.example> SIZE=99999999999999999999999\r\n", "552 5.3.4 Message size exceeds file system imposed limit\n" },
        { "MAIL FROM:<a@b.example> BODY=x\r\n", "555 5.5.4 Unsupported option: BODY=x\n" },
        { "MAIL FROM:<a@b.example> FOO\r\n", "555 5.5.4 Unsupported option: FOO\n" },
        { "MAIL FROM:<a@b.example> RET=x\r\n", "501 5.5.4 Bad RET parameter syntax\n" },
        { "MAIL FROM:<a@b.example> RET=FULL RET=HDRS\r\n", "501 5.5.4 Bad RET parameter syntax\n" },
        { "MAIL FROM:<a@b.example> ENVID=a+b\r\n", "501 5.5.4 Bad ENVID parameter syntax\n" },
        { "MAIL FROM:<a@b.example> ENVID=a ENVID=b\r\n", "501 5.5.4 Bad ENVID parameter syntax\n" },
        { "MAIL FROM:<a@b.example> SMTPUTF8=x\r\n", "555 5.5.4 Unsupported option: SMTPUTF8=x\n" },
        { "MAIL FROM:<a@b.example> <c@d.example>\r\n", "555 5.5.4 Unsupported option: <c@d.example>\n" },
        { "MAIL FROM:<a@b.example>SIZE=10\r\n", "501 5.1.7 Bad sender address syntax\n" },
        { "MAIL FROM:<a@b.example> size=100 BODY=8BITMIME ret=hdrs ENVID=a+2Bb SMTPUTF8 AUTH=<>\r\n", "250 2.1.0 Ok\n" },
        END }, NULL },
    { "a new MAIL after a refused SIZE", "", T{ HELLO, /* behaviours 12 */
        { "MAIL FROM:<a@b.example> SIZE=10240001\r\n", "552 5.3.4 Message size exceeds fixed limit\n" }, MAIL, END }, NULL },
    { "RCPT arguments", "smtpd_soft_error_limit = 100\nsmtpd_hard_error_limit = 100\n", T{ HELLO, MAIL,
        { "RCPT\r\n", "501 5.5.4 Syntax: RCPT TO:<address>\n" }, { "RCPT TO:\r\n", "501 5.5.4 Syntax: RCPT TO:<address>\n" },
        { "RCPT TO:<>\r\n", "501 5.1.3 Bad recipient address syntax\n" },
        { "RCPT TO:<joe@example.com> NOTIFY=x\r\n", "501 5.5.4 Error: Bad NOTIFY parameter syntax\n" },
        { "RCPT TO:<joe@example.com> NOTIFY=\r\n", "501 5.5.4 Error: Bad NOTIFY parameter syntax\n" },
        { "RCPT TO:<joe@example.com> NOTIFY=NEVER,FAILURE\r\n", "501 5.5.4 Error: Bad NOTIFY parameter syntax\n" },
        { "RCPT TO:<joe@example.com> NOTIFY=DELAY NOTIFY=DELAY\r\n", "501 5.5.4 Error: Bad NOTIFY parameter syntax\n" },
        { "RCPT TO:<joe@example.com> ORCPT=x\r\n", "501 5.5.4 Error: Bad ORCPT parameter syntax\n" },
        { "RCPT TO:<joe@example.com> ORCPT=rfc822;a+b\r\n", "501 5.5.4 Error: Bad ORCPT parameter syntax\n" },
        { "RCPT TO:<joe@example.com> ORCPT=rfc822;a ORCPT=rfc822;b\r\n", "501 5.5.4 Error: Bad ORCPT parameter syntax\n" },
        { "RCPT TO:<joe@example.com> FOO\r\n", "555 5.5.4 Unsupported option: FOO\n" },
        { "RCPT TO:<joe@example.com> NOTIFY=SUCCESS,delay ORCPT=rfc822;a+40b\r\n", "250 2.1.5 Ok\n" },
        { "DATA x\r\n", "501 5.5.4 Syntax: DATA\n" }, END }, NULL },
    { "addresses", "smtpd_soft_error_limit = 100\nsmtpd_hard_error_limit = 100\n", T{ HELLO,
        { "MAIL FROM:<u@12345>\r\n", "501 5.1.7 Bad sender address syntax\n" },
        { "MAIL FROM:<u@1.2.3.4>\r\n", "501 5.1.7 Bad sender address syntax\n" },
        { "MAIL FROM:<u@x..y>\r\n", "501 5.1.7 Bad sender address syntax\n" },
        { "MAIL FROM:<u@-x.example>\r\n", "501 5.1.7 Bad sender address syntax\n" },
        { "MAIL FROM:<a b@c.example>\r\n", "501 5.1.7 Bad sender address syntax\n" },
        { "MAIL FROM:<a@b.example\r\n", "501 5.1.7 Bad sender address syntax\n" },
        { "MAIL FROM:<j\xf6@c.example>\r\n", "500 5.5.2 Error: bad UTF-8 syntax\n" },
        { "MAIL FROM:<j@\xc3\xb6.example>\r\n", "501 5.1.7 Bad sender address syntax\n" },
        { "MAIL FROM:<j\xc3\xb6@c.example>\r\n", "250 2.1.0 Ok\n" },
        { "RCPT TO:<u@12345>\r\n", "501 5.1.3 Bad recipient address syntax\n" },
        { "RCPT TO:<joe@example.com\r\n", "501 5.1.3 Bad recipient address syntax\n" },
        { "RCPT TO:<@a.example:joe@example.com>\r\n", "250 2.1.5 Ok\n" },
        { "RCPT TO:<postmaster>\r\n", "250 2.1.5 Ok\n" },
        { "RCPT TO:<nobody>\r\n", "454 4.7.1 <nobody>: Relay access denied\n" },
        END }, NULL },
    { "strict smtputf8", "strict_smtputf8 = yes\n", T{ HELLO,
        { "MAIL FROM:<j\xc3\xb6@c.example>\r\n", "553 5.6.7 Must declare SMTPUTF8 to send unicode address\n" },
        { "MAIL FROM:<j\xc3\xb6@c.example> SMTPUTF8\r\n", "250 2.1.0 Ok\n" }, END }, NULL },
    { "strict envelopes", "strict_rfc821_envelopes = yes\n", T{ HELLO,
        { "MAIL FROM:a@b.example\r\n", "501 5.1.7 Bad sender address syntax\n" },
        { "MAIL FROM:<a(x)@b.example>\r\n", "501 5.1.7 Bad sender address syntax\n" }, MAIL, END }, NULL },
    { "recipients that are not ours", "", T{ HELLO, MAIL,
        { "RCPT TO:<x@remote.example>\r\n", "454 4.7.1 <x@remote.example>: Relay access denied\n" },
        { "RCPT TO:<nobody@example.com>\r\n", "550 5.1.1 <nobody@example.com>: Recipient address rejected: User unknown in local recipient table\n" },
        { "RCPT TO:<x@alias.example>\r\n", "550 5.1.1 <x@alias.example>: Recipient address rejected: User unknown in virtual alias table\n" },
        { "RCPT TO:<list@alias.example>\r\n", "250 2.1.5 Ok\n" }, { "RCPT TO:<x@relay.example>\r\n", "250 2.1.5 Ok\n" },
        END }, NULL },
    { "a client of ours may relay", "", T{ BANNER, { "EHLO x\r\n", EHLO_REPLY }, MAIL,
        { "RCPT TO:<x@remote.example>\r\n", "250 2.1.5 Ok\n" }, END }, "10.1.2.3" },
    { "recipient limit", "smtpd_recipient_limit = 2\nsmtpd_recipient_overshoot_limit = 1\n", T{ HELLO, MAIL, RCPT, RCPT,
        { "RCPT TO:<joe@example.com>\r\n", "452 4.5.3 Error: too many recipients\n" },
        { "RCPT TO:<joe@example.com>\r\n", "452 4.5.3 Error: too many recipients\n" }, DATA,
        { ".\r\n", "250 2.0.0 Ok: queued as *\n" }, END }, NULL },
    { "soft bounce", "soft_bounce = yes\n", T{ HELLO, MAIL,
        { "RCPT TO:<nobody@example.com>\r\n", "450 4.1.1 *\n" }, END }, NULL },
    { "BDAT", "", T{ HELLO, MAIL, RCPT, { "BDAT 3\r\nabc", "250 2.0.0 Ok: 3 bytes\n" },
        { "DATA\r\n", "503 5.5.1 Error: DATA after BDAT\n" }, { "MAIL FROM:<>\r\n", "503 5.5.1 Error: nested MAIL command\n" },
        { "RCPT TO:<joe@example.com>\r\n", "503 5.5.1 Error: RCPT after BDAT\n" }, { "NOOP\r\n", "250 2.0.0 Ok\n" },
        { "BDAT 0 LAST\r\n", "250 2.0.0 Ok: 5 bytes queued as *\n" }, { "DATA\r\n", "503 5.5.1 Error: need RCPT command\n" },
        END }, NULL },
    { "BDAT refused takes its chunk", "", T{ HELLO, { "BDAT 5\r\nabcdeRSET\r\n", "503 5.5.1 Error: need RCPT command\n250 2.0.0 Ok\n" },
        MAIL, { "BDAT 6 LAST\r\nRSET\r\nNOOP\r\n", "554 5.5.1 Error: no valid recipients\n250 2.0.0 Ok\n" }, END }, NULL },
    { "BDAT syntax", "", T{ HELLO, MAIL, RCPT, { "BDAT 4 FOO\r\nabcd", "521 5.5.4 Syntax: BDAT count [LAST]\n" },
        { "NOOP\r\n", "" }, END }, NULL },
    { "BDAT 0", "", T{ HELLO, MAIL, RCPT, { "BDAT 0\r\n", "551 5.7.1 Null BDAT request\n" }, { "BDAT\r\n", "521 5.5.4 *\n" },
        END }, NULL },
    { "BDAT too big", "message_size_limit = 10\n", T{ BANNER, EHLO_SIZE("10"), MAIL, RCPT,
        { "BDAT 8\r\n12345678", "250 2.0.0 Ok: 8 bytes\n" },
        { "BDAT 11\r\nabcdefghijk", "552 5.3.4 Chunk exceeds message size limit\n" },
        { "BDAT 2\r\nab", "551 5.0.0 Discarded 2 bytes after earlier error\n" },
        { "RCPT TO:<joe@example.com>\r\n", "503 5.5.1 Error: RCPT after BDAT\n" },
        { "BDAT 2 LAST\r\nab", "551 5.0.0 Discarded 2 bytes after earlier error\n" }, MAIL, RCPT,
        { "BDAT 2 LAST\r\nab", "250 2.0.0 Ok: 4 bytes queued as *\n" }, END }, NULL },
    { "too big", "message_size_limit = 100\n", T{ BANNER, MAIL, RCPT, DATA,
        { "a: b\r\n\r\n0123456789012345678901234567890123456789012345678901234567890123456789\r\n01234567890123456789012345\r\n.\r\n",
          "552 5.3.4 Error: message file too big\n" }, MAIL, RCPT, DATA, { "a: b\r\n\r\nsmall\r\n.\r\n", "250 2.0.0 *\n" }, END }, NULL },
    { "too many hops", "hopcount_limit = 3\n", T{ BANNER, MAIL, RCPT, DATA,
        { "Received: a\r\n\r\nReceived: body\r\nReceived: body\r\n.\r\n", "250 2.0.0 *\n" }, MAIL, RCPT, DATA,
        { "Received: a\r\nReceived: b\r\n\r\nx\r\n.\r\n", "554 5.4.0 Error: too many hops\n" }, END }, NULL },
    { "pipelining without EHLO", "", T{ BANNER, { "HELO x\r\n", "250 mx.example.com\n" },
        { "MAIL FROM:<a@b.example>\r\nRCPT TO:<joe@example.com>\r\n", "554 5.5.0 Error: SMTP protocol synchronization\n" }, END }, NULL },
    { "long command", "line_length_limit = 100\n", T{ HELLO,
        { "NOOP 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\r\nRSET\r\n",
          "500 5.5.2 Error: line too long\n250 2.0.0 Ok\n" }, END }, NULL },
    { "bare LF commands", "", T{ BANNER, { "NOOP\n", "250 2.0.0 Ok\n" }, END }, NULL },
    { "bare LF commands refused", "smtpd_forbid_bare_newline = reject\n", T{ BANNER,
        { "NOOP\n", "550 5.5.2 mx.example.com Error: bare <LF> received\n" }, { "NOOP\r\n", "" }, END }, NULL },
    { "bare LF content refused", "smtpd_forbid_bare_newline = reject\nsmtpd_forbid_bare_newline_reject_code = 551\n", T{ BANNER,
        MAIL, RCPT, DATA, { "a: b\r\n\r\nx\ny\r\n.\r\n", "551 5.5.2 mx.example.com Error: bare <LF> received\n" },
        { "NOOP\r\n", "250 2.0.0 Ok\n" }, END }, NULL },
    { "bare LF excluded", "smtpd_forbid_bare_newline = reject\n", T{ BANNER, { "NOOP\n", "250 2.0.0 Ok\n" }, END }, "10.0.0.1" },
    { "content rejected", "message_reject_characters = \\1\n", T{ BANNER, MAIL, RCPT, DATA,
        { "a: b\r\n\r\nx\x01y\r\n.\r\n", "550 5.7.1 Error: content rejected\n" }, MAIL, RCPT, DATA,
        { "a: b\r\n\r\nx\r\n.\r\n", "250 2.0.0 *\n" }, END }, NULL },
    { "banner", "smtpd_banner = $myhostname NO UCE ESMTP\n", T{ { "", "220 mx.example.com NO UCE ESMTP\n" }, END }, NULL },
    { "bare LF exclusions", "smtpd_forbid_bare_newline = reject\nsmtpd_forbid_bare_newline_exclusions = 127.0.0.1\n", T{ BANNER,
        { "NOOP\n", "250 2.0.0 Ok\n" }, END }, NULL },
    { "exceptions of the client limits", "smtpd_client_connection_rate_limit = 0\nsmtpd_client_message_rate_limit = 1\n"
        "smtpd_client_event_limit_exceptions = 127.0.0.1\n", T{ BANNER, MAIL, { "RSET\r\n", "250 2.0.0 Ok\n" }, MAIL, END }, NULL },
    { "early EHLO pipelining", "", T{ BANNER, { "EHLO x\r\nMAIL FROM:<a@b.example>\r\n", "554 5.5.0 Error: SMTP protocol synchronization\n" },
        { "NOOP\r\n", "" }, END }, NULL },
    { "early DATA pipelining", "", T{ HELLO, { "MAIL FROM:<a@b.example>\r\nRCPT TO:<joe@example.com>\r\nDATA\r\nSubject: x\r\n\r\n.\r\n",
        "250 2.1.0 Ok\n250 2.1.5 Ok\n554 5.5.0 Error: SMTP protocol synchronization\n" }, END }, NULL },
    { "NOOP ends a group", "", T{ HELLO, { "RSET\r\nNOOP\r\nMAIL FROM:<a@b.example>\r\n",
        "250 2.0.0 Ok\n554 5.5.0 Error: SMTP protocol synchronization\n" }, END }, NULL },
    { "early pipelining allowed", "smtpd_forbid_unauth_pipelining = no\n", T{ BANNER, { "EHLO x\r\nMAIL FROM:<a@b.example>\r\n",
        EHLO_REPLY "250 2.1.0 Ok\n" }, END }, NULL },
    { "client refused at connect", "smtpd_client_restrictions = reject\nsmtpd_delay_reject = no\n", T{
        { "", "554 5.7.1 <localhost[127.0.0.1]>: Client host rejected: Access denied\n" },
        { "EHLO x\r\n", "503 5.7.0 Error: access denied for localhost[127.0.0.1]\n" }, { "QUIT\r\n", "221 2.0.0 Bye\n" }, END }, NULL },
    { "client refused at RCPT", "smtpd_client_restrictions = reject\n", T{ HELLO, MAIL,
        { "RCPT TO:<joe@example.com>\r\n", "554 5.7.1 <localhost[127.0.0.1]>: Client host rejected: Access denied\n" }, END }, NULL },
    { "HELO refused", "smtpd_helo_restrictions = reject\nsmtpd_delay_reject = no\n", T{ BANNER,
        { "HELO x\r\n", "554 5.7.1 <x>: Helo command rejected: Access denied\n" }, END }, NULL },
    { "DATA refused", "smtpd_data_restrictions = reject\n", T{ HELLO, MAIL, RCPT,
        { "DATA\r\n", "554 5.7.1 <DATA>: Data command rejected: Access denied\n" }, END }, NULL },
    { "end of data refused", "smtpd_end_of_data_restrictions = reject\n", T{ HELLO, MAIL, RCPT, DATA,
        { ".\r\n", "554 5.7.1 <END-OF-MESSAGE>: End-of-data rejected: Access denied\n" }, MAIL, END }, NULL },
    { "XCLIENT replies", "smtpd_authorized_xclient_hosts = 127.0.0.1, 10.1.1.1\n", T{ BANNER,
        { "XCLIENT\r\n", "501 5.5.4 Syntax: XCLIENT attribute=value...\n" }, { "XCLIENT foo\r\n", "501 5.5.4 Error: attribute=value expected\n" },
        { "XCLIENT FOO=bar\r\n", "501 5.5.4 Bad XCLIENT attribute name: FOO\n" }, { "XCLIENT NAME=a..b\r\n", "501 5.5.4 Bad NAME syntax: a..b\n" },
        MAIL, { "XCLIENT NAME=a.example\r\n", "503 5.5.1 Error: MAIL transaction in progress\n" }, { "RSET\r\n", "250 2.0.0 Ok\n" },
        { "XCLIENT NAME=a.example ADDR=10.1.1.1\r\n", GREETING }, { "XCLIENT ADDR=192.0.2.1\r\n", GREETING },
        { "XCLIENT ADDR=10.1.1.1\r\n", "550 5.7.0 Error: insufficient authorization\n" }, END }, NULL },
    { "XCLIENT of a stranger", "smtpd_authorized_xclient_hosts = 10.1.1.1\n", T{ HELLO,
        { "XCLIENT NAME=a.example\r\n", "550 5.7.0 Error: insufficient authorization\n" },
        { "XFORWARD NAME=a.example\r\n", "550 5.7.0 Error: insufficient authorization\n" }, END }, NULL },
    { "XCLIENT and HELO", "smtpd_authorized_xclient_hosts = 127.0.0.1\nsmtpd_helo_required = yes\n", T{ BANNER, EHLO_XCLIENT,
        { "XCLIENT HELO=x.example\r\n", GREETING }, { "XCLIENT NAME=a.example\r\n", GREETING },
        { "MAIL FROM:<a@b.example>\r\n", "503 5.5.1 Error: send HELO/EHLO first\n" }, { "XCLIENT HELO=x.example\r\n", GREETING }, MAIL, END }, NULL },
    { "XCLIENT and restrictions", "smtpd_authorized_xclient_hosts = 127.0.0.1\nsmtpd_delay_reject = no\nunknown_client_reject_code = 550\n"
        "smtpd_client_restrictions = check_client_access inline:{ {192.0.2.1=REJECT no}, {192.0.2.2=521 gone}, {127.0.0.1=OK} }, reject_unknown_client_hostname\n",
        T{ BANNER, { "XCLIENT NAME=[TEMPUNAVAIL] ADDR=192.0.2.9\r\n", "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.9]\n" },
        { "EHLO x\r\n", "503 5.7.0 Error: access denied for unknown[192.0.2.9]\n" },
        { "XCLIENT ADDR=127.0.0.1\r\n", "503 5.7.0 Error: access denied for unknown[192.0.2.9]\n" }, END }, NULL },
    { "XCLIENT and disconnection", "smtpd_authorized_xclient_hosts = 127.0.0.1\nsmtpd_delay_reject = no\n"
        "smtpd_client_restrictions = check_client_access inline:{ {192.0.2.2=521 gone} }\n", T{ BANNER,
        { "XCLIENT NAME=a.example ADDR=192.0.2.2\r\n", "521 5.7.1 <a.example[192.0.2.2]>: Client host rejected: gone\n" }, { "NOOP\r\n", "" }, END }, NULL },
    { "XCLIENT with more behind it", "smtpd_authorized_xclient_hosts = 127.0.0.1\n", T{ BANNER, EHLO_XCLIENT,
        { "RSET\r\nXCLIENT NAME=a.example\r\n", "250 2.0.0 Ok\n" GREETING },
        { "XCLIENT NAME=a.example\r\nEHLO x\r\n", "554 5.5.0 Error: SMTP protocol synchronization\n" }, { "NOOP\r\n", "" }, END }, NULL },
    { "XFORWARD replies", "smtpd_authorized_xforward_hosts = 127.0.0.1\n", T{ BANNER,
        { "XFORWARD\r\n", "501 5.5.4 Syntax: XFORWARD attribute=value...\n" }, { "XFORWARD ADDR=::1\r\n", "501 5.5.4 Bad ADDR syntax: ::1\n" },
        { "XFORWARD NAME=a.example IDENT=x SOURCE=LOCAL\r\n", "250 2.0.0 Ok\n" }, MAIL,
        { "XFORWARD NAME=a.example\r\n", "503 5.5.1 Error: MAIL transaction in progress\n" }, END }, NULL },
    { "footer", "smtpd_reject_footer = \\c. Help: $server_name\n", T{ BANNER, { "BOGUS\r\n",
        "500 5.5.2 Error: command not recognized. Help: mx.example.com\n" }, { "ETRN a..b\r\n", "501 Error: invalid parameter syntax. Help: mx.example.com\n" },
        { "NOOP\r\n", "250 2.0.0 Ok\n" }, END }, NULL },
    { "footer of lines", "smtpd_reject_footer = one\\ntwo\n", T{ BANNER, { "BOGUS\r\n",
        "500-5.5.2 Error: command not recognized\n500-5.5.2 one\n500 5.5.2 two\n" }, END }, NULL },
};

/* Compares line by line; NULL when equal, else the first expected line that differs. */
static const char *differs(const char *said, const char *want)
{
    struct span s = span_cstr(said), w = span_cstr(want), a, b;
    while (span_next_token(&w, "\n", &b)) {
        if (!span_next_token(&s, "\r\n", &a))
            return b.p;
        bool star = b.n > 0 && b.p[b.n - 1] == '*';
        if (star ? !span_starts_with(a, span_of(b.p, b.n - 1)) : !span_eq(a, b))
            return b.p;
    }
    return s.n > 0 && span_next_token(&s, "\r\n", &a) ? "(nothing more)" : NULL;
}

static bool hold_dialogue(const struct dialogue *d)
{
    struct fixture *f = fixture_new(d->main_cf);
    bool ok = true;
    fixture_open(f, d->peer);
    for (const struct turn *t = d->turns; ok && t->say != NULL; t++) {
        fixture_send(f, span_cstr(t->say));
        const char *said = fixture_said(f);
        const char *line = differs(said, t->hear);
        if (line != NULL)
            print_error("%s: after \"%s\"\n  said: %s\n  want: %s\n", d->name, t->say, said, line), ok = false;
    }
    fixture_free(&f);
    return ok;
}

static void test_dialogues(void **state)
{
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < ARRAY_LEN(dialogues); i++)
        bad += !hold_dialogue(&dialogues[i]);
    assert_int_equal(bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_dialogues) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
