/* What a codec brings to peer.c. Tables and codings lie where peer_allocate put them, 64-aligned. */
#ifndef PEER_H
#define PEER_H

#include <stdint.h>

/* Once, with the octets of all that peer_allocate will be asked for. */
void peer_start(uint64_t bytes);
uint8_t *peer_allocate(uint64_t bytes);
/* Codes a table: the octets written. Coding has room for every chunk as it is, and its header. */
uint32_t peer_encode(uint32_t element_bytes, const uint8_t *table, uint32_t count, uint8_t *coding);
void peer_decode(uint32_t element_bytes, const uint8_t *coding, uint32_t bytes, uint32_t count, uint8_t *table);

#endif
