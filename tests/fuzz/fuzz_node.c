/* Messages that claim to be Nodes: what decodes is exactly what encoding it gives. */

#include <stdint.h>
#include <stdlib.h>

#include "castore/node.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes name = {0};
	struct node node = {0};
	struct buffer again = {0};
	struct error err = {0};

	if (node_decode(bytes_of(data, size), &name, &node, &err) != 0) {
		check(err.code == ERROR_INVALID && told(&err));
		check(!name.ptr && node.kind == 0);
		return 0;
	}
	/* Said once more, so that the code under test does not judge itself. */
	check(name.len <= 255);
	check(name.len == 0 ||
	      (!memchr(name.ptr, '/', name.len) && !memchr(name.ptr, 0, name.len)));
	check(!bytes_equal(name, bytes_of_string(".")));
	check(!bytes_equal(name, bytes_of_string("..")));
	check(node.kind != NODE_SYMLINK || (node.target.len >= 1 && node.target.len <= 4095 &&
					    !memchr(node.target.ptr, 0, node.target.len)));
	node_encode(&again, name, &node);
	check(bytes_equal(buffer_bytes(&again), bytes_of(data, size)));
	buffer_done(&again);
	return 0;
}
