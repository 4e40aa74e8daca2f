// A guest in C against sdk/abi/SPEC.md, without any library: it passes each
// record on, or upper-cases its value if the config has mode=upper.
//
//   clang --target=wasm32 -O3 -msimd128 -mbulk-memory -nostdlib -Wl,--no-entry -o guest.wasm guest.c
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(name)))
#define IMPORT(name) __attribute__((import_module("millstream_v1"), import_name(name)))

typedef struct {
	uint32_t size;
	int32_t key, value;
	uint32_t headers;
	int64_t offset, timestamp;
} record;

typedef struct {
	uint32_t size;
	uint8_t kind, flags;
	uint16_t output;
	uint32_t input;
	int32_t key, value;
	uint32_t headers;
	int64_t timestamp;
} entry;

IMPORT("flush") void flush(const void *address, uint32_t size);

extern uint8_t __heap_base;
static uint32_t heap;
static uint8_t *output;
static uint32_t output_size;
static int upper;

// Areas are never freed: the host asks for a larger one a few times at most.
EXPORT("millstream_v1_alloc") uint32_t alloc(uint32_t area, uint32_t size) {
	if (heap == 0)
		heap = ((uint32_t)&__heap_base + 15) & ~15u;
	uint32_t address = heap;
	heap = (heap + size + 15) & ~15u;
	uint32_t have = __builtin_wasm_memory_size(0) << 16;
	if (heap > have && __builtin_wasm_memory_grow(0, (heap - have + 65535) >> 16) == (uint32_t)-1)
		return 0;
	if (area == 2) {
		output = (uint8_t *)address;
		output_size = size;
	}
	return address;
}

EXPORT("millstream_v1_setup") uint64_t setup(const uint8_t *block, uint32_t size) {
	static const char want[] = "modeupper";
	for (uint32_t i = 0; i + 9 <= size; i++) {
		uint32_t n = 0;
		while (n < 9 && block[i + n] == want[n])
			n++;
		if (n == 9)
			upper = 1;
	}
	return 0;
}

EXPORT("_initialize") void initialize(void) {}

static void copy_upper(uint8_t *restrict dst, const uint8_t *restrict src, uint32_t n) {
	for (uint32_t i = 0; i < n; i++) {
		uint8_t c = src[i];
		dst[i] = (uint8_t)(c - 'a') < 26 ? c - 32 : c;
	}
}

EXPORT("millstream_v1_process") uint64_t process(const uint8_t *block, uint32_t size) {
	uint32_t count = *(const uint32_t *)block, used = 0;
	const uint8_t *at = block + 48;
	for (uint32_t i = 0; i < count; i++) {
		const record *r = (const record *)at;
		uint32_t n = r->size;
		if (n > output_size - used) {
			flush(output, used);
			used = 0;
			if (n > output_size)
				__builtin_trap();
		}
		entry *e = (entry *)(output + used);
		e->size = n;
		e->kind = 1;
		e->flags = 0;
		e->output = 0;
		e->input = i;
		e->key = r->key;
		e->value = r->value;
		e->headers = r->headers;
		e->timestamp = 0;
		__builtin_memcpy(e + 1, r + 1, n - sizeof *r);
		if (upper && r->value > 0) {
			uint32_t key = r->key > 0 ? r->key : 0;
			copy_upper((uint8_t *)(e + 1) + key, (const uint8_t *)(r + 1) + key, r->value);
		}
		used += n;
		at += n;
	}
	return (uint64_t)count << 32 | used;
}
