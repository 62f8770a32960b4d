"""TLS: certificates, how they are chosen, and how they are had."""
