"""What others are told of a certificate: revocation, lists for brokers and for all, OCSP, verdicts."""
