/*
 * params: the typed values of every parameter, generated from params.def and client_params.def
 *
 * Purpose    one field per row, named as the parameter; the same rows give names, defaults, ranges, documentation and
 *            status (param_table.h)
 * Source     params.def, client_params.def; postconf(5)
 * Threads    values inside a snapshot are immutable
 * Ownership  text belongs to the snapshot and is never NULL
 *
 * Kind      field                  value in main.cf
 * P_BOOL    bool                   yes or no
 * P_INT     int64_t                digits, within the row's range
 * P_BYTES   int64_t                bytes, with an optional k, M or G (our own parameters only)
 * P_TIME    int64_t milliseconds   digits and s, m, h, d or w; without a letter the row's unit
 * P_STR     const char *           text, expanded; P_NAME: not empty; P_RAW: not expanded
 * P_LIST    const char *           items for conf_list_next(); P_WORDS: each one of the row's words ("a|b|c")
 * P_TABLES  const char *           type:name items for conf_list_next()
 * P_RESTR   const char *           restrictions for conf_list_next()
 * P_ENUM    const char *           one of the row's words ("a|b|c"; a leading | allows the empty value)
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/base/attrs.h"

#define PARAM_TIME_MAX (INT64_C(2147483647) * 1000)

#define P_BOOL(n, ...)       bool n;
#define P_INT(n, ...)        int64_t n;
#define P_BYTES(n, ...)      int64_t n;
#define P_TIME(n, ...)       int64_t n;
#define P_STR(n, ...)        const char *n;
#define P_STR_AS(n, ...)     const char *n;
#define P_NAME(n, ...)       const char *n;
#define P_RAW(n, ...)        const char *n;
#define P_LIST(n, ...)       const char *n;
#define P_WORDS(n, ...)      const char *n;
#define P_TABLES(n, ...)     const char *n;
#define P_RESTR(n, ...)      const char *n;
#define P_ENUM(n, ...)       const char *n;
struct params {
#include "common/conf/params.def"
};

#define C_BOOL(n, ...)       bool n;
#define C_INT(n, ...)        int64_t n;
#define C_TIME(n, ...)       int64_t n;
#define C_STR(n, ...)        const char *n;
#define C_NAME(n, ...)       const char *n;
#define C_LIST(n, ...)       const char *n;
#define C_WORDS(n, ...)      const char *n;
#define C_TABLES(n, ...)     const char *n;
#define C_ENUM(n, ...)       const char *n;
struct client_params {
#include "common/conf/client_params.def"
};
#include "common/conf/params_undef.h"
