"""Mail that goes out: the spool, the queue, and delivery to other servers."""
