"""HTTP/2 (RFC 9113) on the connections of the http plugin, on top of the library h2.

::

    connection   Http2Protocol: bytes, timers, whose turn it is
    frames       frames as bytes
    faults       what ends a stream or a connection, and why
    guard        what a client may send, where and how often
    library      h2: the state of streams, windows, settings
    fields       HPACK
    head         header fields of a request to a `RequestHead`
    stream       Http2Stream: one request in hand
    response     responses as header fields and content
    outflow      how the content of all streams shares windows and transport
    tunnel       a stream as the transport of another protocol (RFC 8441)

A client begins it in TLS, where ALPN chose ``h2``, or by the preface alone (section 3.3). Each
request is a conversation of its own, as over HTTP/1; nothing of the application knows the
difference but for ``http_version``.
"""
