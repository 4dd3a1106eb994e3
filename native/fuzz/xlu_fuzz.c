/*
 * The fuzzing target: one input through every call of the core, each window apart and guarded.
 *
 *     open, plan, check ──refused──▶ nothing but context and workspace was written
 *            │ accepted
 *     three passes, finish, digest ─▶ save ─▶ open, plan, check, three passes ─▶ the same image, octet for octet
 *            │
 *     the image edited ─▶ digest, save, compare; what save writes is a stream that open reads
 *            │
 *     all of it once more in steps and windows (xlu_steps.c)
 *
 * All of the core's memory is poisoned for the address sanitizer but the windows of the call at hand, to the octet
 * (xlu_windows.c): wasm2c makes every load and store of the core one of this program, so that an access to what no window
 * covers ends it, even where the engine's own bounds would have let it pass. The target image stays poisoned until check has
 * accepted.
 *
 * xlu_panic (a trap), a finding of a sanitizer, a call that refuses though its check accepted, and every `must` here abort.
 */
#include "xlu_steps.h"

#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_PAGES 200u
#define MOST_EDITS 16u
#define WORKERS 2u

/* What became of the inputs, for whoever reads the log: by rule, and how far the others came. */
static struct {
	uint64_t inputs, refused[256], too_large, accepted, without_memory, saved, in_steps, edited, edited_saved, edited_accepted;
} figures;

static void print_figures(void)
{
	const char *path = getenv("XLU_FUZZ_FIGURES");
	FILE *out = path ? fopen(path, "w") : NULL;
	if (!out)
		return;
	fprintf(out,
		"{\"inputs\":%llu,\"tooLarge\":%llu,\"accepted\":%llu,\"withoutMemory\":%llu,\"savedAgain\":%llu,"
		"\"inSteps\":%llu,\"edited\":%llu,\"editedSaved\":%llu,\"editedAccepted\":%llu,\"refused\":{",
		(unsigned long long)figures.inputs, (unsigned long long)figures.too_large,
		(unsigned long long)figures.accepted, (unsigned long long)figures.without_memory,
		(unsigned long long)figures.saved, (unsigned long long)figures.in_steps,
		(unsigned long long)figures.edited, (unsigned long long)figures.edited_saved,
		(unsigned long long)figures.edited_accepted);
	bool first = true;
	for (unsigned rule = 0; rule < 256; rule++) {
		if (figures.refused[rule] == 0)
			continue;
		fprintf(out, "%s\"XLU-R%03u\":%llu", first ? "" : ",", rule, (unsigned long long)figures.refused[rule]);
		first = false;
	}
	fputs("}}\n", out);
	fclose(out);
}

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerInitialize(int *count, char ***arguments)
{
	(void)count;
	(void)arguments;
	start_core();
	must(w2c_xlu_abi(&core) == XLU_ABI_VERSION, "a core of another interface", 0);
	atexit(print_figures);
	return 0;
}

void xf_take_apart(const uint8_t *data, size_t size, struct xf_input *input)
{
	memset(input, 0, sizeof *input);
	if (size < XF_HEADER_BYTES)
		return;
	memcpy(&input->header, data, sizeof input->header);
	const uint8_t *end = data + size;
	const uint8_t *p = data + XF_HEADER_BYTES;
	input->stream = p;
	if (input->header.stream_bytes > (size_t)(end - p))
		input->header.stream_bytes = (uint32_t)(end - p);
	size_t padded = xf_up8(input->header.stream_bytes);
	p += padded < (size_t)(end - p) ? padded : (size_t)(end - p);
	input->pages = p;
	uint32_t pages = 0;
	while (pages < input->header.page_count && pages < MOST_PAGES) {
		struct xf_page_item item;
		if ((size_t)(end - p) < sizeof item)
			break;
		memcpy(&item, p, sizeof item);
		if (item.first > XF_PAGE_BYTES || item.bytes > XF_PAGE_BYTES - item.first ||
		    xf_up8(item.bytes) > (size_t)(end - p) - sizeof item)
			break;
		p += sizeof item + xf_up8(item.bytes);
		pages++;
	}
	input->header.page_count = pages;
	input->pages_bytes = (size_t)(p - input->pages);
	input->edits = p;
	size_t edits = (size_t)(end - p) / sizeof(struct xf_edit);
	if (input->header.edit_count > edits)
		input->header.edit_count = (uint32_t)edits;
	if (input->header.edit_count > MOST_EDITS)
		input->header.edit_count = MOST_EDITS;
}

/*
 * The preserved memory of an input's pages, for a stream of that hash: of its octets as they come, which open changes if it
 * turns them round.
 */
static struct window make_memory(const struct xf_input *input, uint64_t stream_hash)
{
	uint32_t pages = input->header.page_count;
	uint32_t from = (uint32_t)(sizeof(struct xlu_memory_header) + pages * 8 + XF_PAGE_BYTES - 1) & ~(XF_PAGE_BYTES - 1);
	struct window w = window(from + pages * XF_PAGE_BYTES, 8);
	uint8_t *at = memory + w.at;
	memset(at, 0, w.bytes);
	const uint8_t *p = input->pages;
	for (uint32_t i = 0; i < pages; i++) {
		struct xf_page_item item;
		memcpy(&item, p, sizeof item);
		memcpy(at + sizeof(struct xlu_memory_header) + i * 8, &item.mfn, 8);
		memcpy(at + from + i * XF_PAGE_BYTES + item.first, p + sizeof item, item.bytes);
		p += sizeof item + xf_up8(item.bytes);
	}
	struct xlu_memory_header header = {
		.magic = XLU_MEMORY_MAGIC,
		.streamHash = stream_hash,
		.hash = w2c_xlu_hash(&core, w.at + sizeof header, w.bytes - sizeof header),
		.pageCount = pages,
		.pagesOffset = from,
	};
	switch ((input->header.mode >> XF_MODE_DAMAGE_SHIFT) % (XF_DAMAGES + 1)) {
	case 1: header.magic++; break;
	case 2: header.streamHash++; break;
	case 3: header.hash++; break;
	case 4: header.pageCount++; break;
	case 5: header.pagesOffset += XF_PAGE_BYTES; break;
	case 6: header.pageCount = UINT32_MAX; break;
	}
	memcpy(at, &header, sizeof header);
	return w;
}

/* A refusal says which rule, at a place that there is. */
static void note_refusal(uint32_t ctx, struct window stream)
{
	struct xlu_fault fault = fault_at(ctx);
	must(fault.status == 1, "a refused call without a status", ctx);
	bool known = false;
#define IS_RULE(name, number, severity, text) known = known || fault.rule == number;
	XLU_RULES(IS_RULE)
	must(known, "a refusal by a rule that there is not", ctx);
	must(fault.offset <= stream.bytes, "a refusal beyond the stream", ctx);
	figures.refused[fault.rule & 255]++;
}

/* Calls whose turn it is not: each refused. */
static void out_of_turn(uint32_t ctx, uint32_t pass, uint32_t domid)
{
	for (uint32_t other = 0; other < 4; other++)
		if (other != pass)
			must(w2c_xlu_restore(&core, ctx, other, domid) == 1, "a pass out of turn", ctx);
	must(w2c_xlu_restore(&core, ctx, pass, XLU_DOMID_INVALID) == 1, "a pass of nobody", ctx);
	must(w2c_xlu_frames(&core, ctx, pass, UINT32_MAX) == 1, "a block that there is not", ctx);
	must(w2c_xlu_finish(&core, ctx) == 1, "finish out of turn", ctx);
}

struct restored {
	struct window image;
	uint64_t digest;
};

/* Of a stream that check has accepted: all of it must be restored. `fill` is what the image's window holds before. */
static struct restored restore_all(uint32_t ctx, uint32_t mode, uint8_t fill)
{
	struct xlu_context c = context_at(ctx);
	struct restored done = { .image = window(c.planImageBytes, 8) };
	memset(memory + done.image.at, fill, done.image.bytes);
	must(w2c_xlu_target(&core, ctx, done.image.at, done.image.bytes) == 0, "target refuses", ctx);
	uint32_t domids[MOST_DOMAINS];
	uint32_t domains = domains_of(ctx, domids);
	if (mode & XF_MODE_REVERSED) {
		for (uint32_t i = 0; i < domains / 2; i++) {
			uint32_t swap = domids[i];
			domids[i] = domids[domains - 1 - i];
			domids[domains - 1 - i] = swap;
		}
	}
	uint32_t contexts[1 + WORKERS] = { ctx };
	uint32_t count = 1;
	if (mode & XF_MODE_WORKERS) {
		for (; count <= WORKERS; count++) {
			struct window sums = window(c.planSumsBytes, 8);
			memset(memory + sums.at, fill, sums.bytes);
			contexts[count] = context();
			must(w2c_xlu_fork(&core, ctx, contexts[count], sums.at, sums.bytes) == 0, "fork refuses", ctx);
		}
	}
	for (uint32_t pass = 0; pass < 3; pass++) {
		/* With workers the blocks come before the host's step of pass 1, and after the domains in the others. */
		for (uint32_t b = 0; pass == 1 && count > 1 && b < c.blockCount; b++)
			must(w2c_xlu_frames(&core, contexts[b % count], 1, b) == 0, "frames refuses", contexts[b % count]);
		if (pass < 2)
			must(w2c_xlu_restore(&core, ctx, pass, XLU_DOMID_XEN) == 0, "a pass of the host refuses", ctx);
		for (uint32_t i = 0; i < domains; i++) {
			uint32_t worker = contexts[(i + pass) % count];
			if (mode & XF_MODE_OUT_OF_TURN)
				out_of_turn(worker, pass, domids[i]);
			must(w2c_xlu_restore(&core, worker, pass, domids[i]) == 0, "a pass refuses", worker);
		}
		for (uint32_t b = 0; pass != 1 && count > 1 && b < c.blockCount; b++)
			must(w2c_xlu_frames(&core, contexts[b % count], pass, b) == 0, "frames refuses", contexts[b % count]);
	}
	must(w2c_xlu_finish(&core, ctx) == 0, "finish refuses", ctx);
	uint32_t fresh = context();
	struct window out = window(24, 8);
	must(w2c_xlu_digest(&core, fresh, done.image.at, done.image.bytes, out.at) == 0, "digest refuses", fresh);
	memcpy(&done.digest, memory + out.at, 8);
	return done;
}

/* Whether a window of `bytes` is one that this program makes. */
static bool fits(uint64_t bytes, uint32_t most)
{
	if (bytes <= most)
		return true;
	figures.too_large++;
	return false;
}

/* open and plan; false where they refuse, or where more would be needed than there is. */
static bool opened(uint32_t ctx, struct window stream, bool is_padded)
{
	if (w2c_xlu_open(&core, ctx, stream.at, stream.bytes, is_padded) != 0 || w2c_xlu_plan(&core, ctx) != 0) {
		note_refusal(ctx, stream);
		return false;
	}
	struct xlu_context c = context_at(ctx);
	uint32_t domids[MOST_DOMAINS];
	return fits(c.planWorkBytes, MOST_WORK_BYTES) && fits(c.planImageBytes, MOST_IMAGE_BYTES) &&
	       fits(c.planSumsBytes, MOST_WORK_BYTES) && domains_of(ctx, domids) < MOST_DOMAINS;
}

/* Saves an image in a version of the format, 0 the newest; bytes 0 where save refuses. */
static struct window save(uint32_t ctx, struct window image, uint32_t version)
{
	must(w2c_xlu_saveAs(&core, ctx, version) == 0, "saveAs refuses a version of this core", ctx);
	if (w2c_xlu_planSave(&core, ctx, image.at, image.bytes) != 0)
		return (struct window){ 0, 0 };
	uint32_t bytes = context_at(ctx).planStreamBytes;
	if (!fits(bytes, MOST_STREAM_BYTES))
		return (struct window){ 0, 0 };
	struct window out = window(bytes, 8);
	if (w2c_xlu_save(&core, ctx, image.at, image.bytes, out.at, out.bytes) != 0)
		return (struct window){ 0, 0 };
	struct xlu_context c = context_at(ctx);
	must(c.streamUsed <= bytes, "save writes more than planSave said", ctx);
	/* What is behind the stream is not the stream's. */
	ASAN_POISON_MEMORY_REGION(memory + out.at + c.streamUsed, bytes - c.streamUsed);
	return (struct window){ out.at, c.streamUsed };
}

/* A restored image saved again and restored again is the same image. */
static void again(const struct xf_input *input, struct restored first)
{
	uint32_t saving = context();
	struct window stream = save(saving, first.image, 0);
	if (stream.bytes == 0) {
		must(context_at(saving).planStreamBytes > MOST_STREAM_BYTES, "save refuses what was restored", saving);
		return;
	}
	uint32_t ctx = context();
	must(w2c_xlu_open(&core, ctx, stream.at, stream.bytes, 0) == 0, "open refuses what was saved", ctx);
	must(w2c_xlu_plan(&core, ctx) == 0, "plan refuses what was saved", ctx);
	struct window work = workspace(ctx);
	struct window kept = make_memory(input, hash_of(stream));
	must(w2c_xlu_check(&core, ctx, work.at, work.bytes, kept.at, kept.bytes) == 0, "check refuses what was saved", ctx);
	struct restored second = restore_all(ctx, 0, 0x5a);
	must(first.digest == second.digest, "another digest after a second update", ctx);
	must_equal(first.image, second.image, ctx);
	uint32_t comparing = context();
	must(w2c_xlu_compare(&core, comparing, first.image.at, first.image.bytes, second.image.at,
			     second.image.bytes) == 0,
	     "compare finds a difference after a second update", comparing);
	figures.saved++;
}

void xf_apply_edits(const struct xf_input *input, uint8_t *octets, uint32_t bytes)
{
	for (uint32_t i = 0; i < input->header.edit_count; i++) {
		struct xf_edit edit;
		memcpy(&edit, input->edits + i * sizeof edit, sizeof edit);
		uint32_t width = 1u << (edit.width & 3);
		memcpy(octets + edit.offset % (bytes - width + 1), &edit.value, width);
	}
}

/* What the other calls have done, in steps and windows. */
static void in_steps(const struct xf_input *input, struct window stream, struct window kept, bool is_turned,
		     struct restored done)
{
	struct window saved = save(context(), done.image, 0);
	if (saved.bytes == 0)
		return;
	uint32_t rollback = context();
	struct window older = save(rollback, done.image, 1);
	must(older.bytes != 0 || fault_at(rollback).rule == XLU_RULE_FORMAT, "save refuses version 1", rollback);
	/* The octets that came are gone once they are turned round. */
	bool is_padded = !is_turned && (input->header.mode & XF_MODE_PADDED);
	if (is_turned) {
		stream = saved;
		kept = make_memory(input, hash_of(saved));
	}
	all_in_steps(input, stream, is_padded, kept, done.image, done.digest, saved, older);
	figures.in_steps++;
}

/* An image that no hypervisor made: digest, save and compare refuse it, or take it. What save writes, open reads. */
static void edited(const struct xf_input *input, struct window image)
{
	struct window copy = window(image.bytes, 8);
	memcpy(memory + copy.at, memory + image.at, image.bytes);
	xf_apply_edits(input, memory + copy.at, copy.bytes);
	figures.edited++;
	uint32_t ctx = context();
	struct window out = window(24, 8);
	bool has_digest = w2c_xlu_digest(&core, ctx, copy.at, copy.bytes, out.at) == 0;
	w2c_xlu_compare(&core, ctx, image.at, image.bytes, copy.at, copy.bytes);
	w2c_xlu_compare(&core, ctx, copy.at, copy.bytes, image.at, image.bytes);
	struct window stream = save(context(), copy, 0);
	if (input->header.mode & XF_MODE_STEPS) {
		uint64_t digest;
		memcpy(&digest, memory + out.at, sizeof digest);
		edited_in_steps(copy, has_digest ? &digest : NULL, stream, digest);
	}
	if (stream.bytes == 0)
		return;
	figures.edited_saved++;
	uint32_t opening = context();
	if (!opened(opening, stream, false))
		return;
	struct window work = workspace(opening);
	struct window kept = make_memory(input, hash_of(stream));
	if (w2c_xlu_check(&core, opening, work.at, work.bytes, kept.at, kept.bytes) != 0) {
		note_refusal(opening, stream);
		return;
	}
	figures.edited_accepted++;
	restore_all(opening, 0, 0x5a);
}

/* XLU_FUZZ_EXTRACT=PATH: the input as files that the other tools read, PATH and PATH.mem. */
static void extract(struct window stream, struct window kept)
{
	const char *path = getenv("XLU_FUZZ_EXTRACT");
	if (!path)
		return;
	char name[4096];
	for (int i = 0; i < 2; i++) {
		struct window w = i == 0 ? stream : kept;
		snprintf(name, sizeof name, "%s%s", path, i == 0 ? "" : ".mem");
		FILE *out = fopen(name, "wb");
		if (!out || fwrite(memory + w.at, 1, w.bytes, out) != w.bytes || fclose(out) != 0)
			finding("cannot write what was to be extracted", 0);
	}
}

static struct {
	uint8_t *data;
	size_t size;
} accepted_inputs[128];
static uint32_t accepted_count;

const uint8_t *xf_accepted(uint64_t chance, size_t *size)
{
	if (accepted_count == 0)
		return NULL;
	uint32_t i = (uint32_t)(chance % accepted_count);
	*size = accepted_inputs[i].size;
	return accepted_inputs[i].data;
}

/* The first ones stay for long: what was changed often has lost much of what a host has. */
static void keep_accepted(const uint8_t *data, size_t size)
{
	const uint32_t most = sizeof accepted_inputs / sizeof *accepted_inputs;
	uint32_t i = accepted_count;
	if (i == most) {
		if (figures.accepted % 64 != 0)
			return;
		i = (uint32_t)(figures.accepted / 64 * 2654435761u >> 8) % most;
		free(accepted_inputs[i].data);
	} else {
		accepted_count++;
	}
	accepted_inputs[i].data = malloc(size);
	accepted_inputs[i].size = size;
	memcpy(accepted_inputs[i].data, data, size);
}

/* True if check accepted. */
static bool one_input(const struct xf_input *input)
{
	uint32_t mode = input->header.mode;
	struct window stream = window(input->header.stream_bytes, 8);
	memcpy(memory + stream.at, input->stream, stream.bytes);
	if (getenv("XLU_FUZZ_EXTRACT"))
		extract(stream, make_memory(input, hash_of(stream)));
	uint32_t ctx = context();
	if (!opened(ctx, stream, mode & XF_MODE_PADDED))
		return false;
	/* Opened, a big-endian stream is another one, and a little-endian one what it was. */
	uint8_t *turned = NULL;
	struct window came = { stream.at, context_at(ctx).streamUsed };
	if (context_at(ctx).isTurned != 0) {
		turned = malloc(stream.bytes);
		memcpy(turned, memory + stream.at, stream.bytes);
		came = window(came.bytes, 8);
		memcpy(memory + came.at, input->stream, came.bytes);
	}
	const uint8_t *octets = turned ? turned : input->stream;
	struct window work = workspace(ctx);
	struct window kept = { 0, 0 };
	if (!(mode & XF_MODE_NO_MEMORY))
		kept = make_memory(input, hash_of(came));
	uint8_t *keep = kept.bytes ? malloc(kept.bytes) : NULL;
	if (keep)
		memcpy(keep, memory + kept.at, kept.bytes);
	bool refused = false;
	if (mode & XF_MODE_CHECK_TWICE)
		refused = w2c_xlu_check(&core, ctx, work.at, work.bytes, 0, 0) != 0;
	bool accepted = w2c_xlu_check(&core, ctx, work.at, work.bytes, kept.at, kept.bytes) == 0;
	must(!refused || !accepted, "check accepts with the preserved memory what it refuses without", ctx);
	must(memcmp(memory + stream.at, octets, stream.bytes) == 0, "the stream was written", ctx);
	must(!keep || memcmp(memory + kept.at, keep, kept.bytes) == 0, "the preserved memory was written", ctx);
	if (!accepted) {
		note_refusal(ctx, stream);
	} else if (kept.at == 0) {
		figures.without_memory++;
		must(w2c_xlu_target(&core, ctx, work.at, work.bytes) == 1, "a target without the preserved memory", ctx);
	} else {
		figures.accepted++;
		struct restored first = restore_all(ctx, mode, 0xa5);
		must(memcmp(memory + stream.at, octets, stream.bytes) == 0, "restore wrote the stream", ctx);
		must(memcmp(memory + kept.at, keep, kept.bytes) == 0, "restore wrote the preserved memory", ctx);
		reach_beyond("context", (struct window){ ctx, w2c_xlu_contextBytes(&core) });
		reach_beyond("stream", stream);
		reach_beyond("workspace", work);
		reach_beyond("memory", kept);
		reach_beyond("image", first.image);
		again(input, first);
		if (mode & XF_MODE_STEPS)
			in_steps(input, stream, kept, turned != NULL, first);
		if (input->header.edit_count != 0)
			edited(input, first.image);
	}
	free(keep);
	free(turned);
	return accepted;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct xf_input input;
	xf_take_apart(data, size, &input);
	if (!input.stream)
		return 0;
	figures.inputs++;
	if (one_input(&input))
		keep_accepted(data, size);
	reset();
	return 0;
}
