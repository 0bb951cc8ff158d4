/* What a certificate that passed TLS says about itself.
 *
 * It reads; it does not trust: the allowlist decides whether these values mean anything.
 */
#ifndef FLEET_GUARD_IDENTITY_H
#define FLEET_GUARD_IDENTITY_H

#include <openssl/x509.h>

#include "allowlist.h"

#define ISSUER_TEXT (2 * LONGEST_ISSUER + 1)

struct identity {
    struct key key;
    uint8_t fingerprint[FINGERPRINT_SIZE];
    int64_t not_after;
    char issuer[ISSUER_TEXT]; /* lower-case hex */
    char serial[SERIAL_TEXT]; /* 32 lower-case hex, 40 for a serial number longer than ours */
    bool listable;            /* its issuer and serial have the form of an allowlist's */
};

/* False if the certificate cannot be read. */
bool identity_of(const X509 *certificate, struct identity *identity);

#endif
