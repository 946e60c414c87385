#pragma once

/*
 * What every store must do, whatever stands behind its address. The tests know the contracts
 * only (services' headers). Each test gets a fresh store of its own.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "services/store.h"
#include "unchecked.h"

struct fixture {
	char *dir;     /* of this test alone; NULL when the store needs none */
	char *address; /* what store_open took; NULL for unchecked:// */
	struct store store;
	struct store below;                  /* of a staged one; else zeroed */
	struct unchecked_service *unchecked; /* borrowed; NULL except for unchecked:// */
};

/*
 * Where stores come from: "memory://", "unchecked://" (memory behind a back end that verifies
 * nothing), "file://" or "file:///dir" (stores in a temporary directory below dir). In front of
 * one, any number of these, the last one nearest to it: "lru+", "cache+", "disk-cache+" (near
 * is on the disk), "fallback+", a store of that kind before it; "grpc-unix+", "grpc-tcp+",
 * "grpc-tls+", a server before it and a client before that; "grpc-plain+", the same where the
 * server offers only what others have too; "staged+", only as the first of them: a store staged
 * above all that.
 */
int suite_begin(const char *address);
void suite_end(void);
bool suite_staged(void);
/* A peer that is no cairn: it takes whole closures only, and has no names of trees. */
bool suite_plain(void);
/* Stores have names of trees, and path infos that can be removed. */
bool suite_has_names(void);
/* Others may be staged above them; above a peer, one way to it is as good as another. */
bool suite_stages(void);
/* Their records may be anything, not only path infos. */
bool suite_has_records(void);

/* For cmocka: *state is a struct fixture. The second one does not open the store. */
int fixture_setup(void **state);
int fixture_setup_closed(void **state);
int fixture_teardown(void **state);

/* The groups; each returns the number of failed tests. */
int run_blob_tests(void);
int run_put_file_tests(void);
int run_directory_tests(void);
int run_root_tests(void);
int run_record_tests(void);
int run_path_info_tests(void);
int run_thread_tests(void);
int run_stage_tests(void);
int run_memory_tests(void);
int run_unchecked_tests(void);
int run_file_tests(void);
int run_file_record_tests(void);

/* Fails unless a call returned what was expected; shows the message of the error. */
void expect_at(int wanted, int got, const struct error *err, const char *what, const char *file,
	       int line);
/* The call gets `&err`, which is in scope. */
#define expect(wanted, call)                                                           \
	do {                                                                           \
		struct error err = {0};                                                \
		int expect_got = (call);                                               \
		expect_at((int)(wanted), expect_got, &err, #call, __FILE__, __LINE__); \
	} while (0)
/* The call must fail with this code, and say so in a message too. */
#define expect_error(error_code, call)                                                      \
	do {                                                                                \
		struct error err = {0};                                                     \
		int expect_got = (call);                                                    \
		expect_at(-(int)(error_code), expect_got, &err, #call, __FILE__, __LINE__); \
		assert_int_equal(err.code, error_code);                                     \
		assert_true(err.text[0] != '\0');                                           \
	} while (0)

/* Content that differs everywhere and between seeds; freed with free(). */
uint8_t *make_content(size_t len, uint64_t seed);

/* Everything that can be asked about a blob that is there gives the right answer. */
void check_blob(struct blob_service *s, struct bytes content);
void check_blob_absent(struct blob_service *s, const struct digest *digest);

/* A digest that nothing here has. */
struct digest unknown_digest(uint8_t seed);

struct node make_file(struct bytes content, bool executable);
struct node make_symlink(const char *target);
/* A directory with one file, told apart by the name. */
struct directory *make_leaf(const char *name);
/* A directory that holds these, under the names "d0", "d1", … */
struct directory *make_parent(struct directory *const *children, size_t count);
