/* cairn nix generate-key */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/io.h"
#include "cli/cli.h"
#include "nix/signature.h"

/* For its owner alone, and never over another key. */
static int write_secret(const char *path, struct bytes text, struct error *err)
{
	int fd cleanup(cleanup_close) =
		open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0) {
		return error_set_errno(err, errno, "cannot create %s",
				       bytes_printable(bytes_of_string(path)));
	}
	if (write_full(fd, text.ptr, text.len) != 0 || fsync(fd) != 0) {
		int number = errno;

		unlink(path);
		return error_set_errno(err, number, "cannot write %s",
				       bytes_printable(bytes_of_string(path)));
	}
	return 0;
}

static void print_public(const struct signing_key *key)
{
	struct buffer text cleanup(buffer_done) = {0};

	signing_key_public_text(key, &text);
	(void)fwrite(text.ptr, 1, text.len, stdout);
	putchar('\n');
}

static int generate(const char *name, const char *path, struct error *err)
{
	struct signing_key *key cleanup(cleanup_signing_key) = NULL;
	struct buffer text cleanup(buffer_done) = {0};
	int r = signing_key_generate(bytes_of_string(name), &key, err);

	if (r < 0) {
		return r;
	}
	signing_key_format(key, &text);
	if (path) {
		r = write_secret(path, buffer_bytes(&text), err);
		if (r == 0) {
			print_public(key);
		}
	} else {
		(void)fwrite(text.ptr, 1, text.len, stdout);
		putchar('\n');
	}
	explicit_bzero(text.ptr, text.len);
	return r;
}

static int show_public(const char *path, struct error *err)
{
	struct signing_key *key cleanup(cleanup_signing_key) = NULL;
	int r = signing_key_load(path, &key, err);

	if (r == 0) {
		print_public(key);
	}
	return r;
}

enum { PUBLIC = CLI_OPTION_OWN };

static int run_generate_key(struct cli *cli, const struct cli_command *command, int argc,
			    char **argv)
{
	static const struct option options[] = {
		CLI_LONG_OPTIONS, {"public", required_argument, NULL, PUBLIC}, {0}};
	const char *secret = NULL;
	struct error err;
	int c, code;

	while ((c = cli_next_option(cli, command, argc, argv, CLI_SHORT_OPTIONS, options,
				    &code)) != -1) {
		if (c != PUBLIC) {
			return code;
		}
		secret = optarg;
	}
	int count = argc - optind;

	if (secret ? count != 0 : count < 1 || count > 2) {
		return cli_usage(command, secret ? "--public takes no key name"
						 : "a key name is needed, and maybe a file");
	}
	int r = secret ? show_public(secret, &err)
		       : generate(argv[optind], count > 1 ? argv[optind + 1] : NULL, &err);

	return r < 0 ? cli_fail(&err) : EXIT_CODE_OK;
}

static const char generate_key_help[] =
	"Usage: cairn nix generate-key NAME [FILE]\n"
	"  or:  cairn nix generate-key --public FILE\n"
	"\n"
	"Makes a key that signs store paths (see 'cairn nix sign'). NAME is a word, by\n"
	"custom a host name and a number: cache.example.org-1. The secret key goes into\n"
	"FILE, which must not exist, and the public key to standard output; without\n"
	"FILE, the secret key goes to standard output.\n"
	"\n"
	"      --public FILE  only print the public key of the secret key in FILE\n"
	"  -h, --help         this text\n";

const struct cli_command nix_generate_key_command = {
	.name = "generate-key",
	.program = "cairn nix generate-key",
	.help = generate_key_help,
	.run = run_generate_key,
};
