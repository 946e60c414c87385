/* conformance ADDRESS: runs the suite on the stores that the address stands for. */

#include "suite.h"

#include <signal.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	int failed = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: conformance "
				"[staged+][PREFIX+]...memory://|unchecked://|file://[/dir]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	if (suite_begin(argv[1]) != 0) {
		return 2;
	}
	failed += run_blob_tests();
	failed += run_put_file_tests();
	failed += run_directory_tests();
	failed += run_thread_tests();
	if (suite_has_names()) {
		failed += run_root_tests();
		failed += run_path_info_tests();
	}
	if (suite_stages()) {
		failed += run_stage_tests();
	}
	if (suite_has_records()) {
		failed += run_record_tests();
	}
	if (strcmp(argv[1], "memory://") == 0) {
		failed += run_memory_tests();
	} else if (strcmp(argv[1], "unchecked://") == 0) {
		failed += run_unchecked_tests();
	} else if (strncmp(argv[1], "file://", 7) == 0) {
		failed += run_file_tests();
		failed += run_file_record_tests();
	}
	suite_end();
	return failed ? 1 : 0;
}
