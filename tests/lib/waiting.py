"""A hub with mail that waits: what readers of the queue are shown."""
from hub import Hub


def later(**main):
    """A next hop that is not there."""
    return Hub(main, routes={"a.example": "smtp:[127.0.0.1]:1"})


def fill(hub):
    """Two deferred messages, one of them from the null sender; the second by queue ID is held."""
    with hub.client() as c:
        c.send_mail("joe@example.org", ["u@a.example", '"odd name"@a.example'], b"Subject: x\r\n\r\nhello\r\n")
        c.send_mail("", ["v@a.example"], b"Subject: y\r\n\r\nhello\r\n")
    hub.wait_log("status=deferred", 3)
    hub.ctl("queue", "hold", sorted(q["queue_id"] for q in hub.queue())[1])
