"""The wire protocol of recordd, shared by daemon and client. Pure: no I/O, no Trio.

`names`, `patterns`, `values` have the rules of a request's words; `methods` lists
every method with its types; `errors` every refusal; `framing` cuts a byte stream into
messages; `dialect` is the interface of the ways to write one, `jsonrpc` the first.
"""

PROTOCOL_VERSION = "3.0"
"""Version that `hello` negotiates; versions agree by their major part."""
