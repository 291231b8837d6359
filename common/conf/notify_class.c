#include "common/conf/notify_class.h"
#include "common/conf/conf.h"

static const char *const words[NOTIFY_CLASSES] = {
    [NOTIFY_CLASS_BOUNCE] = "bounce",     [NOTIFY_CLASS_2BOUNCE] = "2bounce",   [NOTIFY_CLASS_DATA] = "data",
    [NOTIFY_CLASS_DELAY] = "delay",       [NOTIFY_CLASS_POLICY] = "policy",     [NOTIFY_CLASS_PROTOCOL] = "protocol",
    [NOTIFY_CLASS_RESOURCE] = "resource", [NOTIFY_CLASS_SOFTWARE] = "software",
};

const char *notify_class_word(enum notify_class c)
{
    return words[c];
}

unsigned notify_mask(const char *list)
{
    struct span rest = span_cstr(list), item;
    bool braced;
    unsigned mask = 0;
    while (conf_list_next(&rest, &item, &braced))
        for (int c = 0; c < NOTIFY_CLASSES; c++)
            if (span_ieq_cstr(item, words[c]))
                mask |= NOTIFY_BIT(c);
    if (mask & NOTIFY_BIT(NOTIFY_CLASS_BOUNCE))
        mask |= NOTIFY_BIT(NOTIFY_CLASS_2BOUNCE);
    return mask;
}
