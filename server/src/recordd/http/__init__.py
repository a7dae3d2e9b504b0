"""HTTP on the TCP port: the head of a request, a table of routes, plain answers.

What asks for an upgrade is handed on to the transport that the route names.
"""
