/*
 * A whole host through the core as a loader links it: host IMAGE STREAM MEMORY
 *
 *     save N | check N | restore N      check is open, plan and every rule; restore the three passes
 *
 * Before it says "ready" it has saved the image and compared the stream with the one given, and restored it and compared
 * the images: every table, counts included.
 *
 *     0         heapBase                                                                     4 GiB
 *     | constants | contexts | image | stream | memory | saved stream | workspace | target | never touched ...
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "commands.h"
#include "xlu_runtime.h"

#define MEMORY_BYTES (1ull << 32)

static w2c_xlu core;
static uint8_t *memory;
static uint64_t next;

static struct window {
	uint32_t offset, bytes;
} image, stream, kept, saved, work, target;
static uint32_t saving, restoring;

_Noreturn void xlu_panic(const char *why)
{
	fprintf(stderr, "host: the core trapped: %s\n", why);
	abort();
}

static void must(int is_true, const char *what)
{
	if (is_true)
		return;
	fprintf(stderr, "host: %s\n", what);
	exit(1);
}

static struct window place(uint64_t bytes)
{
	uint64_t offset = (next + 63) / 64 * 64;
	next = offset + bytes;
	must(next <= MEMORY_BYTES, "the host does not fit 4 GiB of windows");
	return (struct window){ (uint32_t)offset, (uint32_t)bytes };
}

static struct window place_file(const char *path)
{
	uint64_t bytes;
	uint8_t *data = read_file(path, &bytes);
	struct window window = place(bytes);
	memcpy(memory + window.offset, data, bytes);
	free(data);
	return window;
}

static const struct xlu_context *context(uint32_t ctx)
{
	return (const struct xlu_context *)(memory + ctx);
}

static void save(void)
{
	must(w2c_xlu_save(&core, saving, image.offset, image.bytes, saved.offset, saved.bytes) == 0, "save refused");
}

static void check(void)
{
	must(w2c_xlu_open(&core, restoring, stream.offset, stream.bytes, 0) == 0, "open refused");
	must(w2c_xlu_plan(&core, restoring) == 0, "plan refused");
	if (work.bytes == 0)
		work = place(context(restoring)->planWorkBytes);
	must(w2c_xlu_check(&core, restoring, work.offset, work.bytes, kept.offset, kept.bytes) == 0, "check refused");
}

static void restore(void)
{
	must(w2c_xlu_target(&core, restoring, target.offset, target.bytes) == 0, "target refused");
	const struct xlu_index_entry *index = (const void *)(memory + context(restoring)->indexPtr);
	for (uint32_t pass = 0; pass <= 2; pass++) {
		if (pass < 2)
			must(w2c_xlu_restore(&core, restoring, pass, XLU_DOMID_XEN) == 0, "restore refused");
		for (uint32_t i = 0; i < context(restoring)->sectionCount; i++)
			if (index[i].pass == XLU_PASS_0)
				must(w2c_xlu_restore(&core, restoring, pass, index[i].domid) == 0, "restore refused");
	}
	must(w2c_xlu_finish(&core, restoring) == 0, "finish refused");
}

static uint64_t run(const char *name, uint32_t times)
{
	uint64_t ns = 0;
	/* A restore is allowed once after a check, which is not its own time here. */
	for (uint32_t i = 0; i < times; i++) {
		if (strcmp(name, "restore") == 0)
			check();
		uint64_t start = now_ns();
		if (strcmp(name, "save") == 0)
			save();
		else if (strcmp(name, "check") == 0)
			check();
		else if (strcmp(name, "restore") == 0)
			restore();
		else
			return 0;
		ns += now_ns() - start;
	}
	return ns;
}

int main(int count, char **arguments)
{
	if (count != 4) {
		fputs("usage: host IMAGE STREAM MEMORY\n", stderr);
		return 2;
	}
	memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	must(memory != MAP_FAILED && xlu_core_start(&core, memory, MEMORY_BYTES) == 0, "no memory");
	next = w2c_xlu_heapBase(&core);
	saving = place(w2c_xlu_contextBytes(&core)).offset;
	restoring = place(w2c_xlu_contextBytes(&core)).offset;
	image = place_file(arguments[1]);
	stream = place_file(arguments[2]);
	kept = place_file(arguments[3]);
	must(w2c_xlu_planSave(&core, saving, image.offset, image.bytes) == 0, "planSave refused");
	saved = place(context(saving)->planStreamBytes);
	save();
	must(context(saving)->streamUsed == stream.bytes &&
		     memcmp(memory + saved.offset, memory + stream.offset, stream.bytes) == 0,
	     "another stream than the module's");
	check();
	target = place(context(restoring)->planImageBytes);
	restore();
	uint32_t comparing = place(w2c_xlu_contextBytes(&core)).offset;
	must(w2c_xlu_compare(&core, comparing, image.offset, image.bytes, target.offset, target.bytes) == 0,
	     "another image was restored");
	return serve(run);
}
