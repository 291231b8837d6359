#include <time.h>

#include "common/base/ascii.h"
#include "common/mail/maildate.h"

static char *put2(char *p, int v)
{
    *p++ = (char)('0' + v / 10 % 10);
    *p++ = (char)('0' + v % 10);
    return p;
}

/* Zone names come from the environment: only those that can stand in a comment. */
static char *put_zone(char *p, const char *zone)
{
    size_t n = zone ? strlen(zone) : 0;
    if (n == 0 || n > 20)
        return p;
    for (size_t i = 0; i < n; i++)
        if (!ascii_is_alnum(zone[i]) && zone[i] != '+' && zone[i] != '-')
            return p;
    *p++ = ' ';
    *p++ = '(';
    memcpy(p, zone, n);
    p += n;
    *p++ = ')';
    return p;
}

size_t mail_date_format(int64_t wall_s, char out[static MAIL_DATE_MAX])
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t t = (time_t)wall_s;
    struct tm tm;
    if (localtime_r(&t, &tm) == NULL || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900) {
        t = 0;
        gmtime_r(&t, &tm);
    }
    char *p = out;
    memcpy(p, days + 3 * tm.tm_wday, 3);
    memcpy(p + 3, ", ", 2);
    p += 5;
    if (tm.tm_mday >= 10)
        *p++ = (char)('0' + tm.tm_mday / 10);
    *p++ = (char)('0' + tm.tm_mday % 10);
    *p++ = ' ';
    memcpy(p, months + 3 * tm.tm_mon, 3);
    p += 3;
    *p++ = ' ';
    p = put2(p, (tm.tm_year + 1900) / 100);
    p = put2(p, (tm.tm_year + 1900) % 100);
    *p++ = ' ';
    p = put2(p, tm.tm_hour);
    *p++ = ':';
    p = put2(p, tm.tm_min);
    *p++ = ':';
    p = put2(p, tm.tm_sec);
    *p++ = ' ';
    long off = tm.tm_gmtoff / 60;
    *p++ = off < 0 ? '-' : '+';
    if (off < 0)
        off = -off;
    p = put2(p, (int)(off / 60));
    p = put2(p, (int)(off % 60));
    p = put_zone(p, tm.tm_zone);
    *p = '\0';
    return (size_t)(p - out);
}
