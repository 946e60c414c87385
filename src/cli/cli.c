#include "cli/cli.h"

#include <signal.h>
#include <stdarg.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "castore/path.h"
#include "nix/path_info_service.h"
#include "services/store_config.h"

/* What was missing is written anew each time, so that a second time is rare. */
#define COLLECTED_TRIES 8

static enum exit_code exit_code_of(enum error_code code)
{
	switch (code) {
	case ERROR_NONE:
		return EXIT_CODE_OK;
	case ERROR_INVALID:
		return EXIT_CODE_USAGE;
	case ERROR_NOT_FOUND:
		return EXIT_CODE_NOT_FOUND;
	case ERROR_CORRUPT:
		return EXIT_CODE_CORRUPT;
	case ERROR_UNAVAILABLE:
	case ERROR_TIMEOUT:
	case ERROR_COLLECTED:
		return EXIT_CODE_UNAVAILABLE;
	case ERROR_EXISTS:
		return EXIT_CODE_EXISTS;
	case ERROR_DENIED:
		return EXIT_CODE_DENIED;
	case ERROR_NO_SPACE:
		return EXIT_CODE_NO_SPACE;
	case ERROR_CHANGED:
		return EXIT_CODE_CHANGED;
	case ERROR_CANCELED:
		return EXIT_CODE_INTERRUPTED;
	case ERROR_IO:
	case ERROR_UNSUPPORTED:
	case ERROR_LIMIT:
	case ERROR_WOULD_BLOCK:
	case ERROR_CODE_COUNT:
		return EXIT_CODE_FAILURE;
	}
	return EXIT_CODE_FAILURE;
}

int cli_fail(const struct error *err)
{
	log_error("%s", err->text);
	return (int)exit_code_of(err->code);
}

int cli_usage(const struct cli_command *command, const char *fmt, ...)
{
	char text[400];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	fprintf(stderr, "%s: %s\nTry '%s --help'.\n", command->program, text, command->program);
	return EXIT_CODE_USAGE;
}

static void be_verbose(void)
{
	static bool already;

	log_set_level(already ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	already = true;
}

/* An environment variable that is set and not empty, else NULL. */
static const char *environment(const char *name)
{
	const char *value = getenv(name);

	return value && value[0] ? value : NULL;
}

/* Asker: of the places where a configuration may be. */
static int load_usual_config(struct store_config **out, struct error *err)
{
	const char *config = environment("XDG_CONFIG_HOME"), *home = environment("HOME");
	char *file cleanup(cleanup_free) = NULL;
	int r = 0;

	/* As the specification of these directories asks: a relative path does not count. */
	if (config && config[0] == '/') {
		file = xasprintf("%s/cairn/config", config);
	} else if (home && home[0] == '/') {
		file = xasprintf("%s/.config/cairn/config", home);
	}
	if (file) {
		r = store_config_load(file, out, err);
	}
	return r ? r : store_config_load("/etc/cairn/config", out, err);
}

/* False when there is something wrong with it, which was said. */
static bool load_config(const struct cli *cli, int *exit_code)
{
	const char *file = cli->config ? cli->config : environment("CAIRN_CONFIG");
	struct store_config *config = NULL;
	struct error err;
	int r;

	if (file && file[0] == '\0') {
		return true; /* --config= goes without */
	}
	r = file ? store_config_load(file, &config, &err) : load_usual_config(&config, &err);
	if (r == 0 && file) {
		r = error_set(&err, ERROR_NOT_FOUND, "%s: no such file", file);
	}
	if (r < 0) {
		*exit_code = cli_fail(&err);
		return false;
	}
	/* Until the program ends. */
	store_config_use(config);
	return true;
}

int cli_next_option(struct cli *cli, const struct cli_command *command, int argc, char **argv,
		    const char *short_options, const struct option *long_options,
		    int *exit_code)
{
	for (;;) {
		int c = getopt_long(argc, argv, short_options, long_options, NULL);

		switch (c) {
		case CLI_OPTION_STORE:
			cli->store = optarg;
			break;
		case CLI_OPTION_CONFIG:
			cli->config = optarg;
			break;
		case CLI_OPTION_DURABILITY:
			if (store_durability_flags(optarg) < 0) {
				*exit_code = cli_usage(
					command,
					"--durability is full, batch or none, not '%s'",
					optarg);
				return CLI_OPTION_STOP;
			}
			cli->durability = (unsigned)store_durability_flags(optarg);
			break;
		case CLI_OPTION_JSON:
			cli->json = true;
			break;
		case 'v':
			be_verbose();
			break;
		case 'h':
			fputs(command->help, stdout);
			*exit_code = EXIT_CODE_OK;
			return CLI_OPTION_STOP;
		case '?':
		case ':':
			/* getopt has said what is wrong. */
			fprintf(stderr, "Try '%s --help'.\n", command->program);
			*exit_code = EXIT_CODE_USAGE;
			return CLI_OPTION_STOP;
		case -1:
			/* Of a group, the options go on behind the name of its command. */
			if (command->commands || load_config(cli, exit_code)) {
				return c;
			}
			return CLI_OPTION_STOP;
		default:
			return c;
		}
	}
}

static const struct cli_command *find_command(const struct cli_command *parent,
					      const char *name)
{
	for (const struct cli_command *const *c = parent->commands; *c; c++) {
		if (strcmp((*c)->name, name) == 0) {
			return *c;
		}
	}
	return NULL;
}

int cli_run_command(struct cli *cli, const struct cli_command *parent, int argc, char **argv)
{
	const struct cli_command *command = find_command(parent, argv[0]);
	static char program[64];

	if (!command) {
		return cli_usage(parent, "unknown command '%s'", argv[0]);
	}
	if (cli->help && !(command->commands && argc > 1)) {
		fputs(command->help, stdout);
		return EXIT_CODE_OK;
	}
	/* getopt begins its messages with this. */
	snprintf(program, sizeof(program), "%s", command->program);
	argv[0] = program;
	optind = 0;
	return command->run(cli, command, argc, argv);
}

int cli_run_group(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
	static const struct option options[] = {CLI_LONG_OPTIONS, {0}};
	int code = EXIT_CODE_OK;

	if (cli_next_option(cli, command, argc, argv, "+" CLI_SHORT_OPTIONS, options, &code) !=
	    -1) {
		return code;
	}
	if (optind >= argc) {
		fputs(command->help, stderr);
		return EXIT_CODE_USAGE;
	}
	return cli_run_command(cli, command, argc - optind, argv + optind);
}

bool cli_parse_count(const struct cli_command *command, const char *option, const char *text,
		     unsigned max, unsigned *out)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || n < 1 || n > max) {
		cli_usage(command, "%s takes a number from 1 to %u, not '%s'", option, max,
			  text);
		return false;
	}
	*out = (unsigned)n;
	return true;
}

bool cli_once_more(int rc, unsigned *tries, const struct error *err)
{
	if (rc != -ERROR_COLLECTED || ++*tries > COLLECTED_TRIES) {
		return false;
	}
	log_info("once more: %s", err->text);
	return true;
}

bool cli_parse_size(const struct cli_command *command, const char *option, const char *text,
		    uint64_t min, uint64_t *out)
{
	if (!text_to_size(text, out) || *out < min) {
		cli_usage(command, "%s takes a number of bytes, as 64M, from %juM on, not '%s'",
			  option, (uintmax_t)(min >> 20), text);
		return false;
	}
	return true;
}

/* "a, b or c" */
static void list_words(const char *const *words, struct buffer *out)
{
	for (size_t i = 0; words[i]; i++) {
		const char *before = i == 0 ? "" : words[i + 1] ? ", " : " or ";

		buffer_append(out, before, strlen(before));
		buffer_append(out, words[i], strlen(words[i]));
	}
	buffer_append_byte(out, 0);
}

int cli_parse_choice(const struct cli_command *command, const char *option, const char *text,
		     const char *const *words)
{
	struct buffer list cleanup(buffer_done) = {0};

	for (int i = 0; words[i]; i++) {
		if (strcmp(text, words[i]) == 0) {
			return i;
		}
	}
	list_words(words, &list);
	cli_usage(command, "%s takes %s, not '%s'", option, (const char *)list.ptr, text);
	return -1;
}

char *cli_store_address(const struct cli *cli)
{
	const struct store_config *config = store_config_used();
	const char *address = cli->store ? cli->store : environment("CAIRN_STORE");
	const char *data = environment("XDG_DATA_HOME"), *home = environment("HOME");

	if (!address && config) {
		address = store_config_default(config);
	}
	if (address) {
		return xstrdup(address);
	}
	/* As the specification of these directories asks: a relative path does not count. */
	if (data && data[0] == '/') {
		return xasprintf("%s/cairn", data);
	}
	return home && home[0] == '/' ? xasprintf("%s/.local/share/cairn", home) : NULL;
}

char *cli_store_absolute(const struct cli *cli)
{
	char *address = cli_store_address(cli);
	char *here cleanup(cleanup_free) = NULL;

	bool path = address && !strstr(address, "://") &&
		    (address[0] == '.' || strchr(address, '/'));

	if (!path || address[0] == '/') {
		return address;
	}
	here = getcwd(NULL, 0);
	if (!here) {
		return address;
	}
	char *absolute = xasprintf("%s/%s", here, address);

	free(address);
	return absolute;
}

int cli_open_store(const struct cli *cli, unsigned flags, struct store *out, struct error *err)
{
	char *address cleanup(cleanup_free) = cli_store_address(cli);

	if (!address) {
		return error_set(err, ERROR_INVALID,
				 "which store? Neither --store nor $CAIRN_STORE is given, and "
				 "$HOME is not set");
	}
	log_debug("store %s", address);
	/* Empty each time, so that reading alone makes no sense there; but it is no error. */
	if (strcmp(address, "memory://") == 0) {
		flags &= ~(unsigned)STORE_READ_ONLY;
	}
	return store_open(out, address, flags | cli->durability, err);
}

static int get_directory(void *context, const struct digest *digest, struct directory **out,
			 struct error *err)
{
	struct store *store = context;

	return directory_service_get(store->directories, digest, out, err);
}

/* Asker: the node that a bare digest stands for. */
static int node_of_digest(struct store *store, const struct digest *digest, bool prefer_blob,
			  struct node *out, struct error *err)
{
	struct directory *d cleanup(cleanup_directory) = NULL;
	int r = 0;

	*out = (struct node){.kind = NODE_FILE, .digest = *digest};
	if (prefer_blob) {
		r = blob_service_size(store->blobs, digest, &out->size, err);
	}
	if (r == 0) {
		r = directory_service_get(store->directories, digest, &d, err);
		if (r > 0) {
			*out = directory_node(d);
		}
	}
	if (r == 0 && !prefer_blob) {
		r = blob_service_size(store->blobs, digest, &out->size, err);
	}
	return r;
}

/* The length of a digest that the argument begins with, 0 when it begins with a name. */
static size_t parse_digest(const char *argument, struct digest *digest)
{
	static const size_t lengths[] = {DIGEST_TEXT_SIZE - 1, DIGEST_HEX_SIZE - 1};

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		size_t n = lengths[i];

		if (strnlen(argument, n) == n && (!argument[n] || argument[n] == '/') &&
		    digest_parse(digest, bytes_of(argument, n), NULL) == 0) {
			return n;
		}
	}
	return 0;
}

void cli_clean_path(struct buffer *out, const char *path)
{
	while (*path) {
		size_t n = strcspn(path, "/");

		if (n && out->len) {
			buffer_append_byte(out, '/');
		}
		buffer_append(out, path, n);
		path += n + (path[n] == '/');
	}
}

static int find_path(struct store *store, const struct node *root, const char *path,
		     struct root_node *out, struct error *err)
{
	struct buffer clean cleanup(buffer_done) = {0}, target cleanup(buffer_done) = {0};
	struct node node;

	cli_clean_path(&clean, path);
	int r = path_lookup(root, buffer_bytes(&clean), get_directory, store, &node, &target,
			    err);

	if (r > 0) {
		root_node_set(out, &node);
	}
	return r;
}

/* Asker. */
static int find_store_path(struct store *store, struct bytes basename, struct root_node *out,
			   struct error *err)
{
	struct path_info_service *infos cleanup(cleanup_path_info_service) =
		path_info_store_new(store);
	struct root_nodes *roots cleanup(cleanup_root_nodes) = path_info_roots_new(infos);

	return root_nodes_lookup(roots, basename, out, err);
}

/* The length of "/nix/store/" where the argument begins with it, else 0. */
static size_t store_dir_length(const char *argument)
{
	size_t n = sizeof(STORE_DIR "/") - 1;

	return strncmp(argument, STORE_DIR "/", n) == 0 ? n : 0;
}

/* Asker: of a name, or of a store path when there is no such name. */
static int find_root(struct store *store, struct bytes name, bool in_store_dir,
		     struct root_node *out, struct error *err)
{
	int r = node_name_check(name, err);

	if (r == 0 && !in_store_dir) {
		r = root_nodes_lookup(store->roots, name, out, err);
	}
	return r ? r : find_store_path(store, name, out, err);
}

/* Asker: what the argument begins with, a digest or a name, up to *end. */
static int find_first(struct store *store, const char *argument, bool prefer_blob,
		      struct root_node *out, size_t *end, struct error *err)
{
	struct node node;
	struct digest digest;
	size_t n = parse_digest(argument, &digest);

	*end = n;
	if (n == 0) {
		size_t at = store_dir_length(argument), len = strcspn(argument + at, "/");

		*end = at + len;
		return find_root(store, bytes_of(argument + at, len), at, out, err);
	}
	int r = node_of_digest(store, &digest, prefer_blob && !argument[n], &node, err);

	if (r > 0) {
		root_node_set(out, &node);
	}
	return r;
}

int cli_resolve(struct store *store, const char *argument, bool prefer_blob,
		struct root_node *out, struct error *err)
{
	struct root_node root cleanup(root_node_done) = {0};
	size_t n;
	int r;

	/* What was not held when it was found may have gone since. */
	do {
		r = find_first(store, argument, prefer_blob, &root, &n, err);
	} while (r > 0 && store_hold(&root.node));
	if (r == 0) {
		return error_set(err, ERROR_NOT_FOUND, "%s: not in the store",
				 bytes_printable(bytes_of(argument, n)));
	}
	if (r > 0) {
		r = find_path(store, &root.node, argument + n, out, err);
	}
	if (r == 0) {
		return error_set(err, ERROR_NOT_FOUND, "%s: no such file or directory",
				 bytes_printable(bytes_of_string(argument)));
	}
	return r < 0 ? error_wrap(err, "%s", bytes_printable(bytes_of_string(argument))) : 0;
}

int cli_resolve_parts(struct store *store, const char *argument, struct buffer *name,
		      struct buffer *path, struct root_node *out, struct error *err)
{
	struct root_node root cleanup(root_node_done) = {0};
	struct digest digest;
	int r = cli_resolve(store, argument, false, out, err);

	if (r < 0 || parse_digest(argument, &digest)) {
		cli_clean_path(path, argument);
		return r;
	}
	size_t at = store_dir_length(argument), len = strcspn(argument + at, "/");
	struct bytes first = bytes_of(argument + at, len);

	if (at == 0) {
		r = root_nodes_lookup(store->roots, first, &root, err);
	}
	if (r == 0) {
		buffer_append_string(name, STORE_DIR "/");
	}
	buffer_append(name, first.ptr, first.len);
	cli_clean_path(path, argument + at + len);
	return MIN(r, 0);
}

static atomic_bool interrupted;

static void handle_interrupt(int signal_number)
{
	(void)signal_number;
	atomic_store(&interrupted, true);
}

const atomic_bool *cli_catch_interrupts(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = handle_interrupt,
				   .sa_flags = (int)(SA_RESETHAND | SA_RESTART)};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		struct sigaction before;

		/* What is ignored stays ignored: nohup. */
		if (sigaction(signals[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
			(void)sigaction(signals[i], &action, NULL);
		}
	}
	return &interrupted;
}
