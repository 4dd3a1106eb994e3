/*
 * Restores a live-update stream as a loader would, natively: the core through wasm2c, no JavaScript engine.
 *
 *   xlu-native FILE      FILE.mem, the preserved memory, lies beside it
 *
 * Prints the digest of the restored image, the one that `xlu restore FILE` prints. Exit status as of xlu: 0 done,
 * 1 refused, 2 usage, 3 damaged input.
 *
 * The C library is used for files and messages alone: restore_stream() is all that a loader needs, with the windows
 * that a loader has: the stream and the preserved memory where they already lie, the rest in memory of its own.
 *
 *     0         heapBase                                                            4 GiB
 *     | constants | context | stream | preserved memory | workspace | target image | never touched ...
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "xlu_runtime.h"

enum { DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_DAMAGED = 3 };

/* The largest memory that the core can address. Only pages that are touched cost anything. */
#define MEMORY_BYTES (1ull << 32)
#define FILE_ALIGN 4096u

struct rule {
	uint32_t number;
	int status;
	const char *text;
};

#define STATUS_DAMAGED EXIT_DAMAGED
#define STATUS_VERSION EXIT_REFUSED
#define STATUS_REFUSED EXIT_REFUSED
#define RULE_ROW(name, number, severity, text) { number, STATUS_##severity, text },
static const struct rule rules[] = { XLU_RULES(RULE_ROW) };

static w2c_xlu core;
static uint8_t *memory;

/* A stretch of the core's memory. */
struct window {
	uint32_t offset;
	uint32_t bytes;
};

_Noreturn void xlu_panic(const char *why)
{
	fprintf(stderr, "xlu-native: defect: the core trapped: %s\n", why);
	abort();
}

static _Noreturn void leave(int status, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	fputs("xlu-native: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	exit(status);
}

/* Says what the core refused: rule, place, what was expected and what was found. */
static _Noreturn void refused(const char *file, const char *what, uint32_t ctx)
{
	struct xlu_fault fault;
	memcpy(&fault, memory + ctx + sizeof(struct xlu_context), sizeof fault);
	struct rule rule = { fault.rule, EXIT_REFUSED, "unknown rule" };
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
		if (rules[i].number == fault.rule)
			rule = rules[i];
	char place[128] = "";
	int used = 0;
	if (fault.recordType != UINT32_MAX)
		used += snprintf(place + used, sizeof place - used, "record 0x%08x, ", fault.recordType);
	if (fault.domid < XLU_DOMID_FIRST_RESERVED)
		used += snprintf(place + used, sizeof place - used, "domain %u, ", fault.domid);
	if (fault.field != UINT32_MAX)
		used += snprintf(place + used, sizeof place - used, "octet %u of the body, ", fault.field);
	leave(rule.status, "%s: %s refused by XLU-R%03u: %s At %soffset %llu: expected %llu, found %llu.", file, what,
	      fault.rule, rule.text, place, (unsigned long long)fault.offset, (unsigned long long)fault.expected,
	      (unsigned long long)fault.got);
}

/* Windows one after the other, 4 KiB-aligned: files are mapped straight into them. */
static struct window place(uint64_t *next, uint64_t bytes)
{
	uint64_t offset = (*next + FILE_ALIGN - 1) & ~(uint64_t)(FILE_ALIGN - 1);
	if (bytes > UINT32_MAX || offset + bytes > MEMORY_BYTES)
		leave(EXIT_REFUSED, "the core's 4 GiB of memory cannot hold %llu more octets", (unsigned long long)bytes);
	*next = offset + bytes;
	return (struct window){ (uint32_t)offset, (uint32_t)bytes };
}

/* Maps a file into the core's memory, privately: what the core writes there (nothing) would stay here. */
static bool map_file(const char *path, uint64_t *next, struct window *window, bool optional)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0 && optional && errno == ENOENT)
		return false;
	struct stat status;
	if (file < 0 || fstat(file, &status) != 0)
		leave(EXIT_USAGE, "%s: %s", path, strerror(errno));
	if (!S_ISREG(status.st_mode))
		leave(EXIT_USAGE, "%s: not a regular file", path);
	*window = place(next, (uint64_t)status.st_size);
	if (window->bytes != 0 && mmap(memory + window->offset, window->bytes, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_FIXED, file, 0) == MAP_FAILED)
		leave(EXIT_USAGE, "%s: %s", path, strerror(errno));
	close(file);
	return true;
}

static struct xlu_context context_at(uint32_t ctx)
{
	struct xlu_context context;
	memcpy(&context, memory + ctx, sizeof context);
	return context;
}

/* One pass over the host, where the pass has a part for it, and over all domains, in the order of the stream. */
static void run_pass(const char *file, uint32_t ctx, uint32_t pass)
{
	if (pass < 2 && w2c_xlu_restore(&core, ctx, pass, XLU_DOMID_XEN) != 0)
		refused(file, "restore", ctx);
	struct xlu_context context = context_at(ctx);
	for (uint32_t i = 0; i < context.sectionCount; i++) {
		struct xlu_index_entry entry;
		memcpy(&entry, memory + context.indexPtr + i * sizeof entry, sizeof entry);
		if (entry.pass == XLU_PASS_0 && w2c_xlu_restore(&core, ctx, pass, entry.domid) != 0)
			refused(file, "restore", ctx);
	}
}

static void restore_stream(const char *file)
{
	uint64_t next = w2c_xlu_heapBase(&core);
	/* Fresh memory is zero, as a context block has to be. */
	uint32_t ctx = place(&next, w2c_xlu_contextBytes(&core)).offset;
	struct window stream, kept = { 0, 0 };
	map_file(file, &next, &stream, false);
	char path[4096];
	if (snprintf(path, sizeof path, "%s.mem", file) >= (int)sizeof path)
		leave(EXIT_USAGE, "%s: the name is too long", file);
	bool have_memory = map_file(path, &next, &kept, true);

	if (w2c_xlu_open(&core, ctx, stream.offset, stream.bytes, 0) != 0)
		refused(file, "open", ctx);
	if (w2c_xlu_plan(&core, ctx) != 0)
		refused(file, "plan", ctx);
	struct window work = place(&next, context_at(ctx).planWorkBytes);
	if (w2c_xlu_check(&core, ctx, work.offset, work.bytes, have_memory ? kept.offset : 0, kept.bytes) != 0)
		refused(file, "check", ctx);
	/* Damage is said before what is missing beside the stream. */
	if (!have_memory)
		leave(EXIT_REFUSED, "%s alone cannot be restored: %s is missing (XLU-R%03u)", file, path,
		      XLU_RULE_NEEDS_MEMORY);

	struct window image = place(&next, context_at(ctx).planImageBytes);
	if (w2c_xlu_target(&core, ctx, image.offset, image.bytes) != 0)
		refused(file, "restore", ctx);
	for (uint32_t pass = 0; pass <= 2; pass++)
		run_pass(file, ctx, pass);
	if (w2c_xlu_finish(&core, ctx) != 0)
		refused(file, "finish", ctx);

	/* A context of its own: the digest is no part of the restore. */
	uint32_t fresh = place(&next, w2c_xlu_contextBytes(&core)).offset;
	struct window out = place(&next, 24);
	if (w2c_xlu_digest(&core, fresh, image.offset, image.bytes, out.offset) != 0)
		refused(file, "digest", fresh);
	uint64_t digest;
	memcpy(&digest, memory + out.offset, sizeof digest);
	printf("0x%016llx\n", (unsigned long long)digest);
}

int main(int count, char **arguments)
{
	if (count != 2 || arguments[1][0] == '-') {
		fputs("usage: xlu-native FILE\n", stderr);
		return EXIT_USAGE;
	}
	memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		leave(EXIT_USAGE, "4 GiB of address space: %s", strerror(errno));
	if (xlu_core_start(&core, memory, MEMORY_BYTES) != 0)
		xlu_panic("xlu_core_start refused the memory");
	if (w2c_xlu_abi(&core) != XLU_ABI_VERSION)
		leave(EXIT_REFUSED, "the core's interface is version %u, this program's %u", w2c_xlu_abi(&core),
		      XLU_ABI_VERSION);
	restore_stream(arguments[1]);
	if (fflush(stdout) != 0)
		leave(EXIT_USAGE, "standard output: %s", strerror(errno));
	return DONE;
}
