/* For a loader without a C library; xlu_runtime.c defines them, or the loader does. */
#ifndef XLU_FREESTANDING_STRING_H
#define XLU_FREESTANDING_STRING_H
#include <stddef.h>
void *memcpy(void *, const void *, size_t);
void *memmove(void *, const void *, size_t);
void *memset(void *, int, size_t);
int memcmp(const void *, const void *, size_t);
#endif
