/*
 * notify: tells the service manager how we fare
 *
 * Purpose    one datagram to $NOTIFY_SOCKET, as sd_notify(3) describes; nothing when the variable is not set
 * Source     systemd sd_notify(3)
 * Threads    main
 */
#pragma once

/* state: lines such as "READY=1" or "STOPPING=1". Failures are of no consequence and not reported. */
void notify_manager(const char *state);
