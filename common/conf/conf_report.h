/*
 * conf_report: gathers what is wrong with a configuration
 *
 * Purpose    every layer of the reader adds its findings; the same finding is kept once, however many services
 *            evaluate the value it is about
 * Threads    one owner at a time
 * Ownership  copies its texts; conf_report_free() in conf.h
 */
#pragma once
#include <stdbool.h>
#include "common/base/attrs.h"
#include "common/conf/conf.h"

void conf_report_add(struct conf_report *r, enum conf_severity severity, const char *file, int line, const char *fmt,
                     ...) PRINTF_FMT(5, 6);
/*
 * Findings of later layers name a parameter ("NAME: ...") and no place: they get the place of its definition in main.cf. Not when
 * a service sets the parameter too, with -o: then it may be that setting.
 */
void conf_report_place(struct conf_report *r, const struct conf *c);
bool conf_report_has_errors(const struct conf_report *r);
