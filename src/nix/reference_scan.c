/*
 * A text of 32 characters that begins anywhere covers a whole gram of 8 bytes that begins at a
 * multiple of 16. So looking at every 16th byte is enough: is the gram there one of the first
 * 16 grams of a candidate? A bitmap answers for nearly all of them. What passes is looked up in
 * a table of grams, which tells at which offsets of candidates they are; then the whole text
 * decides.
 *
 * The hash functions have secret multipliers: who chooses contents or candidates cannot choose
 * what collides.
 */

#include "nix/reference_scan.h"

#include <sys/random.h>

#include "nix/nixbase32.h"

#define TEXT STORE_PATH_HASH_TEXT
#define GRAM 8
#define STRIDE 16
#define TEXT_WORDS (TEXT / GRAM)

_Static_assert(STRIDE + GRAM - 1 <= TEXT, "a gram between any two strides");

struct candidate {
	uint64_t words[TEXT_WORDS]; /* the text as it stands in memory */
	bool found;
};

struct gram {
	uint64_t word;
	uint16_t offsets; /* bit n: some candidate has it at n; 0: the slot is empty */
};

struct reference_scan {
	struct nar_sink sink;
	uint64_t multipliers[TEXT_WORDS]; /* odd; the first one is that of grams */

	struct candidate *candidates;
	uint32_t *canonical; /* the first candidate of the same hash */
	size_t count;
	/* Open addressing: 1 + an index of candidates, or 0. */
	uint32_t *slots;
	unsigned slot_bits;

	struct gram *grams; /* open addressing */
	unsigned gram_bits;
	uint64_t *filter;
	unsigned filter_bits;

	uint8_t tail[TEXT - 1]; /* the end of what was seen */
	size_t tail_len;
};

static uint64_t load_word(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* ---- Tables ---- */

/* The least power of two, as an exponent, that is at least n. */
static unsigned bits_for(size_t n)
{
	unsigned bits = 6;

	while (((size_t)1 << bits) < n) {
		bits++;
	}
	return bits;
}

static uint64_t hash_gram(const struct reference_scan *s, uint64_t word)
{
	return word * s->multipliers[0];
}

static uint64_t hash_text(const struct reference_scan *s, const uint64_t words[TEXT_WORDS])
{
	uint64_t h = 0;

	for (size_t i = 0; i < TEXT_WORDS; i++) {
		h = (h ^ words[i]) * s->multipliers[i];
		h ^= h >> 32;
	}
	return h * s->multipliers[0];
}

/* The slot of a gram, or the empty one where it belongs. */
static struct gram *find_gram(const struct reference_scan *s, uint64_t word)
{
	size_t mask = ((size_t)1 << s->gram_bits) - 1;
	size_t at = hash_gram(s, word) >> (64 - s->gram_bits);

	while (s->grams[at].offsets && s->grams[at].word != word) {
		at = (at + 1) & mask;
	}
	return &s->grams[at];
}

static void add_gram(struct reference_scan *s, uint64_t word, unsigned offset)
{
	struct gram *g = find_gram(s, word);
	uint64_t bit = hash_gram(s, word) >> (64 - s->filter_bits);

	g->word = word;
	g->offsets |= (uint16_t)(1u << offset);
	s->filter[bit / 64] |= (uint64_t)1 << bit % 64;
}

static uint32_t *find_slot(const struct reference_scan *s, const uint64_t words[TEXT_WORDS])
{
	size_t mask = ((size_t)1 << s->slot_bits) - 1;
	size_t at = hash_text(s, words) >> (64 - s->slot_bits);

	while (s->slots[at] &&
	       memcmp(s->candidates[s->slots[at] - 1].words, words, TEXT) != 0) {
		at = (at + 1) & mask;
	}
	return &s->slots[at];
}

static void add_candidate(struct reference_scan *s, uint32_t index, const struct store_path *p)
{
	struct candidate *c = &s->candidates[index];
	char text[TEXT + 1];

	nixbase32_encode(text, bytes_of(p->hash, sizeof(p->hash)));
	memcpy(c->words, text, TEXT);
	uint32_t *slot = find_slot(s, c->words);

	if (*slot == 0) {
		*slot = index + 1;
		for (unsigned offset = 0; offset < STRIDE; offset++) {
			add_gram(s, load_word(text + offset), offset);
		}
	}
	s->canonical[index] = *slot - 1;
}

static void choose_multipliers(struct reference_scan *s)
{
	/* In case that there is no randomness: then it is fast for those who mean well. */
	static const uint64_t defaults[TEXT_WORDS] = {0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9,
						      0x94d049bb133111eb, 0xd6e8feb86659fd93};
	ssize_t n = getrandom(s->multipliers, sizeof(s->multipliers), 0);

	for (size_t i = 0; i < TEXT_WORDS; i++) {
		if (n != (ssize_t)sizeof(s->multipliers)) {
			s->multipliers[i] = defaults[i];
		}
		s->multipliers[i] |= 1;
	}
}

static int sink_write(struct nar_sink *sink, struct bytes data, unused struct error *err)
{
	reference_scan_update(container_of(sink, struct reference_scan, sink), data);
	return 0;
}

struct reference_scan *reference_scan_new(const struct store_path *candidates, size_t count)
{
	struct reference_scan *s = xcalloc(1, sizeof(*s));

	s->sink.write = sink_write;
	choose_multipliers(s);
	s->count = count;
	s->candidates = xcalloc(count, sizeof(*s->candidates));
	s->canonical = xcalloc(count, sizeof(*s->canonical));
	/* Half of the slots stay empty, and 31 of 32 bits of the filter. */
	s->slot_bits = bits_for(2 * count);
	s->slots = xcalloc((size_t)1 << s->slot_bits, sizeof(*s->slots));
	s->gram_bits = bits_for(2 * STRIDE * count);
	s->grams = xcalloc((size_t)1 << s->gram_bits, sizeof(*s->grams));
	s->filter_bits = bits_for(32 * STRIDE * count);
	s->filter = xcalloc((size_t)1 << (s->filter_bits - 6), sizeof(*s->filter));
	for (size_t i = 0; i < count; i++) {
		add_candidate(s, (uint32_t)i, &candidates[i]);
	}
	return s;
}

void reference_scan_free(struct reference_scan *s)
{
	if (s) {
		free(s->candidates);
		free(s->canonical);
		free(s->slots);
		free(s->grams);
		free(s->filter);
		free(s);
	}
}

/* ---- Scanning ---- */

static void check_text(struct reference_scan *s, const uint8_t *text)
{
	uint64_t words[TEXT_WORDS];

	memcpy(words, text, TEXT);
	uint32_t *slot = find_slot(s, words);

	if (*slot) {
		s->candidates[*slot - 1].found = true;
	}
}

/* The filter let the gram at `at` pass. */
static void check_gram(struct reference_scan *s, struct bytes data, size_t at)
{
	unsigned offsets = find_gram(s, load_word(data.ptr + at))->offsets;

	for (; offsets; offsets &= offsets - 1) {
		size_t offset = (size_t)__builtin_ctz(offsets);

		if (offset <= at && at - offset + TEXT <= data.len) {
			check_text(s, data.ptr + at - offset);
		}
	}
}

static void scan(struct reference_scan *s, struct bytes data)
{
	const uint64_t *filter = s->filter;
	const uint64_t multiplier = s->multipliers[0];
	const unsigned shift = 64 - s->filter_bits;

	for (size_t at = 0; at + GRAM <= data.len; at += STRIDE) {
		uint64_t bit = load_word(data.ptr + at) * multiplier >> shift;

		if (filter[bit / 64] >> bit % 64 & 1) {
			check_gram(s, data, at);
		}
	}
}

/* What lies across the cut between the tail and data, and then the new tail. */
static void scan_cut(struct reference_scan *s, struct bytes data)
{
	uint8_t joint[2 * (TEXT - 1)];
	size_t len = s->tail_len, more = MIN(data.len, (size_t)TEXT - 1);

	memcpy(joint, s->tail, len);
	memcpy(joint + len, data.ptr, more);
	len += more;
	if (len >= TEXT) {
		scan(s, bytes_of(joint, len));
	}
	if (data.len >= TEXT - 1) {
		memcpy(s->tail, data.ptr + data.len - (TEXT - 1), TEXT - 1);
		s->tail_len = TEXT - 1;
		return;
	}
	s->tail_len = MIN(len, (size_t)TEXT - 1);
	memcpy(s->tail, joint + len - s->tail_len, s->tail_len);
}

void reference_scan_update(struct reference_scan *s, struct bytes data)
{
	if (data.len) {
		scan_cut(s, data);
		scan(s, data);
	}
}

struct nar_sink *reference_scan_sink(struct reference_scan *s)
{
	return &s->sink;
}

bool reference_scan_found(const struct reference_scan *s, size_t i)
{
	return i < s->count && s->candidates[s->canonical[i]].found;
}
