// Kernels for comparing and measuring plain and metered code.
// clang --target=wasm32 -O3 -msimd128 -nostdlib -Wl,--no-entry

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define EXPORT(name) __attribute__((export_name(#name)))

static u8 input[1 << 20], output[1 << 20];
static u32 cells[1 << 16];

EXPORT(fill) void fill(u32 seed, u32 n) {
  u32 x = seed | 1;
  for (u32 i = 0; i < n % sizeof input; i++) {
    x ^= x << 13, x ^= x >> 17, x ^= x << 5;
    input[i] = "the quick brown fox jumps over the lazy dog, 42 times. "[x % 55];
  }
}

// Records of size bytes, count of them, upper-cased one by one.
static inline void upper1(const u8 *in, u8 *out, u32 n) {
  for (u32 i = 0; i < n; i++) {
    u8 c = in[i];
    out[i] = (u8)(c - 'a') < 26 ? c - 32 : c;
  }
}

EXPORT(upper) u32 upper(u32 count, u32 size) {
  count %= 1025, size %= 1025;
  for (u32 r = 0; r < count; r++)
    upper1(input + r * size, output + r * size, size);
  return output[count * size / 2];
}

EXPORT(upper_scalar) __attribute__((optnone)) u32 upper_scalar(u32 count, u32 size) {
  count %= 1025, size %= 1025;
  for (u32 r = 0; r < count; r++)
    for (u32 i = 0; i < size; i++) {
      u8 c = input[r * size + i];
      output[r * size + i] = (u8)(c - 'a') < 26 ? c - 32 : c;
    }
  return output[count * size / 2];
}

EXPORT(upper_bytes) u32 upper_bytes(u32 count, u32 size) {
  count %= 1025, size %= 1025;
  for (u32 r = 0; r < count; r++) {
    const u8 *in = input + r * size;
    u8 *out = output + r * size;
#pragma clang loop vectorize(disable) interleave(disable) unroll(disable)
    for (u32 i = 0; i < size; i++) {
      u8 c = in[i];
      out[i] = (u8)(c - 'a') < 26 ? c - 32 : c;
    }
  }
  return output[count * size / 2];
}

EXPORT(identity) u32 identity(u32 count, u32 size) {
  count %= 1025, size %= 1025;
  u8 *in = input, *out = output;
  for (u32 r = 0; r < count; r++) {
    u32 header = *(u32 *)in;
    *(u32 *)out = size | header >> 31;
    __builtin_memcpy(out + 4, in + 4, size);
    in += size, out += size;
  }
  return out - output;
}

EXPORT(fnv) u32 fnv(u32 n) {
  u32 h = 2166136261u;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < n % sizeof input; i++)
    h = (h ^ input[i]) * 16777619u;
  return h;
}

EXPORT(filter) u32 filter(u32 count, u32 size) {
  count %= 1025, size %= 1025;
  u32 kept = 0;
  for (u32 r = 0; r < count; r++)
    if (input[r * size] != 'e')
      output[kept++] = r;
  return kept;
}

EXPORT(fib) __attribute__((noinline)) u32 fib(u32 n) {
  n %= 30;
  return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static void sort(u32 *a, int n) {
  while (n > 1) {
    u32 p = a[n / 2];
    int i = 0, j = n - 1;
    for (; i <= j;) {
      while (a[i] < p) i++;
      while (a[j] > p) j--;
      if (i <= j) {
        u32 t = a[i];
        a[i++] = a[j], a[j--] = t;
      }
    }
    sort(a, j + 1);
    a += i, n -= i;
  }
}

EXPORT(quicksort) u32 quicksort(u32 seed, u32 n) {
  n %= 1 << 14;
  for (u32 i = 0; i < n; i++)
    cells[i] = seed = seed * 1664525u + 1013904223u;
  sort(cells, n);
  return n ? cells[n / 3] : 0;
}

// A scanner with a dense switch, as parsers have.
EXPORT(scan) u32 scan(u32 n) {
  u32 words = 0, numbers = 0, state = 0;
  for (u32 i = 0; i < n % sizeof input; i++) {
    switch (input[i]) {
    case ' ': case '\t': case '\n': state = 0; break;
    case ',': case '.': words += state == 1; state = 2; break;
    case '0': case '1': case '2': case '3': case '4': case '5':
      numbers += state != 3; state = 3; break;
    case 'a': case 'e': case 'i': case 'o': case 'u':
      words += state == 0; state = 1; break;
    default:
      if (state == 0) words++;
      state = state == 3 ? 3 : 1;
    }
  }
  return words << 16 ^ numbers;
}

EXPORT(division) u64 division(u64 a, u64 b) { return b ? a / b + a % b : 0; }

EXPORT(trap) u32 trap(u32 n) {
  if (n % 3 == 0) __builtin_trap();
  return *(volatile u32 *)(n << 20);
}

EXPORT(bulk) u32 bulk(u32 at, u32 n) {
  __builtin_memset(input + at % 1000, n, n % 5000);
  __builtin_memmove(output + n % 100, input + at % 1000, n % 5000);
  return output[n % 5000];
}

typedef u32 (*handler)(u32, u32);
static handler handlers[] = {upper, identity, filter, quicksort, bulk};

EXPORT(dispatch) u32 dispatch(u32 which, u32 a, u32 b) {
  return handlers[which % 5](a, b);
}

void *memcpy(void *d, const void *s, unsigned long n) {
  return __builtin_memcpy(d, s, n);
}
