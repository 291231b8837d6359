"""Random mail addresses: mostly plain, now and then what only an attacker or an old mailer would send."""
import words

PLAIN = False  # only addresses whose syntax nobody doubts


def domain(r, odd=0.12):
    if r.random() < odd and not PLAIN:
        return r.choice(words.ODD_DOMAINS)
    return r.choice(words.DOMAINS[:6] if r.random() < 0.6 else words.DOMAINS)


def user(r, odd=0.2):
    return r.choice(words.ODD_USERS[:6] if PLAIN else words.ODD_USERS) if r.random() < odd else r.choice(words.USERS)


def address(r):
    """Without the angle brackets."""
    kind = r.random()
    if PLAIN and kind < 0.17:
        return "" if kind < 0.04 else user(r) + "@" + domain(r)
    if kind < 0.04:
        return ""
    if kind < 0.08:
        return user(r)
    if kind < 0.11:
        return f"@{domain(r)}:{user(r)}@{domain(r)}"
    if kind < 0.13:
        return f"{user(r)}@{domain(r)}@{domain(r)}"
    if kind < 0.15:
        return f"{user(r)}%{domain(r)}@{domain(r)}"
    if kind < 0.17:
        return f"{domain(r)}!{user(r)}"
    return f"{user(r)}@{domain(r)}"


def path(r, text=None):
    """As an argument of MAIL and RCPT."""
    a = address(r) if text is None else text
    kind = r.random()
    if kind < 0.93 or PLAIN:
        return f"<{a}>"
    return r.choice([a, f"< {a}>", f"<{a} >", f"<<{a}>>", f" <{a}>", f"<{a}", f"{a}>", f"Joe <{a}>", f"<{a}>x", "", "<", "<>", f"({a})", f'"{a}"', f"<{a}> <{a}>"])
