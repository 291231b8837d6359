/*
 * select_rows: the messages that the tests of selections select from, as SQL for a new index.db
 */
#pragma once
#include <stdint.h>

#define NOW_US (INT64_C(1700000000) * 1000000)

/* Messages 1 to 6. Times in seconds before now. */
static const char select_rows[] =
    "INSERT INTO meta VALUES ('schema_version', 2);"
    "WITH v(id, age, size, sender, client, addr, hold) AS (VALUES"
    " (1, 10, 500, 'ann@example.com', 'mx1.client.example', '192.0.2.1', 0),"
    " (2, 100, 1500, 'Bob@Example.com', 'mx2.client.example', '192.0.2.2', 0),"
    " (3, 1000, 20000, 'bob@example.org', 'unknown', '192.0.2.3', 1),"
    " (4, 10000, 300000, '', 'localhost', '127.0.0.1', 0),"
    " (5, 100000, 4000000, 'a_b%c@example.net', 'localhost', '127.0.0.1', 0),"
    " (6, 1000000, 99, 'aXbYc@example.net', 'localhost', '127.0.0.1', 0))"
    " INSERT INTO messages SELECT id, 1, id, size, 0, 1700000000000000 - age * 1000000, sender, '<m' || id || '>', client, addr, 1, hold, 0, 0, 0 FROM v;"
    "WITH v(message, rcpt, address, state, attempts, transport, nexthop, dsn, mta, reason) AS (VALUES"
    " (1, 0, 'x@d1.example', 0, 0, 'smtp', 'd1.example', '', '', ''),"
    " (2, 0, 'y@d1.example', 0, 2, 'smtp', '[mx.d1.example]:2525', '4.4.1', 'mx.d1.example', 'connect to mx.d1.example[192.0.2.9]:25: Connection timed out'),"
    " (2, 1, 'done@d2.example', 2, 1, 'smtp', 'd2.example', '2.0.0', '', ''),"
    " (3, 0, 'Z@D2.example', 0, 1, 'relay', '[mx.d1.example]', '4.2.1', 'mx', 'host mx[192.0.2.9] said: 450 4.2.1 Mailbox busy (in reply to RCPT TO command)'),"
    " (4, 0, 'x@d1.example', 3, 3, 'lmtp', 'unix:/run/lmtp', '4.3.0', '', 'lost connection'),"
    " (5, 0, 'w@d3.example', 0, 0, 'smtp', 'd3.example:25', '', '', ''),"
    " (5, 1, 'x@d4.example', 0, 1, 'smtp', 'd4.example', '4.4.10', '', '451-try later'),"
    " (6, 0, 'v@d3.example', 0, 0, 'smtp', '', '', '', ''))"
    " INSERT INTO recipients SELECT message, rcpt, address, state, attempts, 1700000100000000, transport, nexthop, dsn, mta, reason, 0, reason FROM v;"
    "INSERT INTO deleted_messages SELECT 7, 1, 7, 10, 0, 1700000000000000, 'gone@example.com', '', '', '', 1, 0, 0, 0, 0, 1700000000000000;"
    "INSERT INTO deleted_recipients VALUES (7, 0, 'x@d1.example', 0, 0, 0, 'smtp', 'd1.example', '', '', '', 0, '');";
