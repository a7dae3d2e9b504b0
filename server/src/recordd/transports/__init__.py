"""Transports: each yields whole messages to a session and sends whole messages back.

Nothing above them knows which one a message came by.
"""
