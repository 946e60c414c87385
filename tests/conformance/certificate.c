/* OpenSSL's headers first: they use names that ours define. */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "certificate.h"

static void add_names(X509 *cert)
{
	X509_NAME *name = X509_get_subject_name(cert);
	X509_EXTENSION *names =
		X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost");

	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"localhost", -1,
				   -1, 0);
	X509_set_issuer_name(cert, name);
	X509_add_ext(cert, names, -1);
	X509_EXTENSION_free(names);
}

static X509 *sign_certificate(EVP_PKEY *key)
{
	X509 *cert = X509_new();

	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
	add_names(cert);
	X509_set_pubkey(cert, key);
	X509_sign(cert, key, EVP_sha256());
	return cert;
}

static void take_text(BIO *bio, struct buffer *out)
{
	char *start;
	long len = BIO_get_mem_data(bio, &start);

	buffer_append(out, start, (size_t)len);
	BIO_free(bio);
}

void certificate_make(struct buffer *certificate, struct buffer *key)
{
	EVP_PKEY *pair = EVP_EC_gen("P-256");
	X509 *cert = sign_certificate(pair);
	BIO *cert_text = BIO_new(BIO_s_mem());
	BIO *key_text = BIO_new(BIO_s_mem());

	PEM_write_bio_X509(cert_text, cert);
	PEM_write_bio_PrivateKey(key_text, pair, NULL, NULL, 0, NULL, NULL);
	take_text(cert_text, certificate);
	take_text(key_text, key);
	X509_free(cert);
	EVP_PKEY_free(pair);
}
