#pragma once

/*
 * Blobs and directories that other implementations of the same formats name and encode exactly
 * so, as hex digits. They must never change.
 */

#include <stdint.h>

struct blob_vector {
	const char *content;
	unsigned repeat; /* the blob is the content so many times */
	const char *digest;
};

static const struct blob_vector blob_vectors[] = {
	{.content = "",
	 .repeat = 1,
	 .digest = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
	{.content = "48656c6c6f20576f726c6421",
	 .repeat = 1,
	 .digest = "5ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c"},
	{.content = "0001",
	 .repeat = 1,
	 .digest = "7b7015bb92cf0b318037702a6cdd81dee41224f734684c2c122cd6359cb1ee63"},
	{.content = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
		    "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
		    "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"
		    "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
		    "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
		    "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
		    "c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
		    "e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfe",
	 .repeat = 4096,
	 .digest = "a82c5154a7a0c262c6fdb929a317585646f8fbcf80326d0a7b8747edaf2d99d2"},
};

struct directory_vector {
	const char *encoding;
	const char *digest;
	const char *digest_text;
	uint64_t size;
};

static const struct directory_vector directory_vectors[] = {
	{.encoding = "12290a052e6b6565701220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9ad"
		     "c112b7cc9a93cae41f3262",
	 .digest = "8b5b5d642b646bb8ed504b0862c39413e87e57491497de7bd075953f7b83810e",
	 .digest_text = "b3:i1tdZCtka7jtUEsIYsOUE+h+V0kUl9570HWVP3uDgQ4=",
	 .size = 1},
	{.encoding = "0a2a0a046b65657012208b5b5d642b646bb8ed504b0862c39413e87e57491497"
		     "de7bd075953f7b83810e180112290a052e6b6565701220af1349b9f5f9a1a6a0"
		     "404dea36dcc9499bcb25c9adc112b7cc9a93cae41f32621a1e0a02616112182f"
		     "6e69782f73746f72652f736f6d657768657265656c7365",
	 .digest = "3f951a15afd586fb3121ef4d13d582e811ce0e5a7f21c0497fd87490e9e2355a",
	 .digest_text = "b3:P5UaFa/VhvsxIe9NE9WC6BHODlp/IcBJf9h0kOniNVo=",
	 .size = 4},
	{.encoding = "",
	 .digest = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
	 .digest_text = "b3:rxNJufX5oaagQE3qNtzJSZvLJcmtwRK3zJqTyuQfMmI=",
	 .size = 0},
	{.encoding = "0a250a01611220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc"
		     "9a93cae41f3262",
	 .digest = "8701f4722d8dae7f2c40fa003331b8437a3825f9e1bfd3a77998c64cc226b9cc",
	 .digest_text = "b3:hwH0ci2Nrn8sQPoAMzG4Q3o4Jfnhv9OneZjGTMImucw=",
	 .size = 1},
	{.encoding = "0a250a01611220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc"
		     "9a93cae41f32620a260a0261271220af1349b9f5f9a1a6a0404dea36dcc9499b"
		     "cb25c9adc112b7cc9a93cae41f3262",
	 .digest = "78eb200ae0cc95d4ea954655fbcf91e285013a261310e161927f2401d2bca803",
	 .digest_text = "b3:eOsgCuDMldTqlUZV+8+R4oUBOiYTEOFhkn8kAdK8qAM=",
	 .size = 2},
	{.encoding = "0a250a01611220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc"
		     "9a93cae41f32620a270a016212208701f4722d8dae7f2c40fa003331b8437a38"
		     "25f9e1bfd3a77998c64cc226b9cc1801",
	 .digest = "99922a5c1801805287a647af73bca0ed7352a5f7f373e54992795bcc4a235213",
	 .digest_text = "b3:mZIqXBgBgFKHpkevc7yg7XNSpffzc+VJknlbzEojUhM=",
	 .size = 3},
};
