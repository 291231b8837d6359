/*
 * Any bytes as main.cf: loading must end, and what loads must be whole. The bytes behind a 0x01 byte, if there is one,
 * are master.cf.
 */
#include <stdint.h>
#include <string.h>
#include "common/base/mem.h"
#include "common/conf/conf.h"
#include "common/conf/params.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char stock[] = "25 inet n - n - - smtpd\nsmtp unix - - n - - smtp\n";
    if (size > 16 * 1024)
        return 0;
    char *main_cf = xstrndup((const char *)data, size), *master_cf = strchr(main_cf, 1);
    struct conf_options o = { .main_cf_text = main_cf, .master_cf_text = stock, .hostname = "fuzz.example.org" };
    struct conf_report r;
    if (master_cf != NULL) {
        *master_cf = '\0';
        o.master_cf_text = master_cf + 1;
    }
    struct conf *c = conf_load(&o, &r);
    if (c != NULL) {
        if (conf_global(c)->myhostname[0] == '\0' || conf_global(c)->smtpd_timeout < 1000)
            __builtin_trap();
        conf_unref(&c);
    } else if (r.count == 0) {
        __builtin_trap(); /* refused without a reason */
    }
    conf_report_free(&r);
    free(main_cf);
    return 0;
}
