// The benchmark's guest against sdk/abi/SPEC.md: identity, upper case (config mode=upper) or a loop without end (mode=endless). Built with clang when there is one.
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define EXPORT(name) __attribute__((export_name(name)))
__attribute__((import_module("millstream_v1"), import_name("flush"))) void flush(const u8 *address, u32 size);

static u8 setup_area[1 << 16] __attribute__((aligned(8)));
static u8 input_area[2 << 20] __attribute__((aligned(8)));
static u8 output_area[2 << 20] __attribute__((aligned(8)));
static int upper;
static volatile int endless;

EXPORT("_initialize") void initialize(void) {}

EXPORT("millstream_v1_alloc") void *alloc(u32 area, u32 size) {
	if (area == 0 && size <= sizeof setup_area) return setup_area;
	if (area == 1 && size <= sizeof input_area) return input_area;
	if (area == 2 && size <= sizeof output_area) return output_area;
	return 0;
}

EXPORT("millstream_v1_setup") u64 setup(const u8 *p, u32 size) {
	for (u32 i = 0; i + 5 <= size; i++)
		if (p[i] == 'u' && p[i + 1] == 'p' && p[i + 2] == 'p' && p[i + 3] == 'e' && p[i + 4] == 'r') upper = 1;
	for (u32 i = 0; i + 7 <= size; i++)
		if (p[i] == 'e' && p[i + 1] == 'n' && p[i + 2] == 'd' && p[i + 3] == 'l' && p[i + 4] == 'e') endless = 1;
	return 0;
}

EXPORT("millstream_v1_process") u64 process(const u8 *p, u32 size) {
	u32 count = *(const u32 *)p, used = 0;
	const u8 *r = p + 48;
	while (endless) {}
	for (u32 i = 0; i < count; i++) {
		u32 n = *(const u32 *)r;
		int klen = *(const int *)(r + 4), vlen = *(const int *)(r + 8);
		if (used + n > sizeof output_area) { flush(output_area, used); used = 0; }
		u8 *o = output_area + used;
		*(u32 *)o = n;
		*(u32 *)(o + 4) = 1; // kind record, no flags, output 0
		*(u32 *)(o + 8) = i;
		*(int *)(o + 12) = klen;
		*(int *)(o + 16) = vlen;
		*(u32 *)(o + 20) = *(const u32 *)(r + 12);
		*(u64 *)(o + 24) = 0;
		if (upper) {
			u32 k = klen > 0 ? klen : 0, v = vlen > 0 ? vlen : 0;
			__builtin_memcpy(o + 32, r + 32, k);
			const u8 *s = r + 32 + k;
			u8 *d = o + 32 + k;
			for (u32 j = 0; j < v; j++) { u8 c = s[j]; d[j] = c - ((u8)(c - 'a') < 26 ? 32 : 0); }
			__builtin_memcpy(d + v, s + v, n - 32 - k - v);
		} else {
			__builtin_memcpy(o + 32, r + 32, n - 32);
		}
		used += n;
		r += n;
	}
	return (u64)count << 32 | used;
}
