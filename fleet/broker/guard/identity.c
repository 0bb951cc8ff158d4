/* What a certificate that passed TLS says about itself; see identity.h. */
#include "identity.h"

#include <openssl/bn.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

/* RFC 5280 4.2.1.1: the key identifier names the issuing CA's key; names of CAs may repeat. */
static bool read_issuer(const X509 *certificate, struct identity *identity)
{
    const ASN1_OCTET_STRING *key_id = X509_get0_authority_key_id((X509 *)certificate);
    int length = key_id != NULL ? ASN1_STRING_length(key_id) : 0;
    if (length < 1 || length > LONGEST_ISSUER) {
        return false;
    }
    identity->key.issuer_length = (uint8_t)length;
    memcpy(identity->key.issuer, ASN1_STRING_get0_data(key_id), (size_t)length);
    write_hex(identity->key.issuer, (size_t)length, identity->issuer);
    return true;
}

static bool read_serial(const X509 *certificate, struct identity *identity)
{
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
    bool good = number != NULL && !BN_is_negative(number) && BN_num_bytes(number) <= SERIAL_SIZE &&
                BN_bn2binpad(number, identity->key.serial, SERIAL_SIZE) == SERIAL_SIZE;
    BN_free(number);
    if (good) {
        key_serial_text(&identity->key, identity->serial);
    }
    return good;
}

static bool read_end(const X509 *certificate, int64_t *not_after)
{
    struct tm end;
    memset(&end, 0, sizeof end);
    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1) {
        return false;
    }
    *not_after = (int64_t)timegm(&end);
    return true;
}

bool identity_of(const X509 *certificate, struct identity *identity)
{
    unsigned int length = 0;
    memset(identity, 0, sizeof *identity);
    bool issuer = read_issuer(certificate, identity);
    bool serial = read_serial(certificate, identity);
    identity->listable = issuer && serial;
    return read_end(certificate, &identity->not_after) &&
           X509_digest(certificate, EVP_sha256(), identity->fingerprint, &length) == 1 &&
           length == FINGERPRINT_SIZE;
}
