/* effect: what access tables, policy servers and content checks want done with a message, and which the caller does. */
#pragma once

enum policy_effect {
    EFFECT_NONE,
    EFFECT_HOLD, EFFECT_DISCARD,                     /* of the message */
    EFFECT_REDIRECT, EFFECT_BCC, EFFECT_PREPEND,     /* with value: an address, an address, a header field */
    EFFECT_FILTER,                                   /* with value: transport:nexthop */
};
