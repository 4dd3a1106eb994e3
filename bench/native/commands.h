/*
 * How a peer is driven: it says "ready", then reads a command a line, runs it, and prints the nanoseconds that it took.
 * So that the harness can let processes take turns, one short run each.
 */
#ifndef COMMANDS_H
#define COMMANDS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline uint64_t now_ns(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* A command's name, how often to run it in one go, and the nanoseconds of all of that; 0 for a command that is none. */
typedef uint64_t (*run_command)(const char *name, uint32_t times);

static inline int serve(run_command run)
{
	char line[128];
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin) != NULL) {
		char name[64];
		unsigned times = 1;
		if (sscanf(line, "%63s %u", name, &times) < 1)
			continue;
		if (strcmp(name, "quit") == 0)
			break;
		uint64_t ns = run(name, times);
		if (ns == 0) {
			fprintf(stderr, "unknown command %s\n", name);
			return 2;
		}
		printf("%llu\n", (unsigned long long)ns);
		fflush(stdout);
	}
	return 0;
}

/* A file in memory, 64-aligned. Ends the program where it cannot be read. */
static inline uint8_t *read_file(const char *path, uint64_t *bytes)
{
	FILE *file = fopen(path, "rb");
	if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
		perror(path);
		exit(2);
	}
	*bytes = (uint64_t)ftell(file);
	rewind(file);
	uint8_t *data = aligned_alloc(64, (*bytes + 127) / 64 * 64);
	if (data == NULL || fread(data, 1, *bytes, file) != *bytes) {
		perror(path);
		exit(2);
	}
	fclose(file);
	return data;
}

#endif
