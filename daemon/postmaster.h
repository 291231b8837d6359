/*
 * postmaster: which trouble of the parts becomes which notice
 *
 * Purpose    joins the callbacks of spool, reactor and delivery pool to queue/notice.h
 * Threads    any
 */
#pragma once
#include "daemon/daemon.h"

/* spool_options.trouble; arg is the daemon's struct notices. */
void postmaster_spool_trouble(void *notices, enum spool_trouble what, const char *text);
/* reactor_options.trouble and deliver_env.trouble: we lack something that `what` names in two or three words. */
void postmaster_resource_trouble(void *notices, const char *what, const char *text);
