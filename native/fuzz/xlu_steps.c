/*
 * Steps and windows (docs/CORE.md, "Hosts beyond 4 GiB of tables"), held to what the core does at once:
 *
 *     image ── digestStart, digestStep ─▶ digest's value
 *       │ └─── planSteps, saveStart, saveStep ─▶ save's stream, octet for octet
 *     stream ─ open detached, plan, check, passes and restoreRows ─▶ image without bulk tables, and their rows
 *                    twice, in other portions: the same octets, and the rows that restore makes at once
 *
 * A call that brings or asks what it should not is refused, and the context is what it was.
 */
#include "xlu_steps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xlu_fuzz_tables.h"

/* Of the window that rows go through. */
#define MOST_ROWS_BYTES (1u << 20)
/* Rows of a coded chunk: but for a table's last ones, a save takes a multiple of them. */
#define CHUNK_ROWS 4096u
/* A table that says it has more rows is no longer brought any. */
#define MOST_ROWS (1u << 20)
#define MOST_TABLES (MOST_DOMAINS + 4)

/* Rows of detached tables, outside the core's memory. */
struct tables {
	struct {
		uint32_t domid, table;
		uint8_t *rows;
		size_t bytes;
	} list[MOST_TABLES];
	uint32_t count;
};

static uint64_t state;

static uint32_t below(uint32_t limit)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return limit ? (uint32_t)(state >> 33) % limit : 0;
}

static uint32_t row_bytes(uint32_t domid, uint32_t table)
{
	return domid == XLU_DOMID_XEN ? xf_host_tables[table].row_bytes : xf_domain_tables[table].row_bytes;
}

/* Up to `most` rows, as a host with a window of its own size would bring or ask for. */
static uint32_t portion(uint32_t most, uint32_t bytes, uint32_t unit)
{
	uint32_t room = MOST_ROWS_BYTES / bytes;
	uint32_t count = most < room ? most : room;
	/* A few portions, or tables of a million rows would take all the time. */
	if (below(2))
		count = count / (1 + below(5)) + below(3);
	if (count > most)
		count = most;
	if (count != most)
		count -= count % unit;
	if (count == 0)
		count = most < unit ? most : unit;
	return count;
}

/* --- rows outside ------------------------------------------------------------------------------------------------- */

static void fetch(const struct tables *tables, uint32_t domid, uint32_t table, size_t from, struct window rows)
{
	memset(memory + rows.at, 0, rows.bytes);
	for (uint32_t i = 0; i < tables->count; i++) {
		if (tables->list[i].domid != domid || tables->list[i].table != table || from >= tables->list[i].bytes)
			continue;
		size_t left = tables->list[i].bytes - from;
		memcpy(memory + rows.at, tables->list[i].rows + from, left < rows.bytes ? left : rows.bytes);
	}
}

static void add_table(struct tables *tables, uint32_t domid, uint32_t table, size_t bytes)
{
	if (tables->count == MOST_TABLES)
		finding("more tables than domains have", 0);
	uint32_t i = tables->count++;
	tables->list[i].domid = domid;
	tables->list[i].table = table;
	tables->list[i].bytes = bytes;
	tables->list[i].rows = malloc(bytes ? bytes : 1);
}

static void free_tables(struct tables *tables)
{
	for (uint32_t i = 0; i < tables->count; i++)
		free(tables->list[i].rows);
	tables->count = 0;
}

/* --- calls that are refused --------------------------------------------------------------------------------------- */

/* Refused, and the context is what it was. */
static void must_refuse(uint32_t refused, struct xlu_context before, uint32_t ctx, const char *what)
{
	must(refused == 1, what, ctx);
	struct xlu_context after = context_at(ctx);
	must(memcmp(&before, &after, sizeof before) == 0, "a refused step changed the context", ctx);
}

/* Steps that bring what was not asked for, and those of another kind. */
static void wrong_steps(uint32_t ctx, bool is_save, struct window image, uint32_t bytes, uint32_t unit)
{
	struct xlu_context c = context_at(ctx);
	uint32_t (*step)(w2c_xlu *, uint32_t, uint32_t, uint32_t) = is_save ? w2c_xlu_saveStep : w2c_xlu_digestStep;
	must_refuse((is_save ? w2c_xlu_digestStep : w2c_xlu_saveStep)(&core, ctx, 0, 0), c, ctx, "a step of another kind");
	if (c.stepWants != XLU_WANTS_ROWS) {
		must_refuse(step(&core, ctx, image.at, 8), c, ctx, "rows that were not asked for");
		return;
	}
	uint32_t before = mark();
	struct window room = window(64, 8);
	must_refuse(step(&core, ctx, room.at, 0), c, ctx, "no rows");
	must_refuse(step(&core, ctx, image.at, bytes), c, ctx, "rows in the image");
	must_refuse(step(&core, ctx, room.at + 4, bytes), c, ctx, "rows that are not aligned");
	must_refuse(step(&core, ctx, UINT32_MAX & ~7u, bytes), c, ctx, "rows beyond the memory");
	if (c.wantCount < MOST_ROWS)
		must_refuse(step(&core, ctx, room.at, (c.wantCount + 1) * bytes), c, ctx, "more rows than there are");
	if (bytes > 1)
		must_refuse(step(&core, ctx, room.at, bytes + 1), c, ctx, "part of a row");
	if (unit > 1 && c.wantCount > 1)
		must_refuse(step(&core, ctx, room.at, bytes), c, ctx, "part of a chunk");
	give_back(before);
}

/* --- digest and save ---------------------------------------------------------------------------------------------- */

/* Brings what a step wants, with some steps that are wrong before it. 1 if the step is refused. */
static uint32_t bring(uint32_t ctx, bool is_save, struct window image, struct window room, const struct tables *tables)
{
	struct xlu_context c = context_at(ctx);
	uint32_t bytes = row_bytes(c.wantDomid, c.wantTable), unit = is_save ? CHUNK_ROWS : 1;
	if (below(16) == 0)
		wrong_steps(ctx, is_save, image, bytes, unit);
	uint32_t count = portion(c.wantCount, bytes, unit);
	struct window rows = part_of(room, count * bytes);
	reach_beyond("rows brought", rows);
	fetch(tables, c.wantDomid, c.wantTable, (size_t)c.wantFirst * bytes, rows);
	return (is_save ? w2c_xlu_saveStep : w2c_xlu_digestStep)(&core, ctx, rows.at, rows.bytes);
}

/* 0 with the digest, 1 if it is refused, 2 if there are more rows than this program brings. */
static int digest_steps(struct window image, const struct tables *tables, uint64_t *digest)
{
	uint32_t before = mark(), ctx = context();
	struct window room = window(MOST_ROWS_BYTES, 8);
	uint32_t refused = w2c_xlu_digestStart(&core, ctx, image.at, image.bytes);
	while (!refused && context_at(ctx).stepWants == XLU_WANTS_ROWS) {
		if (context_at(ctx).wantCount > MOST_ROWS) {
			give_back(before);
			return 2;
		}
		refused = bring(ctx, false, image, room, tables);
		must(!refused, "a digest that was begun is refused", ctx);
	}
	*digest = context_at(ctx).digest;
	give_back(before);
	return refused ? 1 : 0;
}

static bool is_in(uint32_t at, uint32_t bytes, uint32_t from, uint32_t length)
{
	return at >= from && bytes <= length && at - from <= length - bytes;
}

/* 0 with the stream in `out` (MOST_STREAM_BYTES), 1 if it is refused, 2 if it is too large for this program. */
static int save_steps(struct window image, const struct tables *tables, uint32_t version, uint8_t *out, uint64_t *bytes)
{
	uint32_t before = mark(), ctx = context();
	must(w2c_xlu_saveAs(&core, ctx, version) == 0, "saveAs refuses a version of this core", ctx);
	if (w2c_xlu_planSteps(&core, ctx, image.at, image.bytes) != 0) {
		give_back(before);
		return 1;
	}
	struct xlu_context c = context_at(ctx);
	if (c.planWindowBytes > MOST_STREAM_BYTES || c.planIndexBytes > MOST_STREAM_BYTES) {
		give_back(before);
		return 2;
	}
	/* The least that will do, or somewhat more. */
	struct window pieces = window(c.planWindowBytes + below(3) * 8 * below(512), 8);
	struct window index = window(c.planIndexBytes, 8);
	struct window room = window(MOST_ROWS_BYTES, 8);
	reach_beyond("pieces", pieces);
	reach_beyond("index", index);
	uint32_t least = c.planWindowBytes;
	must(w2c_xlu_saveStart(&core, ctx, image.at, image.bytes, pieces.at, least - 8, index.at, index.bytes) == 1,
	     "a window that is too small", ctx);
	uint32_t refused = w2c_xlu_saveStart(&core, ctx, image.at, image.bytes, pieces.at, pieces.bytes, index.at, index.bytes);
	must(!refused, "a save is refused that was planned", ctx);
	int outcome = 0;
	while ((c = context_at(ctx)).stepWants != XLU_WANTS_NOTHING && outcome == 0) {
		if (c.stepWants == XLU_WANTS_ROWS) {
			if (c.wantCount > MOST_ROWS)
				outcome = 2;
			else if (bring(ctx, true, image, room, tables))
				outcome = 1;
			continue;
		}
		must(c.stepWants == XLU_WANTS_DRAIN && c.pieceBytes != 0, "a step wants what there is not", ctx);
		must(is_in(c.piecePtr, c.pieceBytes, pieces.at, pieces.bytes) ||
			     is_in(c.piecePtr, c.pieceBytes, index.at, index.bytes) ||
			     is_in(c.piecePtr, c.pieceBytes, ctx, w2c_xlu_contextBytes(&core)),
		     "a piece outside the windows of the steps", ctx);
		if (c.pieceOffset + c.pieceBytes > MOST_STREAM_BYTES) {
			outcome = 2;
			continue;
		}
		memcpy(out + c.pieceOffset, memory + c.piecePtr, c.pieceBytes);
		if (below(16) == 0)
			wrong_steps(ctx, true, image, 8, CHUNK_ROWS);
		if (w2c_xlu_saveStep(&core, ctx, 0, 0) != 0)
			outcome = 1;
	}
	*bytes = c.streamOctets;
	must(outcome != 0 || w2c_xlu_saveStep(&core, ctx, 0, 0) == 1, "a step after the last one", ctx);
	give_back(before);
	return outcome;
}

/* Saved in steps an image is this stream; refused if there is none. */
static void must_save(struct window image, const struct tables *tables, uint32_t version, struct window saved)
{
	uint64_t bytes = 0;
	uint8_t *out = malloc(MOST_STREAM_BYTES);
	int outcome = save_steps(image, tables, version, out, &bytes);
	must(outcome != 1 || saved.bytes == 0, "no save in steps", 0);
	must(outcome != 0 || saved.bytes != 0, "a save in steps of what save refuses", 0);
	must(outcome != 0 || (bytes == saved.bytes && memcmp(out, memory + saved.at, bytes) == 0), "another stream in steps", 0);
	free(out);
}

/* Digest and streams of an image are these: of the newest version, and of version 1. */
static void must_give(struct window image, const struct tables *tables, uint64_t digest, struct window saved,
		      struct window older)
{
	uint64_t got = 0;
	must(digest_steps(image, tables, &got) == 0, "no digest in steps", 0);
	must(got == digest, "another digest in steps", 0);
	must_save(image, tables, 0, saved);
	must_save(image, tables, 1, older);
}

/* --- restore ------------------------------------------------------------------------------------------------------ */

/* Rows that may not be made now. */
static void wrong_rows(uint32_t ctx, uint32_t domid, uint32_t table, uint32_t first, uint32_t left, struct window room)
{
	struct xlu_context c = context_at(ctx);
	uint32_t bytes = row_bytes(domid, table);
	must_refuse(w2c_xlu_restoreRows(&core, ctx, domid, table, first + 1, 1, room.at, room.bytes), c, ctx, "rows out of order");
	must_refuse(w2c_xlu_restoreRows(&core, ctx, domid, table, first, 0, room.at, room.bytes), c, ctx, "no rows to make");
	must_refuse(w2c_xlu_restoreRows(&core, ctx, domid, table, first, left + 1, room.at, room.bytes), c, ctx,
		    "more rows than a table has");
	must_refuse(w2c_xlu_restoreRows(&core, ctx, domid, table, first, 1, room.at, bytes - 1), c, ctx, "a window of less");
	must_refuse(w2c_xlu_restoreRows(&core, ctx, domid, table, first, 1, c.imagePtr, c.planImageBytes), c, ctx,
		    "rows into the image");
	must_refuse(w2c_xlu_restoreRows(&core, ctx, domid, table, first, 1, c.streamPtr, c.streamBytes), c, ctx,
		    "rows into the stream");
	must_refuse(w2c_xlu_restoreRows(&core, ctx, domid, UINT32_MAX, first, 1, room.at, room.bytes), c, ctx,
		    "rows of no table");
	must_refuse(w2c_xlu_restoreRows(&core, ctx, XLU_DOMID_INVALID, table, first, 1, room.at, room.bytes), c, ctx,
		    "rows of nobody");
	must_refuse(w2c_xlu_finish(&core, ctx), c, ctx, "finish without rows");
}

/* All rows of a table, in portions. */
static void make_rows(uint32_t ctx, uint32_t domid, uint32_t table, uint32_t rows, struct window room, struct tables *tables)
{
	uint32_t bytes = row_bytes(domid, table);
	add_table(tables, domid, table, (size_t)rows * bytes);
	uint8_t *to = tables->list[tables->count - 1].rows;
	for (uint32_t first = 0, count; first < rows; first += count) {
		if (below(16) == 0)
			wrong_rows(ctx, domid, table, first, rows - first, room);
		count = portion(rows - first, bytes, 1);
		struct window made = part_of(room, count * bytes);
		reach_beyond("rows made", made);
		memset(memory + made.at, (int)below(256), made.bytes);
		must(w2c_xlu_restoreRows(&core, ctx, domid, table, first, count, made.at, made.bytes) == 0,
		     "restoreRows refuses", ctx);
		memcpy(to + (size_t)first * bytes, memory + made.at, made.bytes);
		part_of(room, room.bytes);
	}
}

static struct xlu_image_root root_of(struct window image)
{
	struct xlu_image_root root;
	memcpy(&root, memory + image.at, sizeof root);
	return root;
}

static struct xlu_table_ref ref_at(uint32_t directory, uint32_t table)
{
	struct xlu_table_ref ref;
	memcpy(&ref, memory + directory + table * sizeof ref, sizeof ref);
	return ref;
}

/* A domain's directory in an image that restore has laid out; its domid. */
static uint32_t directory_of(struct window image, uint32_t i, uint32_t *domid)
{
	const uint32_t entry_bytes =
		(uint32_t)(sizeof(struct xlu_domain_entry) + XF_DOMAIN_TABLE_COUNT * sizeof(struct xlu_table_ref));
	uint32_t at = image.at + root_of(image).domainsOffset + i * entry_bytes;
	struct xlu_domain_entry entry;
	memcpy(&entry, memory + at, sizeof entry);
	*domid = entry.domid;
	return at + (uint32_t)sizeof entry;
}

static uint32_t host_directory(struct window image)
{
	return image.at + (uint32_t)sizeof(struct xlu_image_root);
}

static uint32_t host_table(uint32_t n)
{
	for (uint32_t table = 0; table < XF_HOST_TABLE_COUNT; table++)
		if (xf_host_tables[table].is_bulk && n-- == 0)
			return table;
	finding("the host has fewer bulk tables", 0);
}

static void restore_pass(uint32_t ctx, uint32_t pass, const uint32_t *domids, uint32_t domains)
{
	if (pass < 2)
		must(w2c_xlu_restore(&core, ctx, pass, XLU_DOMID_XEN) == 0, "a pass of the host refuses a detached image", ctx);
	for (uint32_t i = 0; i < domains; i++)
		must(w2c_xlu_restore(&core, ctx, pass, domids[i]) == 0, "a pass refuses a detached image", ctx);
}

/* Of a stream that was accepted: a detached image, whose window held `fill`, and the rows of its tables. */
static struct window restore_detached(struct window stream, bool is_padded, struct window kept, int fill,
				      struct tables *tables)
{
	uint32_t ctx = context();
	must(w2c_xlu_open(&core, ctx, stream.at, stream.bytes, XLU_OPEN_DETACHED | is_padded) == 0, "open refuses, detached", ctx);
	must(w2c_xlu_plan(&core, ctx) == 0, "plan refuses, detached", ctx);
	struct window work = workspace(ctx);
	must(w2c_xlu_check(&core, ctx, work.at, work.bytes, kept.at, kept.bytes) == 0, "check refuses, detached", ctx);
	struct window image = window(context_at(ctx).planImageBytes, 8);
	memset(memory + image.at, fill, image.bytes);
	must(w2c_xlu_target(&core, ctx, image.at, image.bytes) == 0, "target refuses, detached", ctx);
	uint32_t domids[MOST_DOMAINS], domains = domains_of(ctx, domids);
	uint32_t frames = (uint32_t)context_at(ctx).frameCount, domid;
	struct window room = window(MOST_ROWS_BYTES, 8);
	restore_pass(ctx, 0, domids, domains);
	for (uint32_t i = 0; i < root_of(image).domainCount; i++) {
		uint32_t directory = directory_of(image, i, &domid);
		for (uint32_t table = 0; table < XF_DOMAIN_TABLE_COUNT; table++)
			if (xf_domain_tables[table].is_bulk)
				make_rows(ctx, domid, table, ref_at(directory, table).count, room, tables);
	}
	make_rows(ctx, XLU_DOMID_XEN, host_table(0), frames, room, tables);
	make_rows(ctx, XLU_DOMID_XEN, host_table(1), frames, room, tables);
	restore_pass(ctx, 1, domids, domains);
	restore_pass(ctx, 2, domids, domains);
	make_rows(ctx, XLU_DOMID_XEN, host_table(2), frames, room, tables);
	must(w2c_xlu_finish(&core, ctx) == 0, "finish refuses a detached image", ctx);
	guard(work);
	guard(room);
	return image;
}

/* Rows of a table are those of the image that has them. */
static void must_have(struct window image, uint32_t directory, uint32_t domid, uint32_t table, const struct tables *tables)
{
	struct xlu_table_ref ref = ref_at(directory, table);
	for (uint32_t i = 0; i < tables->count; i++) {
		if (tables->list[i].domid != domid || tables->list[i].table != table)
			continue;
		must(tables->list[i].bytes == (size_t)ref.count * row_bytes(domid, table), "another number of rows, detached", 0);
		must(ref.count == 0 ||
			     memcmp(tables->list[i].rows, memory + image.at + ref.offset, tables->list[i].bytes) == 0,
		     "other rows, detached", 0);
		return;
	}
	finding("a table was not made, detached", 0);
}

/* Of a detached image that no hypervisor made: taken or refused, with rows that are all zero. */
static void detached_in_steps(struct window image)
{
	struct tables none = { .count = 0 };
	uint64_t got, bytes;
	digest_steps(image, &none, &got);
	uint8_t *out = malloc(MOST_STREAM_BYTES);
	save_steps(image, &none, 0, out, &bytes);
	free(out);
}

void all_in_steps(const struct xf_input *input, struct window stream, bool is_padded, struct window kept,
		  struct window image, uint64_t digest, struct window saved, struct window older)
{
	struct tables none = { .count = 0 }, first = none, second = none;
	uint32_t before = mark(), domid;
	state = digest;
	must_give(image, &none, digest, saved, older);
	struct window detached = restore_detached(stream, is_padded, kept, 0xa5, &first);
	struct window again = restore_detached(stream, is_padded, kept, 0x5a, &second);
	must_equal(detached, again, 0);
	for (uint32_t table = 0; table < XF_HOST_TABLE_COUNT; table++) {
		if (!xf_host_tables[table].is_bulk)
			continue;
		must_have(image, host_directory(image), XLU_DOMID_XEN, table, &first);
		must_have(image, host_directory(image), XLU_DOMID_XEN, table, &second);
	}
	for (uint32_t i = 0; i < root_of(image).domainCount; i++) {
		uint32_t directory = directory_of(image, i, &domid);
		for (uint32_t table = 0; table < XF_DOMAIN_TABLE_COUNT; table++) {
			if (!xf_domain_tables[table].is_bulk)
				continue;
			must_have(image, directory, domid, table, &first);
			must_have(image, directory, domid, table, &second);
		}
	}
	must_give(detached, &first, digest, saved, older);
	free_tables(&first);
	free_tables(&second);
	if (input->header.edit_count != 0) {
		xf_apply_edits(input, memory + detached.at, detached.bytes);
		detached_in_steps(detached);
	}
	give_back(before);
}

void edited_in_steps(struct window image, const uint64_t *digest, struct window saved, uint64_t seed)
{
	state = seed;
	/* digest and save refuse a detached image, steps take it. */
	if ((root_of(image).flags & XLU_IMAGE_DETACHED) != 0) {
		detached_in_steps(image);
		return;
	}
	struct tables none = { .count = 0 };
	uint64_t got = 0, bytes = 0;
	int outcome = digest_steps(image, &none, &got);
	must(outcome == (digest ? 0 : 1), "digest in steps refuses what digest takes, or takes what it refuses", 0);
	must(!digest || got == *digest, "another digest in steps", 0);
	uint8_t *out = malloc(MOST_STREAM_BYTES);
	outcome = save_steps(image, &none, 0, out, &bytes);
	if (saved.bytes != 0 && outcome == 0)
		must(bytes == saved.bytes && memcmp(out, memory + saved.at, bytes) == 0, "another stream in steps", 0);
	must(saved.bytes == 0 || outcome != 1, "save in steps refuses what save takes", 0);
	free(out);
}
