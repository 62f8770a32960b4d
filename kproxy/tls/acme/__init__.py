"""Automatic certificates: an ACMEv2 client (RFC 8555), and what keeps certificates fresh with it."""
